package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/schema"
	"github.com/clewsec/clew/internal/sensor/replay"
	"github.com/clewsec/clew/internal/stream"
	"github.com/clewsec/clew/internal/wire/wiretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hostID = "5e1d0a9c-0000-4000-8000-000000000001"

// A fake is a sensor that says what the test tells it to.
type fake struct {
	run  uint64
	in   chan *event.StreamRecord
	fail error // instead of a stream
	deaf int   // canaries that do not come out
}

func newFake(run uint64) *fake {
	return &fake{run: run, in: make(chan *event.StreamRecord, 1000)}
}

func (f *fake) Run(ctx context.Context, sink func(*event.StreamRecord) error) error {
	if f.fail != nil {
		return f.fail
	}
	now := time.Now().UnixNano()
	for _, r := range []*event.StreamRecord{
		{BootNS: 1e9, RunStart: &event.RunStart{
			Run: f.run, Seed: make([]byte, 32), HostID: hostID, BootID: "boot", Hostname: "web-1", Mode: "tracepoint",
			Schema: schema.Version, OffsetNS: now - 1e9, At: now,
		}},
		{BootNS: 1e9, Clock: &event.Clock{OffsetNS: now - 1e9}},
		{BootNS: 1e9, Snapshot: &event.Process{PID: 1, TID: 1, StartNS: 1, Comm: "init", Source: "snapshot"}},
		{BootNS: 1e9, SnapshotEnd: &event.SnapshotEnd{Processes: 1}},
	} {
		if err := sink(r); err != nil {
			return err
		}
	}
	for {
		select {
		case r := <-f.in:
			if r == nil {
				return nil
			}
			if err := sink(r); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *fake) Canary(nonce uint64) error {
	if f.deaf > 0 {
		f.deaf--
		return nil
	}
	f.in <- &event.StreamRecord{BootNS: 2e9, Canary: &event.Canary{Nonce: nonce}}
	return nil
}

func execed(pid uint32, path string) *event.StreamRecord {
	return &event.StreamRecord{BootNS: 2e9 + uint64(pid), Event: &event.Event{
		Kind: event.KindExec, PID: pid, TID: pid, StartNS: uint64(pid),
		Exec: &event.Exec{Image: &event.Process{PID: pid, TID: pid, PPID: 1, StartNS: uint64(pid), File: event.File{Path: path}}},
	}}
}

func noRules(t *testing.T) *rules {
	t.Helper()
	r, err := loadRules(ruleset.Facts{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// begin runs an engine; the function it returns ends it.
func begin(t *testing.T, dir string, src Source, srv *wiretest.Server, change func(*engineConfig)) (e *engine, end func() error) {
	t.Helper()
	cfg := engineConfig{
		dir: dir, source: src, live: true, mode: "tracepoint", rules: noRules(t), client: srv.Client(), version: "v1",
		pid: 4711, log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	e, err := newEngine(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.run(ctx) }()
	ended := false
	end = func() error {
		if ended {
			return nil
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("engine does not end")
			return nil
		}
	}
	t.Cleanup(func() { _ = end() })
	return e, end
}

func execs(recs []*event.SpoolRecord) []uint32 {
	var pids []uint32
	for _, r := range recs {
		if r.Event != nil && r.Event.Exec != nil {
			pids = append(pids, r.Event.PID)
		}
	}
	return pids
}

func lost(recs []*event.SpoolRecord, reason string) []*event.Lost {
	var out []*event.Lost
	for _, r := range recs {
		if r.Lost != nil && r.Lost.Reason == reason {
			out = append(out, r.Lost)
		}
	}
	return out
}

func TestEngineFromKernelToServer(t *testing.T) {
	srv, src := wiretest.New(t), newFake(1)
	e, end := begin(t, t.TempDir(), src, srv, nil)
	for pid := range uint32(50) {
		src.in <- execed(100+pid, "/bin/true")
	}
	st := srv.Until("all execs and a canary", func(s wiretest.State) bool {
		return len(execs(s.Records)) == 50 && slices.ContainsFunc(s.Records, func(r *event.SpoolRecord) bool { return r.Canary != nil })
	})
	if st.Records[0].RunStart == nil || st.Records[0].RunStart.Hostname != "web-1" {
		t.Errorf("first record %+v", st.Records[0])
	}
	for i, r := range st.Records {
		if r.Seq != uint64(i+1) {
			t.Fatalf("record %d has number %d", i+1, r.Seq)
		}
	}
	for i, pid := range execs(st.Records) {
		if pid != 100+uint32(i) {
			t.Fatalf("exec %d is of pid %d", i, pid)
		}
	}
	if h := st.Hello; h.AgentId != hostID || h.Run != 1 || h.Pid != 4711 || h.Mode != "tracepoint" || h.Recording {
		t.Errorf("hello %v", h)
	}
	if l := lost(st.Records, ReasonDown); l != nil {
		t.Errorf("first run has a gap: %v", l)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if !e.spool.Empty() {
		t.Errorf("left in the spool: %+v", e.spool.Stats())
	}
}

// The next run says since when nobody watched, and begins with what was left.
func TestEngineNextRun(t *testing.T) {
	dir, srv := t.TempDir(), wiretest.New(t)
	before := time.Now().UnixNano()
	srv.SetAway(true)
	src := newFake(1)
	e, end := begin(t, dir, src, srv, nil)
	src.in <- execed(100, "/bin/a")
	waitFor(t, "exec in the spool", func() bool { return e.counters.Spooled.Load() > 3 })
	if err := end(); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now().UnixNano()

	srv.SetAway(false)
	src = newFake(2)
	_, end = begin(t, dir, src, srv, nil)
	src.in <- execed(200, "/bin/b")
	st := srv.Until("both execs", func(s wiretest.State) bool { return len(execs(s.Records)) == 2 })
	if got := execs(st.Records); got[0] != 100 || got[1] != 200 {
		t.Errorf("execs of pids %v", got)
	}
	gap := lost(st.Records, ReasonDown)
	if len(gap) != 1 || gap[0].From < before || gap[0].From > stopped || gap[0].To < stopped || gap[0].Where != "agent" {
		t.Errorf("gaps %+v, stopped at %d", gap, stopped)
	}
	if st.Again != 0 {
		t.Errorf("%d batches came twice", st.Again)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// A state that makes no sense costs context, not the start.
func TestEngineDamagedState(t *testing.T) {
	dir, srv, src := t.TempDir(), wiretest.New(t), newFake(1)
	if err := writeFile(dir+"/state", []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	_, _ = begin(t, dir, src, srv, nil)
	src.in <- execed(100, "/bin/a")
	srv.Until("exec", func(s wiretest.State) bool { return len(execs(s.Records)) == 1 })
}

func TestEngineSourceFails(t *testing.T) {
	broken := errors.New("broken")
	src := newFake(1)
	src.fail = broken
	dir := t.TempDir()
	e, _ := newTestEngine(t, dir, src)
	err := e.run(t.Context())
	var blind *errNotBegun
	if !errors.As(err, &blind) || !errors.Is(err, broken) {
		t.Errorf("error %v (%T)", err, err)
	}

	// One that ends by itself is not one that could not begin.
	src = newFake(1)
	src.in <- nil
	e, _ = newTestEngine(t, dir, src)
	if err := e.run(t.Context()); err == nil || errors.As(err, &blind) {
		t.Errorf("error %v (%T)", err, err)
	}
}

func newTestEngine(t *testing.T, dir string, src Source) (*engine, *wiretest.Server) {
	t.Helper()
	srv := wiretest.New(t)
	e, err := newEngine(engineConfig{
		dir: dir, source: src, live: true, rules: noRules(t), client: srv.Client(), log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return e, srv
}

// A canary that does not come through is followed by another one soon.
func TestEngineCanaryAgain(t *testing.T) {
	srv, src := wiretest.New(t), newFake(1)
	src.deaf = 1
	_, _ = begin(t, t.TempDir(), src, srv, nil)
	srv.Until("canary", func(s wiretest.State) bool {
		return slices.ContainsFunc(s.Records, func(r *event.SpoolRecord) bool { return r.Canary != nil })
	})
}

// What the spool has to give up is told in the stream, and adds up.
func TestEngineFullSpool(t *testing.T) {
	srv, src := wiretest.New(t), newFake(1)
	srv.SetAway(true)
	e, end := begin(t, t.TempDir(), src, srv, func(c *engineConfig) { c.spoolBytes = 16 << 10 })
	// Many small batches, so that segments fill.
	for i := range uint32(400) {
		src.in <- execed(1000+i, fmt.Sprint("/bin/", strings.Repeat("x", int(i%50)), i))
		if i%10 == 0 {
			waitFor(t, "exec taken", func() bool { return len(src.in) == 0 })
			e.cut()
		}
	}
	waitFor(t, "loss", func() bool { return e.spool.Stats().Lost["spool_full"] > 0 })
	waitFor(t, "loss told", func() bool { return e.counters.LostSeen.Load() > 0 })
	srv.SetAway(false)
	st := srv.Until("rest", func(s wiretest.State) bool {
		return len(lost(s.Records, "spool_full")) > 0 && e.spool.Empty()
	})
	var gone uint64
	for _, l := range lost(st.Records, "spool_full") {
		gone += l.Count
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	st = srv.State()
	if total := e.counters.Spooled.Load(); uint64(len(st.Records))+gone != total {
		t.Errorf("%d records came, %d are said to be lost, %d were made", len(st.Records), gone, total)
	}
	last := st.Batches[len(st.Batches)-1]
	if last.Drops != gone {
		t.Errorf("batch says %d are lost, the stream %d", last.Drops, gone)
	}
}

func recording(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := stream.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	recs := []*event.StreamRecord{{Seq: 1, RunStart: &event.RunStart{Run: 7, Seed: make([]byte, 32), Hostname: "recorded-host", Schema: schema.Version, At: 5}}}
	for i := range n {
		r := execed(uint32(10+i), "/bin/true")
		r.Seq = uint64(i + 2)
		recs = append(recs, r)
	}
	for _, r := range recs {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A recording is stored whole, and gives the same batches when it is played
// again, so that the server knows them.
func TestEngineReplay(t *testing.T) {
	rec := recording(t, 3000)
	srv := wiretest.New(t)
	var first wiretest.State
	for i := range 2 {
		src, err := replay.New(bytes.NewReader(rec))
		if err != nil {
			t.Fatal(err)
		}
		e, end := begin(t, t.TempDir(), src, srv, func(c *engineConfig) { c.live, c.mode = false, "replay" })
		waitFor(t, "played", func() bool { return e.done.Load() })
		st := srv.Until("all", func(s wiretest.State) bool {
			return s.Hello != nil && len(execs(s.Records)) == 3000 && e.spool.Empty()
		})
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = st
			if h := st.Hello; !h.Recording || h.Mode != "replay" || h.AgentId != src.Start().HostID || h.Run != 7 {
				t.Errorf("hello %v", h)
			}
			if len(st.Batches) < 2 {
				t.Errorf("%d batches, want several", len(st.Batches))
			}
		}
		src.Close()
	}
	st := srv.State()
	if len(st.Batches) != len(first.Batches) || st.Again != len(first.Batches) {
		t.Errorf("%d batches, then %d and %d known ones", len(first.Batches), len(st.Batches), st.Again)
	}
}

// A small spool does not make a recording lose anything: it waits.
func TestEngineReplayWaits(t *testing.T) {
	src, err := replay.New(bytes.NewReader(recording(t, 20000)))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	srv := wiretest.New(t)
	srv.SetAway(true)
	e, _ := begin(t, t.TempDir(), src, srv, func(c *engineConfig) { c.live, c.spoolBytes = false, 128<<10 })
	waitFor(t, "half full", func() bool {
		select {
		case <-e.begun:
			return e.spool.Full() >= replayFull
		default:
			return false
		}
	})
	srv.SetAway(false)
	srv.Until("all", func(s wiretest.State) bool { return len(execs(s.Records)) == 20000 })
	if n := e.spool.Stats().Lost["spool_full"]; n != 0 {
		t.Errorf("%d records lost", n)
	}
}

func TestState(t *testing.T) {
	want := &event.RestoredState{Run: 3, At: 77, Processes: []event.Process{{PID: 1}, {PID: 2, Comm: "x"}}}
	b, err := encodeState(want, 99, "v1")
	if err != nil {
		t.Fatal(err)
	}
	got, at, err := decodeState(bytes.NewReader(b))
	if err != nil || at != 99 || got.Run != 3 || len(got.Processes) != 2 || got.Processes[1].Comm != "x" {
		t.Errorf("state %+v at %d: %v", got, at, err)
	}
	for n := range b {
		if _, _, err := decodeState(bytes.NewReader(b[:n])); err == nil && n < len(b)-8 {
			t.Fatalf("%d of %d bytes are a state", n, len(b))
		}
	}
	if s, _, err := loadState(t.TempDir() + "/state"); s != nil || err != nil {
		t.Errorf("state %v, %v where there is none", s, err)
	}
}
