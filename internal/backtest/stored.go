package backtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/replay"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/store"
)

// A Store is what a back-test asks a store for.
type Store interface {
	Search(ctx context.Context, q store.Query) (store.Page, error)
	Nodes(ctx context.Context, agent string, refs []event.Ref) (map[event.Ref]*event.Process, error)
	Runs(ctx context.Context) ([]store.Run, error)
	Collected(ctx context.Context, fn func(agent string, run uint64, rec *event.SpoolRecord) error) error
}

// Progress tells how far a back-test is.
type Progress struct {
	Host   string
	At     int64   // time of the last event, ns since the epoch
	Events uint64  // of all hosts so far
	Done   float64 // 0 to 1, an estimate
}

// Config joins a back-test with what it works on.
type Config struct {
	Store Store
	Load  Load
	Now   func() time.Time

	// MaxTime ends the back-test with what it has found by then; for ever when
	// 0.
	MaxTime time.Duration
	// Loaded is told what became of the rules before the first event.
	Loaded func(*ruleset.Report) error
	// Pause is called after each page with how long it took, so that others
	// get their turn. May be nil.
	Pause func(ctx context.Context, worked time.Duration) error
	// Progress is called after each page. May be nil.
	Progress func(Progress) error
}

// A Request says which events are wanted.
type Request struct {
	From, To int64  // ns since the epoch; To itself is out
	Host     string // name of a host or id of an agent; every host when empty
}

// A HostError says that nothing is known of the host that was asked for.
type HostError struct {
	Host  string
	Known []string
}

func (e *HostError) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("there is no host %.80q: no agent has been here yet", e.Host)
	}
	const shown = 10
	known, more := e.Known, ""
	if len(known) > shown {
		known, more = known[:shown], fmt.Sprintf(" and %d others", len(e.Known)-shown)
	}
	return fmt.Sprintf("there is no host %.80q; there are %s%s", e.Host, strings.Join(known, ", "), more)
}

// pageEvents is how many events are taken from the store at once.
const pageEvents = 2048

// Before the time that is asked for, changes of processes are looked for as
// far back as that time is long, within these bounds.
const (
	minBefore = int64(time.Hour)
	maxBefore = 24 * int64(time.Hour)
)

// errTime ends a back-test that takes too long.
var errTime = errors.New("time is up")

// Stored evaluates rules on the events of a store. It reads page by page and
// holds a bounded number of processes; what rules over several events hold is
// bounded by the rule set.
func Stored(ctx context.Context, cfg Config, req Request) (*Result, error) {
	hosts, err := hostsOf(ctx, cfg, req)
	if err != nil {
		return nil, err
	}
	b := &backtest{cfg: cfg, req: req, tally: newTally(req.From, req.To), hosts: len(hosts), began: cfg.Now()}
	if len(hosts) == 0 {
		// Nothing was there to see; what is wrong with the rules is said all
		// the same.
		_, report, err := cfg.Load(ruleset.Facts{CORE: true}, false)
		if err == nil {
			err = b.loaded(report)
		}
		if err != nil {
			return nil, err
		}
		return b.tally.result(), nil
	}
	for i := range hosts {
		h := &hosts[i]
		b.done = i
		err := b.host(ctx, h)
		if errors.Is(err, errTime) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return b.tally.result(), nil
}

// A storedHost is a host and what is stored of its runs.
type storedHost struct {
	Host
	runs  []store.Run
	plans map[uint64][]*event.FilterPlan
	lost  []*event.Lost
	facts ruleset.Facts
	tl    *timeline
}

// hostsOf finds the hosts of which anything can be stored in the time that is
// asked for.
func hostsOf(ctx context.Context, cfg Config, req Request) ([]storedHost, error) {
	runs, err := cfg.Store.Runs(ctx)
	if err != nil {
		return nil, err
	}
	byAgent := map[string]*storedHost{}
	var all []*storedHost
	for _, r := range runs {
		h := byAgent[r.Agent]
		if h == nil {
			h = &storedHost{Host: Host{Agent: r.Agent, Name: r.Agent}, plans: map[uint64][]*event.FilterPlan{}, facts: ruleset.Facts{CORE: true}}
			byAgent[r.Agent] = h
			all = append(all, h)
		}
		h.runs = append(h.runs, r)
		if s := r.Start; s != nil && (s.At < req.To || h.facts.Kernel == "") {
			h.facts = replay.Facts(s)
			if s.Hostname != "" {
				h.Name = s.Hostname
			}
		}
	}
	err = cfg.Store.Collected(ctx, func(agent string, run uint64, rec *event.SpoolRecord) error {
		h := byAgent[agent]
		switch {
		case h == nil:
		case rec.FilterPlan != nil:
			h.plans[run] = append(h.plans[run], rec.FilterPlan)
		case rec.Lost != nil:
			h.lost = append(h.lost, rec.Lost)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []storedHost
	var known []string
	now := cfg.Now().UnixNano()
	for _, h := range all {
		known = append(known, h.Name)
		if req.Host != "" && req.Host != h.Agent && req.Host != h.Name {
			continue
		}
		h.tl = newTimeline(req.From, req.To, now, h.runs, h.plans, h.lost)
		up := slices.ContainsFunc(h.tl.spans, func(s span) bool { return s.up })
		if up || req.Host != "" {
			out = append(out, *h)
		}
	}
	if req.Host != "" && len(out) == 0 {
		slices.Sort(known)
		return nil, &HostError{Host: req.Host, Known: slices.Compact(known)}
	}
	slices.SortStableFunc(out, func(a, b storedHost) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Agent, b.Agent))
	})
	return out, nil
}

// A backtest is one under way.
type backtest struct {
	cfg   Config
	req   Request
	tally *tally
	began time.Time

	hosts, done int // how many there are, and have been looked at
	events      uint64
	told        bool // what became of the rules
}

func (b *backtest) loaded(report *ruleset.Report) error {
	b.tally.report(report)
	if b.told || b.cfg.Loaded == nil {
		return nil
	}
	b.told = true
	return b.cfg.Loaded(report)
}

// host evaluates the events of one host. The rules are compiled for each: what
// they keep between events is the host's own.
func (b *backtest) host(ctx context.Context, h *storedHost) error {
	eval, report, err := newEvaluation(b.cfg.Load, h.facts, h.Agent, b.cfg.Now)
	if err != nil {
		return err
	}
	if err := b.loaded(report); err != nil {
		return err
	}
	err = b.evaluate(ctx, h, eval)
	if err != nil && !errors.Is(err, errTime) {
		return err
	}
	b.tally.host(h.Host, eval, h.tl)
	return err
}

// stateKinds are the kinds of event that change processes.
var stateKinds = []event.Kind{event.KindSetuid, event.KindSetgid, event.KindCgroupWrite, event.KindCapset}

func (b *backtest) evaluate(ctx context.Context, h *storedHost, eval *evaluation) error {
	// The kinds that rules ask for, and those that are looked at beside them.
	var wanted [event.NumKinds]bool
	kinds := slices.Clone(stateKinds)
	rules := eval.all.Rules()
	if len(rules) == 0 {
		return nil
	}
	for _, r := range rules {
		for _, k := range r.Kinds {
			wanted[k] = true
			if !slices.Contains(kinds, k) {
				kinds = append(kinds, k)
			}
		}
	}
	lin := newLineage(func(ctx context.Context, refs []event.Ref) (map[event.Ref]*event.Process, error) {
		return b.cfg.Store.Nodes(ctx, h.Agent, refs)
	})
	before := min(max(b.req.To-b.req.From, minBefore), maxBefore)
	err := b.pages(ctx, h, store.Query{From: b.req.From - before, To: b.req.From, Kinds: stateKinds}, func(list []*event.Event) error {
		for _, e := range list {
			lin.track(e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	hosts := map[uint64]*event.Host{}
	for i := range h.runs {
		r := &h.runs[i]
		host := &event.Host{ID: h.Agent, Name: h.Name}
		if s := r.Start; s != nil {
			host.Name, host.BootID, host.Mode, host.OffsetNS = s.Hostname, s.BootID, s.Mode, s.OffsetNS
		}
		hosts[r.Run] = host
	}
	var signals []event.Signal
	err = b.pages(ctx, h, store.Query{From: b.req.From, To: b.req.To, Kinds: kinds}, func(list []*event.Event) error {
		list = once(list)
		if err := lin.prepare(ctx, list); err != nil {
			return err
		}
		for _, e := range list {
			if e.Host = hosts[e.Run]; e.Host == nil {
				e.Host = &event.Host{ID: h.Agent, Name: h.Name}
			}
			lin.attach(e)
			if wanted[e.Kind] {
				b.events++
				if e.Proc == nil {
					b.tally.res.UnknownProcesses++
				}
				signals = eval.Eval(e, signals[:0])
			}
		}
		return nil
	})
	if err == nil {
		eval.Overdue(h.tl.end())
	}
	return err
}

// once leaves out events that were sent once more for a signal that came late,
// where the event itself is there. It was not kept perhaps; then the first of
// what was sent later stands for it. Events are in order of their time.
func once(list []*event.Event) []*event.Event {
	if !slices.ContainsFunc(list, pipeline.SentBefore) {
		return list
	}
	out := make([]*event.Event, 0, len(list))
	for _, e := range list {
		if pipeline.SentBefore(e) && again(out, e) {
			continue
		}
		out = append(out, e)
	}
	return out
}

// again tells whether the last of list, those of the same moment, have e under
// another number.
func again(list []*event.Event, e *event.Event) bool {
	for _, o := range slices.Backward(list) {
		if o.TimeNS != e.TimeNS {
			break
		}
		if o.Run == e.Run && o.BootNS == e.BootNS && o.Kind == e.Kind && o.PID == e.PID && o.TID == e.TID {
			return true
		}
	}
	return false
}

// pages calls fn with the host's events in the order of their time, and among
// those of one moment in the order of the stream.
func (b *backtest) pages(ctx context.Context, h *storedHost, q store.Query, fn func([]*event.Event) error) error {
	if q.From >= q.To {
		return nil
	}
	q.Agent, q.Limit = h.Agent, pageEvents
	order := map[uint64]int{}
	for i := range h.runs {
		order[h.runs[i].Run] = i
	}
	var held []*event.Event
	reached := q.From
	for {
		began := b.cfg.Now()
		if b.cfg.MaxTime > 0 && began.Sub(b.began) > b.cfg.MaxTime {
			b.cut(h, reached)
			return errTime
		}
		page, err := b.search(ctx, q)
		if errors.Is(err, errTime) {
			b.cut(h, reached)
		}
		if err != nil {
			return err
		}
		for _, f := range page.Items {
			held = append(held, f.Event)
		}
		slices.SortStableFunc(held, func(x, y *event.Event) int {
			return cmp.Or(cmp.Compare(x.TimeNS, y.TimeNS), cmp.Compare(order[x.Run], order[y.Run]), cmp.Compare(x.Seq, y.Seq))
		})
		n := len(held)
		if page.Next != "" {
			// The events of the last moment may go on on the next page.
			for n > 0 && held[n-1].TimeNS == held[len(held)-1].TimeNS {
				n--
			}
			if n == 0 && len(held) > 8*pageEvents {
				n = len(held) // more at once than a clock can tell apart
			}
		}
		if n > 0 {
			if err := fn(held[:n]); err != nil {
				return err
			}
			reached = held[n-1].TimeNS + 1
			if err := b.progress(h, reached); err != nil {
				return err
			}
		}
		held = append(held[:0:0], held[n:]...)
		if page.Next == "" {
			return nil
		}
		q.After = page.Next
		if b.cfg.Pause != nil {
			if err := b.cfg.Pause(ctx, b.cfg.Now().Sub(began)); err != nil {
				return err
			}
		}
	}
}

// search asks the store for a page; a rare kind can take it long.
func (b *backtest) search(ctx context.Context, q store.Query) (store.Page, error) {
	if b.cfg.MaxTime <= 0 {
		return b.cfg.Store.Search(ctx, q)
	}
	limited, cancel := context.WithTimeout(ctx, b.cfg.MaxTime-b.cfg.Now().Sub(b.began))
	defer cancel()
	page, err := b.cfg.Store.Search(limited, q)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = errTime
	}
	return page, err
}

// cut notes where the back-test ended because its time was up.
func (b *backtest) cut(h *storedHost, at int64) {
	h.tl.skip(at)
	text := fmt.Sprintf("it took more than %s: %s was looked at up to %s", b.cfg.MaxTime, h.Name, time.Unix(0, at).UTC().Format(time.RFC3339))
	if left := b.hosts - b.done - 1; left > 0 {
		text += fmt.Sprintf(", %d other hosts not at all", left)
	}
	b.tally.res.Incomplete = text
}

func (b *backtest) progress(h *storedHost, at int64) error {
	if b.cfg.Progress == nil {
		return nil
	}
	part := float64(at-b.req.From) / float64(b.req.To-b.req.From)
	return b.cfg.Progress(Progress{
		Host: h.Name, At: at, Events: b.events, Done: (float64(b.done) + max(0, min(1, part))) / float64(b.hosts),
	})
}
