package assist

import (
	"sort"
	"strings"
	"unicode/utf8"
)

// Position is a place in a document: line and character from 0. Characters are
// counted as UTF-16 does, which is how editors and browsers count.
type Position struct {
	Line      int `json:"line"`
	Character int `json:"character"`
}

// Range is a part of a document; End is behind its last character.
type Range struct {
	Start Position `json:"start"`
	End   Position `json:"end"`
}

// Edit replaces a part of a document.
type Edit struct {
	Range   Range  `json:"range"`
	NewText string `json:"newText"`
}

// Text is a document's text with its lines.
type Text struct {
	src    string
	starts []int
}

// NewText takes a text apart into lines.
func NewText(src string) Text {
	t := Text{src: src, starts: make([]int, 1, strings.Count(src, "\n")+1)}
	for i := 0; ; {
		n := strings.IndexByte(src[i:], '\n')
		if n < 0 {
			return t
		}
		i += n + 1
		t.starts = append(t.starts, i)
	}
}

// String is the text.
func (t *Text) String() string { return t.src }

// line gives the bounds of a line without its line break.
func (t *Text) line(i int) (start, end int) {
	start, end = t.starts[i], len(t.src)
	if i+1 < len(t.starts) {
		end = t.starts[i+1] - 1
	}
	if end > start && t.src[end-1] == '\r' {
		end--
	}
	return start, end
}

// lineOf is the line of an offset.
func (t *Text) lineOf(off int) int {
	return max(0, sort.SearchInts(t.starts, off+1)-1)
}

// Offset is where in the text a position is. One that is beyond the end of its
// line is that end, one beyond the last line the end of the text; one in the
// middle of a character is before it.
func (t *Text) Offset(p Position) int {
	switch {
	case p.Line < 0:
		return 0
	case p.Line >= len(t.starts):
		return len(t.src)
	}
	off, end := t.line(p.Line)
	for units := 0; off < end; {
		r, n := utf8.DecodeRuneInString(t.src[off:])
		if units += utf16Len(r); units > p.Character {
			break
		}
		off += n
	}
	return off
}

// Position is that of an offset.
func (t *Text) Position(off int) Position {
	off = min(max(off, 0), len(t.src))
	i := t.lineOf(off)
	start, end := t.line(i)
	units := 0
	for _, r := range t.src[start:min(off, end)] {
		units += utf16Len(r)
	}
	return Position{Line: i, Character: units}
}

// Range is that of two offsets.
func (t *Text) Range(start, end int) Range {
	return Range{Start: t.Position(start), End: t.Position(max(start, end))}
}

// column is the offset of a character of a line, both from 1, as the loader
// counts them.
func (t *Text) column(line, col int) int {
	if line < 1 || line > len(t.starts) {
		return 0
	}
	off, end := t.line(line - 1)
	for ; col > 1 && off < end; col-- {
		_, n := utf8.DecodeRuneInString(t.src[off:])
		off += n
	}
	return off
}

// utf16Len is how many units of UTF-16 a character has. A byte that is no
// UTF-8 counts as one, as the replacement character would.
func utf16Len(r rune) int {
	if r >= 0x10000 {
		return 2
	}
	return 1
}

// Apply replaces a part of a text.
func (t *Text) Apply(r Range, with string) string {
	start, end := t.Offset(r.Start), t.Offset(r.End)
	if end < start {
		start, end = end, start
	}
	return t.src[:start] + with + t.src[end:]
}
