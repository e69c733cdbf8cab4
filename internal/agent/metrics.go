package agent

import (
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/filehash"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/metrics"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/sensor"
)

// metricsEvery is how often the agent's numbers go along with its health.
const metricsEvery = 10 * time.Second

// usage is what the agent takes of the host.
type usage struct {
	resident, memory        int64 // bytes; memory is what counts against the ceiling
	ceiling                 Ceilings
	user, system, throttled time.Duration
}

// A meter reads the usage.
type meter interface{ usage() usage }

// A counting source says what the kernel side counted.
type counting interface {
	Stats() (sensor.Stats, error)
	ProgramStats() []sensor.ProgramStats
}

// ruleSample is which share of events is timed: reading the clock twice costs a
// tenth of what rules do.
const ruleSample = 32

// countedRules counts what rules find, and times some of their work. It is used
// by whoever holds the engine's lock.
type countedRules struct {
	rules   pipeline.Rules
	n       uint64
	timed   uint64
	took    time.Duration
	matches map[string]uint64
	others  uint64
}

// Eval implements pipeline.Rules.
func (c *countedRules) Eval(ev *event.Event, out []event.Signal) []event.Signal {
	have := len(out)
	c.n++
	if c.n%ruleSample == 0 {
		start := time.Now()
		out = c.rules.Eval(ev, out)
		c.took += time.Since(start)
		c.timed++
	} else {
		out = c.rules.Eval(ev, out)
	}
	for i := range out[have:] {
		c.count(out[have+i].RuleID)
	}
	return out
}

func (c *countedRules) count(rule string) {
	if _, ok := c.matches[rule]; !ok && len(c.matches) >= metrics.MaxRules {
		c.others++
		return
	}
	c.matches[rule]++
}

// Overdue implements pipeline.Waiting.
func (c *countedRules) Overdue(now int64) []pipeline.Late {
	w, ok := c.rules.(pipeline.Waiting)
	if !ok {
		return nil
	}
	late := w.Overdue(now)
	for i := range late {
		c.count(late[i].Signal.RuleID)
	}
	return late
}

// Effects implements pipeline.Acting.
func (c *countedRules) Effects() []ruleset.Effect {
	if a, ok := c.rules.(pipeline.Acting); ok {
		return a.Effects()
	}
	return nil
}

// lostKey tells losses apart.
type lostKey struct {
	kind   event.Kind
	reason string
}

// A ledger holds what an engine counts for its metrics. What is not atomic is
// guarded by the engine's lock.
type ledger struct {
	rules    *countedRules
	lost     map[lostKey]uint64
	blind    time.Duration
	canary   atomic.Int64 // ns of the last one
	loadedAt time.Time
	sentAt   time.Time // when numbers last went out; the pusher's alone

	pressure atomic.Int64
}

func (l *ledger) countLost(r *event.Lost) {
	if r.Count > 0 {
		l.lost[lostKey{r.Kind, r.Reason}] += r.Count
	} else if r.To > r.From {
		l.blind += time.Duration(r.To - r.From)
	}
}

// samples are the agent's numbers.
func (e *engine) samples() []*clewv1.MetricSample {
	var set metrics.Set
	e.mu.Lock()
	e.pipelineSamples(&set)
	e.mu.Unlock()
	sp, push := e.spool.Stats(), e.push.Stats()
	set.Add(metrics.SpoolBytes, float64(sp.Bytes))
	set.Add(metrics.SpoolRecords, float64(sp.Records))
	set.Add(metrics.SpoolBatches, float64(sp.Batches))
	set.Add(metrics.SpoolAcked, float64(sp.Acked))
	set.Add(metrics.SpoolFull, e.spool.Full())
	age := 0.0
	if sp.Records > 0 && sp.Oldest > 0 {
		age = max(0, time.Since(time.Unix(0, sp.Oldest)).Seconds())
	}
	set.Add(metrics.SpoolAge, age)
	set.Add(metrics.PushSessions, float64(push.Sessions))
	set.Add(metrics.Canaries, float64(e.counters.Canaries.Load()))
	set.Add(metrics.CanarySeconds, time.Duration(e.ledger.canary.Load()).Seconds())
	set.Add(metrics.AgentPressure, float64(e.ledger.pressure.Load()))
	if c, ok := e.cfg.source.(counting); ok {
		sensorSamples(&set, c)
	}
	if e.cfg.meter != nil {
		u := e.cfg.meter.usage()
		set.Add(metrics.AgentCPU, u.user.Seconds(), "user")
		set.Add(metrics.AgentCPU, u.system.Seconds(), "system")
		set.Add(metrics.AgentResident, float64(u.resident))
		set.Add(metrics.AgentMemory, float64(u.memory))
		set.Add(metrics.AgentThrottled, u.throttled.Seconds())
		if u.ceiling.Memory > 0 {
			set.Add(metrics.AgentMemoryCeiling, float64(u.ceiling.Memory))
		}
		if u.ceiling.CPUs > 0 {
			set.Add(metrics.AgentCPUCeiling, u.ceiling.CPUs)
		}
	}
	if e.hasher != nil {
		st := e.hasher.Stats()
		set.Add(metrics.FileAnswers, float64(st.Hashed), "hash")
		for _, r := range filehash.Reasons {
			set.Add(metrics.FileAnswers, float64(st.Reasons[r]), string(r))
		}
		set.Add(metrics.FileBytes, float64(st.Bytes))
		set.Add(metrics.FilesWaiting, float64(st.Waiting))
	}
	out := make([]*clewv1.MetricSample, len(set.Samples))
	for i, s := range set.Samples {
		out[i] = &clewv1.MetricSample{Name: metrics.Describe(s.ID).Name, Labels: s.Labels, Value: s.Value}
	}
	return out
}

// pipelineSamples is called with the lock held.
func (e *engine) pipelineSamples(set *metrics.Set) {
	l := &e.ledger
	set.Add(metrics.AgentInfo, 1, e.cfg.version, e.hello().Mode, e.start.Kernel)
	set.Add(metrics.AgentStart, float64(e.start.At)/1e9)
	st := e.pipe.Stats()
	for kind := range event.Kind(event.NumKinds) {
		if n := st.Kept[kind]; n > 0 {
			set.Add(metrics.KeptEvents, float64(n), kind.String())
		}
		if n := st.NotKept[kind]; n > 0 {
			set.Add(metrics.UnwantedEvents, float64(n), kind.String())
		}
	}
	for k, n := range l.lost {
		kind := ""
		if k.kind != 0 {
			kind = k.kind.String()
		}
		set.Add(metrics.LostEvents, float64(n), kind, k.reason)
	}
	set.Add(metrics.BlindSeconds, l.blind.Seconds())
	set.Add(metrics.StreamRecords, float64(st.Records))
	set.Add(metrics.Signals, float64(e.counters.Signals.Load()))
	set.Add(metrics.Processes, float64(st.Table.Processes))
	set.Add(metrics.Contexts, float64(st.Contexts.Contexts))
	set.Add(metrics.HotContexts, float64(st.Contexts.Hot))
	for rule, n := range l.rules.matches {
		set.Add(metrics.RuleMatches, float64(n), rule)
	}
	if l.rules.others > 0 {
		set.Add(metrics.RuleMatches, float64(l.rules.others), metrics.OtherRules)
	}
	set.Add(metrics.RuleSampled, float64(l.rules.timed))
	set.Add(metrics.RuleSampledSeconds, l.rules.took.Seconds())
	states := map[string]int{}
	for _, r := range e.cfg.rules.states {
		states[r.Status]++
	}
	for _, s := range []ruleset.Status{ruleset.Loaded, ruleset.Filtered, ruleset.Failed} {
		set.Add(metrics.RulesLoaded, float64(states[string(s)]), string(s))
	}
	set.Add(metrics.RulesLoads, 1)
	set.Add(metrics.RulesLoadedAt, float64(l.loadedAt.UnixMilli())/1000)
}

// sensorSamples adds what the kernel side counted.
func sensorSamples(set *metrics.Set, c counting) {
	st, err := c.Stats()
	if err != nil {
		return // it has ended
	}
	for kind, k := range st.Kinds {
		name := kind.String()
		set.Add(metrics.KernelEvents, float64(k.Sent), name, "sent")
		set.Add(metrics.KernelEvents, float64(k.Filtered), name, "filtered")
		set.Add(metrics.KernelEvents, float64(k.Ignored), name, "ignored")
		lost := uint64(0)
		for _, n := range k.Lost {
			lost += n
		}
		set.Add(metrics.KernelEvents, float64(lost), name, "lost")
	}
	for kind, n := range st.Decoded {
		set.Add(metrics.DecodedEvents, float64(n), kind.String())
	}
	set.Add(metrics.MalformedRecords, float64(st.Malformed))
	set.Add(metrics.UnparsedMessages, float64(st.Unparsed))
	set.Add(metrics.LateEvents, float64(st.Late))
	set.Add(metrics.BPFPrograms, float64(st.Programs))
	for _, r := range st.Rings {
		set.Add(metrics.RingSize, float64(r.Size), r.Name)
		set.Add(metrics.RingUsed, float64(r.Used), r.Name)
		set.Add(metrics.RingHigh, float64(r.High), r.Name)
	}
	for _, p := range c.ProgramStats() {
		if p.Runs > 0 {
			set.Add(metrics.BPFRuns, float64(p.Runs), p.Name)
			set.Add(metrics.BPFRunSeconds, p.Time.Seconds(), p.Name)
		}
	}
}

// pressureEvery is how often the agent looks how near it is to its ceiling.
const pressureEvery = time.Second

// watchPressure gives up depth while memory is short, and says so.
func (e *engine) watchPressure(ctx context.Context) error {
	if e.cfg.meter == nil || !e.cfg.live {
		return nil
	}
	select {
	case <-e.begun:
	case <-ctx.Done():
		return nil
	}
	tick := time.NewTicker(pressureEvery)
	defer tick.Stop()
	var gauge pressureGauge
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		before := gauge.level
		u := e.cfg.meter.usage()
		level := gauge.read(u.memory, u.ceiling.Memory)
		e.ledger.pressure.Store(int64(level))
		if level == before && level == PressureNone {
			continue
		}
		if level != before {
			if r, ok := e.cfg.source.(Relenter); ok {
				r.SetPressure(level)
			}
			e.cfg.log.Warn("memory", "pressure", int64(level), "usedMiB", u.memory>>20, "ceilingMiB", u.ceiling.Memory>>20, "depth", depthAt[level])
		}
		if level > PressureNone {
			debug.FreeOSMemory()
		}
		// What was given up since the last one is said with it.
		e.mu.Lock()
		err := e.pushLocked(&event.StreamRecord{Pressure: &event.Pressure{Level: int64(level), At: time.Now().UnixNano()}})
		e.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// depthAt says what each level means.
var depthAt = [...]string{
	PressureNone: "all is kept again",
	PressureNear: "of hot contexts only signals and the baseline are kept",
	PressureAt:   "of hot contexts only signals and the baseline are kept",
}
