package secl

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/clewsec/clew/internal/secl/check"
)

// EachIP gives the elements of a list of networks until yield says true, and
// returns what yield returned last.
type EachIP[E any, N comparable] func(c *Ctx[E, N], yield func(netip.Prefix) bool) bool

// compiler turns checked expressions into closures. It trusts the checker:
// what it is given is well typed.
type compiler[E any, N comparable] struct {
	env *Env[E, N]
	// share, where it is set, compiles for a group.
	share *sharer[E, N]
}

func (k *compiler[E, N]) field(e *check.Expr) *Field[E, N] {
	f, _ := k.env.field(e.Field.Name)
	return f
}

// bind tries a condition with each object of a list in the register. Where
// the list is empty it is tried once with none.
func (k *compiler[E, N]) bind(path string, cond func(*Ctx[E, N]) bool) func(*Ctx[E, N]) bool {
	root, _ := k.env.Schema.Root(path)
	var none N
	return func(c *Ctx[E, N]) bool {
		n := root.First(c.Event)
		c.reg = n
		if n == none {
			return cond(c)
		}
		for i := 0; n != none && i < MaxElements; i++ {
			c.reg = n
			if cond(c) {
				c.reg = none
				return true
			}
			n = root.Next(n)
		}
		c.reg = none
		return false
	}
}

func (k *compiler[E, N]) cond(e *check.Expr) func(*Ctx[E, N]) bool {
	if k.share != nil {
		return k.share.cond(k, e)
	}
	return k.plain(e)
}

func (k *compiler[E, N]) plain(e *check.Expr) func(*Ctx[E, N]) bool {
	switch e.Op {
	case check.Const:
		v := e.Bool
		return func(*Ctx[E, N]) bool { return v }
	case check.And:
		return all(k.conds(e.Args))
	case check.Or:
		return k.or(e.Args)
	case check.Not:
		x := k.cond(e.Args[0])
		return func(c *Ctx[E, N]) bool { return !x(c) }
	case check.FieldOp:
		if e.List {
			each := k.bools(e)
			return func(c *Ctx[E, N]) bool { return each(c, func(b bool) bool { return b }) }
		}
		get := k.field(e).Get.Bool
		return func(c *Ctx[E, N]) bool { return get(c.Event) }
	case check.VarOp:
		get := k.env.Variables[e.Var].Get.Bool
		return func(c *Ctx[E, N]) bool { return get(c.Event) }
	case check.Eq, check.Less, check.LessEq:
		return k.pair(e)
	case check.InSet:
		return k.inSet(e)
	case check.InInts:
		return k.inInts(e)
	case check.InNets:
		nets := e.Nets
		each := k.nets(e.Args[0])
		test := func(p netip.Prefix) bool {
			for _, n := range nets {
				if check.Overlap(n, p) {
					return true
				}
			}
			return false
		}
		return func(c *Ctx[E, N]) bool { return each(c, test) }
	case check.AllNets:
		nets := e.Nets
		each := k.nets(e.Args[0])
		outside := func(p netip.Prefix) bool {
			return slices.ContainsFunc(nets, func(n netip.Prefix) bool { return !check.Overlap(n, p) })
		}
		some := func(netip.Prefix) bool { return true }
		return func(c *Ctx[E, N]) bool { return each(c, some) && !each(c, outside) }
	}
	return func(*Ctx[E, N]) bool { return false }
}

func (k *compiler[E, N]) conds(args []*check.Expr) []func(*Ctx[E, N]) bool {
	out := make([]func(*Ctx[E, N]) bool, len(args))
	for i, a := range args {
		out[i] = k.cond(a)
	}
	return out
}

// all holds where all of some conditions hold.
func all[E any, N comparable](cs []func(*Ctx[E, N]) bool) func(*Ctx[E, N]) bool {
	switch len(cs) {
	case 1:
		return cs[0]
	case 2:
		a, b := cs[0], cs[1]
		return func(c *Ctx[E, N]) bool { return a(c) && b(c) }
	case 3:
		a, b, d := cs[0], cs[1], cs[2]
		return func(c *Ctx[E, N]) bool { return a(c) && b(c) && d(c) }
	}
	return func(c *Ctx[E, N]) bool {
		for _, f := range cs {
			if !f(c) {
				return false
			}
		}
		return true
	}
}

func (k *compiler[E, N]) or(args []*check.Expr) func(*Ctx[E, N]) bool {
	cs := k.conds(args)
	if len(cs) == 2 {
		a, b := cs[0], cs[1]
		return func(c *Ctx[E, N]) bool { return a(c) || b(c) }
	}
	return func(c *Ctx[E, N]) bool {
		for _, f := range cs {
			if f(c) {
				return true
			}
		}
		return false
	}
}

func (k *compiler[E, N]) inSet(e *check.Expr) func(*Ctx[E, N]) bool {
	x, set := e.Args[0], e.Set
	if x.List {
		each, test := k.candidates(x), set.Match
		return func(c *Ctx[E, N]) bool { return each(c, test) }
	}
	if g := k.others(x); g != nil {
		test := set.Match
		if k.share != nil {
			each := k.candidates(x)
			return func(c *Ctx[E, N]) bool { return each(c, test) }
		}
		return func(c *Ctx[E, N]) bool { return g.any(c.Event, test) }
	}
	if x.Op == check.FieldOp && x.Index < 0 && len(set.Values) == 1 && len(set.Matchers) == 0 && !set.Fold() {
		get, want := k.field(x).Get.Str, set.Values[0]
		return func(c *Ctx[E, N]) bool { return get(c.Event) == want }
	}
	get := k.str(x)
	return func(c *Ctx[E, N]) bool { return set.Match(get(c)) }
}

func (k *compiler[E, N]) inInts(e *check.Expr) func(*Ctx[E, N]) bool {
	x, ints := e.Args[0], e.Ints
	test := func(v int64) bool {
		if len(ints) > 8 {
			_, ok := slices.BinarySearch(ints, v)
			return ok
		}
		return slices.Contains(ints, v)
	}
	if x.List {
		each := k.ints(x)
		return func(c *Ctx[E, N]) bool { return each(c, test) }
	}
	get := k.num(x)
	if len(ints) == 1 {
		want := ints[0]
		return func(c *Ctx[E, N]) bool { return get(c) == want }
	}
	return func(c *Ctx[E, N]) bool { return test(get(c)) }
}

// pair compares two values that are both known only at run time. Where one is
// a list any of its elements may fit; such comparisons are rare, and theirs
// are the only conditions that may allocate.
func (k *compiler[E, N]) pair(e *check.Expr) func(*Ctx[E, N]) bool {
	l, r := e.Args[0], e.Args[1]
	switch l.Type {
	case check.Int:
		cmp := compareInts(e.Op)
		if !l.List && !r.List {
			a, b := k.num(l), k.num(r)
			switch e.Op {
			case check.Eq:
				return func(c *Ctx[E, N]) bool { return a(c) == b(c) }
			case check.Less:
				return func(c *Ctx[E, N]) bool { return a(c) < b(c) }
			default:
				return func(c *Ctx[E, N]) bool { return a(c) <= b(c) }
			}
		}
		a, b := k.ints(l), k.ints(r)
		return func(c *Ctx[E, N]) bool {
			return a(c, func(x int64) bool { return b(c, func(y int64) bool { return cmp(x, y) }) })
		}
	case check.Bool:
		if !l.List && !r.List {
			a, b := k.cond(l), k.cond(r)
			return func(c *Ctx[E, N]) bool { return a(c) == b(c) }
		}
		a, b := k.bools(l), k.bools(r)
		return func(c *Ctx[E, N]) bool {
			return a(c, func(x bool) bool { return b(c, func(y bool) bool { return x == y }) })
		}
	case check.IP:
		a, b := k.nets(l), k.nets(r)
		return func(c *Ctx[E, N]) bool {
			return a(c, func(x netip.Prefix) bool {
				return b(c, func(y netip.Prefix) bool { return check.Overlap(x, y) })
			})
		}
	}
	eq := func(a, b string) bool { return a == b }
	if folds(l) || folds(r) {
		eq = strings.EqualFold
	}
	switch single := k.others(l) == nil && k.others(r) == nil; {
	case single && !l.List && r.Op == check.Concat:
		return k.equalsJoined(l, r, eq)
	case single && !r.List && l.Op == check.Concat:
		return k.equalsJoined(r, l, eq)
	case single && !l.List && !r.List:
		a, b := k.str(l), k.str(r)
		return func(c *Ctx[E, N]) bool { return eq(a(c), b(c)) }
	}
	a, b := k.candidates(l), k.candidates(r)
	return func(c *Ctx[E, N]) bool {
		return a(c, func(x string) bool { return b(c, func(y string) bool { return eq(x, y) }) })
	}
}

func folds(e *check.Expr) bool { return e.Op == check.FieldOp && e.Field.Fold }

func compareInts(op check.Op) func(a, b int64) bool {
	switch op {
	case check.Less:
		return func(a, b int64) bool { return a < b }
	case check.LessEq:
		return func(a, b int64) bool { return a <= b }
	}
	return func(a, b int64) bool { return a == b }
}

// equalsJoined compares a string with a text that holds variables, one part
// after the other, so that the text need not be built. The parts of a list
// are joined by commas and are built.
func (k *compiler[E, N]) equalsJoined(x, joined *check.Expr, eq func(a, b string) bool) func(*Ctx[E, N]) bool {
	get := k.str(x)
	type part struct {
		text string
		num  func(*Ctx[E, N]) int64
		str  func(*Ctx[E, N]) string
	}
	var parts []part
	for _, a := range joined.Args {
		switch {
		case a.Op == check.Const:
			parts = append(parts, part{text: a.Str})
		case a.Type == check.Int && !a.List:
			parts = append(parts, part{num: k.num(a)})
		default:
			parts = append(parts, part{str: k.text(a)})
		}
	}
	return func(c *Ctx[E, N]) bool {
		s := get(c)
		var buf [20]byte
		for i := range parts {
			p := &parts[i]
			switch {
			case p.num != nil:
				b := strconv.AppendInt(buf[:0], p.num(c), 10)
				if len(s) < len(b) || s[:len(b)] != string(b) {
					return false
				}
				s = s[len(b):]
			default:
				t := p.text
				if p.str != nil {
					t = p.str(c)
				}
				if len(s) < len(t) || !eq(s[:len(t)], t) {
					return false
				}
				s = s[len(t):]
			}
		}
		return s == ""
	}
}

func (k *compiler[E, N]) num(e *check.Expr) func(*Ctx[E, N]) int64 {
	switch e.Op {
	case check.Const:
		v := e.Int
		return func(*Ctx[E, N]) int64 { return v }
	case check.FieldOp:
		return k.numField(e)
	case check.VarOp:
		v := k.env.Variables[e.Var]
		if e.Length {
			return length[E, N](v.Get, v.List)
		}
		get := v.Get.Int
		return func(c *Ctx[E, N]) int64 { return get(c.Event) }
	case check.Age:
		x := k.num(e.Args[0])
		return func(c *Ctx[E, N]) int64 { return c.Now - x(c) }
	case check.Neg:
		x := k.num(e.Args[0])
		return func(c *Ctx[E, N]) int64 { return -x(c) }
	case check.Complement:
		x := k.num(e.Args[0])
		return func(c *Ctx[E, N]) int64 { return ^x(c) }
	}
	if len(e.Args) != 2 {
		return func(*Ctx[E, N]) int64 { return 0 }
	}
	a, b := k.num(e.Args[0]), k.num(e.Args[1])
	switch e.Op {
	case check.Add:
		return func(c *Ctx[E, N]) int64 { return a(c) + b(c) }
	case check.Sub:
		return func(c *Ctx[E, N]) int64 { return a(c) - b(c) }
	case check.BitAnd:
		return func(c *Ctx[E, N]) int64 { return a(c) & b(c) }
	case check.BitOr:
		return func(c *Ctx[E, N]) int64 { return a(c) | b(c) }
	default:
		return func(c *Ctx[E, N]) int64 { return a(c) ^ b(c) }
	}
}

func (k *compiler[E, N]) numField(e *check.Expr) func(*Ctx[E, N]) int64 {
	var none N
	if e.Field.Iter == e.Field.Name && e.Length {
		root, _ := k.env.Schema.Root(e.Field.Name)
		return func(c *Ctx[E, N]) int64 {
			var count int64
			for n := root.First(c.Event); n != none && count < MaxElements; n = root.Next(n) {
				count++
			}
			return count
		}
	}
	f := k.field(e)
	switch {
	case f.Iter != "":
		// A field bound by a register, as one value; an empty register reads
		// as zero.
		get := f.Elem.Int
		if e.Length {
			text := f.Elem.Str
			get = func(n N) int64 { return int64(len(text(n))) }
		}
		return func(c *Ctx[E, N]) int64 {
			if c.reg == none {
				return 0
			}
			return get(c.reg)
		}
	case e.Length && k.share != nil && f.Get.Append != nil:
		get := k.share.text(f)
		return func(c *Ctx[E, N]) int64 { return int64(len(get(c))) }
	case e.Length:
		return length[E, N](f.Get, f.List)
	case e.Index >= 0:
		get, i := f.Get.Ints, e.Index
		return func(c *Ctx[E, N]) int64 {
			if v := get(c.Event); i < len(v) {
				return v[i]
			}
			return 0
		}
	}
	get := f.Get.Int
	return func(c *Ctx[E, N]) int64 { return get(c.Event) }
}

func length[E any, N comparable](g Getters[*E], list bool) func(*Ctx[E, N]) int64 {
	switch {
	case !list:
		return func(c *Ctx[E, N]) int64 { return int64(len(g.Str(c.Event))) }
	case g.Strs != nil:
		return func(c *Ctx[E, N]) int64 { return int64(len(g.Strs(c.Event))) }
	case g.Ints != nil:
		return func(c *Ctx[E, N]) int64 { return int64(len(g.Ints(c.Event))) }
	case g.IPs != nil:
		return func(c *Ctx[E, N]) int64 { return int64(len(g.IPs(c.Event))) }
	}
	return func(c *Ctx[E, N]) int64 {
		var n int64
		g.Walk(c.Event, func(string) bool { n++; return false })
		return n
	}
}

func (k *compiler[E, N]) str(e *check.Expr) func(*Ctx[E, N]) string {
	switch e.Op {
	case check.Const:
		v := e.Str
		return func(*Ctx[E, N]) string { return v }
	case check.FieldOp:
		f := k.field(e)
		if e.Index >= 0 {
			return element[E, N](f.Get, e.Index)
		}
		if k.share != nil && f.Get.Append != nil {
			return k.share.text(f)
		}
		get := f.Get.Str
		return func(c *Ctx[E, N]) string { return get(c.Event) }
	case check.VarOp:
		get := k.env.Variables[e.Var].Get.Str
		return func(c *Ctx[E, N]) string { return get(c.Event) }
	}
	parts := make([]func(*Ctx[E, N]) string, len(e.Args))
	for i, a := range e.Args {
		parts[i] = k.text(a)
	}
	return func(c *Ctx[E, N]) string {
		var b strings.Builder
		for _, p := range parts {
			b.WriteString(p(c))
		}
		return b.String()
	}
}

func element[E any, N comparable](g Getters[*E], i int) func(*Ctx[E, N]) string {
	if g.Strs != nil {
		return func(c *Ctx[E, N]) string {
			if v := g.Strs(c.Event); i < len(v) {
				return v[i]
			}
			return ""
		}
	}
	return func(c *Ctx[E, N]) string {
		at, out := 0, ""
		g.Walk(c.Event, func(s string) bool {
			if at == i {
				out = s
			}
			at++
			return at > i
		})
		return out
	}
}

// text renders a value of any type: integers in decimal, lists with commas.
func (k *compiler[E, N]) text(e *check.Expr) func(*Ctx[E, N]) string {
	switch {
	case e.List && e.Type == check.String:
		return joined(k.strs(e), func(b []byte, s string) []byte { return append(b, s...) })
	case e.List && e.Type == check.Int:
		return joined(k.ints(e), func(b []byte, v int64) []byte { return strconv.AppendInt(b, v, 10) })
	case e.Type == check.String:
		return k.str(e)
	case e.Type == check.Int:
		get := k.num(e)
		return func(c *Ctx[E, N]) string { return strconv.FormatInt(get(c), 10) }
	case e.Type == check.Bool && !e.List:
		get := k.cond(e)
		return func(c *Ctx[E, N]) string { return strconv.FormatBool(get(c)) }
	case e.Type == check.Bool:
		return joined(k.bools(e), strconv.AppendBool)
	}
	return joined((func(*Ctx[E, N], func(netip.Prefix) bool) bool)(k.nets(e)), func(b []byte, p netip.Prefix) []byte {
		if p.IsSingleIP() {
			return p.Addr().AppendTo(b)
		}
		return p.AppendTo(b)
	})
}

func joined[E any, N comparable, V any](each func(*Ctx[E, N], func(V) bool) bool, app func([]byte, V) []byte) func(*Ctx[E, N]) string {
	return func(c *Ctx[E, N]) string {
		var b []byte
		first := true
		each(c, func(v V) bool {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = app(b, v)
			return false
		})
		return string(b)
	}
}
