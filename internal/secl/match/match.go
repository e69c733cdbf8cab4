// Package match holds the string matchers of the rule language: globs for
// file paths, patterns for every other string, regular expressions, and sets
// of them. A matcher is made once and is then safe for use by several
// goroutines; matching does not allocate, regular expressions aside.
//
// Both wildcard matchers match correctly where a literal piece occurs more
// than once: a*b matches aXbXb.
package match

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// The refusals of patterns.
var (
	ErrDoubleStar  = errors.New(`"**" has no meaning here`)
	ErrDoubleInner = errors.New(`"**" must be a whole segment and the last one`)
)

// Matcher tells whether a string matches.
type Matcher interface {
	Match(s string) bool
}

// wildcard is a text cut at its stars. Between two neighbours any run of
// characters may stand.
type wildcard struct {
	parts []string
	fold  bool
}

func newWildcard(text string, fold bool) wildcard {
	return wildcard{parts: strings.Split(text, "*"), fold: fold}
}

func (w *wildcard) match(s string) bool {
	first, last := w.parts[0], w.parts[len(w.parts)-1]
	if len(w.parts) == 1 {
		return len(s) == len(first) && w.prefix(s, first)
	}
	if len(s) < len(first)+len(last) || !w.prefix(s, first) || !w.prefix(s[len(s)-len(last):], last) {
		return false
	}
	// With both ends fixed the pieces between them may be taken at their
	// first occurrence: what a later one leaves is never more.
	s = s[len(first) : len(s)-len(last)]
	for _, p := range w.parts[1 : len(w.parts)-1] {
		i := w.index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return true
}

func (w *wildcard) prefix(s, p string) bool {
	if !w.fold {
		return strings.HasPrefix(s, p)
	}
	if len(s) < len(p) {
		return false
	}
	for i := range len(p) {
		if lower(s[i]) != lower(p[i]) {
			return false
		}
	}
	return true
}

func (w *wildcard) index(s, p string) int {
	if !w.fold {
		return strings.Index(s, p)
	}
	for i := 0; i+len(p) <= len(s); i++ {
		if w.prefix(s[i:], p) {
			return i
		}
	}
	return -1
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// EqualFold tells whether two strings are equal but for the case of ASCII
// letters, as host names are compared.
func EqualFold(a, b string) bool {
	w := wildcard{fold: true}
	return len(a) == len(b) && w.prefix(a, b)
}

// Pattern matches a whole string; * stands for any run of characters, slashes
// and spaces included. Nothing else is special.
type Pattern struct {
	w wildcard
}

// NewPattern compiles a pattern. With fold the case of ASCII letters does not
// count.
func NewPattern(text string, fold bool) (*Pattern, error) {
	if strings.Contains(text, "**") {
		return nil, fmt.Errorf("pattern %q: %w", text, ErrDoubleStar)
	}
	return &Pattern{newWildcard(text, fold)}, nil
}

// Match implements Matcher.
func (p *Pattern) Match(s string) bool { return p.w.match(s) }

// Glob matches a file path segment by segment. * stands for any run of
// characters within its segment; ** is the last segment and stands for one or
// more characters below its directory, at any depth. A glob that begins with
// * has a slash before it in thought.
type Glob struct {
	text string
	// prefix is the literal text before the first star: most paths differ in
	// it already.
	prefix string
	// starred tells that a star follows the prefix.
	starred bool
	segs    []wildcard
	// deep tells that ** followed.
	deep bool
}

// NewGlob compiles a glob.
func NewGlob(text string) (*Glob, error) {
	t := text
	if strings.HasPrefix(t, "*") {
		t = "/" + t
	}
	g := &Glob{text: text}
	if Hollow(text) {
		return g, nil
	}
	if t == "/**" || strings.HasSuffix(t, "/**") {
		g.deep = true
		t = strings.TrimSuffix(t, "/**")
	}
	if strings.Contains(t, "**") {
		return nil, fmt.Errorf("glob %q: %w", text, ErrDoubleInner)
	}
	g.prefix, _, g.starred = strings.Cut(t, "*")
	for seg := range strings.SplitSeq(t, "/") {
		g.segs = append(g.segs, newWildcard(seg, false))
	}
	return g, nil
}

// Hollow tells whether the text is a legal glob that matches no path: it
// begins with * and has no slash.
func Hollow(text string) bool {
	return strings.HasPrefix(text, "*") && text != "**" && !strings.Contains(text, "/") && !strings.Contains(text, "**")
}

// Match implements Matcher.
func (g *Glob) Match(s string) bool {
	if !strings.HasPrefix(s, g.prefix) {
		return false
	}
	for i := range g.segs {
		seg, rest, more := strings.Cut(s, "/")
		if !g.segs[i].match(seg) {
			return false
		}
		if i == len(g.segs)-1 {
			if g.deep {
				return more && rest != ""
			}
			return !more
		}
		if !more {
			return false
		}
		s = rest
	}
	return false
}

// Dir returns the longest directory that every path the glob can match lies
// below, without a slash at its end: empty for the root directory.
func (g *Glob) Dir() string {
	switch {
	case len(g.segs) == 0:
		return ""
	case g.deep && !g.starred:
		return g.prefix
	}
	return g.prefix[:max(0, strings.LastIndexByte(g.prefix, '/'))]
}

// Base returns the last component of every path the glob can match, where
// there is one such name.
func (g *Glob) Base() (string, bool) {
	if g.deep || len(g.segs) == 0 {
		return "", false
	}
	last := g.segs[len(g.segs)-1]
	return last.parts[0], len(last.parts) == 1
}

// Regexp is an unanchored RE2 search.
type Regexp struct {
	text string
	re   *regexp.Regexp
	// plain is set instead where all it looks for are some strings.
	plain *occurrence
}

// NewRegexp compiles a regular expression. With fold case does not count.
func NewRegexp(text string, fold bool) (*Regexp, error) {
	re, err := regexp.Compile(text)
	if err == nil && fold {
		text = "(?i)" + text
		re, err = regexp.Compile(text)
	}
	if err != nil {
		return nil, err
	}
	if o := plainSearch(text); o != nil {
		return &Regexp{text: text, plain: o}, nil
	}
	return &Regexp{text: text, re: re}, nil
}

// Match implements Matcher.
func (r *Regexp) Match(s string) bool {
	if r.re != nil {
		return r.re.MatchString(s)
	}
	return r.plain.match(s)
}

// Set is a list of literals: strings that must be equal, and matchers.
type Set struct {
	// Values are the exact strings in the order of the text.
	Values []string
	// Matchers are the patterns, globs and regular expressions.
	Matchers []Matcher
	fold     bool
	index    map[string]struct{}
}

// NewSet makes a set. With fold the case of ASCII letters in values does not
// count.
func NewSet(values []string, matchers []Matcher, fold bool) *Set {
	s := &Set{Values: values, Matchers: matchers, fold: fold}
	// A few comparisons are cheaper than a hash.
	if len(values) > 4 && !fold {
		s.index = make(map[string]struct{}, len(values))
		for _, v := range values {
			s.index[v] = struct{}{}
		}
	}
	return s
}

// Fold tells whether the case of letters does not count.
func (s *Set) Fold() bool { return s.fold }

// Match tells whether one of the members matches.
func (s *Set) Match(v string) bool {
	switch {
	case s.index != nil:
		if _, ok := s.index[v]; ok {
			return true
		}
	case s.fold:
		for _, x := range s.Values {
			if EqualFold(x, v) {
				return true
			}
		}
	default:
		for _, x := range s.Values {
			if x == v {
				return true
			}
		}
	}
	for _, m := range s.Matchers {
		if m.Match(v) {
			return true
		}
	}
	return false
}
