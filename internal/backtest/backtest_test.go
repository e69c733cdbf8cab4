package backtest_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/backtest"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/stream"
)

const start = int64(1_700_000_000_000_000_000)

// compile loads rules that have to be right.
func compile(t testing.TB, policy string) backtest.Load {
	t.Helper()
	load := backtest.Compile([]ruleset.File{{Name: "x.policy", Data: []byte(policy)}})
	_, report, err := load(ruleset.Facts{}, false)
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed() {
		t.Fatalf("%+v", report.Problems)
	}
	return load
}

// write makes a recording of records, which it numbers.
func write(t testing.TB, recs []*event.StreamRecord) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w, err := stream.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for i, rec := range recs {
		rec.Seq = uint64(i + 1)
		if err := w.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func rulesByID(res *backtest.Result) map[string]*backtest.Rule {
	out := map[string]*backtest.Rule{}
	for i := range res.Rules {
		out[res.Rules[i].ID] = &res.Rules[i]
	}
	return out
}

// intervals shows coverage in seconds since the start.
func intervals(list []backtest.Interval) (s string) {
	for _, c := range list {
		s += fmt.Sprintf("%d-%d %s, ", (c.From-start)/1e9, (c.To-start)/1e9, c.Coverage)
	}
	return s
}

// TestRecording has one process that opens a file before and after opens named
// passwd alone are collected.
func TestRecording(t *testing.T) {
	const second = 1_000_000_000
	open := func(path string, at uint64) *event.StreamRecord {
		return &event.StreamRecord{BootNS: at * second, Event: &event.Event{
			Kind: event.KindOpen, PID: 5, TID: 5, StartNS: 1, BootNS: at * second, TimeNS: start + int64(at*second), Open: &event.Open{File: event.File{Path: path}},
		}}
	}
	recording := write(t, []*event.StreamRecord{
		{BootNS: second, RunStart: &event.RunStart{Run: 1, Seed: make([]byte, 32), Hostname: "h", OffsetNS: start, At: start + second, Schema: 1}},
		{BootNS: second, FilterPlan: &event.FilterPlan{At: start + second, Kinds: []event.KindPlan{{Kind: event.KindOpen, Mode: "all"}}}},
		{BootNS: second, Snapshot: &event.Process{PID: 5, TID: 5, StartNS: 1, Comm: "x"}},
		{BootNS: second, SnapshotEnd: &event.SnapshotEnd{Processes: 1}},
		open("/etc/passwd", 2), open("/etc/shadow", 3),
		{BootNS: 4 * second, FilterPlan: &event.FilterPlan{At: start + 4*second, Kinds: []event.KindPlan{{Kind: event.KindOpen, Mode: "filtered", Names: []string{"passwd"}}}}},
		open("/etc/passwd", 5),
	})
	load := compile(t, `
rules:
  - {id: passwd, expression: open.file.path == "/etc/passwd"}
  - {id: often, expression: open.file.path == "/etc/passwd", every: 1h}
  - {id: quiet, expression: open.file.path == "/etc/passwd", silent: true}
  - {id: shadow, expression: open.file.path == "/etc/shadow"}
  - {id: bound, expression: bind.addr.port == 80}
  - {id: elsewhere, expression: open.file.path == "/etc/passwd", filters: ['os == "windows"']}
`)
	res, err := backtest.Run(recording, load, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		matches, signals, tried uint64
		bound                   backtest.Bound
		status                  ruleset.Status
		collected               bool
		coverage                string
	}{
		"passwd":    {2, 2, 2, backtest.Exact, ruleset.Loaded, true, "1-5 all, "},
		"often":     {2, 1, 2, backtest.Exact, ruleset.Loaded, true, "1-5 all, "},
		"quiet":     {2, 0, 2, backtest.Exact, ruleset.Loaded, true, "1-5 all, "},
		"shadow":    {1, 1, 1, backtest.AtLeast, ruleset.Loaded, true, "1-4 all, 4-5 part, "},
		"bound":     {0, 0, 0, backtest.AtLeast, ruleset.Loaded, false, "1-5 none, "},
		"elsewhere": {0, 0, 0, backtest.AtLeast, ruleset.Filtered, false, ""},
	}
	if res.Events != 3 || len(res.Rules) != len(want) || !res.Matched() {
		t.Fatalf("got %+v", res)
	}
	for _, r := range res.Rules {
		w, got := want[r.ID], intervals(r.Coverage)
		if r.Matches != w.matches || r.Signals != w.signals || r.Tried != w.tried || r.Bound != w.bound || r.Status != w.status || r.Collected != w.collected || got != w.coverage {
			t.Errorf("%s: got %+v (%s), want %+v", r.ID, r, got, w)
		}
	}
	r := rulesByID(res)["passwd"]
	if r.First != start+2*second || r.Last != start+5*second || len(r.Examples) != 2 || r.CostShare <= 0 {
		t.Errorf("passwd: got %+v", r)
	}
	if _, err := backtest.Run(bytes.NewReader([]byte("no recording")), nil, nil, time.Now); err == nil {
		t.Error("nonsense is played")
	}
}
