package parse

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/secl/ast"
)

type kind uint8

const (
	tEOF kind = iota
	tIdent
	tVar
	tFieldRef
	tInt
	tDuration
	tString
	tNet
	tPunct
)

type token struct {
	kind kind
	at   ast.Span
	text string // what was written; for names and strings, the inner part
	num  int64  // tInt, tDuration
	str  ast.StringKind
	cidr bool
	// glued tells that no white space stands before the token.
	glued bool
}

func (t token) is(p byte) bool { return t.kind == tPunct && t.text[0] == p }

func (t token) word(w string) bool { return t.kind == tIdent && t.text == w }

func (t token) describe(src string) string {
	if t.kind == tEOF {
		return "end of expression"
	}
	s := src[t.at.Start:t.at.End]
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return strconv.Quote(s)
}

// lex cuts src into tokens. At each place the kinds are tried in a fixed
// order and the first that fits is taken, not the longest: 5m is a duration
// even in 5mx.
func (p *parser) lex() {
	src := p.src
	i, glued := 0, false
	for i < len(src) {
		c := src[i]
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			i, glued = i+1, false
			continue
		}
		if c == '#' || strings.HasPrefix(src[i:], "//") {
			n := strings.IndexByte(src[i:], '\n')
			if n < 0 {
				break
			}
			i, glued = i+n, false
			continue
		}
		if len(p.toks) >= maxTokens {
			p.fail(ast.Span{Start: i, End: i + 1}, ast.Limit, fmt.Sprintf("expression has more than %d words", maxTokens))
			break
		}
		t, n := p.next(i)
		if n == 0 {
			p.toks = nil
			return
		}
		t.at = ast.Span{Start: i, End: i + n}
		t.glued = glued
		p.toks = append(p.toks, t)
		i, glued = i+n, true
	}
	p.toks = append(p.toks, token{kind: tEOF, at: ast.Span{Start: len(src), End: len(src)}})
}

// next reads the token at i and returns it with its length, 0 when there is
// none; the problem is then noted.
func (p *parser) next(i int) (token, int) {
	s := p.src[i:]
	if n, cidr := netLen(s); n > 0 {
		return token{kind: tNet, text: s[:n], cidr: cidr}, n
	}
	if strings.HasPrefix(s, "${") || strings.HasPrefix(s, "%{") {
		k := tVar
		if s[0] == '%' {
			k = tFieldRef
		}
		n := 2
		for n < len(s) && (nameByte(s[n]) || s[n] == '.' || k == tFieldRef && (s[n] == '[' || s[n] == ']')) {
			n++
		}
		if n == 2 || n == len(s) || s[n] != '}' || digit(s[2]) || s[2] == '.' {
			p.fail(ast.Span{Start: i, End: i + n}, ast.Syntax, "name in "+s[:2]+"…} is not closed or not a name")
			return token{}, 0
		}
		return token{kind: k, text: s[2:n]}, n + 1
	}
	if digit(s[0]) {
		if t, n := p.duration(i, s); n != 0 {
			return t, max(n, 0)
		}
	}
	if strings.HasPrefix(s, `r"`) {
		return p.quoted(i, s, 1, ast.Regexp)
	}
	if nameStart(s[0]) {
		n := identLen(s)
		return token{kind: tIdent, text: s[:n]}, n
	}
	if s[0] == '"' {
		return p.quoted(i, s, 0, ast.Plain)
	}
	if strings.HasPrefix(s, `~"`) {
		return p.quoted(i, s, 1, ast.Pattern)
	}
	if digit(s[0]) || (s[0] == '+' || s[0] == '-') && len(s) > 1 && digit(s[1]) {
		return p.integer(i, s)
	}
	if strings.IndexByte("!=<>+-[](),&|~^%", s[0]) >= 0 {
		return token{kind: tPunct, text: s[:1]}, 1
	}
	n := 1
	for n < len(s) && s[n]&0xc0 == 0x80 {
		n++
	}
	msg := fmt.Sprintf("unexpected character %q", s[:n])
	if s[0] == '\'' {
		msg += "; strings are written in double quotes"
	}
	p.fail(ast.Span{Start: i, End: i + n}, ast.Syntax, msg)
	return token{}, 0
}

func (p *parser) quoted(i int, s string, prefix int, k ast.StringKind) (token, int) {
	for n := prefix + 1; n < len(s); n++ {
		switch s[n] {
		case '\\':
			n++
		case '"':
			return token{kind: tString, text: s[prefix+1 : n], str: k}, n + 1
		}
	}
	p.fail(ast.Span{Start: i, End: len(p.src)}, ast.Syntax, "string is not closed")
	return token{}, 0
}

// duration reads digits and a unit. It returns 0 when there is no unit, -1
// when the problem was noted.
func (p *parser) duration(i int, s string) (token, int) {
	n := 0
	for n < len(s) && digit(s[n]) {
		n++
	}
	if n == len(s) || strings.IndexByte("mshd", s[n]) < 0 {
		return token{}, 0
	}
	unit := s[n]
	digits := n
	n++
	if unit != 'd' && n < len(s) && s[n] == 's' {
		n++
	}
	at := ast.Span{Start: i, End: i + n}
	text := s[:n]
	var d time.Duration
	var err error
	if unit == 'd' {
		var days int64
		days, err = strconv.ParseInt(s[:digits], 10, 64)
		if err == nil && days > math.MaxInt64/int64(24*time.Hour) {
			err = strconv.ErrRange
		}
		d = time.Duration(days) * 24 * time.Hour
		p.warn(at, ast.Portability, "other engines have no days in durations; write hours")
	} else {
		d, err = time.ParseDuration(text)
	}
	if err != nil {
		p.fail(at, ast.Syntax, "not a duration: "+text)
		return token{}, -1
	}
	return token{kind: tDuration, text: text, num: int64(d)}, n
}

func (p *parser) integer(i int, s string) (token, int) {
	n := 0
	if s[0] == '+' || s[0] == '-' {
		n++
	}
	if strings.HasPrefix(s[n:], "0x") || strings.HasPrefix(s[n:], "0X") {
		n += 2
		for n < len(s) && (digit(s[n]) || s[n]|0x20 >= 'a' && s[n]|0x20 <= 'f') {
			n++
		}
		p.warn(ast.Span{Start: i, End: i + n}, ast.Portability, "other engines have no hexadecimal integers")
	} else {
		for n < len(s) && digit(s[n]) {
			n++
		}
	}
	v, err := strconv.ParseInt(s[:n], 0, 64)
	if err != nil {
		p.fail(ast.Span{Start: i, End: i + n}, ast.Syntax, "not an integer of 64 bits: "+s[:n])
		return token{}, 0
	}
	return token{kind: tInt, text: s[:n], num: v}, n
}

func digit(c byte) bool     { return c >= '0' && c <= '9' }
func nameStart(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func nameByte(c byte) bool  { return nameStart(c) || digit(c) }
func hexByte(c byte) bool   { return digit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// identLen measures an identifier: letters, digits, _ and ., and brackets
// only around a register or an index, so that [A, B] and in[64] are lists.
func identLen(s string) int {
	n := 1
	for n < len(s) {
		switch c := s[n]; {
		case nameByte(c) || c == '.':
			n++
		case c == '[' && s[:n] != "in" && s[:n] != "allin":
			m := n + 1
			for m < len(s) && nameByte(s[m]) {
				m++
			}
			if m == n+1 || m == len(s) || s[m] != ']' {
				return n
			}
			n = m + 1
		default:
			return n
		}
	}
	return n
}

// netLen measures an IPv4 or IPv6 address or network at the start of s.
// Whether it is a valid one is decided later.
func netLen(s string) (n int, cidr bool) {
	if n = v4Len(s); n == 0 {
		if n = v6Len(s); n == 0 {
			return 0, false
		}
	}
	if n < len(s)-1 && s[n] == '/' && digit(s[n+1]) {
		m := n + 1
		for m < len(s) && m < n+4 && digit(s[m]) {
			m++
		}
		return m, true
	}
	return n, false
}

func v4Len(s string) int {
	n := 0
	for group := range 4 {
		if group > 0 {
			if n == len(s) || s[n] != '.' {
				return 0
			}
			n++
		}
		start := n
		for n < len(s) && n < start+3 && digit(s[n]) {
			n++
		}
		if n == start {
			return 0
		}
	}
	return n
}

func v6Len(s string) int {
	n, colons, group := 0, 0, 0
	for n < len(s) {
		switch c := s[n]; {
		case hexByte(c):
			if group++; group > 4 {
				return 0
			}
			n++
		case c == ':':
			colons++
			group = 0
			n++
		case c == '.' && colons > 0:
			// The last part may be an IPv4 address.
			start := strings.LastIndexByte(s[:n], ':') + 1
			m := v4Len(s[start:])
			if m == 0 {
				return 0
			}
			return start + m
		default:
			if colons < 2 {
				return 0
			}
			return n
		}
	}
	if colons < 2 {
		return 0
	}
	return n
}
