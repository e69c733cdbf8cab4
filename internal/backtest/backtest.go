// Package backtest tells what rules would have matched in a recording, how
// often and at what cost, and for what part of the recorded time the events
// they need were collected at all.
package backtest

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/replay"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/stream"
)

// Coverage says how much of what a condition needs was collected.
type Coverage string

// The degrees of coverage.
const (
	All     Coverage = "all"     // whatever it can match
	Part    Coverage = "part"    // some of it was left away in the kernel
	None    Coverage = "none"    // its kind of event was not collected
	Unknown Coverage = "unknown" // the recording does not say
)

// An Interval is a time, in ns since the epoch, in which the same was
// collected.
type Interval struct {
	Kind     string   `json:"kind"`
	From     int64    `json:"from"`
	To       int64    `json:"to"`
	Coverage Coverage `json:"coverage"`
}

// A Rule is what a rule would have done.
type Rule struct {
	ID string `json:"id"`
	// Matches counts every match, those above a rate of the rule included.
	Matches uint64 `json:"matches"`
	// Collected is false where no event that the rule needs was collected at
	// any time: Matches says nothing then.
	Collected bool `json:"collected"`
	// Tried counts evaluations of its conditions, and Cost is their number
	// times the estimated cost of each, in units of a few ns.
	Tried    uint64     `json:"tried"`
	Cost     uint64     `json:"cost"`
	Coverage []Interval `json:"coverage"`
}

// Result is the answer for all rules.
type Result struct {
	Events uint64 `json:"events"`
	From   int64  `json:"from"` // ns since the epoch
	To     int64  `json:"to"`
	Rules  []Rule `json:"items"`
}

// Load compiles the rules for the host that the recording was made on.
type Load func(ruleset.Facts) (*ruleset.Set, error)

// counter evaluates a set and counts what it matches.
type counter struct {
	set     *ruleset.Set
	matches []ruleset.Match
	count   map[*ruleset.Rule]uint64
}

func (c *counter) Eval(ev *event.Event, out []event.Signal) []event.Signal {
	c.matches = c.set.Eval(ev, c.matches[:0])
	for _, m := range c.matches {
		c.count[m.Rule] += 1 + m.Suppressed
		out = append(out, m.Signal())
	}
	return out
}

// plan is what was collected from a time on; nil where nobody knows.
type plan struct {
	from int64
	plan *event.FilterPlan
}

// Run plays the recording in r.
func Run(r io.Reader, load Load) (*Result, error) {
	sr, err := stream.NewReader(r)
	if err != nil {
		return nil, err
	}
	defer sr.Close()
	set, err := load(replay.Facts(sr.Start()))
	if err != nil {
		return nil, err
	}
	cfg, err := pipeline.Standard(nil)
	if err != nil {
		return nil, err
	}
	count := &counter{set: set, count: map[*ruleset.Rule]uint64{}}
	cfg.Rules = count
	p, err := pipeline.New(cfg)
	if err != nil {
		return nil, err
	}
	res := &Result{From: sr.Start().At}
	plans := []plan{{from: res.From}}
	for {
		rec, err := sr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		err = p.Push(rec, func(out *event.SpoolRecord) error {
			if f := out.FilterPlan; f != nil {
				kept := *f
				if p.Stats().Events == 0 {
					plans = nil // nothing was collected by what was in force before
					f.At = res.From
				}
				plans = append(plans, plan{from: f.At, plan: &kept})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("play record %d: %w", rec.Seq, err)
		}
	}
	res.Events, res.To = p.Stats().Events, max(res.From, p.LastNS())
	for _, rule := range set.Rules() {
		out := Rule{ID: rule.ID, Matches: count.count[rule]}
		for _, c := range set.Conditions(rule) {
			out.Tried += c.Tried
			out.Cost += c.Tried * uint64(c.Cost)
			for i, pl := range plans {
				to := res.To
				if i+1 < len(plans) {
					to = plans[i+1].from
				}
				if to <= pl.from && len(plans) > 1 {
					continue // replaced at once
				}
				cov := covered(c, pl.plan)
				out.Collected = out.Collected || cov != None
				out.add(Interval{Kind: c.Kind.String(), From: pl.from, To: to, Coverage: cov})
			}
		}
		res.Rules = append(res.Rules, out)
	}
	return res, nil
}

// add notes an interval once, and the worst of what several conditions on one
// kind of event find.
func (r *Rule) add(iv Interval) {
	for i := range r.Coverage {
		o := &r.Coverage[i]
		if o.Kind == iv.Kind && o.From == iv.From && o.To == iv.To {
			if o.Coverage == All {
				o.Coverage = iv.Coverage
			}
			return
		}
	}
	r.Coverage = append(r.Coverage, iv)
}

// covered compares what a condition needs with what was let through.
func covered(c ruleset.Condition, p *event.FilterPlan) Coverage {
	if p == nil {
		return Unknown
	}
	i := slices.IndexFunc(p.Kinds, func(k event.KindPlan) bool { return k.Kind == c.Kind })
	if i < 0 {
		return None
	}
	switch k := p.Kinds[i]; {
	case k.Mode == kfilter.All.String():
		return All
	case k.Mode == kfilter.Off.String():
		return None
	case c.Filter.Mode == kfilter.All, c.Filter.FlagsAny&^k.FlagsAny != 0:
		return Part
	default:
		for _, n := range c.Filter.Names {
			if !slices.Contains(k.Names, n) {
				return Part
			}
		}
	}
	return All
}
