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

// atom is a condition that is not split further, or its negation.
type atom struct {
	expr    *check.Expr
	negated bool
	need    need // without symbols where it is not known
}

// trial is what is left to evaluate of an alternative where the net ends.
type trial struct {
	cond, branch int32
	open, met    uint64
}

func (t trial) compare(u trial) int {
	return cmp.Or(cmp.Compare(t.cond, u.cond), cmp.Compare(t.branch, u.branch), cmp.Compare(t.open, u.open), cmp.Compare(t.met, u.met))
}

// has notes that the event has what an atom needs.
func (t *trial) has(n itemNeed) {
	t.met |= 1 << n.atom
	if n.exact {
		t.open &^= 1 << n.atom
	}
}

type itemNeed struct {
	need
	atom int
}

// item is one of the alternatives of a condition: all of its atoms hold. Those
// in open are not known to hold yet, a bit each; those in met have what they
// need. needs are those that are not looked for yet, with the place of the
// atom.
type item struct {
	trial
	needs []itemNeed
}

type slotKey struct {
	form  form
	field string
}

// Limits of what the net is made of.
const (
	// maxBranches is how many alternatives of one condition are told apart.
	maxBranches = 16
	// maxNeeds is how many needs of one alternative are, maxAtoms how many
	// atoms; where there are more, the condition is one atom.
	maxNeeds = 16
	maxAtoms = 64
	// maxSymbols is the longest list of values that is worth a place each.
	maxSymbols = 1024
	// leafSize is how many conditions are not worth a further look.
	leafSize = 3
	// evalCost is what the evaluation of a condition takes in the mean, ns,
	// and openCost what a look at a slot that has been read takes.
	evalCost = 60
	openCost = 5
)

// netBuilder makes the net of a group.
type netBuilder[E any, N comparable] struct {
	k       compiler[E, N]
	g       *Group[E, N]
	slots   map[slotKey]*slot[E, N]
	symbols int
	slotOf  []*slot[E, N]
	// By symbol: the share of events that has it at least, and whether it is
	// found by a directory.
	floor []float64
	dirs  []bool
	uses  []float64 // by symbol: alternatives that need it
	// likely is, by symbol, the share of events that may have it.
	likely []float64
	needs  map[*check.Expr]need
	// atoms are those of each alternative, by condition.
	atoms  [][][]atom
	leaves []leaf[E, N]
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
	if f == worded {
		fld := b.k.field(x)
		s.words = &words{fold: x.Field.Fold, built: fld.Get.Append != nil || fld.Elem.Append != nil, ids: map[string]uint32{}}
	}
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
	case f == numbered && b.k.field(x).All.Ints != nil:
		all := b.k.field(x).All.Ints
		var buf []int64
		s.load = func(c *Ctx[E, N]) {
			buf = all(c.Event, buf[:0])
			for _, v := range buf {
				s.number(v)
			}
		}
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
			g := b.g
			s.load = func(c *Ctx[E, N]) {
				for _, v := range g.values(src, c) {
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

// symbol makes a new symbol of a slot.
func (b *netBuilder[E, N]) symbol(s *slot[E, N], floor float64, dir bool) uint32 {
	sym := uint32(b.symbols)
	b.symbols++
	b.slotOf, b.floor, b.dirs = append(b.slotOf, s), append(b.floor, floor), append(b.dirs, dir)
	s.symbols++
	return sym
}

func (b *netBuilder[E, N]) number(s *slot[E, N], v int64) uint32 {
	sym, ok := s.nums[v]
	if !ok {
		if s.nums == nil {
			s.nums = map[int64]uint32{}
		}
		sym = b.symbol(s, 0, false)
		s.nums[v] = sym
	}
	return sym
}

func (b *netBuilder[E, N]) network(s *slot[E, N], p netip.Prefix) uint32 {
	sym, ok := s.nets[p]
	if !ok {
		if s.nets == nil {
			s.nets = map[netip.Prefix]uint32{}
		}
		sym = b.symbol(s, 0.4*(1-float64(p.Bits())/float64(p.Addr().BitLen())), false)
		s.nets[p] = sym
	}
	return sym
}

// value returns the symbol of a string that is equal to v.
func (b *netBuilder[E, N]) value(s *slot[E, N], v string) uint32 {
	w := s.words
	sym, ok := w.ids["="+v]
	if !ok {
		sym = b.symbol(s, 0, false)
		w.ids["="+v] = sym
		w.says(w.clue(&w.values, v), verdict{sym: sym})
	}
	return sym
}

// matcher returns the symbol of a string that m matches; false where there is
// no clue to find such strings by.
func (b *netBuilder[E, N]) matcher(s *slot[E, N], m match.Matcher) (uint32, bool) {
	w := s.words
	id := "~" + match.Text(m)
	if sym, ok := w.ids[id]; ok {
		return sym, true
	}
	if g, ok := m.(*match.Glob); ok {
		dir := g.Dir()
		base, has := g.Base()
		switch {
		case has && base != "" && strings.Count(dir, "/") < 3:
			sym := b.symbol(s, 0, false)
			w.ids[id] = sym
			w.says(w.clue(&w.bases, base), verdict{sym, m})
			return sym, true
		case dir != "":
			sym := b.symbol(s, math.Pow(0.3, float64(strings.Count(dir, "/"))), true)
			w.ids[id] = sym
			w.says(w.clue(&w.dirs, dir), verdict{sym, m})
			return sym, true
		}
	}
	texts, exact := match.Needs(m)
	if len(texts) == 0 {
		return 0, false
	}
	floor := 0.0
	for _, t := range texts {
		floor += max(0.02, 0.5/float64(len(t.Text)*len(t.Text)))
	}
	sym := b.symbol(s, min(floor, 1), false)
	w.ids[id] = sym
	v := verdict{sym, m}
	if exact {
		v.matcher = nil
	}
	for _, t := range texts {
		w.says(w.text(t), v)
	}
	return sym, true
}

// branches reads what a condition, or its negation, asks for: its
// alternatives, each a list of atoms that must hold together. No alternative
// means that it can never hold.
func (b *netBuilder[E, N]) branches(e *check.Expr, negated bool) [][]atom {
	switch {
	case e.Op == check.Const:
		if e.Bool == negated {
			return nil
		}
		return [][]atom{nil}
	case e.Op == check.Not:
		return b.branches(e.Args[0], !negated)
	case e.Op == check.And && !negated, e.Op == check.Or && negated:
		out := [][]atom{nil}
		for i, a := range e.Args {
			more := b.branches(a, negated)
			if len(out)*len(more) > maxBranches {
				more = [][]atom{{b.fold(a, negated, more)}}
			}
			if len(out)*len(more) > maxBranches {
				var before []atom
				for _, a := range e.Args[:i] {
					before = append(before, b.fold(a, negated, b.branches(a, negated)))
				}
				out = [][]atom{before}
			}
			var product [][]atom
			for _, x := range out {
				for _, y := range more {
					product = append(product, append(slices.Clip(x), y...))
				}
			}
			out = product
		}
		return out
	case e.Op == check.And, e.Op == check.Or:
		var out [][]atom
		for _, a := range e.Args {
			out = append(out, b.branches(a, negated)...)
		}
		vague := slices.ContainsFunc(out, func(atoms []atom) bool {
			return !slices.ContainsFunc(atoms, func(a atom) bool { return len(a.need.symbols) > 0 })
		})
		if vague || len(out) > maxBranches {
			return [][]atom{{b.fold(e, negated, out)}}
		}
		return out
	}
	return [][]atom{{{e, negated, b.need(e, negated)}}}
}

// fold makes one atom of a condition, which needs something of any of its
// alternatives.
func (b *netBuilder[E, N]) fold(e *check.Expr, negated bool, branches [][]atom) atom {
	one := atom{expr: e, negated: negated}
	var all []uint32
	for _, atoms := range branches {
		var best []uint32
		least := math.Inf(1)
		for _, a := range atoms {
			if r := b.rough(a.need); len(a.need.symbols) > 0 && r < least {
				best, least = a.need.symbols, r
			}
		}
		if best == nil {
			return one
		}
		all = append(all, best...)
	}
	slices.Sort(all)
	if all = slices.Compact(all); len(all) <= maxSymbols {
		one.need.symbols = all
	}
	return one
}

// items returns the alternatives of a condition, with what they need.
func (b *netBuilder[E, N]) items(cond int, e *check.Expr) []item {
	branches := b.branches(e, false)
	for i, atoms := range branches {
		if len(atoms) > maxAtoms {
			branches[i] = []atom{b.fold(e, false, [][]atom{atoms})}
		}
	}
	b.atoms = append(b.atoms, branches)
	out := make([]item, len(branches))
	for i, atoms := range branches {
		it := item{trial: trial{cond: int32(cond), branch: int32(i)}}
		for j, a := range atoms {
			it.open |= 1 << j
			if len(a.need.symbols) > 0 {
				it.needs = append(it.needs, itemNeed{a.need, j})
			}
		}
		if len(it.needs) > maxNeeds {
			slices.SortStableFunc(it.needs, func(x, y itemNeed) int { return cmp.Compare(b.rough(x.need), b.rough(y.need)) })
			it.needs = it.needs[:maxNeeds]
		}
		out[i] = it
	}
	return out
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
			n = need{[]uint32{b.number(b.slot(numbered, e), 1)}, true}
		}
	case check.Less, check.LessEq:
		// 0 < x & mask, or 1 <= x & mask.
		l, r := e.Args[0], e.Args[1]
		if l.Op == check.Const && (e.Op == check.Less && l.Int >= 0 || e.Op == check.LessEq && l.Int > 0) {
			n.symbols = b.flags(r, math.MaxInt64)
			n.exact = (l.Int == 0) == (e.Op == check.Less) && l.Int <= 1 && b.positive(r)
		}
	}
	slices.Sort(n.symbols)
	if n.symbols = slices.Compact(n.symbols); len(n.symbols) > maxSymbols {
		n = need{}
	}
	b.needs[e] = n
	return n
}

// positive tells whether the mask of x & mask leaves the sign alone.
func (b *netBuilder[E, N]) positive(x *check.Expr) bool {
	for _, a := range x.Args {
		if a.Op == check.Const {
			return a.Int >= 0
		}
	}
	return false
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
		return need{[]uint32{b.number(b.slot(numbered, e), 0)}, true}
	case e.Op == check.InInts && slices.Contains(e.Ints, 0):
		// Flags that are not 0.
		return need{b.flags(e.Args[0], -1), len(e.Ints) == 1}
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
		out = append(out, b.number(s, int64(v&-v)))
	}
	return out
}

func (b *netBuilder[E, N]) needInts(e *check.Expr) need {
	x := e.Args[0]
	if b.simple(x) {
		n := need{exact: x.Register == ""}
		s := b.slot(numbered, x)
		for _, v := range e.Ints {
			n.symbols = append(n.symbols, b.number(s, v))
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
		n.symbols = append(n.symbols, b.network(s, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Masked()))
	}
	return n
}

func (b *netBuilder[E, N]) needSet(e *check.Expr) need {
	x, set := e.Args[0], e.Set
	if !b.simple(x) || len(set.Values)+len(set.Matchers) > maxSymbols || set.Fold() && !x.Field.Fold && len(set.Values) > 0 {
		return need{}
	}
	n, s := need{exact: x.Register == ""}, b.slot(worded, x)
	for _, v := range set.Values {
		if x.Field.Fold {
			v = match.Lower(v)
		}
		n.symbols = append(n.symbols, b.value(s, v))
	}
	for _, m := range set.Matchers {
		sym, ok := b.matcher(s, m)
		if !ok {
			// What can only be told by trying is tried last.
			return need{}
		}
		n.symbols = append(n.symbols, sym)
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
		b.likely[sym] = max(share, b.floor[sym])
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
		p[i] = b.share(n.need)
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
			for _, s := range b.slotsOf(it.needs[chosen[i]].need) {
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
			for _, t := range b.slotsOf(items[i].needs[chosen[i]].need) {
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
		rest := it
		rest.needs = slices.Delete(slices.Clone(it.needs), at, at+1)
		rest.has(it.needs[at])
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
		n.hang(syms, kids)
	default:
		n.syms, n.kids = syms, kids
		n.unread = slices.DeleteFunc(n.slots, func(s *slot[E, N]) bool { return s.open })
		n.slots = nil
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

// finish writes down what is tried at the leaves. It comes last, when it is
// known what every event reads.
func (b *netBuilder[E, N]) finish() {
	type ending struct {
		trial
		checks []uint32
		needs  uint32
	}
	ends := make([][]ending, len(b.leaves))
	ids := map[trial]int32{}
	for i, l := range b.leaves {
		for _, it := range l.items {
			end := ending{trial: it.trial}
			for _, n := range it.needs {
				if len(n.symbols) > maxChecked || slices.ContainsFunc(n.symbols, func(sym uint32) bool { return !b.slotOf[sym].open }) {
					continue
				}
				end.has(n)
				end.needs++
				end.checks = append(append(end.checks, uint32(len(n.symbols))), n.symbols...)
			}
			end.met &= end.open
			ids[end.trial] = 0
			ends[i] = append(ends[i], end)
		}
	}
	for t := range ids {
		b.g.trials = append(b.g.trials, tried[E, N]{trial: t})
	}
	slices.SortFunc(b.g.trials, func(x, y tried[E, N]) int { return x.compare(y.trial) })
	for i, t := range b.g.trials {
		ids[t.trial] = int32(i)
	}
	for i, l := range b.leaves {
		n := l.node
		for _, end := range ends[i] {
			if end.needs == 0 {
				n.try = append(n.try, ids[end.trial])
			} else {
				n.checked = append(append(n.checked, uint32(ids[end.trial]), end.needs), end.checks...)
			}
		}
		slices.Sort(n.try)
		n.try = slices.Clip(slices.Compact(n.try))
		n.checked = slices.Clip(n.checked)
	}
}

// rest compiles what a trial leaves to be evaluated, nil where that is nothing.
func (b *netBuilder[E, N]) rest(p *Program[E, N], t trial) func(*Ctx[E, N]) bool {
	var event, bound []func(*Ctx[E, N]) bool
	for i, a := range b.atoms[t.cond][t.branch] {
		if t.open&(1<<i) == 0 {
			continue
		}
		f := b.k.cond(a.expr)
		if a.negated {
			holds := f
			f = func(c *Ctx[E, N]) bool { return !holds(c) }
		}
		own := false
		a.expr.Walk(func(e *check.Expr) { own = own || e.Register != "" })
		if t.met&(1<<i) == 0 && len(a.need.symbols) > 0 && (own || !a.need.exact) {
			event = append(event, b.k.share.has(a.need))
		}
		if own {
			bound = append(bound, f)
		} else {
			event = append(event, f)
		}
	}
	if len(bound) > 0 {
		event = append(event, b.k.bind(p.Root, all(bound)))
	}
	if len(event) == 0 {
		return nil
	}
	return all(event)
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
	for _, s := range b.slotsOf(it.needs[at].need) {
		if !slices.Contains(a.Fields, s.field.Name) {
			a.Fields = append(a.Fields, s.field.Name)
		}
	}
	for _, sym := range it.needs[at].symbols {
		a.Dirs = a.Dirs || b.dirs[sym]
	}
	a.Values += len(it.needs[at].symbols)
}
