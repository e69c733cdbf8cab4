package ruleset

import (
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/secl/check"
)

// Condition is one condition of a rule for one kind of event, as it was
// compiled.
type Condition struct {
	// Step is its place in a sequence; of an absence 0 is what is followed and
	// 1 what must follow.
	Step int
	Kind event.Kind
	// Expr is the checked expression, with macros expanded and negations
	// pushed into Not.
	Expr *check.Expr
	// Index is the field by whose value the condition is found, or several
	// with "or" between them; empty where it is tried for every event of its
	// kind. Dirs tells that directories above the value are looked up, too.
	// Values is how many values lead to it.
	Index  string
	Dirs   bool
	Values int
	// Filter is what the kernel must let through for it.
	Filter kfilter.Kind
	// Cost is an estimate of what trying it takes, in units of a few ns.
	Cost int
	// Tried and Matched count its evaluations so far.
	Tried, Matched uint64
}

// Conditions returns the conditions of a rule, by kind of event.
func (s *Set) Conditions(r *Rule) []Condition {
	var out []Condition
	for _, at := range s.places[r] {
		b := &s.buckets[at.kind]
		e := b.entries[at.entry]
		c := Condition{
			Step: e.step, Kind: at.kind, Expr: e.program.Expr, Cost: e.program.Expr.Weight, Tried: e.tried, Matched: e.matched,
		}
		a := b.group.Access(at.entry)
		c.Index, c.Dirs, c.Values = strings.Join(a.Fields, " or "), a.Dirs, a.Values
		c.Filter = kfilter.Kind{Mode: kfilter.All}
		if n, ok := derive(c.Kind, e.program.Expr, false); ok {
			c.Filter = kfilter.Kind{Mode: kfilter.Filtered, FlagsAny: n.flags, Names: n.names}
		}
		out = append(out, c)
	}
	return out
}

// Text is what the rule asks for, as it stands in its file: the expression, or
// the steps of a sequence; of a watch the expressions it stands for.
func (s *Set) Text(r *Rule) []string {
	if r.Watch != nil {
		return slices.Clone(r.conditions)
	}
	for _, p := range s.patterns {
		if p.rule != r {
			continue
		}
		switch p.def.kind {
		case sequenceOf:
			var out []string
			for _, t := range p.def.steps {
				out = append(out, t.s)
			}
			return out
		case absenceOf:
			return []string{r.Expression, p.def.of.s}
		}
	}
	return []string{r.Expression}
}

// Pattern says how a rule joins events: sequence, threshold or absence; empty
// for a rule about single events.
func (s *Set) Pattern(r *Rule) string {
	for _, p := range s.patterns {
		if p.rule == r {
			return p.def.key.s
		}
	}
	return ""
}
