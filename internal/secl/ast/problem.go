package ast

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Code is the class of a problem.
type Code string

// The classes of problems.
const (
	Syntax       Code = "syntax"
	TypeError    Code = "type"
	Operator     Code = "operator"
	Glob         Code = "glob"
	PatternError Code = "pattern"
	NotLiteral   Code = "pattern from non-literal"
	RegexpError  Code = "regexp"
	RegexpOnPath Code = "regexp on path"
	PathLiteral  Code = "path literal"
	TooLong      Code = "literal too long"
	UnknownField Code = "unknown field"
	UnknownVar   Code = "unknown variable"
	TwoKinds     Code = "two event types"
	NoKind       Code = "no event type"
	WrongKind    Code = "field not allowed for type"
	TwoRegisters Code = "two registers"
	RegisterName Code = "register name"
	Limit        Code = "limit"
	Lint         Code = "lint"
	Portability  Code = "portability"
)

// Problem is something wrong, or worth a warning, at a place of a text.
type Problem struct {
	Span Span
	Code Code
	// Msg says what is wrong, lower case, without the place.
	Msg string
	// Nearest is the right name that is closest to the wrong one, or empty.
	Nearest string
	// Warning tells that the text is accepted all the same.
	Warning bool
}

// Error makes a Problem an error of one line, without the place.
func (p Problem) Error() string {
	if p.Nearest != "" {
		return p.Msg + `, did you mean "` + p.Nearest + `"?`
	}
	return p.Msg
}

// Position returns the line and column, both from 1, of the byte at offset.
// The column counts characters.
func Position(src string, offset int) (line, col int) {
	offset = min(max(offset, 0), len(src))
	start := strings.LastIndexByte(src[:offset], '\n') + 1
	return strings.Count(src[:offset], "\n") + 1, utf8.RuneCountInString(src[start:offset]) + 1
}

// Snippet returns the source line that the span begins on, and below it a
// line of carets under the span. Both lines end without a newline; very long
// lines are cut around the span.
func Snippet(src string, s Span) (text, carets string) {
	const before, width = 60, 120
	start := min(max(s.Start, 0), len(src))
	end := min(max(s.End, start), len(src))
	from := strings.LastIndexByte(src[:start], '\n') + 1
	to := len(src)
	if i := strings.IndexByte(src[start:], '\n'); i >= 0 {
		to = start + i
	}
	lead, trail := "", ""
	if to-from > width {
		if start-from > before {
			from = start - before
			for from < start && !utf8.RuneStart(src[from]) {
				from++
			}
			lead = "…"
		}
		if to-from > width {
			to = from + width
			for to > from && !utf8.RuneStart(src[to]) {
				to--
			}
			trail = "…"
		}
	}
	end = min(max(end, start), max(to, start))
	line := lead + strings.TrimRight(src[from:to], "\r") + trail
	var pad strings.Builder
	pad.WriteString(strings.Repeat(" ", utf8.RuneCountInString(lead)))
	for _, r := range src[from:start] {
		if r == '\t' {
			pad.WriteByte('\t')
		} else {
			pad.WriteByte(' ')
		}
	}
	return line, pad.String() + strings.Repeat("^", max(1, utf8.RuneCountInString(src[start:end])))
}

// Format writes the problem with its place, the source line and a caret:
//
//	2:5: unknown field "exec.fil.path", did you mean "exec.file.path"?
//	    && exec.fil.path == "/a"
//	       ^^^^^^^^^^^^^
func (p Problem) Format(src string) string {
	line, col := Position(src, p.Span.Start)
	text, carets := Snippet(src, p.Span)
	kind := ""
	if p.Warning {
		kind = "warning: "
	}
	return fmt.Sprintf("%d:%d: %s%s\n    %s\n    %s", line, col, kind, p.Error(), text, carets)
}

// Problems are the problems of one text, in the order they were found.
type Problems []Problem

// Failed tells whether one of the problems is not just a warning.
func (ps Problems) Failed() bool {
	for _, p := range ps {
		if !p.Warning {
			return true
		}
	}
	return false
}

// Err returns nil where there are only warnings, else an error that names
// every problem that is not one.
func (ps Problems) Err() error {
	var errs Problems
	for _, p := range ps {
		if !p.Warning {
			errs = append(errs, p)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errs
}

// Error joins the problems' texts with semicolons.
func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p.Error())
	}
	return b.String()
}

// Format writes all problems as Problem.Format does, one after the other.
func (ps Problems) Format(src string) string {
	var b strings.Builder
	for _, p := range ps {
		b.WriteString(p.Format(src))
		b.WriteByte('\n')
	}
	return b.String()
}

// Nearest returns the name that is closest to word by edit distance, or the
// empty string where none is close enough to be what was meant. Of equally
// close names the first one is taken.
func Nearest(word string, names []string) string {
	const longest = 128
	if len(word) > longest {
		return ""
	}
	limit := max(2, len(word)/4)
	best, found := limit+1, ""
	var row [longest + 1]int
	for _, n := range names {
		if d := len(n) - len(word); len(n) > longest || d >= best || -d >= best {
			continue
		}
		if d := distance(word, n, row[:]); d < best {
			best, found = d, n
		}
	}
	return found
}

// distance is Levenshtein's; row has room for len(b)+1 integers.
func distance(a, b string, row []int) int {
	for j := 0; j <= len(b); j++ {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost = 1 + min(diag, row[j-1], row[j])
			}
			diag, row[j] = row[j], cost
		}
	}
	return row[len(b)]
}
