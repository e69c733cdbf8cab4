package ruleset

import (
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/event"
)

// Unproduced adds a warning for every loaded rule about kinds of event that
// nobody makes, as produces tells: the rule is right and waits for what never
// comes.
func (r *Report) Unproduced(set *Set, produces func(event.Kind) bool) {
	for _, rule := range set.Rules() {
		if missing := unproduced(rule.Kinds, produces); len(missing) > 0 {
			r.Problems = append(r.Problems, Problem{
				At: rule.At, Rule: rule.ID, Warning: true,
				Msg: strings.Join(missing, ", ") + " events are not produced by this sensor",
			})
		}
	}
}

func unproduced(kinds []event.Kind, produces func(event.Kind) bool) []string {
	var out []string
	for _, k := range kinds {
		if !produces(k) {
			out = append(out, k.String())
		}
	}
	slices.Sort(out)
	return out
}

// CannotFire tells why a rule can never fire where some kinds of event do not
// occur: missing gives the reason for a kind, empty for one that does. It
// returns the empty string for a rule that can fire.
func (s *Set) CannotFire(r *Rule, missing func(event.Kind) string) string {
	type step struct {
		can     bool
		reasons []string
	}
	steps := map[int]*step{}
	for _, c := range s.Conditions(r) {
		if c.Step == 1 && s.Pattern(r) == "absence" {
			continue // what does not occur does not follow, either
		}
		st := steps[c.Step]
		if st == nil {
			st = &step{}
			steps[c.Step] = st
		}
		why := missing(c.Kind)
		switch {
		case why == "":
			st.can = true
		case !slices.Contains(st.reasons, why):
			st.reasons = append(st.reasons, why)
		}
	}
	for i := range len(steps) + 1 {
		if st := steps[i]; st != nil && !st.can {
			return strings.Join(st.reasons, "; ")
		}
	}
	return ""
}
