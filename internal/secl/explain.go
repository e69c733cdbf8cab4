package secl

import (
	"slices"

	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/check"
)

// Part is a comparison that contributed to a verdict.
type Part struct {
	// Span is where it stands in the text of the rule; for what comes from a
	// macro, where the macro is used.
	Span ast.Span
	// Field is the field it reads, empty where it reads none or several.
	Field string
	// Value is what the field was, as text; lists are joined by commas.
	Value string
}

// Explain returns the comparisons that made a condition hold for an event, in
// the order of the text: of && every operand, of || those that hold. It
// returns nil when the condition does not hold, or holds for every event. It
// is made for the few events that matched, not for every one.
func (p *Program[E, N]) Explain(c *Ctx[E, N]) []Part {
	x := explainer[E, N]{k: compiler[E, N]{env: p.env}, c: c}
	p.explain(&x)
	slices.SortStableFunc(x.parts, func(a, b Part) int { return a.Span.Start - b.Span.Start })
	return x.parts
}

func (p *Program[E, N]) explain(x *explainer[E, N]) {
	var none N
	c := x.c
	if p.Register == "" {
		if p.Match(c) {
			x.walk(p.Expr, true)
		}
		return
	}
	root, _ := p.env.Schema.Root(p.Root)
	cond := x.k.cond(p.Expr)
	defer func() { c.reg = none }()
	n := root.First(c.Event)
	for i := 0; i < MaxElements; i++ {
		c.reg = n
		if cond(c) {
			x.walk(p.Expr, true)
			break
		}
		if n == none {
			break
		}
		if n = root.Next(n); n == none {
			break
		}
	}
}

type explainer[E any, N comparable] struct {
	k     compiler[E, N]
	c     *Ctx[E, N]
	parts []Part
}

// walk collects what makes e be want, which it is.
func (x *explainer[E, N]) walk(e *check.Expr, want bool) {
	switch e.Op {
	case check.Not:
		x.walk(e.Args[0], !want)
	case check.And, check.Or:
		all := (e.Op == check.And) == want
		for _, a := range e.Args {
			if all || x.k.cond(a)(x.c) == want {
				x.walk(a, want)
			}
		}
	case check.Const:
	default:
		x.leaf(e)
	}
}

func (x *explainer[E, N]) leaf(e *check.Expr) {
	part := Part{Span: e.Span}
	var read []*check.Expr
	e.Walk(func(s *check.Expr) {
		if s.Op == check.FieldOp {
			read = append(read, s)
		}
	})
	if len(read) == 1 {
		f := read[0]
		part.Field = f.Field.Name
		part.Value = x.k.text(f)(x.c)
	}
	x.parts = append(x.parts, part)
}
