package secl

import (
	"math/bits"

	"github.com/clewsec/clew/internal/secl/check"
)

// Group is a set of conditions that are evaluated on the same events. What it
// costs to evaluate them all depends on how many an event nearly meets, not on
// how many there are:
//
// Each condition is read for what it needs at least, as a name that a field
// must have. Those needs are arranged in a net; the values of an event lead
// through it to the conditions that may hold (Find). Only these are evaluated
// (Match), and what several of them ask is answered once.
//
// A value that some condition names is a symbol. A slot reads a field once per
// event and says which of the symbols it has; the net, and all comparisons
// with such values, work on symbols.
//
// A group keeps the answers of the event at hand and serves one goroutine.
type Group[E any, N comparable] struct {
	programs []*Program[E, N]
	// trials are what the net leads to, in the order of the conditions.
	trials []tried[E, N]
	// access says how each condition is found.
	access []Access
	root   *netNode[E, N]
	// gen numbers the events. An answer is in force if it has the number.
	gen     uint32
	stamp   []uint32 // by symbol: the last event that had it
	slots   []*slot[E, N]
	memo    []answer
	texts   []*text[E, N]
	sources []*source[E, N]
	// hits are the trials that were found, a bit each; of words that are not
	// zero, full has a bit.
	hits, full []uint64
	// at is the trial that was taken last.
	at int32
	// plain is set where every condition is tried as it is: the number of
	// those that were taken.
	plain bool
	taken int
}

// tried is an alternative of a condition that holds where match does, or for
// good where that is nil.
type tried[E any, N comparable] struct {
	trial
	match func(*Ctx[E, N]) bool
}

// Access says by what a condition is found.
type Access struct {
	// Fields are those whose values lead to it, none where it is evaluated
	// for every event. Dirs tells that directories above a path do, too.
	Fields []string
	Dirs   bool
	// Values is how many values lead to it.
	Values int
}

// answer is what a shared condition gave for an event.
type answer struct {
	gen  uint32
	held bool
}

// netNode is a place in the net: trials to make whenever it is reached, and places to go to from there by the symbols of some slots.
type netNode[E any, N comparable] struct {
	try []int32
	// checked are trials with what else they need, one after the other: the
	// trial, how many needs there are, and for each the number of its
	// symbols and these. All are of slots that every event reads.
	checked []uint32
	// unread are slots of the symbols in syms that not every event reads.
	unread []*slot[E, N]
	// Children by symbol: few in syms and kids, many in a hash table that the
	// slots lead to, those of the root in a table of all symbols.
	syms  []uint32
	kids  []*netNode[E, N]
	slots []*slot[E, N]
	many  []branch[E, N]
	table []*netNode[E, N]
}

type branch[E any, N comparable] struct {
	sym uint32
	to  *netNode[E, N]
}

// hang makes a hash table of children.
func (n *netNode[E, N]) hang(syms []uint32, kids []*netNode[E, N]) {
	n.many = make([]branch[E, N], 1<<bits.Len(uint(2*len(syms))))
	for i, sym := range syms {
		at := n.place(sym)
		for n.many[at].to != nil {
			at = (at + 1) & uint32(len(n.many)-1)
		}
		n.many[at] = branch[E, N]{sym, kids[i]}
	}
}

func (n *netNode[E, N]) place(sym uint32) uint32 {
	return sym * 0x9e3779b1 >> 8 & uint32(len(n.many)-1)
}

func (n *netNode[E, N]) kid(sym uint32) *netNode[E, N] {
	if n.table != nil {
		return n.table[sym]
	}
	for at := n.place(sym); ; at = (at + 1) & uint32(len(n.many)-1) {
		if b := n.many[at]; b.sym == sym || b.to == nil {
			return b.to
		}
	}
}

// NewGroup makes a group of conditions, which are known by their place from
// then on. They must have been compiled with one schema.
func NewGroup[E any, N comparable](programs []*Program[E, N]) *Group[E, N] {
	g := &Group[E, N]{gen: 1, programs: programs}
	b := &netBuilder[E, N]{
		g: g, slots: map[slotKey]*slot[E, N]{}, needs: map[*check.Expr]need{}, budget: 4096 + 64*len(programs),
	}
	k := compiler[E, N]{share: &sharer[E, N]{b: b, ids: map[string]int32{}, of: map[*check.Expr]int32{}}}
	items := make([]item, 0, len(programs))
	for i, p := range programs {
		k.env = p.env
		b.k = k
		items = append(items, b.items(i, p.Expr)...)
		k.share.intern(p.Expr)
	}
	b.count(items)
	for _, s := range g.slots {
		s.seal()
	}
	g.stamp = make([]uint32, b.symbols)
	g.access = make([]Access, len(programs))
	g.root = b.node(items, true)
	b.finish()
	for i := range g.access {
		if a := &g.access[i]; len(a.Fields) == 1 && a.Fields[0] == "" {
			*a = Access{}
		}
	}
	for i := range g.trials {
		t := &g.trials[i]
		p := programs[t.cond]
		k.env = p.env
		b.k = k
		t.match = b.rest(p, t.trial)
	}
	words := (len(g.trials) + 63) / 64
	g.hits, g.full = make([]uint64, words), make([]uint64, (words+63)/64)
	return g
}

// Len is the number of conditions.
func (g *Group[E, N]) Len() int { return len(g.programs) }

// Access says how a condition is found.
func (g *Group[E, N]) Access(i int) Access { return g.access[i] }

// Next forgets what was asked about the event before. It is called before
// Find, and after a panic.
func (g *Group[E, N]) Next() {
	if g.gen++; g.gen > 0 {
		return
	}
	// The numbers begin anew: nothing may seem to be of a later event.
	clear(g.stamp)
	clear(g.memo)
	for _, s := range g.slots {
		s.gen = 0
	}
	for _, t := range g.texts {
		t.gen = 0
	}
	for _, s := range g.sources {
		s.gen = 0
	}
	g.gen = 1
}

// Find finds the conditions that may hold for the event.
func (g *Group[E, N]) Find(c *Ctx[E, N]) {
	for _, s := range g.root.slots {
		g.read(s, c)
	}
	g.visit(g.root, c)
}

// FindAll finds all of them, which are evaluated each by itself.
func (g *Group[E, N]) FindAll() {
	clear(g.hits)
	clear(g.full)
	g.plain, g.taken = true, 0
}

func (g *Group[E, N]) hit(i int32) {
	g.hits[i>>6] |= 1 << (i & 63)
	g.full[i>>12] |= 1 << (i >> 6 & 63)
}

// pop returns the first trial that was found and not yet taken, -1 where there
// is none.
func (g *Group[E, N]) pop() int32 {
	for i, w := range g.full {
		if w == 0 {
			continue
		}
		word := i<<6 + bits.TrailingZeros64(w)
		h := g.hits[word]
		bit := bits.TrailingZeros64(h)
		if h &= h - 1; h == 0 {
			g.full[i] = w & (w - 1)
		}
		g.hits[word] = h
		return int32(word<<6 + bit)
	}
	return -1
}

// Take returns the first condition that was found and not yet taken, -1 where
// there is none. It returns a condition again that has more to be tried; one
// that was matched has not.
func (g *Group[E, N]) Take() int {
	if g.plain {
		if g.taken == len(g.programs) {
			g.plain = false
			return -1
		}
		g.taken++
		return g.taken - 1
	}
	if g.at = g.pop(); g.at < 0 {
		return -1
	}
	return int(g.trials[g.at].cond)
}

// Match tells whether the condition that was taken holds for the event. When
// it panics it may be taken again, and panic again.
func (g *Group[E, N]) Match(c *Ctx[E, N]) bool {
	if g.plain {
		return g.programs[g.taken-1].Match(c)
	}
	t := &g.trials[g.at]
	if t.match != nil && !t.match(c) {
		return false
	}
	// Its other alternatives, which are next, do not matter any more.
	for i := g.at + 1; int(i) < len(g.trials) && g.trials[i].cond == t.cond; i++ {
		if g.hits[i>>6] &^= 1 << (i & 63); g.hits[i>>6] == 0 {
			g.full[i>>12] &^= 1 << (i >> 6 & 63)
		}
	}
	return true
}

func (g *Group[E, N]) visit(n *netNode[E, N], c *Ctx[E, N]) {
	for _, i := range n.try {
		g.hit(i)
	}
	for list := n.checked; len(list) > 0; {
		trial, needs, met := list[0], list[1], true
		for list = list[2:]; needs > 0; needs-- {
			end := 1 + list[0]
			met = met && g.hasAny(list[1:end])
			list = list[end:]
		}
		if met {
			g.hit(int32(trial))
		}
	}
	for _, s := range n.unread {
		g.read(s, c)
	}
	for i, sym := range n.syms {
		if g.stamp[sym] == g.gen {
			g.visit(n.kids[i], c)
		}
	}
	for _, s := range n.slots {
		for _, sym := range g.read(s, c) {
			if k := n.kid(sym); k != nil {
				g.visit(k, c)
			}
		}
	}
}

func (g *Group[E, N]) hasAny(symbols []uint32) bool {
	for _, sym := range symbols {
		if g.stamp[sym] == g.gen {
			return true
		}
	}
	return false
}

// read returns the symbols of the event in a slot.
func (g *Group[E, N]) read(s *slot[E, N], c *Ctx[E, N]) []uint32 {
	if s.gen != g.gen {
		s.out = s.out[:0]
		s.load(c)
		s.gen = g.gen
	}
	return s.out
}
