package check

import (
	"net/netip"
	"slices"

	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/match"
)

// Type is a static type of the language.
type Type uint8

// The types. An expression can also be a list of one of them.
const (
	Invalid Type = iota
	Bool
	Int
	String
	IP
)

func (t Type) String() string {
	switch t {
	case Bool:
		return "bool"
	case Int:
		return "int"
	case String:
		return "string"
	case IP:
		return "network"
	}
	return "invalid"
}

// Op tells what an expression does.
type Op uint8

// The operations of a checked expression. Negative comparisons do not exist:
// != , !~ and "not in" are Not over the positive one, which is what they mean
// for lists, too.
const (
	// Const is a constant in Int, Str, Bool or Net.
	Const Op = iota + 1
	// FieldOp reads Field; with Length its length, with Index one element.
	FieldOp
	// VarOp reads the variable named Var; with Length its length.
	VarOp
	// Concat joins Args as text.
	Concat
	// And and Or have two or more Args, lightest first.
	And
	Or
	// Not has one Arg.
	Not
	// Eq compares Args[0] and Args[1], of one type; any pair of elements may
	// be equal where they are lists. For networks it is overlap.
	Eq
	// Less and LessEq compare integers, as Eq does.
	Less
	LessEq
	// InSet, InInts and InNets ask whether Args[0], or any element of it, is
	// in Set, Ints or Nets.
	InSet
	InInts
	InNets
	// AllNets asks whether every element of Args[0] overlaps every one of
	// Nets.
	AllNets
	// Arithmetic on integers; Neg and Complement have one Arg.
	Add
	Sub
	BitAnd
	BitOr
	BitXor
	Neg
	Complement
	// Age is now less Args[0], in nanoseconds.
	Age
)

// Expr is a checked, folded expression: every name is resolved, every literal
// compiled.
type Expr struct {
	Op   Op
	Type Type
	// List tells that it has many values.
	List bool
	// Span is where it stands in the rule. What comes from a macro stands
	// where the macro is used.
	Span ast.Span
	Args []*Expr

	Field *Field
	// Register is the name in process.ancestors[NAME].
	Register string
	// Length asks for the length of the field or variable, or how many
	// elements there are.
	Length bool
	// Index is the element that is asked for, -1 where none is.
	Index int
	Var   string

	Int  int64
	Str  string
	Bool bool
	Net  netip.Prefix

	Set  *match.Set
	Ints []int64
	Nets []netip.Prefix

	// Weight is an estimate of what evaluation costs.
	Weight int

	lit ast.StringKind
	dur bool
	// arith tells that the expression is a computation, which is compared
	// with a duration directly.
	arith bool
}

// Weights of nodes, as far as they do not come from a field.
const (
	weightPlain   = 5
	weightMember  = 10
	weightPattern = 80
	weightRegexp  = 100
	weightMixed   = 1000
	weightIter    = 2000
)

// Walk calls f for e and everything below it, parents first.
func (e *Expr) Walk(f func(*Expr)) {
	f(e)
	for _, a := range e.Args {
		a.Walk(f)
	}
}

// IsConst tells whether e is the boolean constant b.
func (e *Expr) IsConst(b bool) bool {
	return e.Op == Const && e.Type == Bool && e.Bool == b
}

func constant(e *Expr) bool { return e.Op == Const && e.lit == ast.Plain }

func boolean(at ast.Span, b bool) *Expr {
	return &Expr{Op: Const, Type: Bool, Bool: b, Span: at, Index: -1}
}

func integer(at ast.Span, v int64) *Expr {
	return &Expr{Op: Const, Type: Int, Int: v, Span: at, Index: -1}
}

// not negates, folding constants and double negation.
func not(at ast.Span, x *Expr) *Expr {
	switch {
	case x.Op == Const:
		return boolean(at, !x.Bool)
	case x.Op == Not:
		return x.Args[0]
	}
	return &Expr{Op: Not, Type: Bool, Span: at, Args: []*Expr{x}, Weight: x.Weight, Index: -1}
}

// logic joins conditions. Chains of one operator become one node and constant
// operands disappear.
func logic(op Op, at ast.Span, operands []*Expr) *Expr {
	var args []*Expr
	for _, x := range operands {
		switch {
		case x.IsConst(op == Or):
			return boolean(at, op == Or)
		case x.IsConst(op == And):
		case x.Op == op:
			args = append(args, x.Args...)
		default:
			args = append(args, x)
		}
	}
	switch len(args) {
	case 0:
		return boolean(at, op == And)
	case 1:
		return args[0]
	}
	e := &Expr{Op: op, Type: Bool, Span: at, Args: args, Index: -1}
	for _, a := range args {
		e.Weight += a.Weight
	}
	return e
}

// order sorts the operands of every And and Or by weight: conditions have no
// effects, so that their order is only a matter of speed.
func order(e *Expr) {
	for _, a := range e.Args {
		order(a)
	}
	if e.Op == And || e.Op == Or {
		slices.SortStableFunc(e.Args, func(a, b *Expr) int { return a.Weight - b.Weight })
	}
}
