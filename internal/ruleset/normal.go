package ruleset

import (
	"slices"

	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/parse"
)

// Normal returns the texts of a rule as they are understood: macros replaced
// by what they stand for, today's names of fields, parentheses wherever a
// reader could be misled.
func (s *Set) Normal(r *Rule) []string {
	out := s.Text(r)
	for i, t := range out {
		if n, _ := parse.Expression(t); n != nil {
			out[i] = ast.Print(s.expanded(n, 0))
		}
	}
	return out
}

// maxExpansion is how deep macros are followed. A rule that nests them deeper
// is not loaded.
const maxExpansion = 16

func (s *Set) expanded(n ast.Node, depth int) ast.Node {
	switch n := n.(type) {
	case *ast.Ident:
		if m, ok := s.env.Macros[n.Name]; ok && depth < maxExpansion && !check.IsConstant(n.Name) {
			return s.expanded(m, depth+1)
		}
		if name := s.cfg.Schema.Canonical(n.Name); name != n.Name {
			return &ast.Ident{At: n.At, Name: name}
		}
	case *ast.Unary:
		c := *n
		c.X = s.expanded(n.X, depth)
		return &c
	case *ast.Binary:
		c := *n
		c.Left, c.Right = s.expanded(n.Left, depth), s.expanded(n.Right, depth)
		return &c
	}
	return n
}

// Fields returns the fields that the conditions of a rule read, sorted.
func (s *Set) Fields(r *Rule) []string {
	var out []string
	for _, c := range s.Conditions(r) {
		c.Expr.Walk(func(e *check.Expr) {
			if e.Op == check.FieldOp {
				out = append(out, e.Field.Name)
			}
		})
	}
	slices.Sort(out)
	return slices.Compact(out)
}
