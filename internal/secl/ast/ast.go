// Package ast holds the syntax tree of the rule language, the problems that
// are reported about a text, and the printer.
//
// The grammar has two properties that surprise: && and || have the same
// precedence and nest to the right, so a && b || c is a && (b || c); and the
// bit operators bind tighter than + and -. The tree says what a text means
// under these rules, parentheses are not kept, and the printer writes them
// wherever a reader could be misled.
package ast

// Span is a range of bytes of the source text: [Start, End).
type Span struct {
	Start, End int
}

// To returns the span that reaches from s to the end of t.
func (s Span) To(t Span) Span { return Span{s.Start, t.End} }

// Op is an operator.
type Op uint8

// The operators. In, NotIn and AllIn have a list, a name or a network on
// their right side.
const (
	And Op = iota + 1
	Or
	Eq
	NotEq
	Match
	NotMatch
	Less
	LessEq
	Greater
	GreaterEq
	In
	NotIn
	AllIn
	Add
	Sub
	BitAnd
	BitOr
	BitXor
	Not
	Neg
	Complement
)

var opText = [...]string{
	And: "&&", Or: "||", Eq: "==", NotEq: "!=", Match: "=~", NotMatch: "!~",
	Less: "<", LessEq: "<=", Greater: ">", GreaterEq: ">=",
	In: "in", NotIn: "not in", AllIn: "allin",
	Add: "+", Sub: "-", BitAnd: "&", BitOr: "|", BitXor: "^",
	Not: "!", Neg: "-", Complement: "^",
}

// String returns the operator as it is written.
func (o Op) String() string {
	if int(o) < len(opText) && opText[o] != "" {
		return opText[o]
	}
	return "?"
}

// Node is a part of an expression.
type Node interface {
	// Span is where the node stands in the source text. For a node that was
	// in parentheses it includes them.
	Span() Span
}

// Binary joins two operands: logic, comparison, membership or arithmetic.
type Binary struct {
	At    Span
	Op    Op
	OpAt  Span
	Left  Node
	Right Node
	// Mixed tells that this is a && or || whose right operand is a chain of
	// the other one, written without parentheses.
	Mixed bool
}

// Unary is !, - or ^ before an operand.
type Unary struct {
	At Span
	Op Op
	X  Node
}

// List is what stands in brackets. Its members are of one family: strings,
// patterns and regular expressions; addresses and networks; integers; names.
type List struct {
	At    Span
	Items []Node
}

// Ident is a name: a constant, a macro or a field, with register or index
// where it has one (process.ancestors[A].comm).
type Ident struct {
	At   Span
	Name string
}

// FieldRef is %{name}: a field, never a constant or macro.
type FieldRef struct {
	At   Span
	Name string
}

// Var is ${name}.
type Var struct {
	At   Span
	Name string
}

// Int is an integer literal. Text is how it was written.
type Int struct {
	At    Span
	Value int64
	Text  string
}

// Duration is a duration literal in nanoseconds. Text is how it was written.
type Duration struct {
	At    Span
	Value int64
	Text  string
}

// StringKind tells the three string literals apart.
type StringKind uint8

// "…", ~"…" and r"…".
const (
	Plain StringKind = iota
	Pattern
	Regexp
)

// String is a string literal. Value is what stands between the quotes;
// backslashes are kept as they are.
type String struct {
	At    Span
	Kind  StringKind
	Value string
}

// Net is an address or a network literal as written.
type Net struct {
	At   Span
	Text string
	// CIDR is true when a prefix length was written.
	CIDR bool
}

func (n *Binary) Span() Span   { return n.At }
func (n *Unary) Span() Span    { return n.At }
func (n *List) Span() Span     { return n.At }
func (n *Ident) Span() Span    { return n.At }
func (n *FieldRef) Span() Span { return n.At }
func (n *Var) Span() Span      { return n.At }
func (n *Int) Span() Span      { return n.At }
func (n *Duration) Span() Span { return n.At }
func (n *String) Span() Span   { return n.At }
func (n *Net) Span() Span      { return n.At }

// Walk calls f for n and everything below it, parents first. Where f returns
// false the node's children are left out.
func Walk(n Node, f func(Node) bool) {
	if n == nil || !f(n) {
		return
	}
	switch n := n.(type) {
	case *Binary:
		Walk(n.Left, f)
		Walk(n.Right, f)
	case *Unary:
		Walk(n.X, f)
	case *List:
		for _, it := range n.Items {
			Walk(it, f)
		}
	}
}
