// Package source reads the YAML of policies as a text: which mapping, key and
// scalar stands where, to the byte. Unlike a YAML parser it takes every text,
// also one that somebody is typing: what it cannot make sense of it leaves
// out. It says where things are, not whether the file is right.
package source

import (
	"sort"
	"strings"
)

// Kind tells nodes apart.
type Kind uint8

// The kinds of nodes.
const (
	Scalar Kind = iota + 1
	Mapping
	Sequence
)

// Style is how a scalar is written.
type Style uint8

// The styles of scalars.
const (
	Plain Style = iota
	Single
	Double
	Literal
	Folded
)

// Node is a value in a text.
type Node struct {
	Kind  Kind
	Style Style
	// Flow tells that a mapping or sequence is written in brackets, Open that
	// what closes a value was not found.
	Flow, Open bool
	// Start and End are the bytes it is written in.
	Start, End int
	// Reach is where the last line ends that could still belong to it: beyond
	// End for a block with blank lines below it.
	Reach int
	// Indent is the column of the keys or dashes of a block mapping or
	// sequence; of a block scalar that of its lines.
	Indent  int
	Entries []Entry
	Items   []*Node

	src string
	at  []int
	val string
	// decoded tells that val and at are known.
	decoded bool
}

// Entry is a key of a mapping with its value.
type Entry struct {
	Key *Node
	// Colon is the offset of the colon, -1 where there is none yet.
	Colon int
	// Value is nil where there is none yet.
	Value *Node
}

// Bounds of what is read. What is above them is left out.
const (
	maxDepth = 64
	maxKey   = 1024
)

// Parse reads a text. The node is nil where there is nothing but remarks.
func Parse(src string) *Node {
	p := &parser{src: src}
	p.split()
	// What is left behind a root that ends early is read again, so that a line
	// that fits nowhere hides nothing.
	root := p.block(0, 0)
	for p.i < len(p.lines) {
		before := p.i
		next := p.block(0, 0)
		switch {
		case root == nil:
			root = next
		case next != nil && next.Kind == Mapping && root.Kind == Mapping && !root.Flow:
			root.Entries = append(root.Entries, next.Entries...)
			root.End, root.Reach = next.End, next.Reach
		}
		if p.i == before {
			p.next()
		}
	}
	return root
}

// ScalarAt finds the scalar that begins at an offset, nil where none does.
func (n *Node) ScalarAt(off int) *Node {
	if n == nil || off < n.Start || off > n.Reach {
		return nil
	}
	switch n.Kind {
	case Scalar:
		if n.Start == off {
			return n
		}
	case Mapping:
		i := sort.Search(len(n.Entries), func(i int) bool { return n.Entries[i].Key.Start > off }) - 1
		if i >= 0 {
			if k := n.Entries[i].Key.ScalarAt(off); k != nil {
				return k
			}
			return n.Entries[i].Value.ScalarAt(off)
		}
	case Sequence:
		i := sort.Search(len(n.Items), func(i int) bool { return n.Items[i].Start > off }) - 1
		if i >= 0 {
			return n.Items[i].ScalarAt(off)
		}
	}
	return nil
}

type line struct{ start, end int }

type parser struct {
	src   string
	lines []line
	// i is the line that is read next, col where in it.
	i, col int
}

func (p *parser) split() {
	p.lines = make([]line, 0, strings.Count(p.src, "\n")+1)
	for start := 0; start <= len(p.src); {
		end, next := len(p.src), len(p.src)+1
		if n := strings.IndexByte(p.src[start:], '\n'); n >= 0 {
			end, next = start+n, start+n+1
		}
		if end > start && p.src[end-1] == '\r' {
			end--
		}
		p.lines = append(p.lines, line{start, end})
		start = next
	}
	if strings.HasPrefix(p.src, "\ufeff") {
		p.lines[0].start += len("\ufeff")
		p.lines[0].start = min(p.lines[0].start, p.lines[0].end)
	}
}

// indent is how many spaces a line begins with; blank tells that it has
// nothing but white space or a remark.
func (p *parser) indent(i int) (n int, blank bool) {
	l := p.src[p.lines[i].start:p.lines[i].end]
	for n < len(l) && l[n] == ' ' {
		n++
	}
	rest := strings.TrimLeft(l[n:], " \t")
	return n, rest == "" || rest[0] == '#'
}

// skip goes to the next line that says something.
func (p *parser) skip() bool {
	for p.col == 0 && p.i < len(p.lines) {
		n, blank := p.indent(p.i)
		text := p.src[p.lines[p.i].start:p.lines[p.i].end]
		if !blank && !(n == 0 && (strings.HasPrefix(text, "---") || strings.HasPrefix(text, "...") || text[0] == '%')) {
			break
		}
		p.i++
	}
	return p.i < len(p.lines)
}

// column is where the text of the line begins that is read next.
func (p *parser) column() int {
	if p.col > 0 {
		return p.col
	}
	n, _ := p.indent(p.i)
	return n
}

func (p *parser) next() { p.i, p.col = p.i+1, 0 }

// lineOf finds the line of an offset.
func (p *parser) lineOf(off int) int {
	return max(0, sort.Search(len(p.lines), func(i int) bool { return p.lines[i].start > off })-1)
}

// seek goes to the line behind an offset.
func (p *parser) seek(off int) { p.i, p.col = max(p.i, p.lineOf(off))+1, 0 }

// block reads what stands at least at column least.
func (p *parser) block(least, depth int) *Node {
	if !p.skip() || depth > maxDepth {
		return nil
	}
	c := p.column()
	if c < least {
		return nil
	}
	l := p.lines[p.i]
	off := l.start + c
	if off >= l.end {
		p.next()
		return nil
	}
	switch {
	case dash(p.src[off:l.end]):
		return p.sequence(c, depth)
	case p.src[off] == '{' || p.src[off] == '[':
		return p.value(off, least-1, depth)
	}
	if _, _, ok := p.key(off, l.end); ok || word(cutRemark(p.src[off:l.end])) && p.keyFollows(c) {
		return p.mapping(c, depth)
	}
	return p.value(off, least-1, depth)
}

func dash(s string) bool {
	return s != "" && s[0] == '-' && (len(s) == 1 || s[1] == ' ' || s[1] == '\t')
}

// word tells whether a line is what a key looks like before its colon.
func word(s string) bool {
	s = strings.TrimRight(s, " \t")
	for i := range len(s) {
		if c := s[i]; !(c == '_' || c == '-' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9') {
			return false
		}
	}
	return s != ""
}

// key finds the key that begins at off.
func (p *parser) key(off, end int) (k *Node, colon int, ok bool) {
	if off >= end {
		return nil, 0, false
	}
	switch c := p.src[off]; c {
	case '"', '\'':
		n := p.quoted(off, min(end, off+maxKey))
		if n.Open {
			return nil, 0, false
		}
		i := n.End
		for i < end && p.src[i] == ' ' {
			i++
		}
		if i < end && p.src[i] == ':' && (i+1 == end || p.src[i+1] == ' ' || p.src[i+1] == '\t') {
			return n, i, true
		}
		return nil, 0, false
	case '{', '}', '[', ']', ',', '|', '>', '%', '@', '`', '#', '*', '!', '&':
		return nil, 0, false
	}
	for i := off; i < min(end, off+maxKey); i++ {
		switch p.src[i] {
		case ':':
			if i+1 == end || p.src[i+1] == ' ' || p.src[i+1] == '\t' {
				e := off + len(strings.TrimRight(p.src[off:i], " \t"))
				return p.scalar(off, e, Plain), i, true
			}
		case '#':
			if i > off && (p.src[i-1] == ' ' || p.src[i-1] == '\t') {
				return nil, 0, false
			}
		}
	}
	return nil, 0, false
}

func (p *parser) scalar(start, end int, style Style) *Node {
	return &Node{Kind: Scalar, Style: style, Start: start, End: end, Reach: end, src: p.src}
}

func (p *parser) mapping(indent, depth int) *Node {
	n := &Node{Kind: Mapping, Indent: indent, Start: p.lines[p.i].start + indent}
	for p.skip() {
		c := p.column()
		l := p.lines[p.i]
		if c < indent {
			break
		}
		off := l.start + c
		if c > indent || off >= l.end {
			p.next() // belongs to nothing
			continue
		}
		if dash(p.src[off:l.end]) {
			break
		}
		k, colon, ok := p.key(off, l.end)
		if !ok {
			// A key that is being typed, or a line that is none.
			e := off + len(strings.TrimRight(cutRemark(p.src[off:l.end]), " \t"))
			if word(p.src[off:e]) {
				n.Entries = append(n.Entries, Entry{Key: p.scalar(off, e, Plain), Colon: -1})
			}
			p.next()
			n.End, n.Reach = l.end, l.end
			continue
		}
		e := Entry{Key: k, Colon: colon}
		at := p.i
		e.Value = p.value(colon+1, indent, depth+1)
		if p.i == at {
			p.next()
		}
		n.Entries = append(n.Entries, e)
		n.End, n.Reach = l.end, l.end
		if e.Value != nil {
			n.End, n.Reach = max(n.End, e.Value.End), max(n.Reach, e.Value.Reach)
		}
	}
	return n
}

// cutRemark takes off a remark at the end of a line.
func cutRemark(s string) string {
	for i := range len(s) {
		if s[i] == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t') {
			return s[:i]
		}
	}
	return s
}

func (p *parser) sequence(indent, depth int) *Node {
	n := &Node{Kind: Sequence, Indent: indent, Start: p.lines[p.i].start + indent}
	for p.skip() {
		c := p.column()
		l := p.lines[p.i]
		off := l.start + c
		if c < indent || off >= l.end || c == indent && !dash(p.src[off:l.end]) {
			break
		}
		if c > indent {
			p.next()
			continue
		}
		at := p.i
		item := p.value(off+1, indent, depth+1)
		if p.i == at {
			p.next()
		}
		n.End, n.Reach = l.end, l.end
		if item == nil {
			item = p.scalar(off+1, off+1, Plain)
			item.Start = min(off+2, l.end)
			item.End, item.Reach = item.Start, item.Start
		}
		n.Items = append(n.Items, item)
		n.End, n.Reach = max(n.End, item.End), max(n.Reach, item.Reach)
	}
	return n
}

// value reads what stands behind a colon or a dash at column indent.
func (p *parser) value(off, indent, depth int) *Node {
	l := p.lines[p.i]
	off = p.properties(off, l.end)
	if off >= l.end || p.src[off] == '#' {
		// The value begins below.
		p.next()
		save := p.i
		if !p.skip() {
			return nil
		}
		c := p.column()
		if c > indent {
			if n := p.block(indent+1, depth); n != nil {
				return n
			}
		} else if c == indent && indent >= 0 && dash(p.src[p.lines[p.i].start+c:p.lines[p.i].end]) && p.behindKey(save-1) {
			return p.sequence(c, depth)
		}
		return nil
	}
	if depth > maxDepth {
		return nil
	}
	switch p.src[off] {
	case '|', '>':
		return p.blockScalar(off, indent)
	case '"', '\'':
		n := p.quoted(off, p.limit(indent))
		p.seek(n.End)
		return n
	case '{', '[':
		f := flow{p: p, limit: p.limit(indent)}
		n := f.node(off, depth)
		p.seek(n.End)
		return n
	}
	if c := off - l.start; dash(p.src[p.lineBegin(off):l.end]) && c > p.column() {
		// Compact forms: "- key: …" and "- - …".
		if dash(p.src[off:l.end]) {
			p.col = c
			return p.sequence(c, depth)
		}
		if _, _, ok := p.key(off, l.end); ok || word(cutRemark(p.src[off:l.end])) && p.keyFollows(c) {
			p.col = c
			return p.mapping(c, depth)
		}
	}
	return p.plain(off, indent)
}

// lineBegin is where the text that is read of the line of an offset begins.
func (p *parser) lineBegin(off int) int {
	return min(p.lines[p.i].start+p.column(), off)
}

// keyFollows tells whether the next line is a key at the column, which makes a
// word before it a key that is being typed.
func (p *parser) keyFollows(c int) bool {
	for i := p.i + 1; i < len(p.lines); i++ {
		n, blank := p.indent(i)
		if blank {
			continue
		}
		_, _, ok := p.key(p.lines[i].start+n, p.lines[i].end)
		return n == c && ok
	}
	return false
}

// behindKey tells whether the value at line i is that of a key, not of a dash:
// only then may a sequence stand at the column of what it belongs to.
func (p *parser) behindKey(i int) bool {
	n, _ := p.indent(i)
	return !dash(p.src[p.lines[i].start+n : p.lines[i].end])
}

// properties skips white space, anchors and tags.
func (p *parser) properties(off, end int) int {
	for off < end {
		switch c := p.src[off]; c {
		case ' ', '\t':
			off++
		case '&', '!':
			for off < end && p.src[off] != ' ' && p.src[off] != '\t' {
				off++
			}
		default:
			return off
		}
	}
	return off
}

// limit is where a value in quotes or brackets ends at the latest: before a
// line that is not further in than the key.
func (p *parser) limit(indent int) int {
	end := p.lines[p.i].end
	for i := p.i + 1; i < len(p.lines); i++ {
		n, blank := p.indent(i)
		l := p.lines[i]
		if !blank && n <= indent && p.src[l.start+n] != ']' && p.src[l.start+n] != '}' {
			break
		}
		end = l.end
	}
	return end
}

func (p *parser) quoted(off, limit int) *Node {
	n := p.scalar(off, limit, Double)
	q := p.src[off]
	if q == '\'' {
		n.Style = Single
	}
	for i := off + 1; i < limit; i++ {
		switch p.src[i] {
		case '\\':
			if q == '"' {
				i++
			}
		case q:
			if q == '\'' && i+1 < limit && p.src[i+1] == '\'' {
				i++
				continue
			}
			n.End, n.Reach = i+1, i+1
			return n
		}
	}
	// Without its end it is taken to be this line alone, lest it swallows the
	// rest of the file while it is typed.
	n.Open = true
	if i := strings.IndexByte(p.src[off:limit], '\n'); i >= 0 {
		n.End = off + i
	}
	n.End = off + len(strings.TrimRight(p.src[off:n.End], " \t\r"))
	n.Reach = n.End
	return n
}

// plain reads a scalar without quotes, which may go on in lines further in.
func (p *parser) plain(off, indent int) *Node {
	l := p.lines[p.i]
	text := cutRemark(p.src[off:l.end])
	end := off + len(strings.TrimRight(text, " \t"))
	remark := off+len(text) < l.end
	p.next()
	for !remark && p.i < len(p.lines) {
		l := p.lines[p.i]
		n, _ := p.indent(p.i)
		if strings.TrimLeft(p.src[l.start:l.end], " \t") == "" {
			p.next()
			continue
		}
		s := p.src[l.start+n : l.end]
		if n <= indent || s[0] == '#' || dash(s) {
			break
		}
		if _, _, ok := p.key(l.start+n, l.end); ok {
			break
		}
		text := cutRemark(s)
		remark = len(text) < len(s)
		end = l.start + n + len(strings.TrimRight(text, " \t"))
		p.next()
	}
	return p.scalar(off, end, Plain)
}

func (p *parser) blockScalar(off, indent int) *Node {
	n := p.scalar(off, p.lines[p.i].end, Literal)
	if p.src[off] == '>' {
		n.Style = Folded
	}
	head := p.src[off:p.lines[p.i].end]
	n.Indent = -1
	for _, c := range []byte(cutRemark(head)) {
		if c >= '1' && c <= '9' {
			n.Indent = max(indent, 0) + int(c-'0')
		}
	}
	p.next()
	n.Reach = n.End
	for ; p.i < len(p.lines); p.next() {
		l := p.lines[p.i]
		text := p.src[l.start:l.end]
		if strings.Trim(text, " ") == "" {
			n.Reach = l.end
			continue
		}
		c, _ := p.indent(p.i)
		if c <= indent || n.Indent >= 0 && c < n.Indent {
			break
		}
		if n.Indent < 0 {
			n.Indent = c
		}
		n.End, n.Reach = l.end, l.end
	}
	if n.Indent < 0 {
		n.Indent = indent + 2
	}
	return n
}

// flow reads what stands in brackets.
type flow struct {
	p     *parser
	limit int
}

// space skips white space and remarks.
func (f *flow) space(i int) int {
	for i < f.limit {
		switch c := f.p.src[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
		case c == '#' && (i == 0 || strings.IndexByte(" \t\n", f.p.src[i-1]) >= 0):
			for i < f.limit && f.p.src[i] != '\n' {
				i++
			}
		default:
			return i
		}
	}
	return i
}

func (f *flow) node(i, depth int) *Node {
	src := f.p.src
	if i < f.limit && depth <= maxDepth {
		switch src[i] {
		case '{', '[':
			return f.collection(i, depth)
		case '"', '\'':
			return f.p.quoted(i, f.limit)
		}
	}
	start := i
	for ; i < f.limit; i++ {
		c := src[i]
		if c == ',' || c == '[' || c == ']' || c == '{' || c == '}' {
			break
		}
		if c == ':' && (i+1 == f.limit || strings.IndexByte(" \t\n,[]{}", src[i+1]) >= 0) {
			break
		}
		if c == '#' && i > start && strings.IndexByte(" \t\n", src[i-1]) >= 0 {
			break
		}
	}
	return f.p.scalar(start, start+len(strings.TrimRight(src[start:i], " \t\r\n")), Plain)
}

func (f *flow) collection(i, depth int) *Node {
	src := f.p.src
	n := &Node{Kind: Sequence, Flow: true, Start: i, Indent: -1}
	closing := byte(']')
	if src[i] == '{' {
		n.Kind, closing = Mapping, '}'
	}
	for i = f.space(i + 1); i < f.limit; i = f.space(i) {
		c := src[i]
		if c == closing {
			n.End, n.Reach = i+1, i+1
			return n
		}
		if c == ',' {
			i++
			continue
		}
		if c == ']' || c == '}' {
			break // of another bracket: this one is not closed
		}
		begin := i
		k := f.node(f.p.properties(i, f.limit), depth+1)
		i = f.space(k.End)
		colon := i < f.limit && src[i] == ':'
		switch {
		case n.Kind == Sequence && colon && k.Kind == Scalar:
			// A mapping of one key without braces.
			m := &Node{Kind: Mapping, Flow: true, Start: k.Start, Indent: -1}
			var e Entry
			e, i = f.entry(k, i, depth)
			m.Entries = []Entry{e}
			m.End, m.Reach = i, i
			n.Items = append(n.Items, m)
		case n.Kind == Sequence:
			n.Items = append(n.Items, k)
		case colon && k.Kind == Scalar:
			var e Entry
			e, i = f.entry(k, i, depth)
			n.Entries = append(n.Entries, e)
		case k.Kind == Scalar:
			n.Entries = append(n.Entries, Entry{Key: k, Colon: -1})
		}
		if i <= begin {
			i = begin + 1
		}
	}
	n.Open = true
	n.End = max(n.Start+1, n.Start+len(strings.TrimRight(src[n.Start:min(i, f.limit)], " \t\r\n")))
	n.Reach = n.End
	return n
}

// entry reads the value of a key whose colon is at i, and tells where it ends.
func (f *flow) entry(k *Node, i, depth int) (Entry, int) {
	e := Entry{Key: k, Colon: i}
	i = f.space(i + 1)
	i = f.p.properties(i, f.limit)
	if i < f.limit && strings.IndexByte(",]}", f.p.src[i]) < 0 {
		e.Value = f.node(i, depth+1)
		i = e.Value.End
	}
	return e, i
}
