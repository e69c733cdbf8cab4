package backtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/store"
)

// Coverage says how much of what a condition needs was collected.
type Coverage string

// The degrees of coverage.
const (
	All     Coverage = "all"     // whatever it can match
	Part    Coverage = "part"    // some of it was left away, by the kernel or before it was stored
	None    Coverage = "none"    // its kind of event was not collected
	Unknown Coverage = "unknown" // nothing says what was collected
	Lost    Coverage = "lost"    // events are known to be missing
	Down    Coverage = "down"    // no agent ran
)

// rank orders the degrees of one moment, best first.
var rank = map[Coverage]int{All: 0, Unknown: 1, Part: 2, None: 3, Down: 4}

// An Interval is a time, in ns since the epoch, in which the same was
// collected of a kind of event on a host. One that says what was lost lies
// within others.
type Interval struct {
	Agent    string   `json:"agent"`
	Kind     string   `json:"kind"`
	From     int64    `json:"from"`
	To       int64    `json:"to"`
	Coverage Coverage `json:"coverage"`
	Why      string   `json:"why,omitempty"`
	// RuleIDs are the rules it is about, at most maxNamed; only where an
	// interval stands for several.
	RuleIDs []string `json:"ruleIds,omitempty"`
	Lost    uint64   `json:"lost,omitempty"` // how many; 0 when not known
}

// Bounds of what a result says.
const (
	maxIntervals = 32     // of one rule
	maxCoverage  = 20_000 // of all kinds and hosts
	maxNamed     = 5      // rules that an interval names
)

// A span is a time in which one agent's filter plan was in force.
type span struct {
	from, to int64
	up       bool
	plan     *event.FilterPlan // nil where nobody knows
	skipped  bool              // its events were not looked at
}

// A loss is a time in which events went missing.
type loss struct {
	kind     event.Kind // 0: any
	from, to int64
	count    uint64
	why      string
}

// A timeline says what was collected on a host when. Its spans follow each
// other without a gap, its losses are in order of their start.
type timeline struct {
	from, to int64
	spans    []span
	losses   []loss
	// stored tells that only what an agent keeps is there, not all that left
	// the kernel.
	stored bool
}

// alive is how long after its last sign of life an agent that has not been
// started again is still taken to run: it sends a canary each minute.
const alive = int64(150 * time.Second)

// reasonDown is the reason of the record by which an agent says since when
// none had run before it.
const reasonDown = "agent_down"

// newTimeline works out what is stored of a host's runs. plans are those of
// each run, runs are in order of their start, and now is the present.
func newTimeline(from, to, now int64, runs []store.Run, plans map[uint64][]*event.FilterPlan, lost []*event.Lost) *timeline {
	tl := &timeline{from: from, to: to, stored: true}
	at := from
	add := func(until int64, up bool, p *event.FilterPlan) {
		if until = min(until, to); until > at {
			tl.spans = append(tl.spans, span{from: at, to: until, up: up, plan: p})
			at = until
		}
	}
	for i := range runs {
		r := &runs[i]
		begin, end := from, max(r.LastTime, r.CanaryAt)+1
		if r.Start != nil {
			begin = r.Start.At
		}
		next := int64(0)
		if i+1 < len(runs) && runs[i+1].Start != nil {
			next = runs[i+1].Start.At
		}
		switch recording := r.Start != nil && r.Start.Recording; {
		case next != 0:
			for _, l := range lost {
				if l.Reason == reasonDown && l.To == next {
					end = max(end, l.From)
				}
			}
			end = min(end, next)
		case !recording && now-end <= alive:
			end = max(end, now)
		}
		list := slices.Clone(plans[r.Run])
		slices.SortStableFunc(list, func(a, b *event.FilterPlan) int { return cmp.Compare(a.At, b.At) })
		add(begin, false, nil)
		for j, p := range list {
			// What was in force before the first plan let nothing through.
			if j > 0 {
				add(min(p.At, end), true, list[j-1])
			}
		}
		if n := len(list); n > 0 {
			add(end, true, list[n-1])
		} else {
			add(end, true, nil)
		}
	}
	add(to, false, nil)
	tl.lose(lost)
	return tl
}

// end is until when the host was watched.
func (tl *timeline) end() int64 {
	for _, s := range slices.Backward(tl.spans) {
		if s.up && !s.skipped {
			return s.to
		}
	}
	return tl.from
}

// skip notes that nothing from a time on was looked at.
func (tl *timeline) skip(from int64) {
	var out []span
	for _, s := range tl.spans {
		if s.up && s.from < from && from < s.to {
			seen := s
			seen.to, s.from = from, from
			out = append(out, seen)
		}
		s.skipped = s.from >= from
		out = append(out, s)
	}
	tl.spans = out
}

// lose takes in what was lost. Losses of one kind and reason that are close to
// each other become one, so that their number stays small.
func (tl *timeline) lose(lost []*event.Lost) {
	for _, l := range lost {
		from, to := max(l.From, tl.from), min(l.To, tl.to)
		if l.Reason != reasonDown && from < to {
			tl.losses = append(tl.losses, loss{kind: l.Kind, from: from, to: to, count: l.Count, why: lostWords(l.Reason)})
		}
	}
	slices.SortFunc(tl.losses, func(a, b loss) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), strings.Compare(a.why, b.why), cmp.Compare(a.from, b.from))
	})
	near := (tl.to - tl.from) / 100
	out := tl.losses[:0]
	for _, l := range tl.losses {
		if n := len(out); n > 0 && out[n-1].kind == l.kind && out[n-1].why == l.why && l.from <= out[n-1].to+near {
			last := &out[n-1]
			last.to = max(last.to, l.to)
			last.count += l.count
			continue
		}
		out = append(out, l)
	}
	tl.losses = out
}

func lostWords(reason string) string {
	switch reason {
	case "ring_full_bulk", "ring_full_critical":
		return "a ring of the sensor was full"
	case "shaped", "shaped_cgroup":
		return "a flood was held back in the kernel"
	case "spool_full":
		return "the agent's spool was full"
	}
	return "lost: " + strings.ReplaceAll(reason, "_", " ")
}

// lostWithin is for how much of an interval events of a kind are missing.
func (tl *timeline) lostWithin(kind event.Kind, from, to int64) (sum int64) {
	at := from
	for {
		// The earliest time from at on that some loss covers.
		next, end := to, at
		for _, l := range tl.losses {
			if (l.kind != 0 && l.kind != kind) || l.to <= at || l.from >= to {
				continue
			}
			if b := max(l.from, at); b < next || b == next && l.to > end {
				next, end = b, l.to
			}
		}
		if next >= to {
			return sum
		}
		end = min(end, to)
		sum += end - next
		at = end
	}
}

// cover works out how much of what a rule needs was collected on a host.
func (t *tally) cover(r *Rule, agent, pattern string, conds []ruleset.Condition, tl *timeline, kinds *kinds) {
	need, have := map[int]bool{}, map[int]bool{}
	var list []Interval
	for i := range tl.spans {
		s := &tl.spans[i]
		first := len(list)
		for j := range conds {
			c := &conds[j]
			cov, why := tl.covered(c, s)
			need[c.Step] = true
			if cov == Down && pattern == "absence" && i > 0 && tl.spans[i-1].up {
				r.uncertain = true
			}
			if cov != None && cov != Down {
				have[c.Step] = true
				if pattern == "absence" && c.Step == 1 && (cov != All || tl.lostWithin(c.Kind, s.from, s.to) > 0) {
					r.uncertain = true // what must follow may have followed unseen
				}
			}
			kinds.note(c.Kind, i, cov, why, r.ID)
			iv := Interval{Agent: agent, Kind: c.Kind.String(), From: s.from, To: s.to, Coverage: cov, Why: why}
			k := slices.IndexFunc(list[first:], func(o Interval) bool { return o.Kind == iv.Kind })
			switch {
			case k < 0:
				list = append(list, iv)
			case rank[cov] > rank[list[first+k].Coverage]:
				list[first+k] = iv // the worst of several conditions on one kind
			}
		}
	}
	collected := false
	switch pattern {
	case "sequence":
		collected = len(need) > 0 && len(have) == len(need)
	case "absence":
		collected = have[0]
		if collected && !have[1] {
			r.uncertain = true
		}
	default:
		collected = len(have) > 0
	}
	r.Collected = r.Collected || collected
	slices.SortStableFunc(list, func(a, b Interval) int { return strings.Compare(a.Kind, b.Kind) })
	list = join(list)
	for i := range list {
		iv := &list[i]
		d := iv.To - iv.From
		if iv.Coverage != None && iv.Coverage != Down {
			kind, _ := event.KindByName(iv.Kind)
			l := tl.lostWithin(kind, iv.From, iv.To)
			r.weight[Lost] += l
			d -= l
		}
		r.weight[iv.Coverage] += d
	}
	r.Coverage = append(r.Coverage, list[:min(len(list), max(0, maxIntervals-len(r.Coverage)))]...)
}

// join makes one of intervals that follow each other and say the same.
func join(list []Interval) []Interval {
	out := list[:0]
	for _, iv := range list {
		if n := len(out); n > 0 {
			o := &out[n-1]
			if o.Kind == iv.Kind && o.To == iv.From && o.Coverage == iv.Coverage && o.Why == iv.Why {
				o.To = iv.To
				continue
			}
		}
		out = append(out, iv)
	}
	return out
}

// kinds gathers what all rules need of each kind of event on a host.
type kinds struct {
	agent string
	spans map[event.Kind]map[int]*Interval
}

func newKinds(agent string) *kinds {
	return &kinds{agent: agent, spans: map[event.Kind]map[int]*Interval{}}
}

func (k *kinds) note(kind event.Kind, at int, cov Coverage, why, rule string) {
	spans := k.spans[kind]
	if spans == nil {
		spans = map[int]*Interval{}
		k.spans[kind] = spans
	}
	iv := spans[at]
	switch {
	case iv == nil:
		iv = &Interval{Coverage: cov, Why: why}
		spans[at] = iv
	case rank[cov] < rank[iv.Coverage]:
		return
	case rank[cov] > rank[iv.Coverage]:
		iv.Coverage, iv.Why, iv.RuleIDs = cov, why, nil
	}
	if len(iv.RuleIDs) < maxNamed && !slices.Contains(iv.RuleIDs, rule) {
		iv.RuleIDs = append(iv.RuleIDs, rule)
	}
}

// intervals lists what was gathered, with what was lost, by kind.
func (k *kinds) intervals(tl *timeline) (out []Interval) {
	for kind := range event.Kind(event.NumKinds) {
		spans := k.spans[kind]
		if spans == nil {
			continue
		}
		var list []Interval
		for i, s := range tl.spans {
			iv := *spans[i]
			iv.Agent, iv.Kind, iv.From, iv.To = k.agent, kind.String(), s.from, s.to
			if iv.Coverage == All || iv.Coverage == Down {
				iv.RuleIDs = nil // it holds for all of them
			}
			list = append(list, iv)
		}
		list = join(list)
		for _, l := range tl.losses {
			if l.kind == 0 || l.kind == kind {
				list = append(list, Interval{Agent: k.agent, Kind: kind.String(), From: l.from, To: l.to, Coverage: Lost, Why: l.why, Lost: l.count})
			}
		}
		out = append(out, list...)
	}
	return out
}

// covered compares what a condition needs with what was let through, and kept.
func (tl *timeline) covered(c *ruleset.Condition, s *span) (Coverage, string) {
	kind := c.Kind.String()
	switch {
	case !s.up:
		return Down, "no agent ran"
	case s.skipped:
		return Unknown, "the back-test ended before"
	case s.plan == nil:
		return Unknown, "no filter plan is known of that time"
	}
	i := slices.IndexFunc(s.plan.Kinds, func(k event.KindPlan) bool { return k.Kind == c.Kind })
	if i < 0 || s.plan.Kinds[i].Mode == kfilter.Off.String() {
		return None, "the sensor was not asked for " + kind + " events"
	}
	k := &s.plan.Kinds[i]
	if k.Mode != kfilter.All.String() && !passes(c, k) {
		return Part, "the kernel let through " + filterWords(k) + " only"
	}
	if tl.stored && !keptWhole(c) {
		return Part, keptWords(c.Kind)
	}
	if tl.stored && capabilities(c.Expr) {
		return Part, "of changes of capabilities those are kept that come with another user, what a rule matched and what happened in hot contexts"
	}
	return All, ""
}

// passes tells whether a filter lets through all that a condition can match.
func passes(c *ruleset.Condition, k *event.KindPlan) bool {
	if c.Filter.Mode == kfilter.All || c.Filter.FlagsAny&^k.FlagsAny != 0 {
		return false
	}
	for _, n := range c.Filter.Names {
		if !slices.Contains(k.Names, n) {
			return false
		}
	}
	return true
}

// filterWords says what a filter lets through.
func filterWords(k *event.KindPlan) string {
	var parts []string
	switch {
	case k.FlagsAny == 0:
	case k.Kind == event.KindOpen && k.FlagsAny == kfilter.OpenWrite:
		parts = append(parts, "what opens for writing")
	default:
		parts = append(parts, fmt.Sprintf("what has one of the flags %#o", k.FlagsAny))
	}
	const shown = 3
	if n := len(k.Names); n > shown {
		parts = append(parts, fmt.Sprintf("files named %s and %d others", strings.Join(k.Names[:shown], ", "), n-shown))
	} else if n > 0 {
		parts = append(parts, "files named "+strings.Join(k.Names, ", "))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, " and ")
}
