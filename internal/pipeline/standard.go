package pipeline

import (
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/execctx"
	"github.com/clewsec/clew/internal/ruleset"
)

// Standard is the configuration that agent and replay run with: the shipped
// layers, and the rules of the set, which may be nil.
func Standard(set *ruleset.Set) (Config, error) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		return Config{}, err
	}
	layers, err := execctx.Shipped(func(kind event.Kind, expression string) (func(*event.Event) bool, error) {
		return ruleset.CompilePredicate(schema, kind, expression)
	})
	if err != nil {
		return Config{}, err
	}
	return Config{Rules: SetRules(set), Layers: layers}, nil
}

// SetRules makes a rule set usable by a pipeline.
func SetRules(set *ruleset.Set) Rules {
	if set == nil {
		return nil
	}
	return &setRules{set: set}
}

type setRules struct {
	set     *ruleset.Set
	matches []ruleset.Match
	late    []Late
}

// Overdue implements Waiting.
func (r *setRules) Overdue(now int64) []Late {
	r.matches, r.late = r.set.Overdue(now, r.matches[:0]), r.late[:0]
	for _, m := range r.matches {
		r.late = append(r.late, Late{Event: m.Event, Signal: m.Signal()})
	}
	return r.late
}

// Effects implements Acting.
func (r *setRules) Effects() []ruleset.Effect { return r.set.Effects() }

func (r *setRules) Eval(ev *event.Event, out []event.Signal) []event.Signal {
	r.matches = r.set.Eval(ev, r.matches[:0])
	for _, m := range r.matches {
		out = append(out, m.Signal())
	}
	return out
}
