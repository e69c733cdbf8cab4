package ruleset

import (
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/clewsec/clew/internal/ruleset/source"
	"github.com/clewsec/clew/internal/secl/ast"
)

// place finds the place in the file of what stands at a span of a text, and
// its end. YAML folds, indents and escapes, so the text is read again from the
// file, where each of its bytes has a place. Where that reads something else,
// as in YAML that is written very oddly, it is where the text begins.
func (pf *policyFile) place(t text, s ast.Span) (at, end Position) {
	if pf.tree == nil {
		pf.src = strings.Join(pf.lines, "\n")
		pf.tree = source.Parse(pf.src)
		pf.starts = make([]int, len(pf.lines))
		off := 0
		for i, l := range pf.lines {
			pf.starts[i] = off
			off += len(l) + 1
		}
	}
	i := t.at.Line - 1
	if t.node == nil || i < 0 || i >= len(pf.lines) {
		return t.at, Position{}
	}
	n := pf.tree.ScalarAt(pf.starts[i] + byteColumn(pf.lines[i], t.at.Column))
	if n == nil || n.Value() != t.s {
		return t.at, Position{}
	}
	start := min(max(s.Start, 0), len(t.s))
	a := n.Offset(start)
	b := a
	if stop := min(s.End, len(t.s)); stop > start {
		b = n.EndOffset(stop)
	}
	return pf.position(a), pf.position(b)
}

// position is that of an offset in the file.
func (pf *policyFile) position(off int) Position {
	i := max(0, sort.SearchInts(pf.starts, off+1)-1)
	return Position{File: pf.name, Line: i + 1, Column: utf8.RuneCountInString(pf.src[pf.starts[i]:off]) + 1}
}

// byteColumn is where in a line the character of a column begins; columns
// count from 1.
func byteColumn(line string, col int) int {
	off := 0
	for ; col > 1 && off < len(line); col-- {
		_, n := utf8.DecodeRuneInString(line[off:])
		off += n
	}
	return off
}
