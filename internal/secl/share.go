package secl

import (
	"slices"
	"strconv"
	"unsafe"

	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/match"
)

// sharer compiles what several conditions of a group ask as one, and
// comparisons with values that are symbols as look-ups of those.
type sharer[E any, N comparable] struct {
	b *netBuilder[E, N]
	// ids numbers expressions by what they say; of has the number of each.
	ids   map[string]int32
	of    map[*check.Expr]int32
	kinds []shared[E, N]
	texts map[string]*text[E, N]
	// sources are those of fields, by name.
	sources map[string]*source[E, N]
	key     []byte
}

// shared is an expression that occurs at least once.
type shared[E any, N comparable] struct {
	count int
	// own tells that its value is not one per event: it reads a variable,
	// which a rule may set meanwhile, a register, or a field of one rule.
	own   bool
	match func(*Ctx[E, N]) bool
}

// text is a string that is built when it is read: once per event, in memory
// that is used again for the next one, so that nobody may keep it.
type text[E any, N comparable] struct {
	gen   uint32
	buf   []byte
	value string
}

const (
	// worthSharing is the weight from which an answer is kept, worthAsking
	// how many comparisons must ask a slot for it to be read for them alone.
	worthSharing = 20
	worthAsking  = 4
)

// intern numbers e and what is below it.
func (s *sharer[E, N]) intern(e *check.Expr) int32 {
	args := make([]int32, len(e.Args))
	for i, a := range e.Args {
		args[i] = s.intern(a)
	}
	own := e.Op == check.VarOp || e.Register != ""
	for _, a := range args {
		own = own || s.kinds[a].own
	}
	k := s.key[:0]
	num := func(v int64) { k = append(strconv.AppendInt(k, v, 36), ' ') }
	str := func(v string) { k = append(strconv.AppendInt(k, int64(len(v)), 36), ':'); k = append(k, v...) }
	for _, v := range [...]int64{int64(e.Op), int64(e.Type), asInt(e.List), asInt(e.Length), asInt(e.Bool), int64(e.Index), e.Int} {
		num(v)
	}
	if e.Field != nil {
		str(e.Field.Name)
		if _, of := s.b.k.env.Own[e.Field.Name]; of {
			// What a rule has for itself is like nothing else.
			own = true
			num(int64(len(s.of)))
		}
	}
	str(e.Register)
	str(e.Var)
	str(e.Str)
	if e.Net.IsValid() {
		k = e.Net.AppendTo(k)
	}
	for _, a := range args {
		num(int64(a))
	}
	if e.Set != nil {
		num(asInt(e.Set.Fold()))
		for _, v := range e.Set.Values {
			str(v)
		}
		for _, m := range e.Set.Matchers {
			str(match.Text(m))
		}
	}
	for _, v := range e.Ints {
		num(v)
	}
	for _, n := range e.Nets {
		k = append(n.AppendTo(k), ' ')
	}
	s.key = k
	id, ok := s.ids[string(k)]
	if !ok {
		id = int32(len(s.kinds))
		s.ids[string(k)] = id
		s.kinds = append(s.kinds, shared[E, N]{own: own})
	}
	s.kinds[id].count++
	s.of[e] = id
	if e.Type == Bool && e.Op != check.And && e.Op != check.Or && e.Op != check.Not {
		n := s.b.need(e, false)
		if !ok {
			for _, sl := range s.b.slotsOf(n) {
				sl.uses++
			}
		}
	}
	return id
}

func asInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// cond compiles a condition, or finds it compiled.
func (s *sharer[E, N]) cond(k *compiler[E, N], e *check.Expr) func(*Ctx[E, N]) bool {
	x := &s.kinds[s.of[e]]
	if x.match != nil {
		return x.match
	}
	f := s.look(e)
	looked := f != nil
	if !looked {
		f = k.plain(e)
	}
	x = &s.kinds[s.of[e]]
	if x.count > 1 && !x.own && !looked && e.Weight >= worthSharing && e.Op != check.Not {
		f = s.remember(f)
	}
	x.match = f
	return f
}

// remember makes a condition that is evaluated once per event.
func (s *sharer[E, N]) remember(f func(*Ctx[E, N]) bool) func(*Ctx[E, N]) bool {
	g, i := s.b.g, len(s.b.g.memo)
	g.memo = append(g.memo, answer{})
	return func(c *Ctx[E, N]) bool {
		if m := g.memo[i]; m.gen == g.gen {
			return m.held
		}
		held := f(c)
		g.memo[i] = answer{g.gen, held}
		return held
	}
}

// look compiles a comparison as a look-up of symbols, where those are known
// for most events anyway and say all; nil elsewhere.
func (s *sharer[E, N]) look(e *check.Expr) func(*Ctx[E, N]) bool {
	n := s.b.needs[e]
	if len(n.symbols) == 0 || !n.exact {
		return nil
	}
	sl := s.b.slotOf[n.symbols[0]]
	if sl.form == flagged || sl.form == numbered && !sl.field.List || !sl.open && sl.uses < worthAsking {
		return nil
	}
	return s.has(n)
}

// has compiles whether the event has a symbol of a need.
func (s *sharer[E, N]) has(n need) func(*Ctx[E, N]) bool {
	g, slots, want := s.b.g, s.b.slotsOf(n), n.symbols
	sl := slots[0]
	switch {
	case len(slots) > 1:
		return func(c *Ctx[E, N]) bool {
			for _, sl := range slots {
				g.read(sl, c)
			}
			return g.hasAny(want)
		}
	case len(want) == 1:
		one := want[0]
		return func(c *Ctx[E, N]) bool {
			if sl.gen != g.gen {
				g.read(sl, c)
			}
			return g.stamp[one] == g.gen
		}
	case len(want) <= 8:
		return func(c *Ctx[E, N]) bool {
			if sl.gen != g.gen {
				g.read(sl, c)
			}
			return g.hasAny(want)
		}
	}
	return func(c *Ctx[E, N]) bool {
		for _, sym := range g.read(sl, c) {
			if among(want, sym) {
				return true
			}
		}
		return false
	}
}

func among(sorted []uint32, v uint32) bool {
	_, ok := slices.BinarySearch(sorted, v)
	return ok
}

// text returns how to read a field whose value is built.
func (s *sharer[E, N]) text(f *Field[E, N]) func(*Ctx[E, N]) string {
	t, g, build := s.texts[f.Name], s.b.g, f.Get.Append
	if t == nil {
		t = &text[E, N]{}
		if s.texts == nil {
			s.texts = map[string]*text[E, N]{}
		}
		s.texts[f.Name] = t
		g.texts = append(g.texts, t)
	}
	return func(c *Ctx[E, N]) string {
		if t.gen != g.gen {
			t.buf = build(c.Event, t.buf[:0])
			t.value, t.gen = view8(t.buf), g.gen
		}
		return t.value
	}
}

// source returns the source of a field that x is, nil where it is something
// else, or reads what is built anew for each object.
func (s *sharer[E, N]) source(k *compiler[E, N], x *check.Expr) *source[E, N] {
	if x.Type != check.String || x.Register != "" || !s.b.simple(x) {
		return nil
	}
	if f := k.field(x); f.Elem.Append != nil {
		return nil
	}
	src := s.sources[x.Field.Name]
	if src == nil {
		src = &source[E, N]{all: k.field(x).All.Strs, each: k.direct(x)}
		src.add = func(v string) bool { src.values = append(src.values, v); return false }
		if s.sources == nil {
			s.sources = map[string]*source[E, N]{}
		}
		s.sources[x.Field.Name] = src
		s.b.g.sources = append(s.b.g.sources, src)
	}
	return src
}

// built visits the built values of objects, each in the memory of the one
// before.
func built[N any](build func(N, []byte) []byte) func(N, func(string) bool) bool {
	var buf []byte
	return func(n N, yield func(string) bool) bool {
		buf = build(n, buf[:0])
		return yield(view8(buf))
	}
}

// view8 shows bytes as a string. Comparisons look at it and keep nothing.
func view8(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
