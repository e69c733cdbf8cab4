package assist

import (
	"cmp"
	"slices"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/parse"
)

// TokenTypes are the names of what words of a condition can be. A Token has
// the index into them.
var TokenTypes = []string{"property", "macro", "enumMember", "variable", "keyword", "operator", "string", "regexp", "number", "comment"}

// Indexes into TokenTypes.
const (
	propertyToken = iota
	macroToken
	constantToken
	variableToken
	keywordToken
	operatorToken
	stringToken
	regexpToken
	numberToken
	commentToken
)

// Token is a word of a condition and what it is.
type Token struct {
	Range Range
	Type  int
}

// Tokens returns the words of all conditions of a document, in its order. A
// word on several lines is left out.
func (w *Workspace) Tokens(name string) []Token {
	d := w.docs[name]
	if d == nil {
		return nil
	}
	macros := map[string]bool{}
	for _, m := range w.macros(d.root) {
		macros[m.name] = true
	}
	var out []Token
	d.sites(func(s *site) {
		for _, t := range parse.Tokens(s.text) {
			kind := tokenType(t, s.shape, macros)
			r := d.rangeOf(s, t.At.Start, t.At.End)
			if kind < 0 || r.Start.Line != r.End.Line || r.Start == r.End {
				continue
			}
			out = append(out, Token{Range: r, Type: kind})
		}
	})
	slices.SortStableFunc(out, func(a, b Token) int {
		return cmp.Or(cmp.Compare(a.Range.Start.Line, b.Range.Start.Line), cmp.Compare(a.Range.Start.Character, b.Range.Start.Character))
	})
	return out
}

// tokenType is what a word is, -1 where it is nothing to be shown.
func tokenType(t parse.Token, shape ruleset.Shape, macros map[string]bool) int {
	switch t.Kind {
	case parse.Name:
		switch {
		case t.Text == "true" || t.Text == "false" || word(t, "and", "or", "not", "in", "allin"):
			return keywordToken
		case shape != ruleset.ShapeFilters && check.IsConstant(t.Text):
			return constantToken
		case macros[t.Text]:
			return macroToken
		}
		return propertyToken
	case parse.FieldRef:
		return propertyToken
	case parse.Variable:
		return variableToken
	case parse.Integer, parse.Duration, parse.Network:
		return numberToken
	case parse.String:
		if t.String == ast.Plain {
			return stringToken
		}
		return regexpToken
	case parse.Comment:
		return commentToken
	case parse.Punct:
		if punct(t, "()[],") {
			return -1
		}
		return operatorToken
	}
	return -1
}
