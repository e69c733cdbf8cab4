package parse

import (
	"strings"

	"github.com/clewsec/clew/internal/secl/ast"
)

// TokenKind tells the words of the language apart.
type TokenKind uint8

// The kinds of words.
const (
	Name TokenKind = iota + 1
	Variable
	FieldRef
	Integer
	Duration
	String
	Network
	// Punct is a mark of one character. Operators of two are two of them.
	Punct
	Comment
	// Bad is what is no word: a character that does not belong, or a string
	// that is not closed, up to the end of its line.
	Bad
)

// A Token is a word of a text.
type Token struct {
	Kind TokenKind
	At   ast.Span
	// Text is what was written; of strings and of ${…} what is inside.
	Text string
	// String is the kind of a string.
	String ast.StringKind
}

// Tokens cuts a text into words, remarks included. Unlike Expression it takes
// every text, so that an editor can ask about one that is being typed. A
// string ends on its line: beyond it a quote is more likely to be missing.
// Beyond MaxBytes nothing is read.
func Tokens(src string) []Token {
	src = src[:min(len(src), MaxBytes)]
	var out []Token
	for i := 0; i < len(src) && len(out) < maxTokens; {
		c := src[i]
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			i++
			continue
		}
		if c == '#' || strings.HasPrefix(src[i:], "//") {
			n := strings.IndexByte(src[i:], '\n')
			if n < 0 {
				n = len(src) - i
			}
			out = append(out, Token{Kind: Comment, At: ast.Span{Start: i, End: i + n}, Text: src[i : i+n]})
			i += n
			continue
		}
		p := &parser{src: src}
		t, n := p.next(i)
		if n == 0 || t.kind == tString && strings.IndexByte(t.text, '\n') >= 0 {
			n = bad(src[i:])
			out = append(out, Token{Kind: Bad, At: ast.Span{Start: i, End: i + n}, Text: src[i : i+n]})
			i += n
			continue
		}
		at := ast.Span{Start: i, End: i + n}
		out = append(out, Token{Kind: tokenKinds[t.kind], At: at, Text: t.text, String: t.str})
		i += n
	}
	return out
}

var tokenKinds = [...]TokenKind{
	tIdent: Name, tVar: Variable, tFieldRef: FieldRef, tInt: Integer, tDuration: Duration, tString: String, tNet: Network, tPunct: Punct,
}

// bad measures what is no word: an open string or ${ to the end of its line,
// else one character.
func bad(s string) int {
	n := 1
	if s[0] == '"' || strings.HasPrefix(s, `~"`) || strings.HasPrefix(s, `r"`) || strings.HasPrefix(s, "${") || strings.HasPrefix(s, "%{") {
		if n = strings.IndexByte(s, '\n'); n < 0 {
			n = len(s)
		}
		if k := strings.IndexAny(s[:n], " \t)"); s[0] != '"' && s[1] == '{' && k > 0 {
			n = k
		}
		return n
	}
	for n < len(s) && s[n]&0xc0 == 0x80 {
		n++
	}
	return n
}
