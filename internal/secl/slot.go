package secl

import (
	"math/bits"
	"net/netip"
	"slices"

	"github.com/clewsec/clew/internal/secl/check"
)

// form is what a slot looks at.
type form uint8

const (
	worded    form = iota + 1 // strings
	numbered                  // a number, or a truth as 0 or 1
	flagged                   // a bit that is set
	networked                 // a network that an address is in
)

// slot reads one field and says which symbols the event has there.
type slot[E any, N comparable] struct {
	form  form
	field *check.Field
	g     *Group[E, N]
	// id is its place in the group.
	id   int32
	load func(*Ctx[E, N])
	gen  uint32
	out  []uint32

	// words is set for strings.
	words *words
	nums  map[int64]uint32
	// small has 1 more than the symbols of numbers below its length, or of
	// bits by their place.
	small [64]uint32
	nets  map[netip.Prefix]uint32
	// all are the networks, for an event's value that is more than one
	// address.
	all []netip.Prefix
	// bits4 and bits6 are the lengths of the networks, descending.
	bits4, bits6 []int
	mask         int64

	// symbols is how many there are, uses counts conditions by symbol.
	symbols int
	uses    int
	// open tells that every event reads it.
	open bool
}

// source reads the strings of a field once per event, whatever looks at them.
type source[E any, N comparable] struct {
	gen    uint32
	values []string
	// all reads them at once where there is something that does, else each
	// gives them to add.
	all  func(*E, []string) []string
	each func(*Ctx[E, N], func(string) bool) bool
	add  func(string) bool
}

// values returns the strings that comparisons with a field look at. They are
// good for this event.
func (g *Group[E, N]) values(s *source[E, N], c *Ctx[E, N]) []string {
	if s.gen != g.gen {
		s.gen = g.gen
		s.values = s.values[:0]
		if s.all != nil {
			s.values = s.all(c.Event, s.values)
		} else {
			s.each(c, s.add)
		}
	}
	return s.values
}

func (s *slot[E, N]) note(sym uint32) {
	if s.g.stamp[sym] != s.g.gen {
		s.g.stamp[sym] = s.g.gen
		s.out = append(s.out, sym)
	}
}

// cost estimates what reading it takes, in ns.
func (s *slot[E, N]) cost() float64 {
	c := map[form]float64{worded: 15, numbered: 8, flagged: 8, networked: 80}[s.form]
	if s.words != nil && s.words.built {
		c = 60
		if len(s.words.texts) > 0 {
			c = 200
		}
	}
	switch {
	case s.field.Iter != "":
		c *= 6
	case s.field.List:
		c *= 3
	}
	return c
}

// seal makes it ready to be read.
func (s *slot[E, N]) seal() {
	switch s.form {
	case worded:
		s.words.seal()
	case numbered:
		for v, sym := range s.nums {
			if v >= 0 && v < int64(len(s.small)) {
				s.small[v] = sym + 1
			}
		}
	case flagged:
		for v, sym := range s.nums {
			s.mask |= v
			s.small[bits.TrailingZeros64(uint64(v))] = sym + 1
		}
	case networked:
		for p := range s.nets {
			list := &s.bits6
			if p.Addr().Is4() {
				list = &s.bits4
			}
			if !slices.Contains(*list, p.Bits()) {
				*list = append(*list, p.Bits())
			}
			s.all = append(s.all, p)
		}
		slices.SortFunc(s.all, netip.Prefix.Compare)
		slices.Sort(s.bits4)
		slices.Sort(s.bits6)
	}
}

// string notes the symbols of a value. It returns false: the next one is
// wanted, too.
func (s *slot[E, N]) string(v string) bool {
	for _, sym := range s.words.symbols(v) {
		s.note(sym)
	}
	return false
}

func (s *slot[E, N]) number(v int64) bool {
	switch {
	case s.form == flagged:
		for v &= s.mask; v != 0; v &= v - 1 {
			s.note(s.small[bits.TrailingZeros64(uint64(v))] - 1)
		}
	case v >= 0 && v < int64(len(s.small)):
		if sym := s.small[v]; sym != 0 {
			s.note(sym - 1)
		}
	default:
		if sym, ok := s.nums[v]; ok {
			s.note(sym)
		}
	}
	return false
}

func (s *slot[E, N]) network(p netip.Prefix) bool {
	if !p.IsValid() {
		return false
	}
	a := p.Addr().Unmap()
	if !p.IsSingleIP() {
		for _, n := range s.all {
			if check.Overlap(n, p) {
				s.note(s.nets[n])
			}
		}
		return false
	}
	list := s.bits6
	if a.Is4() {
		list = s.bits4
	}
	for _, n := range list {
		if q, err := a.Prefix(n); err == nil {
			if sym, ok := s.nets[q]; ok {
				s.note(sym)
			}
		}
	}
	return false
}
