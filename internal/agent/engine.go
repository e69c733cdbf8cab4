package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clewsec/clew/internal/accounts"
	"github.com/clewsec/clew/internal/agent/spool"
	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/gen/clew/v1/clewv1connect"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/runtimes"
	"github.com/clewsec/clew/internal/wire"
)

// ReasonDown is why nothing is known of the time between two runs.
const ReasonDown = "agent_down"

const (
	// cutEvery is how long a record waits for others to share a batch with.
	cutEvery = 200 * time.Millisecond
	// cutSignal is the same once a record with a signal is among them.
	cutSignal = 20 * time.Millisecond
	syncEvery = time.Second
	saveEvery = 5 * time.Second
	endEvery  = 20 * time.Millisecond // look whether a recording is stored
	// drainTime is how long the end waits for the server to take the rest.
	drainTime   = 500 * time.Millisecond
	canaryEvery = time.Minute
	canaryTime  = 2 * time.Second // for one to come through
	canaryRetry = 200 * time.Millisecond
	// replayFull is how full a recording may make the spool: it can wait.
	replayFull = 0.5
)

// engineConfig is what an engine works with.
type engineConfig struct {
	dir     string // of spool and state
	source  Source
	live    bool   // the stream is this host's, now
	mode    string // as asked for
	reason  string // why this host is not watched, when it is not
	rules   *rules
	client  clewv1connect.IngestServiceClient
	version string
	pid     int32
	log     *slog.Logger

	accounts   *accounts.Accounts // names of users and groups; nil: none
	packages   *packager          // which packages programs belong to; nil: nobody is asked
	containers *runtimes.Resolver // what containers are called; nil: nobody is asked
	spoolBytes int64              // limit; the spool's own when 0
	meter      meter              // what the agent takes; nil: not known
	hasher     newHasher          // what is in files; nil: nobody is asked
	started    func(*event.RunStart)

	metricsEvery time.Duration // 0: metricsEvery
}

// Counters count what passed an engine.
type Counters struct {
	Records  atomic.Uint64 // of the stream
	Spooled  atomic.Uint64 // records that the pipeline made of them
	Signals  atomic.Uint64 // events with a signal among them
	Refused  atomic.Uint64 // records that the pipeline could not take
	LostSeen atomic.Uint64 // events that the stream said were lost
	Saves    atomic.Uint64 // of the state
	Canaries atomic.Uint64 // that came out of the source
}

// An engine is one run: a source, the pipeline, the spool, the server.
type engine struct {
	cfg      engineConfig
	counters Counters
	ledger   ledger

	begun  chan struct{} // closed with the first record
	urgent chan struct{} // a signal waits in the batch
	known  chan struct{} // the processes that were there already are known; one element
	resend atomic.Bool
	done   atomic.Bool // a recording has been spooled to its end
	canary chan uint64 // nonces that came out

	mu    sync.Mutex // guards what follows; whoever pushes holds it
	pipe  *pipeline.Pipeline
	spool *spool.Spool
	push  *wire.Pusher
	start event.RunStart
	met   bool // the source has given a record
	seq   uint64

	hasher  hasher
	refused []*event.FileFacts // answers that were known at once
}

func newEngine(cfg engineConfig) (*engine, error) {
	pcfg := cfg.rules.pipeline
	counted := &countedRules{rules: pcfg.Rules, matches: map[string]uint64{}}
	if pcfg.Rules != nil {
		pcfg.Rules = counted
	}
	e := &engine{
		ledger: ledger{rules: counted, lost: map[lostKey]uint64{}, loadedAt: time.Now()},
		cfg:    cfg, begun: make(chan struct{}), urgent: make(chan struct{}, 1), known: make(chan struct{}, 1), canary: make(chan uint64, 8),
	}
	effect := pcfg.Effect
	pcfg.Effect = func(x ruleset.Effect) {
		if x.Hash != nil && e.hasher != nil {
			e.askFile(x)
		}
		if effect != nil {
			effect(x)
		}
	}
	var err error
	if e.pipe, err = pipeline.New(pcfg); err != nil {
		return nil, err
	}
	if cfg.hasher != nil {
		e.hasher = cfg.hasher(e.answerFile)
	}
	return e, nil
}

// errNotBegun is around the error of a source that gave no record at all:
// nothing has been written then, and another source may be tried.
type errNotBegun struct{ err error }

func (e *errNotBegun) Error() string { return e.err.Error() }
func (e *errNotBegun) Unwrap() error { return e.err }

// run works until ctx ends, which is no error. A recording that has been
// played to its end leaves the engine running: the server may still want it.
func (e *engine) run(ctx context.Context) (err error) {
	working, stop := context.WithCancel(ctx)
	defer stop()
	g, working := errgroup.WithContext(working)
	// What is left is handed over after the source has ended.
	pushing, stopPushing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPushing()

	g.Go(func() error { return e.play(working) })
	pushed := make(chan error, 1)
	g.Go(func() error {
		select {
		case <-e.begun:
		case <-working.Done():
			close(pushed)
			return nil
		}
		failed := make(chan struct{})
		go func() {
			err := e.push.Run(pushing)
			if err != nil {
				close(failed)
			}
			pushed <- err
		}()
		select {
		case <-failed:
			return errors.New("spool cannot be read")
		case <-working.Done():
			return nil
		}
	})
	g.Go(func() error { return e.keep(working) })
	if e.hasher != nil {
		g.Go(func() error { return e.answerFiles(working) })
	}
	g.Go(func() error { return e.watchPressure(working) })
	if p, ok := e.cfg.source.(Prober); ok {
		g.Go(func() error { return e.probe(working, p) })
	}
	if r := e.cfg.containers; r != nil {
		g.Go(func() error { return e.nameContainers(working, r) })
	}
	if p := e.cfg.packages; p != nil {
		g.Go(func() error { return e.namePackages(working, p) })
	}
	err = g.Wait()

	select {
	case <-e.begun:
	default:
		if err == nil || e.met {
			return err
		}
		return &errNotBegun{err}
	}
	e.mu.Lock()
	e.spool.Cut()
	e.mu.Unlock()
	if e.cfg.live {
		err = errors.Join(err, e.save())
	}
	e.drain()
	stopPushing()
	if perr := <-pushed; perr != nil {
		err = errors.Join(err, perr)
	}
	return errors.Join(err, e.spool.Close())
}

// play runs the source.
func (e *engine) play(ctx context.Context) error {
	err := e.cfg.source.Run(ctx, func(rec *event.StreamRecord) error {
		if !e.cfg.live {
			if err := e.wait(ctx); err != nil {
				return err
			}
		}
		return e.take(rec)
	})
	switch {
	case ctx.Err() != nil:
		// Ended on request, unless it says otherwise.
		if err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("sensor: %w", err)
		}
		return nil
	case err != nil:
		return err
	case e.cfg.live:
		return errors.New("sensor ended by itself")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.spool == nil {
		return errors.New("recording has no record")
	}
	e.spool.Cut()
	e.done.Store(true)
	return nil
}

// wait holds up a recording while the spool is busy: nothing of it need be
// lost.
func (e *engine) wait(ctx context.Context) error {
	if e.spool == nil || e.spool.Full() < replayFull {
		return nil
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for e.spool.Full() >= replayFull {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// take lets one record of the source through the pipeline.
func (e *engine) take(rec *event.StreamRecord) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if rec.RunStart != nil && e.spool == nil {
		return e.begin(rec)
	}
	if rec.Clock != nil && e.spool != nil {
		e.spool.SetOffset(rec.Clock.OffsetNS)
	}
	e.askContainer(rec)
	return e.pushLocked(rec)
}

// pushLocked numbers a record, because the agent adds some of its own to those
// of the source, and hands it to the pipeline.
func (e *engine) pushLocked(rec *event.StreamRecord) error {
	if e.cfg.live {
		e.seq++
		rec.Seq = e.seq
	}
	if e.resend.Swap(false) {
		e.pipe.Resend()
	}
	e.counters.Records.Add(1)
	if rec.Canary != nil {
		e.counters.Canaries.Add(1)
		select {
		case e.canary <- rec.Canary.Nonce:
		default: // nobody waits for it
		}
	}
	known := rec.SnapshotEnd != nil
	if err := e.pipe.Push(rec, e.emit); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	if len(e.refused) > 0 {
		if err := e.tellRefused(); err != nil {
			return err
		}
	}
	if d, ok := e.cfg.source.(Deepener); ok {
		if tasks, changed := e.pipe.Depth(); changed {
			d.SetDepth(tasks)
		}
	}
	if known {
		select {
		case e.known <- struct{}{}:
		default:
		}
	}
	return nil
}

// emit takes what comes out of the pipeline.
func (e *engine) emit(rec *event.SpoolRecord) error {
	e.spool.Append(rec)
	e.counters.Spooled.Add(1)
	if rec.Lost != nil {
		e.counters.LostSeen.Add(rec.Lost.Count)
		e.ledger.countLost(rec.Lost)
	}
	if rec.Event != nil && len(rec.Event.Signals) > 0 {
		e.counters.Signals.Add(1)
		select {
		case e.urgent <- struct{}{}:
		default:
		}
	}
	return nil
}

// begin starts the run with its first record: now it is known whose it is.
func (e *engine) begin(rec *event.StreamRecord) error {
	e.start, e.met = *rec.RunStart, true
	sp, err := spool.Open(spool.Config{
		Dir: filepath.Join(e.cfg.dir, "spool"), AgentID: e.start.HostID, Run: e.start.Run,
		MaxBytes: e.cfg.spoolBytes, Log: e.cfg.log,
	})
	if err != nil {
		return err
	}
	e.spool = sp
	sp.SetOffset(e.start.OffsetNS)
	e.push = wire.New(wire.Config{
		Client: e.cfg.client, Hello: e.hello, Health: e.health, Resend: e.askedToResend, Log: e.cfg.log,
	}, sp)
	close(e.begun)
	if e.cfg.started != nil {
		e.cfg.started(&e.start)
	}
	if err := e.pushLocked(rec); err != nil {
		return err
	}
	if err := e.nameLocked(); err != nil {
		return err
	}
	if e.cfg.live {
		return e.restore()
	}
	return nil
}

// nameLocked tells the stream which users and groups the host has now.
func (e *engine) nameLocked() error {
	if e.cfg.accounts == nil {
		return nil
	}
	names, err := e.cfg.accounts.Changed()
	if err != nil {
		e.cfg.log.Debug("users and groups", "error", err)
	}
	for _, n := range names {
		if err := e.pushLocked(&event.StreamRecord{Answer: n}); err != nil {
			return err
		}
	}
	return nil
}

// restore gives the stream what the last run knew, and says since when nobody
// watched. A state that cannot be read costs context, not the start.
func (e *engine) restore() error {
	state, savedAt, err := loadState(e.statePath())
	if err != nil {
		e.cfg.log.Warn("what the last run knew is gone", "error", err)
	}
	since := max(savedAt, e.spool.LastCut())
	if state != nil {
		if err := e.pushLocked(&event.StreamRecord{RestoredState: state}); err != nil {
			return err
		}
	}
	if since == 0 {
		return nil // nobody watched before
	}
	since = min(since, e.start.At) // the clock may have been set back
	return e.pushLocked(&event.StreamRecord{Lost: &event.Lost{
		Reason: ReasonDown, From: since, To: e.start.At, Where: "agent",
	}})
}

func (e *engine) statePath() string { return filepath.Join(e.cfg.dir, "state") }

// save writes down what the next run needs to know.
func (e *engine) save() error {
	e.mu.Lock()
	// What the state knows must not be younger than what is in the spool.
	e.spool.Cut()
	state := e.pipe.Save()
	b, err := encodeState(state, time.Now().UnixNano(), e.cfg.version)
	e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	if err := writeFile(e.statePath(), b); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	e.counters.Saves.Add(1)
	return nil
}

// keep does what has to be done from time to time.
func (e *engine) keep(ctx context.Context) error {
	select {
	case <-e.begun:
	case <-ctx.Done():
		return nil
	}
	// The batches of a recording depend on its content alone, so that they
	// have the same ids when it is played again: no clock cuts them.
	var cut <-chan time.Time
	urgent := e.urgent
	if e.cfg.live {
		t := time.NewTicker(cutEvery)
		defer t.Stop()
		cut = t.C
	} else {
		urgent = nil
	}
	var soon <-chan time.Time
	// The end of a recording is told when the server has all of it.
	var ending <-chan time.Time
	if !e.cfg.live {
		t := time.NewTicker(endEvery)
		defer t.Stop()
		ending = t.C
	}
	syncing := time.NewTicker(syncEvery)
	defer syncing.Stop()
	saving := time.NewTicker(saveEvery)
	defer saving.Stop()
	failing := false
	save := func() {
		if !e.cfg.live {
			return
		}
		err := e.save()
		if err != nil && !failing {
			e.cfg.log.Warn("state is not saved", "error", err)
		}
		failing = err != nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.known:
			// An agent that is killed in its first seconds must not give the
			// same processes other contexts when it comes back.
			save()
		case <-urgent:
			if soon == nil {
				soon = time.After(cutSignal)
			}
		case <-soon:
			soon = nil
			e.cut()
		case <-cut:
			e.cut()
		case <-ending:
			if e.done.Load() && e.spool.Empty() {
				ending = nil
				e.push.TellHealth()
			}
		case <-syncing.C:
			if err := e.spool.Sync(); err != nil {
				e.cfg.log.Warn("spool is not on the disk yet", "error", err)
			}
			if err := e.tellLost(); err != nil {
				return err
			}
			e.mu.Lock()
			err := e.nameLocked()
			e.mu.Unlock()
			if err != nil {
				return err
			}
		case <-saving.C:
			save()
		}
	}
}

func (e *engine) cut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.spool.Cut()
}

// tellLost puts what the spool lost into the stream. A node or a context may
// have been among it, so all are sent again.
func (e *engine) tellLost() error {
	if e.spool.Stats().Failing {
		return nil // it would be lost, too; the spool adds up until then
	}
	lost := e.spool.TakeLost()
	if len(lost) == 0 {
		return nil
	}
	if !e.cfg.live {
		// A recording is told as it is; the batches carry the count.
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.resend.Store(true)
	for i := range lost {
		if err := e.pushLocked(&event.StreamRecord{Lost: &lost[i]}); err != nil {
			return err
		}
	}
	return nil
}

// askedToResend is called when the server knows nothing of this run. Before it
// has acknowledged anything of it everything is still in the spool.
func (e *engine) askedToResend() {
	if e.cfg.live && e.spool.AckedOfRun() > 0 {
		e.resend.Store(true)
	}
}

// probe sends a canary at the start and then each minute, and soon another one
// when it does not come through.
func (e *engine) probe(ctx context.Context, p Prober) error {
	select {
	case <-e.begun:
	case <-ctx.Done():
		return nil
	}
	for {
		nonce := rand.Uint64N(1<<63-1) + 1
		sent := time.Now()
		err := p.Canary(nonce)
		wait := canaryRetry
		if err == nil && e.seen(ctx, nonce) {
			e.ledger.canary.Store(int64(time.Since(sent)))
			wait = canaryEvery
		} else {
			e.cfg.log.Debug("canary did not come through", "error", err)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

func (e *engine) seen(ctx context.Context, nonce uint64) bool {
	t := time.NewTimer(canaryTime)
	defer t.Stop()
	for {
		select {
		case got := <-e.canary:
			if got == nonce {
				e.cut()
				return true
			}
		case <-t.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// drain waits until the server has everything, or for a little while.
func (e *engine) drain() {
	t := time.NewTimer(drainTime)
	defer t.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !e.spool.Empty() && e.push.Stats().Connected {
		select {
		case <-t.C:
			return
		case <-tick.C:
		}
	}
}

func (e *engine) hello() *clewv1.Hello {
	mode := e.cfg.mode
	if e.cfg.live {
		mode = e.start.Mode // what became of auto
	}
	return &clewv1.Hello{
		AgentId: e.start.HostID, Hostname: e.start.Hostname, Run: e.start.Run, Pid: e.cfg.pid,
		Version: e.cfg.version, Protocol: wire.Protocol, Schema: int32(e.start.Schema),
		Mode: mode, Kernel: e.start.Kernel, Recording: e.start.Recording, Reason: e.cfg.reason,
	}
}

// health is how the agent is. What became of each rule does not change while
// it runs and may be megabytes, so it is said once in a session.
func (e *engine) health(first bool) *clewv1.Health {
	st := e.spool.Stats()
	h := &clewv1.Health{
		SpoolRecords: st.Records, Lost: e.counters.LostSeen.Load(),
		RulesLoaded: e.cfg.rules.loaded, Done: e.done.Load(),
	}
	if first {
		h.Rules = e.cfg.rules.states
	}
	if now := time.Now(); first || now.Sub(e.ledger.sentAt) >= cmp.Or(e.cfg.metricsEvery, metricsEvery) {
		e.ledger.sentAt = now
		h.Metrics = e.samples()
	}
	if !e.cfg.live {
		// In a live stream they have become Lost records and are counted.
		for _, n := range st.Lost {
			h.Lost += n
		}
	}
	return h
}
