package backtest_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/clewsec/clew/internal/backtest"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/stream"
)

const start = int64(1_700_000_000_000_000_000)

// recording has one process that opens a file before and after opens named
// passwd alone are collected.
func recording(t *testing.T) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w, err := stream.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	const second = 1_000_000_000
	open := func(path string) *event.Event {
		return &event.Event{Kind: event.KindOpen, PID: 5, TID: 5, StartNS: 1, Open: &event.Open{File: event.File{Path: path}}}
	}
	for i, rec := range []*event.StreamRecord{
		{BootNS: second, RunStart: &event.RunStart{Run: 1, Seed: make([]byte, 32), Hostname: "h", OffsetNS: start, At: start + second, Schema: 1}},
		{BootNS: second, FilterPlan: &event.FilterPlan{At: start + second, Kinds: []event.KindPlan{{Kind: event.KindOpen, Mode: "all"}}}},
		{BootNS: second, Snapshot: &event.Process{PID: 5, TID: 5, StartNS: 1, Comm: "x"}},
		{BootNS: second, SnapshotEnd: &event.SnapshotEnd{Processes: 1}},
		{BootNS: 2 * second, Event: open("/etc/passwd")},
		{BootNS: 3 * second, Event: open("/etc/shadow")},
		{BootNS: 4 * second, FilterPlan: &event.FilterPlan{At: start + 4*second, Kinds: []event.KindPlan{{Kind: event.KindOpen, Mode: "filtered", Names: []string{"passwd"}}}}},
		{BootNS: 5 * second, Event: open("/etc/passwd")},
	} {
		rec.Seq = uint64(i + 1)
		if rec.Event != nil {
			rec.Event.BootNS, rec.Event.TimeNS = rec.BootNS, start+int64(rec.BootNS)
		}
		if err := w.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestRun(t *testing.T) {
	res, err := backtest.Run(recording(t), func(f ruleset.Facts) (*ruleset.Set, error) {
		schema, err := ruleset.NewSchema()
		if err != nil {
			return nil, err
		}
		set, report, err := ruleset.Load(ruleset.Config{Schema: schema, Facts: f, OwnRatesOnly: true}, []ruleset.File{{Name: "x.policy", Data: []byte(`
rules:
  - {id: passwd, expression: open.file.path == "/etc/passwd"}
  - {id: shadow, expression: open.file.path == "/etc/shadow"}
  - {id: bound, expression: bind.addr.port == 80}
`)}})
		if err == nil && report.Failed() {
			err = fmt.Errorf("%+v", report.Problems)
		}
		return set, err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		matches, tried uint64
		collected      bool
		coverage       string
	}{
		"passwd": {2, 2, true, "1-4 all, 4-5 all, "},
		"shadow": {1, 1, true, "1-4 all, 4-5 part, "},
		"bound":  {0, 0, false, "1-4 none, 4-5 none, "},
	}
	if res.Events != 3 || len(res.Rules) != len(want) {
		t.Fatalf("got %+v", res)
	}
	for _, r := range res.Rules {
		w, got := want[r.ID], ""
		for _, c := range r.Coverage {
			got += fmt.Sprintf("%d-%d %s, ", (c.From-start)/1e9, (c.To-start)/1e9, c.Coverage)
		}
		if r.Matches != w.matches || r.Tried != w.tried || r.Collected != w.collected || got != w.coverage {
			t.Errorf("%s: got %+v (%s), want %+v", r.ID, r, got, w)
		}
	}
	if _, err := backtest.Run(bytes.NewReader([]byte("no recording")), nil); err == nil {
		t.Error("nonsense is played")
	}
}
