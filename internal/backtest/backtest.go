// Package backtest tells what rules would have matched in the past, how often
// and at what cost, and for what part of that time the events they need were
// collected at all: in a recording, or in what a server has stored. Both are
// evaluated by the same code, host by host in the order of event time.
package backtest

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/ruleset"
)

// A Bound says how a number of matches is to be read.
type Bound string

// The bounds.
const (
	Exact   Bound = "exact"    // there were no others
	AtLeast Bound = "at_least" // not all that could match was collected, or counted
	Unsure  Bound = "unsure"   // what was not collected could as well have prevented a match
)

// A Rule is what a rule would have done.
type Rule struct {
	ID string `json:"id"`
	// Status is what became of the rule, Reason why it was not loaded. A rule
	// that was loaded for one host of several counts as loaded.
	Status ruleset.Status `json:"status"`
	Reason string         `json:"reason,omitempty"`
	// Matches counts every match, those above a rate of the rule included.
	Matches uint64 `json:"matches"`
	Bound   Bound  `json:"bound"`
	// Signals is how many of the matches the rule's rate would have let through.
	Signals uint64 `json:"signals"`
	// Collected is false where no event that the rule needs was collected at
	// any time: Matches says nothing then.
	Collected bool `json:"collected"`
	// First and Last are the times of matches, ns since the epoch; 0 where
	// there is none, or the rule is silent.
	First int64 `json:"first,omitempty"`
	Last  int64 `json:"last,omitempty"`
	// Examples are ids of events that matched, the first few of each host.
	Examples []string `json:"examples,omitempty"`
	// Tried counts evaluations of its conditions, and Cost is their number
	// times the estimated cost of each, in units of a few ns. CostShare is its
	// part of the cost of all rules, NsPerEvent of the time that was measured.
	Tried      uint64  `json:"tried"`
	Cost       uint64  `json:"cost"`
	CostShare  float64 `json:"costShare"`
	NsPerEvent float64 `json:"nsPerEvent"`
	// Shares are the parts of the time, over all hosts and kinds of event that
	// the rule needs, for which each degree of coverage holds. They add up to 1.
	Shares   map[Coverage]float64 `json:"shares"`
	Coverage []Interval           `json:"coverage"` // at most maxIntervals
	Hosts    map[string]uint64    `json:"hosts"`    // matches by agent id, where there are any

	exact     bool // every match was counted
	uncertain bool // what is missing could have prevented a match
	weight    map[Coverage]int64
}

// A Host is one of those whose events were looked at.
type Host struct {
	Agent  string `json:"agent"`
	Name   string `json:"name"`
	Events uint64 `json:"events"`
}

// Result is the answer for all rules.
type Result struct {
	Events uint64 `json:"events"` // evaluated
	From   int64  `json:"from"`   // ns since the epoch
	To     int64  `json:"to"`
	Hosts  []Host `json:"hosts"`
	Rules  []Rule `json:"items"`
	// Coverage is that of each kind of event that any rule needs, by host; at
	// most maxCoverage intervals.
	Coverage []Interval `json:"coverage"`
	// Incomplete says why not everything was looked at; empty when it was.
	Incomplete string  `json:"incomplete,omitempty"`
	NsPerEvent float64 `json:"nsPerEvent"` // what evaluation took
	// UnknownProcesses counts events whose process is not stored: conditions
	// on it were not met.
	UnknownProcesses uint64 `json:"unknownProcesses"`
}

// Matched tells whether any rule matched.
func (r *Result) Matched() bool {
	for i := range r.Rules {
		if r.Rules[i].Matches > 0 {
			return true
		}
	}
	return false
}

// Load compiles the rules for a host. With rates the set raises signals as
// often as a live one does, without only rates that rules state are applied.
type Load func(facts ruleset.Facts, rates bool) (*ruleset.Set, *ruleset.Report, error)

// Compile returns a Load of policy files, which know the shipped macros.
func Compile(files []ruleset.File) Load {
	return func(facts ruleset.Facts, rates bool) (*ruleset.Set, *ruleset.Report, error) {
		cfg, err := policies.Config(facts)
		if err != nil {
			return nil, nil, err
		}
		cfg.OwnRatesOnly = !rates
		return ruleset.Load(cfg, files)
	}
}

// maxExamples is how many ids of events a host gives for a rule.
const maxExamples = 5

// timedEvery is the distance of events whose evaluation is timed: reading the
// clock takes about as long as a cheap evaluation.
const timedEvery = 16

// seen is what a rule matched on one host.
type seen struct {
	matches     uint64
	first, last int64
	examples    []string
}

// An evaluation evaluates the rules for one host. It is a pipeline.Rules and
// pipeline.Waiting.
type evaluation struct {
	// all finds every match, live those that would have been signals. Where
	// no rule leaves anything behind for later events, apart tells, live need
	// not see those that match nothing.
	all, live *ruleset.Set
	apart     bool
	agent     [16]byte
	now       func() time.Time

	events, timed uint64
	took          time.Duration // by the timed ones
	matched       map[string]*seen
	signals       map[string]uint64
	matches       []ruleset.Match
	late          []pipeline.Late
}

// newEvaluation compiles the rules for a host.
func newEvaluation(load Load, facts ruleset.Facts, agent string, now func() time.Time) (*evaluation, *ruleset.Report, error) {
	all, report, err := load(facts, false)
	if err != nil {
		return nil, nil, err
	}
	live, _, err := load(facts, true)
	if err != nil {
		return nil, nil, err
	}
	e := &evaluation{all: all, live: live, now: now, matched: map[string]*seen{}, signals: map[string]uint64{}}
	if id, err := uuid.Parse(agent); err == nil {
		e.agent = id
	}
	e.apart = !slices.ContainsFunc(all.Rules(), func(r *ruleset.Rule) bool {
		sets := slices.ContainsFunc(r.Actions, func(a ruleset.Action) bool { return a.Set != nil })
		return sets || all.Pattern(r) != ""
	})
	return e, report, nil
}

// Eval implements pipeline.Rules.
func (e *evaluation) Eval(ev *event.Event, out []event.Signal) []event.Signal {
	e.events++
	if e.events%timedEvery == 0 {
		start := e.now()
		e.matches = e.all.Eval(ev, e.matches[:0])
		e.took += e.now().Sub(start)
		e.timed++
	} else {
		e.matches = e.all.Eval(ev, e.matches[:0])
	}
	e.note()
	if e.apart && len(e.matches) == 0 {
		return out
	}
	e.matches = e.live.Eval(ev, e.matches[:0])
	for _, m := range e.matches {
		e.signals[m.Rule.ID]++
		out = append(out, m.Signal())
	}
	return out
}

// note takes down what was matched.
func (e *evaluation) note() {
	for _, m := range e.matches {
		at := m.Event.TimeNS
		s := e.matched[m.Rule.ID]
		if s == nil {
			s = &seen{first: at}
			e.matched[m.Rule.ID] = s
		}
		s.matches += 1 + m.Suppressed
		s.first, s.last = min(s.first, at), max(s.last, at)
		if len(s.examples) < maxExamples {
			s.examples = append(s.examples, event.EventID(e.agent, m.Event.Ref()))
		}
	}
}

// Overdue implements pipeline.Waiting.
func (e *evaluation) Overdue(now int64) []pipeline.Late {
	e.matches = e.all.Overdue(now, e.matches[:0])
	e.note()
	e.late = e.late[:0]
	e.matches = e.live.Overdue(now, e.matches[:0])
	for _, m := range e.matches {
		e.signals[m.Rule.ID]++
		e.late = append(e.late, pipeline.Late{Event: m.Event, Signal: m.Signal()})
	}
	return e.late
}

// count is how often a rule matched. Matches of silent rules, and those that a
// rate of the rule's own left out at the end, show in the counters of its
// conditions alone; where one event can be counted twice there, or a condition
// is not yet a match, the number is a lower bound.
func (e *evaluation) count(r *ruleset.Rule, conds []ruleset.Condition) (n uint64, exact bool) {
	if s := e.matched[r.ID]; s != nil {
		n = s.matches
	}
	if !r.Silent && r.Every == 0 {
		return n, true
	}
	if e.all.Pattern(r) != "" {
		return n, false
	}
	exact = true
	byKind := map[event.Kind]uint64{}
	for _, c := range conds {
		if _, twice := byKind[c.Kind]; twice {
			exact = false
		}
		byKind[c.Kind] = max(byKind[c.Kind], c.Matched)
	}
	var sum uint64
	for _, m := range byKind {
		sum += m
	}
	return max(n, sum), exact
}

// A tally joins what was found on all hosts.
type tally struct {
	res   Result
	rules map[string]*Rule
	order []string
	took  float64 // ns that all evaluations took, from those that were timed
}

func newTally(from, to int64) *tally {
	return &tally{res: Result{From: from, To: to, Hosts: []Host{}, Coverage: []Interval{}}, rules: map[string]*Rule{}}
}

// report takes in what became of the rules on a host.
func (t *tally) report(rep *ruleset.Report) {
	for _, s := range rep.Rules {
		r := t.rules[s.ID]
		if r == nil {
			r = &Rule{ID: s.ID, Status: s.Status, Reason: s.Reason, exact: true, weight: map[Coverage]int64{}, Hosts: map[string]uint64{}, Coverage: []Interval{}}
			t.rules[s.ID] = r
			t.order = append(t.order, s.ID)
		}
		if s.Status == ruleset.Loaded {
			r.Status, r.Reason = s.Status, s.Reason
		}
	}
}

// host takes in what was found on a host.
func (t *tally) host(h Host, e *evaluation, tl *timeline) {
	h.Events = e.events
	t.res.Hosts = append(t.res.Hosts, h)
	t.res.Events += e.events
	if e.timed > 0 {
		t.took += float64(e.took) / float64(e.timed) * float64(e.events)
	}
	kinds := newKinds(h.Agent)
	for _, rule := range e.all.Rules() {
		r := t.rules[rule.ID]
		if r == nil {
			continue // its id is in no report
		}
		conds := e.all.Conditions(rule)
		n, exact := e.count(rule, conds)
		r.Matches += n
		r.exact = r.exact && exact
		r.Signals += e.signals[rule.ID]
		if n > 0 {
			r.Hosts[h.Agent] += n
		}
		if s := e.matched[rule.ID]; s != nil {
			if r.First == 0 || s.first < r.First {
				r.First = s.first
			}
			r.Last = max(r.Last, s.last)
			r.Examples = append(r.Examples, s.examples[:min(len(s.examples), maxHostExamples-min(len(r.Examples), maxHostExamples))]...)
		}
		for _, c := range conds {
			r.Tried += c.Tried
			r.Cost += c.Tried * uint64(c.Cost)
		}
		t.cover(r, h.Agent, e.all.Pattern(rule), conds, tl, kinds)
	}
	list := kinds.intervals(tl)
	t.res.Coverage = append(t.res.Coverage, list[:min(len(list), max(0, maxCoverage-len(t.res.Coverage)))]...)
}

// maxHostExamples is how many ids of events a rule gives for all hosts.
const maxHostExamples = 4 * maxExamples

// result ends the tally.
func (t *tally) result() *Result {
	res := &t.res
	res.Rules = make([]Rule, 0, len(t.order))
	var cost uint64
	for _, id := range t.order {
		cost += t.rules[id].Cost
	}
	if res.Events > 0 {
		res.NsPerEvent = t.took / float64(res.Events)
	}
	for _, id := range t.order {
		r := t.rules[id]
		if cost > 0 {
			r.CostShare = float64(r.Cost) / float64(cost)
			r.NsPerEvent = r.CostShare * res.NsPerEvent
		}
		r.exact = r.exact && res.Incomplete == ""
		r.finish()
		res.Rules = append(res.Rules, *r)
	}
	return res
}

// finish turns sums into shares, and says how the matches are to be read.
func (r *Rule) finish() {
	var sum int64
	for _, w := range r.weight {
		sum += w
	}
	r.Shares = map[Coverage]float64{}
	for c, w := range r.weight {
		if w > 0 {
			r.Shares[c] = float64(w) / float64(sum)
		}
	}
	switch {
	case r.uncertain:
		r.Bound = Unsure
	case r.exact && r.weight[All] == sum && sum > 0:
		r.Bound = Exact
	default:
		r.Bound = AtLeast
	}
}
