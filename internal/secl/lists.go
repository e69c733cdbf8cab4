package secl

import (
	"net/netip"

	"github.com/clewsec/clew/internal/secl/check"
)

// An iteration calls yield for each value until it says true, and returns
// what yield returned last: whether any value fits. A value that is no list
// is a list of one, so that comparisons need not tell them apart.

// objects iterates over the values that visit gives for each object of a
// list, or for the one in the register. visit is made once, when the rule is
// compiled, so that an evaluation makes no closure.
func objects[E any, N comparable, V any](k *compiler[E, N], e *check.Expr, visit func(N, func(V) bool) bool) func(*Ctx[E, N], func(V) bool) bool {
	var none N
	if e.Register != "" {
		return func(c *Ctx[E, N], yield func(V) bool) bool { return c.reg != none && visit(c.reg, yield) }
	}
	root, _ := k.env.Schema.Root(e.Field.Iter)
	first, next := root.First, root.Next
	return func(c *Ctx[E, N], yield func(V) bool) bool {
		i := 0
		for n := first(c.Event); n != none && i < MaxElements; n = next(n) {
			if visit(n, yield) {
				return true
			}
			i++
		}
		return false
	}
}

// one is for objects with one value each.
func one[N, V any](get func(N) V) func(N, func(V) bool) bool {
	return func(n N, yield func(V) bool) bool { return yield(get(n)) }
}

// many is for objects with many.
func many[N any, V value](get func(N) []V) func(N, func(V) bool) bool {
	return func(n N, yield func(V) bool) bool { return anyOf(get(n), yield) }
}

type value interface {
	string | int64 | netip.Prefix
}

// others returns how to read the strings that a field which is no list stands
// for in comparisons, nil where it stands for its value alone.
func (k *compiler[E, N]) others(e *check.Expr) *Getters[*E] {
	if e.Op != check.FieldOp || e.List || e.Length || e.Index >= 0 || e.Type != check.String {
		return nil
	}
	if g := &k.field(e).Get; g.Others != nil {
		return g
	}
	return nil
}

// candidates iterates over the strings that comparisons look at.
func (k *compiler[E, N]) candidates(e *check.Expr) func(*Ctx[E, N], func(string) bool) bool {
	if k.share == nil {
		return k.direct(e)
	}
	src := k.share.source(k, e)
	if src == nil {
		return k.direct(e)
	}
	g := k.share.b.g
	return func(c *Ctx[E, N], yield func(string) bool) bool { return anyOf(g.values(src, c), yield) }
}

// direct iterates over them in the event.
func (k *compiler[E, N]) direct(e *check.Expr) func(*Ctx[E, N], func(string) bool) bool {
	if g := k.others(e); g != nil {
		return func(c *Ctx[E, N], yield func(string) bool) bool { return g.any(c.Event, yield) }
	}
	if e.Op == check.FieldOp && e.Field.Iter != "" && !e.Length {
		if f := k.field(e); f.Elem.Others != nil {
			return objects(k, e, f.Elem.any)
		}
	}
	return k.strs(e)
}

// strs iterates over strings.
func (k *compiler[E, N]) strs(e *check.Expr) func(*Ctx[E, N], func(string) bool) bool {
	if !e.List {
		get := k.str(e)
		return func(c *Ctx[E, N], yield func(string) bool) bool { return yield(get(c)) }
	}
	if e.Op == check.VarOp {
		return eachString[E, N](k.env.Variables[e.Var].Get)
	}
	f := k.field(e)
	if f.Iter == "" {
		return eachString[E, N](f.Get)
	}
	switch {
	case k.share != nil && f.Elem.Append != nil:
		return objects(k, e, built(f.Elem.Append))
	case !f.Many:
		return objects(k, e, one(f.Elem.Str))
	case f.Elem.Walk != nil:
		return objects(k, e, f.Elem.Walk)
	}
	return objects(k, e, many(f.Elem.Strs))
}

func eachString[E any, N comparable](g Getters[*E]) func(*Ctx[E, N], func(string) bool) bool {
	if g.Walk != nil {
		return func(c *Ctx[E, N], yield func(string) bool) bool { return g.Walk(c.Event, yield) }
	}
	return func(c *Ctx[E, N], yield func(string) bool) bool { return anyOf(g.Strs(c.Event), yield) }
}

func anyOf[V value](vs []V, yield func(V) bool) bool {
	for _, v := range vs {
		if yield(v) {
			return true
		}
	}
	return false
}

// ints iterates over integers.
func (k *compiler[E, N]) ints(e *check.Expr) func(*Ctx[E, N], func(int64) bool) bool {
	switch {
	case !e.List:
		get := k.num(e)
		return func(c *Ctx[E, N], yield func(int64) bool) bool { return yield(get(c)) }
	case e.Op == check.Age:
		each := k.ints(e.Args[0])
		return func(c *Ctx[E, N], yield func(int64) bool) bool {
			return each(c, func(v int64) bool { return yield(c.Now - v) })
		}
	case e.Op == check.VarOp:
		get := k.env.Variables[e.Var].Get.Ints
		return func(c *Ctx[E, N], yield func(int64) bool) bool { return anyOf(get(c.Event), yield) }
	}
	f := k.field(e)
	if f.Iter == "" {
		get := f.Get.Ints
		return func(c *Ctx[E, N], yield func(int64) bool) bool { return anyOf(get(c.Event), yield) }
	}
	g := f.Elem
	switch {
	case e.Length && !f.Many:
		return objects(k, e, one(func(n N) int64 { return int64(len(g.Str(n))) }))
	case e.Length:
		return objects(k, e, one(func(n N) int64 { return count(&g, n) }))
	case f.Many:
		return objects(k, e, many(g.Ints))
	}
	return objects(k, e, one(g.Int))
}

func count[T any](g *Getters[T], t T) int64 {
	switch {
	case g.Strs != nil:
		return int64(len(g.Strs(t)))
	case g.Ints != nil:
		return int64(len(g.Ints(t)))
	case g.IPs != nil:
		return int64(len(g.IPs(t)))
	}
	var n int64
	g.Walk(t, func(string) bool { n++; return false })
	return n
}

// bools iterates over booleans.
func (k *compiler[E, N]) bools(e *check.Expr) func(*Ctx[E, N], func(bool) bool) bool {
	if !e.List {
		get := k.cond(e)
		return func(c *Ctx[E, N], yield func(bool) bool) bool { return yield(get(c)) }
	}
	return objects(k, e, one(k.field(e).Elem.Bool))
}

// nets iterates over networks. An address that is not set matches nothing.
func (k *compiler[E, N]) nets(e *check.Expr) EachIP[E, N] {
	if e.Op == check.Const {
		v := e.Net
		return func(_ *Ctx[E, N], yield func(netip.Prefix) bool) bool { return yield(v) }
	}
	var g Getters[*E]
	if e.Op == check.VarOp {
		g = k.env.Variables[e.Var].Get
	} else {
		f := k.field(e)
		switch {
		case f.Iter != "" && f.Many:
			return objects(k, e, many(f.Elem.IPs))
		case f.Iter != "":
			return objects(k, e, one(f.Elem.IP))
		}
		g = f.Get
	}
	switch {
	case e.Index >= 0:
		i := e.Index
		return func(c *Ctx[E, N], yield func(netip.Prefix) bool) bool {
			v := g.IPs(c.Event)
			return i < len(v) && yield(v[i])
		}
	case e.List:
		return func(c *Ctx[E, N], yield func(netip.Prefix) bool) bool { return anyOf(g.IPs(c.Event), yield) }
	}
	get := g.IP
	return func(c *Ctx[E, N], yield func(netip.Prefix) bool) bool { return yield(get(c.Event)) }
}
