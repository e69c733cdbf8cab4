package secl

import (
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/match"
)

// form is what a slot looks at.
type form uint8

const (
	exactly   form = iota + 1 // a string as it is
	below                     // the directories above a path
	named                     // the last component of a path
	holding                   // a text that occurs in it
	numbered                  // a number, or a truth as 0 or 1
	flagged                   // a bit that is set
	networked                 // a network that an address is in
)

// slot reads one field for the symbols of one form.
type slot[E any, N comparable] struct {
	form  form
	field *check.Field
	g     *Group[E, N]
	// id is its place in the group.
	id   int32
	load func(*Ctx[E, N])
	gen  uint32
	out  []uint32

	strs map[string]uint32
	nums map[int64]uint32
	nets map[netip.Prefix]uint32
	// all are the networks, for an event's value that is more than one
	// address.
	all []netip.Prefix
	// bits4 and bits6 are the lengths of the networks, descending.
	bits4, bits6 []int
	// lens has a bit for each length of a directory below 256.
	lens [4]uint64
	mask int64
	// texts are found by three bytes of theirs, those of two by these: grams
	// and pairs have a bit for each hash of such, heads and pairHeads the
	// first text with it.
	texts     []needle
	grams     []uint64
	heads     []int32
	pairs     []uint64
	pairHeads []int32
	buf       []byte

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
	each   func(*Ctx[E, N], func(string) bool) bool
	add    func(string) bool
}

// values returns the strings that comparisons with a field look at. They are
// good for this event.
func (g *Group[E, N]) values(s *source[E, N], c *Ctx[E, N]) []string {
	if s.gen != g.gen {
		s.values = s.values[:0]
		s.each(c, s.add)
		s.gen = g.gen
	}
	return s.values
}

// needle is a text that is looked for in others.
type needle struct {
	match.Need
	at   int32 // where in it the three bytes are that it is found by
	sym  uint32
	next int32
}

func (s *slot[E, N]) note(sym uint32) {
	if s.g.stamp[sym] != s.g.gen {
		s.g.stamp[sym] = s.g.gen
		s.out = append(s.out, sym)
	}
}

// cost estimates what reading it takes, in ns.
func (s *slot[E, N]) cost() float64 {
	c := map[form]float64{exactly: 35, below: 80, named: 35, holding: 150, numbered: 12, flagged: 12, networked: 120}[s.form]
	switch {
	case s.field.Iter != "":
		c *= 8
	case s.field.List:
		c *= 4
	}
	return c
}

const gramBits, pairBits = 13, 10

func gram(s string, i int) uint32 {
	w := uint32(lowerCase(s[i])) | uint32(lowerCase(s[i+1]))<<8 | uint32(lowerCase(s[i+2]))<<16
	return w * 0x9e3779b1 >> (32 - gramBits)
}

func pair(s string, i int) uint32 {
	w := uint32(lowerCase(s[i])) | uint32(lowerCase(s[i+1]))<<8
	return w * 0x9e3779b1 >> (32 - pairBits)
}

func lowerCase(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// seal makes it ready to be read.
func (s *slot[E, N]) seal() {
	switch s.form {
	case below:
		for v := range s.strs {
			n := min(len(v), 255)
			s.lens[n>>6] |= 1 << (n & 63)
		}
	case flagged:
		for v := range s.nums {
			s.mask |= v
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
	case holding:
		s.sealTexts()
	}
}

// sealTexts picks for each text the three bytes that the fewest others have.
func (s *slot[E, N]) sealTexts() {
	seen := make([]int32, 1<<gramBits)
	for _, t := range s.texts {
		for i := 0; i+3 <= len(t.Text); i++ {
			seen[gram(t.Text, i)]++
		}
	}
	table := func(bits int) ([]uint64, []int32) {
		heads := make([]int32, 1<<bits)
		for i := range heads {
			heads[i] = -1
		}
		return make([]uint64, 1<<bits/64), heads
	}
	add := func(set []uint64, heads []int32, h uint32, i int) {
		set[h>>6] |= 1 << (h & 63)
		s.texts[i].next, heads[h] = heads[h], int32(i)
	}
	for i := range s.texts {
		t := &s.texts[i]
		if len(t.Text) < 3 {
			if s.pairs == nil {
				s.pairs, s.pairHeads = table(pairBits)
			}
			add(s.pairs, s.pairHeads, pair(t.Text, 0), i)
			continue
		}
		for j := 1; j+3 <= len(t.Text); j++ {
			if seen[gram(t.Text, j)] < seen[gram(t.Text, int(t.at))] {
				t.at = int32(j)
			}
		}
		if s.grams == nil {
			s.grams, s.heads = table(gramBits)
		}
		add(s.grams, s.heads, gram(t.Text, int(t.at)), i)
	}
}

// scan notes the texts that occur in v.
func (s *slot[E, N]) scan(v string) {
	if s.grams != nil {
		for i := 0; i+3 <= len(v); i++ {
			if h := gram(v, i); s.grams[h>>6]&(1<<(h&63)) != 0 {
				s.compare(v, i, s.heads[h])
			}
		}
	}
	if s.pairs != nil {
		for i := 0; i+2 <= len(v); i++ {
			if h := pair(v, i); s.pairs[h>>6]&(1<<(h&63)) != 0 {
				s.compare(v, i, s.pairHeads[h])
			}
		}
	}
}

// compare notes those of a chain of texts that occur in v with their bytes at
// i.
func (s *slot[E, N]) compare(v string, i int, chain int32) {
	for chain >= 0 {
		t := &s.texts[chain]
		chain = t.next
		at := i - int(t.at)
		end := at + len(t.Text)
		if at < 0 || end > len(v) || t.Begin && at > 0 || t.End && end < len(v) {
			continue
		}
		if v[at:end] == t.Text || t.AnyCase && match.EqualFold(v[at:end], t.Text) {
			s.note(t.sym)
		}
	}
}

// string notes the symbols of a value. It returns false: the next one is
// wanted, too.
func (s *slot[E, N]) string(v string) bool {
	switch s.form {
	case exactly:
		if s.field.Fold {
			s.buf = s.buf[:0]
			for i := range len(v) {
				s.buf = append(s.buf, lowerCase(v[i]))
			}
			if sym, ok := s.strs[string(s.buf)]; ok {
				s.note(sym)
			}
			break
		}
		if sym, ok := s.strs[v]; ok {
			s.note(sym)
		}
	case named:
		if sym, ok := s.strs[v[strings.LastIndexByte(v, '/')+1:]]; ok {
			s.note(sym)
		}
	case below:
		for i := 1; i < len(v); i++ {
			if v[i] != '/' {
				continue
			}
			if n := min(i, 255); s.lens[n>>6]&(1<<(n&63)) == 0 {
				continue
			}
			if sym, ok := s.strs[v[:i]]; ok {
				s.note(sym)
			}
		}
	case holding:
		s.scan(v)
	}
	return false
}

func (s *slot[E, N]) number(v int64) bool {
	if s.form == numbered {
		if sym, ok := s.nums[v]; ok {
			s.note(sym)
		}
		return false
	}
	for v &= s.mask; v != 0; v &= v - 1 {
		if sym, ok := s.nums[1<<bits.TrailingZeros64(uint64(v))]; ok {
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
