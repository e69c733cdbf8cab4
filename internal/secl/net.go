package secl

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/match"
)

// need is a list of symbols of which an event has at least one if a condition
// holds.
type need struct {
	symbols []uint32
	// exact tells that the condition holds whenever the event has one.
	exact bool
}

// item is one of the alternatives of a condition, with what it needs; it
// needs all of it.
type item struct {
	cond  int32
	needs []need
}

type slotKey struct {
	form  form
	field string
}

// Limits of what the net is made of.
const (
	// maxBranches is how many alternatives of one condition are told apart.
	maxBranches = 16
	// maxNeeds is how many needs of one alternative are.
	maxNeeds = 16
	// maxSymbols is the longest list of values that is worth a place each.
	maxSymbols = 1024
	// leafSize is how many conditions are not worth a further look.
	leafSize = 3
	// evalCost is what the evaluation of a condition takes in the mean, ns,
	// and openCost what a look at a slot that has been read takes.
	evalCost = 80
	openCost = 8
)

// netBuilder makes the net of a group.
type netBuilder[E any, N comparable] struct {
	k       compiler[E, N]
	g       *Group[E, N]
	slots   map[slotKey]*slot[E, N]
	symbols int
	slotOf  []*slot[E, N]
	uses    []float64 // by symbol: alternatives that need it
	likely  []float64 // by symbol: the share of events that may have it
	needs   map[*check.Expr]need
	leaves  []leaf[E, N]
	// budget bounds the size of the net.
	budget int
}

// slot returns the slot for a form of what x reads.
func (b *netBuilder[E, N]) slot(f form, x *check.Expr) *slot[E, N] {
	key := slotKey{f, x.Field.Name}
	if s := b.slots[key]; s != nil {
		return s
	}
	s := &slot[E, N]{form: f, field: x.Field, g: b.g, id: int32(len(b.g.slots))}
	read := *x
	read.Register = ""
	switch {
	case f == numbered && x.Type == Bool:
		get := b.k.field(x).Get.Bool
		s.load = func(c *Ctx[E, N]) {
			v := int64(0)
			if get(c.Event) {
				v = 1
			}
			s.number(v)
		}
	case !x.List && (f == numbered || f == flagged):
		get := b.k.field(x).Get.Int
		s.load = func(c *Ctx[E, N]) { s.number(get(c.Event)) }
	case f == numbered, f == flagged:
		each, note := b.k.ints(&read), s.number
		s.load = func(c *Ctx[E, N]) { each(c, note) }
	case f == networked:
		each, note := b.k.nets(&read), s.network
		s.load = func(c *Ctx[E, N]) { each(c, note) }
	case !x.List && b.k.field(x).Get.Append == nil:
		get := &b.k.field(x).Get
		s.load = func(c *Ctx[E, N]) {
			s.string(get.Str(c.Event))
			if get.Others != nil {
				for i := range get.Others(c.Event) {
					s.string(get.Other(c.Event, i))
				}
			}
		}
	default:
		if src := b.k.share.source(&b.k, &read); src != nil {
			s.load = func(c *Ctx[E, N]) {
				for _, v := range b.g.values(src, c) {
					s.string(v)
				}
			}
			break
		}
		each, note := b.k.candidates(&read), s.string
		s.load = func(c *Ctx[E, N]) { each(c, note) }
	}
	b.slots[key] = s
	b.g.slots = append(b.g.slots, s)
	return s
}

func symbol[V comparable, E any, N comparable](b *netBuilder[E, N], s *slot[E, N], m *map[V]uint32, v V) uint32 {
	if sym, ok := (*m)[v]; ok {
		return sym
	}
	if *m == nil {
		*m = map[V]uint32{}
	}
	sym := uint32(b.symbols)
	(*m)[v] = sym
	b.symbols++
	b.slotOf = append(b.slotOf, s)
	s.symbols++
	return sym
}

// text returns the symbol of a text that must occur in a string.
func (b *netBuilder[E, N]) text(s *slot[E, N], n match.Need) uint32 {
	before := b.symbols
	key := string('0'+rune(asInt(n.AnyCase)|asInt(n.Begin)<<1|asInt(n.End)<<2)) + n.Text
	sym := symbol(b, s, &s.strs, key)
	if b.symbols > before {
		s.texts = append(s.texts, needle{Need: n, sym: sym})
	}
	return sym
}

// branches reads what a condition, or its negation, needs: its alternatives,
// each with what it needs. No alternative means that it can never hold.
func (b *netBuilder[E, N]) branches(e *check.Expr, negated bool) [][]need {
	switch {
	case e.Op == check.Const:
		if e.Bool == negated {
			return nil
		}
	case e.Op == check.Not:
		return b.branches(e.Args[0], !negated)
	case e.Op == check.And && !negated, e.Op == check.Or && negated:
		out := [][]need{nil}
		for _, a := range e.Args {
			more := b.branches(a, negated)
			if len(out)*len(more) > maxBranches {
				more = b.fold(more)
			}
			if len(out)*len(more) > maxBranches {
				out = b.fold(out)
			}
			var product [][]need
			for _, x := range out {
				for _, y := range more {
					product = append(product, b.cut(append(slices.Clip(x), y...)))
				}
			}
			out = product
		}
		return out
	case e.Op == check.And, e.Op == check.Or:
		var out [][]need
		for _, a := range e.Args {
			out = append(out, b.branches(a, negated)...)
		}
		if len(out) > maxBranches {
			out = b.fold(out)
		}
		return out
	default:
		if n := b.need(e, negated); len(n.symbols) > 0 {
			return [][]need{{n}}
		}
	}
	return [][]need{nil}
}

// cut leaves away needs where there are too many.
func (b *netBuilder[E, N]) cut(needs []need) []need {
	if len(needs) > maxNeeds {
		slices.SortStableFunc(needs, func(x, y need) int { return cmp.Compare(b.rough(x), b.rough(y)) })
		needs = needs[:maxNeeds]
	}
	return needs
}

// fold makes alternatives one, which needs something of any of them.
func (b *netBuilder[E, N]) fold(branches [][]need) [][]need {
	var all []uint32
	for _, needs := range branches {
		if len(needs) == 0 {
			return [][]need{nil}
		}
		best := slices.MinFunc(needs, func(x, y need) int { return cmp.Compare(b.rough(x), b.rough(y)) })
		all = append(all, best.symbols...)
	}
	slices.Sort(all)
	if all = slices.Compact(all); len(all) > maxSymbols || len(branches) == 0 {
		return [][]need{nil}
	}
	return [][]need{{{symbols: all}}}
}

// rough estimates a need before all are known.
func (b *netBuilder[E, N]) rough(n need) float64 {
	c := 0.0
	for _, sym := range n.symbols {
		c += b.slotOf[sym].cost()
	}
	return c
}

// need reads what a comparison, or its negation, needs; nothing where it is
// not known.
func (b *netBuilder[E, N]) need(e *check.Expr, negated bool) need {
	if negated {
		return b.needNot(e)
	}
	if n, ok := b.needs[e]; ok {
		return n
	}
	var n need
	switch e.Op {
	case check.InSet:
		n = b.needSet(e)
	case check.InInts:
		n = b.needInts(e)
	case check.InNets:
		n = b.needNets(e)
	case check.FieldOp:
		if b.simple(e) && !e.List && e.Type == Bool {
			s := b.slot(numbered, e)
			n = need{[]uint32{symbol(b, s, &s.nums, 1)}, true}
		}
	case check.Less, check.LessEq:
		// 0 < x & mask, or 1 <= x & mask.
		l, r := e.Args[0], e.Args[1]
		if l.Op == check.Const && (e.Op == check.Less && l.Int >= 0 || e.Op == check.LessEq && l.Int > 0) {
			n.symbols = b.flags(r, math.MaxInt64)
		}
	}
	slices.Sort(n.symbols)
	if n.symbols = slices.Compact(n.symbols); len(n.symbols) > maxSymbols {
		n = need{}
	}
	b.needs[e] = n
	return n
}

// simple tells whether x is a field of the event as it is.
func (b *netBuilder[E, N]) simple(x *check.Expr) bool {
	if x.Op != check.FieldOp || x.Length || x.Index >= 0 || x.Field.Iter == x.Field.Name {
		return false
	}
	if _, own := b.k.env.Own[x.Field.Name]; own {
		return false
	}
	// A register that is bound to nothing has one value, which is zero.
	return x.Register == "" || x.List
}

func (b *netBuilder[E, N]) needNot(e *check.Expr) need {
	switch {
	case e.Op == check.FieldOp && b.simple(e) && !e.List && e.Type == Bool:
		s := b.slot(numbered, e)
		return need{symbols: []uint32{symbol(b, s, &s.nums, 0)}}
	case e.Op == check.InInts && slices.Contains(e.Ints, 0):
		// Flags that are not 0.
		return need{symbols: b.flags(e.Args[0], -1)}
	}
	return need{}
}

// flags returns the symbols of the bits of a mask that x is a field with; none
// where it is not that.
func (b *netBuilder[E, N]) flags(x *check.Expr, limit int64) []uint32 {
	if x.Op != check.BitAnd {
		return nil
	}
	f, m := x.Args[0], x.Args[1]
	if f.Op == check.Const {
		f, m = m, f
	}
	if m.Op != check.Const || !b.simple(f) || f.List {
		return nil
	}
	return b.bits(f, m.Int&limit)
}

func (b *netBuilder[E, N]) bits(f *check.Expr, mask int64) []uint32 {
	s := b.slot(flagged, f)
	var out []uint32
	for v := uint64(mask); v != 0; v &= v - 1 {
		out = append(out, symbol(b, s, &s.nums, int64(v&-v)))
	}
	return out
}

func (b *netBuilder[E, N]) needInts(e *check.Expr) need {
	x := e.Args[0]
	if b.simple(x) {
		n := need{exact: x.Register == ""}
		s := b.slot(numbered, x)
		for _, v := range e.Ints {
			n.symbols = append(n.symbols, symbol(b, s, &s.nums, v))
		}
		return n
	}
	if x.Op != check.BitAnd || slices.Contains(e.Ints, 0) {
		return need{}
	}
	// x & mask is one of some numbers, none of them 0: any of their bits.
	var all int64
	for _, v := range e.Ints {
		all |= v
	}
	return need{symbols: b.flags(x, all)}
}

func (b *netBuilder[E, N]) needNets(e *check.Expr) need {
	x := e.Args[0]
	if x.Op != check.FieldOp || !b.simple(x) {
		return need{}
	}
	n := need{exact: x.Register == ""}
	s := b.slot(networked, x)
	for _, p := range e.Nets {
		n.symbols = append(n.symbols, symbol(b, s, &s.nets, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Masked()))
	}
	return n
}

func (b *netBuilder[E, N]) needSet(e *check.Expr) need {
	x, set := e.Args[0], e.Set
	if !b.simple(x) || len(set.Values)+len(set.Matchers) > maxSymbols {
		return need{}
	}
	n := need{exact: x.Register == ""}
	// What is not exact after all still has its symbols.
	note := func(f form, v string) {
		s := b.slot(f, x)
		n.symbols = append(n.symbols, symbol(b, s, &s.strs, v))
	}
	for _, v := range set.Values {
		if x.Field.Fold {
			v = match.Lower(v)
		} else if set.Fold() {
			return need{}
		}
		note(exactly, v)
	}
	for _, m := range set.Matchers {
		if g, ok := m.(*match.Glob); ok {
			n.exact = false
			dir := g.Dir()
			if base, has := g.Base(); has && base != "" && strings.Count(dir, "/") < 3 {
				note(named, base)
				continue
			}
			if dir != "" {
				note(below, dir)
				continue
			}
		}
		texts, exact := match.Needs(m)
		if len(texts) == 0 {
			return need{}
		}
		n.exact = n.exact && exact
		s := b.slot(holding, x)
		for _, t := range texts {
			n.symbols = append(n.symbols, b.text(s, t))
		}
	}
	return n
}

// count estimates from all conditions how many events may have each symbol:
// what many rules are about is what there is much of, and of fields with few
// values each is frequent.
func (b *netBuilder[E, N]) count(items []item) {
	b.uses, b.likely = make([]float64, b.symbols), make([]float64, b.symbols)
	total := make([]float64, len(b.g.slots))
	for _, it := range items {
		for _, n := range it.needs {
			for _, sym := range n.symbols {
				b.uses[sym]++
				total[b.slotOf[sym].id]++
			}
		}
	}
	floor := make([]float64, b.symbols)
	for _, s := range b.g.slots {
		for text, sym := range s.strs {
			switch s.form {
			case below:
				floor[sym] = math.Pow(0.3, float64(strings.Count(text, "/")))
			case holding:
				floor[sym] = max(0.02, 0.5/float64(len(text)*len(text)))
			}
		}
		for p, sym := range s.nets {
			floor[sym] = 0.4 * (1 - float64(p.Bits())/float64(p.Addr().BitLen()))
		}
	}
	for sym := range b.likely {
		s := b.slotOf[sym]
		share := min((b.uses[sym]+1)/(total[s.id]+8), 0.3)
		switch s.form {
		case flagged:
			share = 0.5
		case numbered:
			share = max(min(2*share, 0.5), 0.03)
		}
		if s.field.List {
			share = min(2*share, 0.5)
		}
		b.likely[sym] = max(share, floor[sym])
	}
}

func (b *netBuilder[E, N]) share(n need) float64 {
	var p float64
	for _, sym := range n.symbols {
		p += b.likely[sym]
	}
	return min(p, 1)
}

// best returns the need of an item to look for, and what the item then takes
// in the mean, ns: how often it is come to, times what it takes to look at the
// rest. It is -1 where trying it right away takes less. Needs of slots in
// closed do not count.
func (b *netBuilder[E, N]) best(it item, closed []bool) (at int, ns float64) {
	at, ns = -1, evalCost
	var p [maxNeeds]float64
	least, second := 1.0, 1.0
	for i, n := range it.needs {
		p[i] = b.share(n)
		if p[i] < least {
			least, second = p[i], least
		} else {
			second = min(second, p[i])
		}
	}
	for i, n := range it.needs {
		if slices.ContainsFunc(n.symbols, func(sym uint32) bool { return closed[b.slotOf[sym].id] }) {
			continue
		}
		rest := least
		if p[i] == least {
			rest = second
		}
		if c := p[i] * (0.5 + evalCost*rest); c < ns {
			at, ns = i, c
		}
	}
	return at, ns
}

// choose picks for each item the need to look for. A slot that too few items
// gain by is left alone.
func (b *netBuilder[E, N]) choose(items []item, root bool) []int {
	closed := make([]bool, len(b.g.slots))
	chosen, ns := make([]int, len(items)), make([]float64, len(items))
	users := map[*slot[E, N]][]int{}
	for i, it := range items {
		chosen[i], ns[i] = b.best(it, closed)
		if chosen[i] >= 0 {
			for _, s := range b.slotsOf(it.needs[chosen[i]]) {
				users[s] = append(users[s], i)
			}
		}
	}
	var order []*slot[E, N]
	for _, s := range b.g.slots {
		if len(users[s]) > 0 {
			order = append(order, s)
		}
	}
	slices.SortStableFunc(order, func(x, y *slot[E, N]) int { return cmp.Compare(len(users[x]), len(users[y])) })
	for _, s := range order {
		cost := s.cost()
		if !root && s.open {
			cost = openCost
		}
		closed[s.id] = true
		gain := 0.0
		for _, i := range users[s] {
			_, without := b.best(items[i], closed)
			gain += without - ns[i]
		}
		if gain >= cost {
			closed[s.id] = false
			continue
		}
		for _, i := range users[s] {
			chosen[i], ns[i] = b.best(items[i], closed)
			if chosen[i] < 0 {
				continue
			}
			for _, t := range b.slotsOf(items[i].needs[chosen[i]]) {
				users[t] = append(users[t], i)
			}
		}
	}
	return chosen
}

func (b *netBuilder[E, N]) slotsOf(n need) []*slot[E, N] {
	var out []*slot[E, N]
	for _, sym := range n.symbols {
		if s := b.slotOf[sym]; !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// node makes the net for some items.
func (b *netBuilder[E, N]) node(items []item, root bool) *netNode[E, N] {
	n := &netNode[E, N]{}
	b.budget -= len(items)
	chosen := b.choose(items, root)
	buckets := map[uint32][]item{}
	var syms []uint32
	var left []item
	for i, it := range items {
		at := chosen[i]
		if root {
			b.describe(it, at)
		}
		if at < 0 {
			left = append(left, it)
			continue
		}
		rest := item{it.cond, slices.Delete(slices.Clone(it.needs), at, at+1)}
		for _, sym := range it.needs[at].symbols {
			if _, ok := buckets[sym]; !ok {
				syms = append(syms, sym)
				if s := b.slotOf[sym]; !slices.Contains(n.slots, s) {
					n.slots = append(n.slots, s)
					s.open = s.open || root
				}
			}
			buckets[sym] = append(buckets[sym], rest)
		}
	}
	b.leaves = append(b.leaves, leaf[E, N]{n, left})
	slices.Sort(syms)
	kids := make([]*netNode[E, N], len(syms))
	for i, sym := range syms {
		if in := buckets[sym]; len(in) > leafSize && b.budget >= len(in) {
			kids[i] = b.node(in, false)
		} else {
			kids[i] = &netNode[E, N]{}
			b.leaves = append(b.leaves, leaf[E, N]{kids[i], in})
		}
	}
	switch {
	case root:
		n.table = make([]*netNode[E, N], b.symbols)
		for i, sym := range syms {
			n.table[sym] = kids[i]
		}
	case len(syms) > 8:
		n.many = make(map[uint32]*netNode[E, N], len(syms))
		for i, sym := range syms {
			n.many[sym] = kids[i]
		}
	default:
		n.syms, n.kids = syms, kids
	}
	return n
}

// leaf is a node with the items that are at their end there.
type leaf[E any, N comparable] struct {
	node  *netNode[E, N]
	items []item
}

// maxChecked is the longest need that is checked when a leaf is reached.
const maxChecked = 8

// finish writes down the conditions of the leaves. It comes last, when it is
// known what every event reads.
func (b *netBuilder[E, N]) finish() {
	for _, l := range b.leaves {
		for _, it := range l.items {
			list := []uint32{uint32(it.cond), 0}
			for _, n := range it.needs {
				if len(n.symbols) > maxChecked || slices.ContainsFunc(n.symbols, func(sym uint32) bool { return !b.slotOf[sym].open }) {
					continue
				}
				list[1]++
				list = append(append(list, uint32(len(n.symbols))), n.symbols...)
			}
			if list[1] == 0 {
				l.node.try = append(l.node.try, it.cond)
			} else {
				l.node.checked = append(l.node.checked, list...)
			}
		}
		slices.Sort(l.node.try)
		l.node.try = slices.Clip(slices.Compact(l.node.try))
		l.node.checked = slices.Clip(l.node.checked)
	}
}

// describe notes how a condition is found.
func (b *netBuilder[E, N]) describe(it item, at int) {
	a := &b.g.access[it.cond]
	if at < 0 {
		*a = Access{Fields: []string{""}} // for good
		return
	}
	if len(a.Fields) == 1 && a.Fields[0] == "" {
		return
	}
	for _, s := range b.slotsOf(it.needs[at]) {
		a.Dirs = a.Dirs || s.form == below
		if !slices.Contains(a.Fields, s.field.Name) {
			a.Fields = append(a.Fields, s.field.Name)
		}
	}
	a.Values += len(it.needs[at].symbols)
}
