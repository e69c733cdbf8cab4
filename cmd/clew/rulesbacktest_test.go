package main

import (
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/schema"
	"github.com/clewsec/clew/internal/stream"
)

// TestBacktest evaluates rules as a person does: on a recording, and on what a
// running clew has stored of it.
func TestBacktest(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/backtest",
		Setup: func(env *testscript.Env) error {
			dir, err := os.MkdirTemp("", "clew")
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			})
			env.Setenv("DATA", dir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"recording": writeShells},
	})
}

// writeShells makes a recording: recording FILE. Within an hour from
// 2023-11-14 22:13:20 on a web server starts a shell every ten minutes, and reads
// a file. For the second half the kernel lets through opens for writing alone, and never what makes a directory.
func writeShells(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: recording FILE")
	}
	const at, minute = 1_700_000_000_000_000_000, uint64(60e9)
	plan := kfilter.Baseline()
	plan.Wants(event.KindOpen, kfilter.Kind{Mode: kfilter.All})
	less := kfilter.Baseline()
	plan.Kinds[event.KindMkdir], less.Kinds[event.KindMkdir] = kfilter.Kind{}, kfilter.Kind{}
	all, some := plan.Record(), less.Record()
	all.At, some.At = at, at+int64(30*minute)
	recs := []*event.StreamRecord{
		{BootNS: 1, RunStart: &event.RunStart{Run: 7, Seed: make([]byte, 32), Hostname: "web-1", Mode: "tracepoint", Schema: schema.Version, At: at, OffsetNS: at}},
		{BootNS: 1, FilterPlan: all},
		{BootNS: 1, Snapshot: &event.Process{PID: 1, TID: 1, StartNS: 1, Comm: "init", Source: "snapshot"}},
		{BootNS: 1, Snapshot: &event.Process{PID: 2, TID: 2, PPID: 1, StartNS: 1, Comm: "nginx", File: event.File{Path: "/usr/sbin/nginx"}, Source: "snapshot"}},
		{BootNS: 1, SnapshotEnd: &event.SnapshotEnd{Processes: 2}},
	}
	for i := range uint64(6) {
		pid, start := uint32(100+i), (10*i+5)*minute
		if start > 30*minute && some != nil {
			recs = append(recs, &event.StreamRecord{BootNS: 30 * minute, FilterPlan: some})
			some = nil
		}
		ev := func(after uint64, e event.Event) {
			e.PID, e.TID, e.StartNS, e.BootNS = pid, pid, start, start+after
			recs = append(recs, &event.StreamRecord{BootNS: start + after, Event: &e})
		}
		recs = append(recs, &event.StreamRecord{BootNS: start, Event: &event.Event{
			Kind: event.KindFork, PID: 2, TID: 2, StartNS: 1, BootNS: start, Fork: &event.Fork{Child: &event.Process{PID: pid, TID: pid, StartNS: start}},
		}})
		ev(1e6, event.Event{Kind: event.KindExec, Exec: &event.Exec{Image: &event.Process{
			PID: pid, TID: pid, PPID: 2, StartNS: start, Comm: "sh", File: event.File{Path: "/bin/sh"}, AllArgs: []string{"sh", "-c", "id"},
		}}})
		if some != nil {
			recs = append(recs, &event.StreamRecord{BootNS: start + 2e6, Event: &event.Event{
				Kind: event.KindOpen, PID: 2, TID: 2, StartNS: 1, BootNS: start + 2e6, Open: &event.Open{File: event.File{Path: "/srv/secret"}, Retval: 3},
			}})
		}
		ev(3e6, event.Event{Kind: event.KindExit, Exit: &event.Exit{}})
	}
	recs = append(recs, &event.StreamRecord{BootNS: 60 * minute, Lost: &event.Lost{
		Kind: event.KindExec, Reason: "ring_full_critical", Count: 12, From: at + int64(40*minute), To: at + int64(50*minute), Where: "kernel",
	}}, &event.StreamRecord{BootNS: 60 * minute, Canary: &event.Canary{Nonce: 1}})
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	w, err := stream.NewWriter(f)
	ts.Check(err)
	for i, r := range recs {
		r.Seq = uint64(i + 1)
		ts.Check(w.Write(r))
	}
	ts.Check(w.Close())
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]string{
		"15m": "2026-01-31T11:45:00Z", "24h": "2026-01-30T12:00:00Z", "7d": "2026-01-24T12:00:00Z", "1d12h": "2026-01-30T00:00:00Z",
		"2026-01-30": "2026-01-30T00:00:00Z", "2026-01-30T01:02:03+01:00": "2026-01-30T00:02:03Z", "0d": "", "0s": "2026-01-31T12:00:00Z",
		"": "", "7": "", "-1h": "", "d": "", "1d-1h": "", "xd": "", "99999d": "", "yesterday": "",
	} {
		got, err := parseTime(s, now)
		if (err != nil) != (want == "") || err == nil && got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q: got %v, %v, want %s", s, got, err, want)
		}
	}
}
