// Package parse reads the text of rules and macros into trees.
//
//	Expression = Comparison [ ( "||" | "or" | "&&" | "and" ) Expression ]
//	Comparison = Arith [ ScalarOp Comparison | ArrayOp Array ]
//	ScalarOp   = ">=" | ">" | "<=" | "<" | "!=" | "==" | "=~" | "!~"
//	ArrayOp    = "in" | "not" "in" | "allin"
//	Arith      = Bit { ( "+" | "-" ) Bit }
//	Bit        = Unary [ ( "&" | "|" | "^" ) Bit ]
//	Unary      = ( "!" | "not" | "-" | "^" ) Unary | Primary
//	Primary    = Ident | Net | Int | Variable | FieldRef | String | Duration
//	           | "(" Expression ")"
//	Array      = CIDR | Variable | FieldRef | Ident | "[" member { "," member } "]"
//
// The members of a list are of one family: strings of the three kinds,
// addresses and networks, integers, or names. && and || have one precedence
// and nest to the right. Two-character operators are two words, white space
// may stand between them.
package parse

import (
	"fmt"
	"math"

	"github.com/clewsec/clew/internal/secl/ast"
)

// Limits on a single text. What is above them is a problem of its own class;
// memory and stack stay proportional to the text.
const (
	MaxBytes  = 64 << 10
	MaxDepth  = 200
	maxTokens = 16 << 10
)

// Expression parses a rule's expression. The node is nil when a problem that
// is not a warning was found.
func Expression(src string) (ast.Node, ast.Problems) {
	p := start(src)
	var n ast.Node
	p.guard(func() {
		n = p.expression(0)
		p.end()
	})
	return p.result(n)
}

// Macro parses what a macro stands for: an expression, or a list.
func Macro(src string) (ast.Node, ast.Problems) {
	p := start(src)
	var n ast.Node
	p.guard(func() {
		if p.peek(0).is('[') {
			n = p.list()
		} else {
			n = p.expression(0)
		}
		p.end()
	})
	return p.result(n)
}

type parser struct {
	src      string
	toks     []token
	pos      int
	problems ast.Problems
}

// stop unwinds the parser after the first syntax problem: what follows one
// is guessing. It never leaves the package.
type stop struct{}

func start(src string) *parser {
	p := &parser{src: src}
	if len(src) > MaxBytes {
		p.fail(ast.Span{}, ast.Limit, fmt.Sprintf("expression is longer than %d bytes", MaxBytes))
		return p
	}
	p.lex()
	return p
}

func (p *parser) guard(f func()) {
	if p.problems.Failed() {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(stop); !ok {
				panic(r)
			}
		}
	}()
	f()
}

func (p *parser) result(n ast.Node) (ast.Node, ast.Problems) {
	if p.problems.Failed() {
		return nil, p.problems
	}
	return n, p.problems
}

func (p *parser) fail(at ast.Span, code ast.Code, msg string) {
	p.problems = append(p.problems, ast.Problem{Span: at, Code: code, Msg: msg})
}

func (p *parser) warn(at ast.Span, code ast.Code, msg string) {
	p.problems = append(p.problems, ast.Problem{Span: at, Code: code, Msg: msg, Warning: true})
}

func (p *parser) abort(at ast.Span, code ast.Code, msg string) {
	p.fail(at, code, msg)
	panic(stop{})
}

func (p *parser) peek(n int) token {
	if p.pos+n < len(p.toks) {
		return p.toks[p.pos+n]
	}
	return p.toks[len(p.toks)-1]
}

func (p *parser) take() token {
	t := p.peek(0)
	if t.kind != tEOF {
		p.pos++
	}
	return t
}

func (p *parser) unexpected(want string) {
	t := p.peek(0)
	msg := "unexpected " + t.describe(p.src)
	if want != "" {
		msg += ", want " + want
	}
	if t.kind == tIdent {
		switch t.text {
		case "AND", "OR", "NOT", "IN":
			msg += "; words of the language are lower case"
		}
	}
	p.abort(t.at, ast.Syntax, msg)
}

func (p *parser) end() {
	if p.peek(0).kind != tEOF {
		p.unexpected("an operator or the end")
	}
}

func (p *parser) deeper(depth int) int {
	if depth >= MaxDepth {
		p.abort(p.peek(0).at, ast.Limit, fmt.Sprintf("expression is nested more than %d deep", MaxDepth))
	}
	return depth + 1
}

// expression reads the chain in a loop and then folds it from the right, so
// that a long chain needs no deep stack here.
func (p *parser) expression(depth int) ast.Node {
	depth = p.deeper(depth)
	type link struct {
		op ast.Op
		at ast.Span
	}
	operands := []ast.Node{p.comparison(depth)}
	var links []link
	for {
		op, n := p.logical()
		if n == 0 {
			break
		}
		at := p.peek(0).at.To(p.peek(n - 1).at)
		p.pos += n
		links = append(links, link{op, at})
		operands = append(operands, p.comparison(depth))
	}
	node := operands[len(operands)-1]
	for i := len(links) - 1; i >= 0; i-- {
		mixed := i+1 < len(links) && links[i+1].op != links[i].op
		node = &ast.Binary{
			At: operands[i].Span().To(node.Span()), Op: links[i].op, OpAt: links[i].at,
			Left: operands[i], Right: node, Mixed: mixed,
		}
	}
	return node
}

// logical tells which operator of a chain stands next and how many words it
// has, 0 when none does.
func (p *parser) logical() (ast.Op, int) {
	t, u := p.peek(0), p.peek(1)
	switch {
	case t.is('&') && u.is('&'):
		return ast.And, 2
	case t.is('|') && u.is('|'):
		return ast.Or, 2
	case t.word("and"):
		return ast.And, 1
	case t.word("or"):
		return ast.Or, 1
	}
	return 0, 0
}

func (p *parser) comparison(depth int) ast.Node {
	left := p.arith(depth)
	first := p.peek(0)
	op, n := p.relation()
	if n == 0 {
		return left
	}
	at := first.at.To(p.peek(n - 1).at)
	p.pos += n
	var right ast.Node
	if op == ast.In || op == ast.NotIn || op == ast.AllIn {
		right = p.array()
	} else {
		right = p.comparison(p.deeper(depth))
	}
	return &ast.Binary{At: left.Span().To(right.Span()), Op: op, OpAt: at, Left: left, Right: right}
}

func (p *parser) relation() (ast.Op, int) {
	t, u := p.peek(0), p.peek(1)
	switch {
	case t.is('='):
		switch {
		case u.is('='):
			return ast.Eq, 2
		case u.is('~'):
			return ast.Match, 2
		case u.glued && u.kind == tString && u.str == ast.Pattern:
			p.warn(t.at.To(u.at), ast.Portability, `other engines need white space between =~ and the quote`)
			return ast.Match, 1
		}
	case t.is('!'):
		switch {
		case u.is('='):
			return ast.NotEq, 2
		case u.is('~'):
			return ast.NotMatch, 2
		case u.glued && u.kind == tString && u.str == ast.Pattern:
			p.warn(t.at.To(u.at), ast.Portability, `other engines need white space between !~ and the quote`)
			return ast.NotMatch, 1
		}
	case t.is('<'):
		if u.is('=') {
			return ast.LessEq, 2
		}
		return ast.Less, 1
	case t.is('>'):
		if u.is('=') {
			return ast.GreaterEq, 2
		}
		return ast.Greater, 1
	case t.word("in"):
		return ast.In, 1
	case t.word("allin"):
		return ast.AllIn, 1
	case t.word("not") && u.word("in"):
		return ast.NotIn, 2
	}
	return 0, 0
}

func (p *parser) arith(depth int) ast.Node {
	left := p.bit(depth)
	for range maxTokens {
		t := p.peek(0)
		var op ast.Op
		switch {
		case t.is('+'):
			op = ast.Add
		case t.is('-'):
			op = ast.Sub
		case t.kind == tInt && t.glued && (t.text[0] == '+' || t.text[0] == '-') && t.num != math.MinInt64:
			// 1+2: the sign belongs to the number for other engines, and
			// they reject it. Here it is the operator.
			op = ast.Add
			if t.text[0] == '-' {
				op = ast.Sub
			}
			p.warn(t.at, ast.Portability, "other engines need white space around + and -")
			p.toks[p.pos].text = t.text[1:]
			p.toks[p.pos].at.Start++
			if op == ast.Sub {
				p.toks[p.pos].num = -t.num
			}
			p.pos--
		default:
			return left
		}
		// Each step makes the tree one deeper on its left.
		depth = p.deeper(depth)
		p.pos++
		right := p.bit(depth)
		left = &ast.Binary{At: left.Span().To(right.Span()), Op: op, OpAt: t.at, Left: left, Right: right}
	}
	return left
}

func (p *parser) bit(depth int) ast.Node {
	left := p.unary(depth)
	t, u := p.peek(0), p.peek(1)
	var op ast.Op
	switch {
	case t.is('&') && !u.is('&'):
		op = ast.BitAnd
	case t.is('|') && !u.is('|'):
		op = ast.BitOr
	case t.is('^'):
		op = ast.BitXor
	default:
		return left
	}
	p.pos++
	right := p.bit(p.deeper(depth))
	return &ast.Binary{At: left.Span().To(right.Span()), Op: op, OpAt: t.at, Left: left, Right: right}
}

func (p *parser) unary(depth int) ast.Node {
	t := p.peek(0)
	var op ast.Op
	switch {
	case t.is('!'), t.word("not"):
		op = ast.Not
	case t.is('-'):
		op = ast.Neg
	case t.is('^'):
		op = ast.Complement
	default:
		return p.primary(depth)
	}
	p.pos++
	x := p.unary(p.deeper(depth))
	return &ast.Unary{At: t.at.To(x.Span()), Op: op, X: x}
}

func (p *parser) primary(depth int) ast.Node {
	t := p.peek(0)
	switch t.kind {
	case tIdent:
		if reserved(t.text) {
			p.unexpected("a value")
		}
		p.pos++
		return &ast.Ident{At: t.at, Name: t.text}
	case tPunct:
		if !t.is('(') {
			p.unexpected("a value")
		}
		p.pos++
		n := p.expression(depth)
		if !p.peek(0).is(')') {
			p.unexpected(`")"`)
		}
		return around(n, t.at.To(p.take().at))
	case tEOF:
		p.unexpected("a value")
	}
	return p.literal()
}

func (p *parser) literal() ast.Node {
	t := p.take()
	switch t.kind {
	case tVar:
		return &ast.Var{At: t.at, Name: t.text}
	case tFieldRef:
		return &ast.FieldRef{At: t.at, Name: t.text}
	case tInt:
		return &ast.Int{At: t.at, Value: t.num, Text: t.text}
	case tDuration:
		return &ast.Duration{At: t.at, Value: t.num, Text: t.text}
	case tString:
		return &ast.String{At: t.at, Kind: t.str, Value: t.text}
	default:
		return &ast.Net{At: t.at, Text: t.text, CIDR: t.cidr}
	}
}

func (p *parser) array() ast.Node {
	t := p.peek(0)
	switch {
	case t.is('['):
		return p.list()
	case t.kind == tIdent && !reserved(t.text):
		p.pos++
		return &ast.Ident{At: t.at, Name: t.text}
	case t.kind == tVar, t.kind == tFieldRef, t.kind == tNet && t.cidr:
		return p.literal()
	}
	p.unexpected("a list, a network, a field, a macro or a variable")
	return nil
}

func (p *parser) list() ast.Node {
	open := p.take()
	l := &ast.List{}
	family := kind(0)
	for {
		t := p.peek(0)
		switch t.kind {
		case tString, tNet, tInt:
		case tIdent:
			if reserved(t.text) {
				p.unexpected("a member of a list")
			}
		default:
			p.unexpected("a member of a list")
		}
		if family != 0 && t.kind != family {
			p.abort(t.at, ast.Syntax, "a list holds either strings, or addresses and networks, or integers, or names; "+t.describe(p.src)+" is of another family")
		}
		family = t.kind
		if t.kind == tIdent {
			p.pos++
			l.Items = append(l.Items, &ast.Ident{At: t.at, Name: t.text})
		} else {
			l.Items = append(l.Items, p.literal())
		}
		if p.peek(0).is(']') {
			l.At = open.at.To(p.take().at)
			return l
		}
		if !p.peek(0).is(',') {
			p.unexpected(`"," or "]"`)
		}
		p.pos++
	}
}

func reserved(s string) bool {
	switch s {
	case "and", "or", "not", "in", "allin":
		return true
	}
	return false
}

// around widens a node's span to its parentheses.
func around(n ast.Node, at ast.Span) ast.Node {
	switch n := n.(type) {
	case *ast.Binary:
		n.At = at
	case *ast.Unary:
		n.At = at
	case *ast.Ident:
		n.At = at
	case *ast.FieldRef:
		n.At = at
	case *ast.Var:
		n.At = at
	case *ast.Int:
		n.At = at
	case *ast.Duration:
		n.At = at
	case *ast.String:
		n.At = at
	case *ast.Net:
		n.At = at
	}
	return n
}
