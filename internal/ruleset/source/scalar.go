package source

import (
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Value is the text that a scalar stands for.
func (n *Node) Value() string {
	if n == nil || n.Kind != Scalar {
		return ""
	}
	if n.Style == Plain && !n.decoded {
		if s := n.src[n.Start:n.End]; strings.IndexByte(s, '\n') < 0 {
			return s
		}
	}
	n.decode()
	return n.val
}

// Offset tells where in the file the byte i of a scalar's value stands. Of
// the length of the value it is the end.
func (n *Node) Offset(i int) int {
	n.decode()
	return n.at[min(max(i, 0), len(n.at)-1)]
}

// EndOffset tells where in the file the byte before i of a scalar's value
// ends: where byte i stands, but for line breaks and what is folded with them.
func (n *Node) EndOffset(i int) int {
	if i <= 0 {
		return n.Offset(i)
	}
	from, to := n.Offset(i-1), n.Offset(i)
	if from < to && strings.IndexByte(n.src[from:to], '\n') >= 0 {
		return from + 1
	}
	return to
}

// Index tells which byte of the value stands at an offset of the file, or the
// next one after it.
func (n *Node) Index(off int) int {
	n.decode()
	return min(sort.SearchInts(n.at, off), len(n.val))
}

// decode works out the value, and where each byte of it comes from.
func (n *Node) decode() {
	if n.decoded {
		return
	}
	d := decoder{src: n.src}
	switch n.Style {
	case Plain:
		d.folded(n.Start, n.End, 0)
		d.close(n.End)
	case Single, Double:
		end := n.End
		if !n.Open {
			end--
		}
		q := byte('\'')
		if n.Style == Double {
			q = '"'
		}
		d.folded(min(n.Start+1, end), end, q)
		d.close(end)
	default:
		d.block(n)
	}
	n.val, n.at, n.decoded = string(d.out), d.at, true
}

type decoder struct {
	src string
	out []byte
	at  []int
}

func (d *decoder) put(c byte, off int) {
	d.out = append(d.out, c)
	d.at = append(d.at, off)
}

func (d *decoder) close(off int) { d.at = append(d.at, off) }

// folded decodes a scalar whose line breaks are folded: one is a space, more
// are one less. q is the quote, 0 for none.
func (d *decoder) folded(i, end int, q byte) {
	for i < end {
		c := d.src[i]
		switch {
		case c == ' ' || c == '\t' || c == '\r' && i+1 < end && d.src[i+1] == '\n' || c == '\n':
			i = d.white(i, end, q)
		case c == '\'' && q == '\'':
			d.put(c, i)
			i += 2
		case c == '\\' && q == '"':
			i = d.escape(i, end)
		default:
			d.put(c, i)
			i++
		}
	}
}

// white decodes white space: within a line it stays, around a line break it
// is folded.
func (d *decoder) white(i, end int, q byte) int {
	j, breaks, first := i, 0, -1
	for j < end && strings.IndexByte(" \t\r\n", d.src[j]) >= 0 {
		if d.src[j] == '\n' {
			if breaks == 0 {
				first = j
			}
			breaks++
		}
		j++
	}
	switch {
	case breaks == 0:
		for ; i < j; i++ {
			d.put(d.src[i], i)
		}
	case breaks == 1:
		d.put(' ', first)
	default:
		for range breaks - 1 {
			d.put('\n', first)
		}
	}
	return j
}

var escapes = map[byte]string{
	'0': "\x00", 'a': "\a", 'b': "\b", 't': "\t", '\t': "\t", 'n': "\n", 'v': "\v", 'f': "\f", 'r': "\r", 'e': "\x1b",
	' ': " ", '"': `"`, '/': "/", '\\': `\`, '\'': "'", 'N': "\u0085", '_': "\u00a0", 'L': "\u2028", 'P': "\u2029",
}

// escape decodes what begins with a backslash.
func (d *decoder) escape(i, end int) int {
	if i+1 >= end {
		d.put('\\', i)
		return end
	}
	c := d.src[i+1]
	n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	switch {
	case n > 0 && i+2+n <= end:
		v, err := strconv.ParseUint(d.src[i+2:i+2+n], 16, 32)
		if err != nil {
			break
		}
		var b [utf8.UTFMax]byte
		for _, x := range b[:utf8.EncodeRune(b[:], rune(min(v, utf8.MaxRune+1)))] {
			d.put(x, i)
		}
		return i + 2 + n
	case c == '\n' || c == '\r' && i+2 < end && d.src[i+2] == '\n':
		// A line break that stands for nothing, and the indentation after it.
		i += 2
		if c == '\r' {
			i++
		}
		for i < end && (d.src[i] == ' ' || d.src[i] == '\t') {
			i++
		}
		return i
	}
	if s, ok := escapes[c]; ok {
		for _, x := range []byte(s) {
			d.put(x, i)
		}
	} else {
		d.put('\\', i)
		d.put(c, i+1)
	}
	return i + 2
}

// block decodes a literal or folded block.
func (d *decoder) block(n *Node) {
	head, body, _ := strings.Cut(n.src[n.Start:n.Reach], "\n")
	chomp := byte(0)
	for _, c := range []byte(cutRemark(head)) {
		if c == '-' || c == '+' {
			chomp = c
		}
	}
	off := n.Start + len(head) + 1
	if body == "" {
		d.close(n.End)
		return
	}
	// Breaks are the line breaks since the last line with text; the last of
	// them may be folded.
	type nl struct{ off int }
	var breaks []nl
	started, deeper, last := false, false, n.End
	for text := range strings.SplitSeq(body, "\n") {
		start := off
		off += len(text) + 1
		text = strings.TrimSuffix(text, "\r")
		strip := min(n.Indent, len(text)-len(strings.TrimLeft(text, " ")))
		if strip == len(text) {
			breaks = append(breaks, nl{start + len(text)})
			continue
		}
		text = text[strip:]
		more := text[0] == ' ' || text[0] == '\t'
		switch {
		case !started:
			for _, b := range breaks {
				d.put('\n', b.off)
			}
		case n.Style == Folded && !more && !deeper && len(breaks) == 1:
			d.put(' ', breaks[0].off)
		case n.Style == Folded && !more && !deeper:
			for _, b := range breaks[1:] {
				d.put('\n', b.off)
			}
		default:
			for _, b := range breaks {
				d.put('\n', b.off)
			}
		}
		breaks, started, deeper = breaks[:0], true, more
		for i := range len(text) {
			d.put(text[i], start+strip+i)
		}
		last = start + strip + len(text)
		breaks = append(breaks, nl{last})
	}
	switch {
	case chomp == '+':
		for _, b := range breaks {
			if b.off < len(d.src) {
				d.put('\n', b.off)
			}
		}
	case chomp == 0 && started && last < len(d.src):
		d.put('\n', last)
	}
	d.close(max(last, 0))
	// The end lies never before a byte of the value.
	if k := len(d.at); k > 1 && d.at[k-1] < d.at[k-2] {
		d.at[k-1] = d.at[k-2]
	}
}
