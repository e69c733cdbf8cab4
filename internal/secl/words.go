package secl

import (
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/secl/match"
)

// words finds which of many strings and patterns a value is or matches: the
// symbols of a slot of strings.
//
// Each of them has a clue that a value cannot do without: itself, a directory
// above a path, the last component of one, or a text that occurs in it. Clues
// are found by hash, all at once; a pattern is tried only on values that have
// its clue, and for values that come again not even then: what was found is
// remembered.
type words struct {
	// fold tells that the case of ASCII letters does not count in what must be
	// equal, built that values are put together to be read.
	fold, built bool

	// ids are symbols by what they stand for, clueOf clues by their text; only
	// while the net is made.
	ids    map[string]uint32
	clueOf map[match.Need]int32
	// values, dirs and bases have places in clues.
	values map[string]int32
	dirs   map[string]int32
	bases  map[string]int32
	texts  []needle
	clues  [][]verdict
	// lens has a bit for each length of a directory below 256.
	lens [4]uint64
	// texts are found by three bytes of theirs, those of two by these: grams
	// and pairs have a bit for each hash of such, heads and pairHeads the
	// first text with it.
	grams     []uint64
	heads     []int32
	pairs     []uint64
	pairHeads []int32

	lower []byte
	found []uint32
	// none are the symbols of no string at all.
	none []uint32
	seen *[seenValues]seen
}

// verdict is what a clue says: the value has the symbol, if the matcher, where
// there is one, agrees.
type verdict struct {
	sym     uint32
	matcher match.Matcher
}

// needle is a text that is looked for in others.
type needle struct {
	match.Need
	at   int32 // where in it the three bytes are that it is found by
	clue int32
	next int32
}

// seen is what was found for a value. The first time only its hash is noted:
// what comes once, as most temporary files do, costs no memory. The value is a
// copy: nothing of an event is held, and memory is used again.
type seen struct {
	hash    uint64
	value   []byte // none if it is not remembered
	symbols []uint32
}

// Of each slot seenValues values of at most seenLength bytes are remembered.
const (
	seenBits   = 6
	seenValues = 1 << seenBits
	seenLength = 512
)

// clue returns the place of a clue in clues.
func (w *words) clue(m *map[string]int32, key string) int32 {
	at, ok := (*m)[key]
	if !ok {
		if *m == nil {
			*m = map[string]int32{}
		}
		at = int32(len(w.clues))
		(*m)[key] = at
		w.clues = append(w.clues, nil)
	}
	return at
}

// text returns the place of the clue that a text occurs.
func (w *words) text(n match.Need) int32 {
	at, ok := w.clueOf[n]
	if !ok {
		if w.clueOf == nil {
			w.clueOf = map[match.Need]int32{}
		}
		at = int32(len(w.clues))
		w.clueOf[n] = at
		w.clues = append(w.clues, nil)
		w.texts = append(w.texts, needle{Need: n, clue: at})
	}
	return at
}

func (w *words) says(clue int32, v verdict) {
	w.clues[clue] = append(w.clues[clue], v)
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

// seal makes them ready to be found. For each text it picks the three bytes
// that the fewest others have.
func (w *words) seal() {
	w.ids, w.clueOf = nil, nil
	w.none = slices.Clone(w.look(""))
	for v := range w.dirs {
		n := min(len(v), 255)
		w.lens[n>>6] |= 1 << (n & 63)
	}
	if len(w.texts) == 0 {
		return
	}
	common := make([]int32, 1<<gramBits)
	for _, t := range w.texts {
		for i := 0; i+3 <= len(t.Text); i++ {
			common[gram(t.Text, i)]++
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
		w.texts[i].next, heads[h] = heads[h], int32(i)
	}
	for i := range w.texts {
		t := &w.texts[i]
		if len(t.Text) < 3 {
			if w.pairs == nil {
				w.pairs, w.pairHeads = table(pairBits)
			}
			add(w.pairs, w.pairHeads, pair(t.Text, 0), i)
			continue
		}
		for j := 1; j+3 <= len(t.Text); j++ {
			if common[gram(t.Text, j)] < common[gram(t.Text, int(t.at))] {
				t.at = int32(j)
			}
		}
		if w.grams == nil {
			w.grams, w.heads = table(gramBits)
		}
		add(w.grams, w.heads, gram(t.Text, int(t.at)), i)
	}
}

// symbols returns those that v has. They are good until the next call.
func (w *words) symbols(v string) []uint32 {
	if v == "" {
		return w.none
	}
	if len(v) > seenLength {
		return w.look(v)
	}
	if w.seen == nil {
		w.seen = new([seenValues]seen)
	}
	h := sketch(v)
	e := &w.seen[h>>(64-seenBits)]
	if e.hash == h && string(e.value) == v {
		return e.symbols
	}
	return w.meet(e, h, v)
}

// meet looks at a value that is not remembered, and remembers it the second
// time.
func (w *words) meet(e *seen, h uint64, v string) []uint32 {
	found := w.look(v)
	if e.hash != h {
		e.hash, e.value = h, e.value[:0]
	} else if len(e.value) == 0 {
		e.value = append(e.value, v...)
		e.symbols = append(e.symbols[:0], found...)
	}
	return found
}

// sketch hashes a string by its length and some of its bytes: those at both
// ends and in the middle, where names and paths differ.
func sketch(v string) uint64 {
	const k = 0x9e3779b97f4a7c15
	n := len(v)
	var h uint64
	switch {
	case n > 16:
		h = (word(v, 0)*k ^ word(v, n-8)) * k
		h = (h ^ h>>32 ^ word(v, (n-8)/2)) * k
	case n >= 8:
		h = (word(v, 0)*k ^ word(v, n-8)) * k
	case n >= 4:
		h = (half(v, 0)<<32 | half(v, n-4)) * k
	default:
		h = (uint64(v[0])<<16 | uint64(v[n/2])<<8 | uint64(v[n-1])) * k
	}
	return (h ^ h>>32 ^ uint64(n)) * k
}

func word(v string, i int) uint64 {
	_ = v[i+7]
	return uint64(v[i]) | uint64(v[i+1])<<8 | uint64(v[i+2])<<16 | uint64(v[i+3])<<24 |
		uint64(v[i+4])<<32 | uint64(v[i+5])<<40 | uint64(v[i+6])<<48 | uint64(v[i+7])<<56
}

func half(v string, i int) uint64 {
	_ = v[i+3]
	return uint64(v[i]) | uint64(v[i+1])<<8 | uint64(v[i+2])<<16 | uint64(v[i+3])<<24
}

// look finds them.
func (w *words) look(v string) []uint32 {
	w.found = w.found[:0]
	if w.values != nil {
		if w.fold {
			w.lower = w.lower[:0]
			for i := range len(v) {
				w.lower = append(w.lower, lowerCase(v[i]))
			}
			if at, ok := w.values[string(w.lower)]; ok {
				w.judge(at, v)
			}
		} else if at, ok := w.values[v]; ok {
			w.judge(at, v)
		}
	}
	if w.bases != nil {
		if at, ok := w.bases[v[strings.LastIndexByte(v, '/')+1:]]; ok {
			w.judge(at, v)
		}
	}
	if w.dirs != nil {
		for i := 1; i < len(v); i++ {
			if v[i] != '/' {
				continue
			}
			if n := min(i, 255); w.lens[n>>6]&(1<<(n&63)) == 0 {
				continue
			}
			if at, ok := w.dirs[v[:i]]; ok {
				w.judge(at, v)
			}
		}
	}
	if w.grams != nil {
		for i := 0; i+3 <= len(v); i++ {
			if h := gram(v, i); w.grams[h>>6]&(1<<(h&63)) != 0 {
				w.compare(v, i, w.heads[h])
			}
		}
	}
	if w.pairs != nil {
		for i := 0; i+2 <= len(v); i++ {
			if h := pair(v, i); w.pairs[h>>6]&(1<<(h&63)) != 0 {
				w.compare(v, i, w.pairHeads[h])
			}
		}
	}
	return w.found
}

// judge notes what a clue says about v.
func (w *words) judge(clue int32, v string) {
	for _, d := range w.clues[clue] {
		if !slices.Contains(w.found, d.sym) && (d.matcher == nil || d.matcher.Match(v)) {
			w.found = append(w.found, d.sym)
		}
	}
}

// compare judges by those of a chain of texts that occur in v with their bytes
// at i.
func (w *words) compare(v string, i int, chain int32) {
	for chain >= 0 {
		t := &w.texts[chain]
		chain = t.next
		at := i - int(t.at)
		end := at + len(t.Text)
		if at < 0 || end > len(v) || t.Begin && at > 0 || t.End && end < len(v) {
			continue
		}
		if v[at:end] == t.Text || t.AnyCase && match.EqualFold(v[at:end], t.Text) {
			w.judge(t.clue, v)
		}
	}
}
