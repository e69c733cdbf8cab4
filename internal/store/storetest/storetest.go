// Package storetest is the contract of internal/store as tests. Every engine
// runs it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/store"
)

// An Opener opens the store in a place of its own, the same one each time it
// is called.
type Opener func(t testing.TB) store.Store

// Agents of the generated batches.
const (
	Agent1 = "6b1f8a52-0e57-4f6e-8a55-3f6f4d8e9c01"
	Agent2 = "b05b3c1e-77f5-4a38-9f3e-64a1f4b8a702"
)

// Epoch is the time of the first generated event.
const Epoch = int64(1_700_000_000_000_000_000)

// step is the time between generated events.
const step = int64(1_000_000)

// Events makes n events of an agent's run, numbered and timed from first on:
// execs with their nodes, opens, connects and exits, in contexts of which a few
// are busy; every tenth has a signal.
func Events(run, first uint64, n int) []*event.SpoolRecord {
	var out []*event.SpoolRecord
	spool := first * 2
	add := func(r *event.SpoolRecord) {
		r.Seq = spool
		spool++
		out = append(out, r)
	}
	for i := range uint64(n) {
		seq := first + i
		proc := event.Ref{Run: run, Seq: seq - seq%4}
		e := &event.Event{
			Run: run, Seq: seq, TimeNS: Epoch + int64(seq)*step, BootNS: seq * uint64(step),
			PID: uint32(1000 + seq/4), TID: uint32(1000 + seq/4), StartNS: proc.Seq * uint64(step), ProcID: proc,
			ContextKeys: []string{ContextKey(seq), "cgroup_6f0d"},
			Reasons:     []string{"baseline"}, UID: 33, GID: 33, EUID: 33,
		}
		switch seq % 4 {
		case 0:
			add(&event.SpoolRecord{ProcessNode: Node(proc)})
			e.Kind, e.Exec = event.KindExec, &event.Exec{SyscallPath: "./tool"}
		case 1:
			e.Kind, e.Open = event.KindOpen, &event.Open{Flags: 0x8241, SyscallPath: "data", File: event.File{
				Path: fmt.Sprintf("/var/lib/app/data/%06d.log", seq), Filesystem: "ext4", Inode: 1 << 54, Mode: 0o100644, User: "www-data", Group: "www-data",
				PathSource: "kernel", ModificationTime: Epoch, ChangeTime: Epoch}}
		case 2:
			e.Kind, e.Connect = event.KindConnect, &event.Connect{Protocol: 6, Addr: event.Address{
				IP: netip.AddrFrom4([4]byte{10, 0, byte(seq >> 8), byte(seq)}), Port: 443, Family: 2}}
		case 3:
			e.Kind, e.Exit = event.KindExit, &event.Exit{Code: int64(seq % 3)}
		}
		if seq%10 == 0 {
			e.Signals = []event.Signal{{RuleID: RuleID(seq), Title: "a rule", Type: "process", Severity: "high", Techniques: []string{"T1059.004"}}}
			e.Reasons = []string{"signal"}
		}
		add(&event.SpoolRecord{Event: e})
	}
	return out
}

// Node is the process node that generated events refer to as ref.
func Node(ref event.Ref) *event.Process {
	return &event.Process{
		ID: ref, PID: uint32(1000 + ref.Seq/4), TID: uint32(1000 + ref.Seq/4), PPID: 1, StartNS: ref.Seq * uint64(step), CreatedAt: Epoch + int64(ref.Seq)*step,
		Comm: "tool", AllArgs: []string{"./tool", "--input", fmt.Sprintf("/srv/in/%06d", ref.Seq)}, Envs: []string{"PATH", "HOME", "LANG"}, IsExec: true,
		UID: 33, GID: 33, EUID: 33, EGID: 33, FSUID: 33, FSGID: 33, AUID: 1<<32 - 1, AuditSession: 1<<32 - 1,
		User: "www-data", Group: "www-data", EUser: "www-data", EGroup: "www-data", FSUser: "www-data", FSGroup: "www-data",
		File:   event.File{Path: "/usr/bin/tool", Filesystem: "ext4", Inode: 131, Mode: 0o100755, User: "root", Group: "root", PathSource: "kernel", ModificationTime: Epoch, ChangeTime: Epoch},
		Cgroup: "/system.slice/app.service", CgroupManager: "systemd", CgroupVersion: 2, CgroupID: 4242, SID: 77, NetNS: 4026531840, MntNS: 4026531841, CWD: "/srv", Source: "runtime",
	}
}

// ContextKey is the correlation key of the generated event seq.
func ContextKey(seq uint64) string { return fmt.Sprintf("sudo_%04d", seq/4%50) }

// RuleID is the rule of the generated signal seq.
func RuleID(seq uint64) string { return fmt.Sprintf("rule_%d", seq/10%3) }

// Batch wraps records as agents do.
func Batch(agent string, run uint64, recs []*event.SpoolRecord) *store.Batch {
	first, last := recs[0].Seq, recs[len(recs)-1].Seq
	return &store.Batch{ID: fmt.Sprintf("%s-%016x-%d", agent, run, first), Agent: agent, Run: run, FirstSeq: first, LastSeq: last, Records: recs}
}

// Run holds an engine to the contract. newOpener returns an Opener of an empty
// store each time.
func Run(t *testing.T, newOpener func(t testing.TB) Opener) {
	for _, c := range []struct {
		name string
		f    func(t *testing.T, open Opener)
	}{
		{"Empty", testEmpty},
		{"Everything", testEverything},
		{"Duplicate", testDuplicate},
		{"Filters", testFilters},
		{"Pages", testPages},
		{"IDs", testIDs},
		{"Nodes", testNodes},
		{"FileFacts", testFileFacts},
		{"Replay", testReplay},
		{"Collected", testCollected},
		{"Runs", testRuns},
		{"Refused", testRefused},
		{"Cancelled", testCancelled},
		{"OutOfOrder", testOutOfOrder},
		{"Parallel", testParallel},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, newOpener(t)) })
	}
}

func closeStore(t testing.TB, s store.Store) {
	t.Helper()
	for _, err := range s.Check(context.Background()) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func mustAppend(t testing.TB, s store.Store, b *store.Batch) {
	t.Helper()
	dup, err := s.Append(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	if dup {
		t.Fatalf("batch %s: stored before", b.ID)
	}
}

func mustSearch(t testing.TB, s store.Store, q store.Query) store.Page {
	t.Helper()
	p, err := s.Search(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func seqs(p store.Page) []uint64 {
	var out []uint64
	for _, f := range p.Items {
		out = append(out, f.Event.Seq)
	}
	return out
}

// eventsOf are the events among records whose batch has been stored.
func eventsOf(recs []*event.SpoolRecord, keep func(*event.Event) bool) []uint64 {
	var out []uint64
	for _, r := range recs {
		if r.Event != nil && keep(r.Event) {
			out = append(out, r.Event.Seq)
		}
	}
	return out
}

func diff(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("%s differ (-want +got):\n%s", what, d)
	}
}

func testEmpty(t *testing.T, open Opener) {
	s := open(t)
	defer closeStore(t, s)
	ctx := context.Background()
	diff(t, "pages", store.Page{Exact: true}, mustSearch(t, s, store.Query{Count: true}))
	n, err := s.Nodes(ctx, Agent1, []event.Ref{{Run: 1, Seq: 1}})
	if err != nil || len(n) != 0 {
		t.Errorf("nodes %v, error %v", n, err)
	}
	runs, err := s.Runs(ctx)
	if err != nil || len(runs) != 0 {
		t.Errorf("runs %v, error %v", runs, err)
	}
}

// testEverything stores events, closes, opens again and reads them unchanged.
func testEverything(t *testing.T, open Opener) {
	s := open(t)
	recs := Events(7, 4, 500)
	mustAppend(t, s, Batch(Agent1, 7, recs))
	check := func(s store.Store) {
		t.Helper()
		var want, got []*event.Event
		for _, r := range Events(7, 4, 500) {
			if r.Event != nil {
				want = append(want, r.Event)
			}
		}
		for _, f := range mustSearch(t, s, store.Query{Limit: store.MaxLimit}).Items {
			if f.Agent != Agent1 {
				t.Fatalf("agent %s", f.Agent)
			}
			got = append(got, f.Event)
		}
		diff(t, "events", want, got)
		st, err := s.Stats(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if st.Events != 500 || st.Nodes != 125 || st.Bytes == 0 || st.FirstNS != Epoch+4*step || st.LastNS != Epoch+503*step {
			t.Errorf("stats %+v", st)
		}
	}
	check(s)
	closeStore(t, s)
	s = open(t)
	check(s)
	mustAppend(t, s, Batch(Agent1, 7, Events(7, 504, 100)))
	if n := len(mustSearch(t, s, store.Query{Limit: store.MaxLimit}).Items); n != 600 {
		t.Errorf("%d events after another batch", n)
	}
	closeStore(t, s)
	if _, err := s.Search(context.Background(), store.Query{}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("search in a closed store: %v", err)
	}
	if _, err := s.Append(context.Background(), Batch(Agent1, 7, Events(7, 604, 1))); !errors.Is(err, store.ErrClosed) {
		t.Errorf("append to a closed store: %v", err)
	}
}

func testDuplicate(t *testing.T, open Opener) {
	s := open(t)
	ctx := context.Background()
	for i := range 5 {
		first := uint64(4 + 100*i)
		mustAppend(t, s, Batch(Agent1, 7, Events(7, first, 100)))
	}
	again := func(s store.Store) {
		t.Helper()
		for i := range 5 {
			dup, err := s.Append(ctx, Batch(Agent1, 7, Events(7, uint64(4+100*i), 100)))
			if err != nil || !dup {
				t.Errorf("batch %d again: duplicate %v, error %v", i, dup, err)
			}
		}
		if n := len(mustSearch(t, s, store.Query{Limit: store.MaxLimit}).Items); n != 500 {
			t.Errorf("%d events, not 500", n)
		}
	}
	again(s)
	closeStore(t, s)
	s = open(t)
	again(s)
	// The same numbers of another run or agent are other records.
	mustAppend(t, s, Batch(Agent1, 8, Events(8, 4, 100)))
	mustAppend(t, s, Batch(Agent2, 7, Events(7, 4, 100)))
	closeStore(t, s)
}

func testFilters(t *testing.T, open Opener) {
	s := open(t)
	defer closeStore(t, s)
	recs := Events(7, 4, 400)
	for i := 0; i < len(recs); i += 100 {
		mustAppend(t, s, Batch(Agent1, 7, recs[i:min(i+100, len(recs))]))
	}
	mustAppend(t, s, Batch(Agent2, 9, Events(9, 10_000, 8)))
	mid := Epoch + 104*step
	for _, c := range []struct {
		name string
		q    store.Query
		keep func(*event.Event) bool
	}{
		{"agent", store.Query{Agent: Agent1}, func(*event.Event) bool { return true }},
		{"time", store.Query{From: mid, To: mid + 20*step}, func(e *event.Event) bool { return e.Seq >= 104 && e.Seq < 124 }},
		{"kinds", store.Query{Agent: Agent1, Kinds: []event.Kind{event.KindOpen, event.KindExit}}, func(e *event.Event) bool { return e.Seq%2 == 1 }},
		{"key", store.Query{Agent: Agent1, ContextKeys: []string{ContextKey(104)}}, func(e *event.Event) bool { return e.ContextKeys[0] == ContextKey(104) }},
		{"lower key", store.Query{Agent: Agent1, ContextKeys: []string{"cgroup_6f0d", "no_such"}}, func(*event.Event) bool { return true }},
		{"correlation key", store.Query{Agent: Agent1, Correlation: []string{ContextKey(104), "cgroup_6f0d"}}, func(e *event.Event) bool { return e.ContextKeys[0] == ContextKey(104) }},
		{"unknown key", store.Query{ContextKeys: []string{"no_such"}}, func(*event.Event) bool { return false }},
		{"rule", store.Query{Agent: Agent1, Rule: RuleID(10)}, func(e *event.Event) bool { return len(e.Signals) > 0 && RuleID(e.Seq) == RuleID(10) }},
		{"unknown rule", store.Query{Rule: "none"}, func(*event.Event) bool { return false }},
		{"signals", store.Query{Agent: Agent1, Signals: true}, func(e *event.Event) bool { return len(e.Signals) > 0 }},
		{"text in the event", store.Query{Text: "/data/000201.log"}, func(e *event.Event) bool { return e.Seq == 201 }},
		{"text in the node", store.Query{Text: "/srv/in/000200"}, func(e *event.Event) bool { return e.ProcID.Seq == 200 }},
		{"unknown text", store.Query{Text: "no such text"}, func(*event.Event) bool { return false }},
		{"all at once", store.Query{Agent: Agent1, From: Epoch, To: Epoch + 300*step, Kinds: []event.Kind{event.KindExec}, ContextKeys: []string{ContextKey(40)},
			Rule: RuleID(40), Signals: true, Text: "rule"}, func(e *event.Event) bool { return e.Seq == 40 || e.Seq == 240 && RuleID(240) == RuleID(40) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.q.Limit, c.q.Count = store.MaxLimit, true
			p := mustSearch(t, s, c.q)
			diff(t, "events", eventsOf(recs, c.keep), seqs(p))
			if p.Total != int64(len(p.Items)) || !p.Exact {
				t.Errorf("total %d, exact %v of %d", p.Total, p.Exact, len(p.Items))
			}
		})
	}
}

func testPages(t *testing.T, open Opener) {
	s := open(t)
	defer closeStore(t, s)
	// Many events share a time, so that a page ends between them.
	recs := Events(7, 4, 300)
	for _, r := range recs {
		if r.Event != nil {
			r.Event.TimeNS = Epoch + int64(r.Event.Seq/50)*step
		}
	}
	for i := 0; i < len(recs); i += 60 {
		mustAppend(t, s, Batch(Agent1, 7, recs[i:min(i+60, len(recs))]))
	}
	for _, text := range []string{"", "sudo_"} {
		for _, limit := range []int{7, 299, 300, 301} {
			q := store.Query{Limit: limit, Text: text, Count: true}
			seen := map[uint64]bool{}
			last := int64(0)
			for pages := 0; ; pages++ {
				p := mustSearch(t, s, q)
				if text == "" && (p.Total != 300 || !p.Exact) {
					t.Fatalf("limit %d: total %d, exact %v", limit, p.Total, p.Exact)
				}
				if len(p.Items) > limit || pages > 300 {
					t.Fatalf("limit %d: page %d of %d", limit, pages, len(p.Items))
				}
				for _, f := range p.Items {
					if seen[f.Event.Seq] || f.Event.TimeNS < last {
						t.Fatalf("limit %d: event %d comes twice or too late", limit, f.Event.Seq)
					}
					seen[f.Event.Seq], last = true, f.Event.TimeNS
				}
				if p.Next == "" {
					break
				}
				q.After = p.Next
			}
			if len(seen) != 300 {
				t.Errorf("limit %d, text %q: %d events on all pages", limit, text, len(seen))
			}
		}
	}
	for _, cursor := range []string{"x", "1.2", "1.2.x", strings.Repeat("9", 100)} {
		if _, err := s.Search(context.Background(), store.Query{After: cursor}); !errors.Is(err, store.ErrCursor) {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
}

func testIDs(t *testing.T, open Opener) {
	s := open(t)
	defer closeStore(t, s)
	for i := range 6 {
		mustAppend(t, s, Batch(Agent1, 7, Events(7, uint64(4+200*i), 200)))
	}
	id := func(agent string, run, seq uint64) store.EventID {
		return store.EventID{Agent: agent, Ref: event.Ref{Run: run, Seq: seq}}
	}
	p := mustSearch(t, s, store.Query{IDs: []store.EventID{
		id(Agent1, 7, 1100), id(Agent1, 7, 4), id(Agent1, 7, 203), id(Agent1, 7, 204), id(Agent1, 7, 203),
		id(Agent1, 7, 3), id(Agent1, 7, 1204), id(Agent1, 8, 5), id(Agent2, 7, 5)}})
	diff(t, "events", []uint64{4, 203, 204, 1100}, seqs(p))
}

func testNodes(t *testing.T, open Opener) {
	s := open(t)
	ctx := context.Background()
	mustAppend(t, s, Batch(Agent1, 7, Events(7, 4, 600)))
	ref := event.Ref{Run: 7, Seq: 8}
	// A node that comes again, here from a later run, replaces the former.
	later := Node(ref)
	later.Comm = "renamed"
	mustAppend(t, s, Batch(Agent1, 8, []*event.SpoolRecord{{Seq: 1, ProcessNode: later}}))
	check := func(s store.Store) {
		t.Helper()
		got, err := s.Nodes(ctx, Agent1, []event.Ref{ref, {Run: 7, Seq: 12}, {Run: 7, Seq: 13}, {}})
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "nodes", map[event.Ref]*event.Process{ref: later, {Run: 7, Seq: 12}: Node(event.Ref{Run: 7, Seq: 12})}, got)
		got, err = s.Nodes(ctx, Agent2, []event.Ref{ref})
		if err != nil || len(got) != 0 {
			t.Errorf("nodes of another agent: %v, error %v", got, err)
		}
	}
	check(s)
	closeStore(t, s)
	s = open(t)
	check(s)
	closeStore(t, s)
}

// testFileFacts expects facts by event, whether they come with it, later or
// before, and the younger ones where they come twice.
func testFileFacts(t *testing.T, open Opener) {
	s := open(t)
	facts := func(recSeq, run, seq uint64, field, hash string) *event.SpoolRecord {
		return &event.SpoolRecord{Seq: recSeq, FileFacts: &event.FileFacts{
			Event: event.Ref{Run: run, Seq: seq}, Field: field, Hashes: []string{hash}, Metadata: &event.FileMetadata{Type: event.FileELF, BuildID: "ab"},
			Before: &event.FileState{Mode: 0o100644, Size: 5, Hashes: []string{"old"}}, After: &event.FileState{Mode: 0o104755}, At: Epoch,
		}}
	}
	mustAppend(t, s, Batch(Agent1, 7, append(Events(7, 4, 20), facts(100, 7, 5, "open.file", "a"))))
	mustAppend(t, s, Batch(Agent1, 7, []*event.SpoolRecord{
		facts(101, 7, 9, "open.file", "b"), facts(102, 7, 9, "link.file", "c"), facts(103, 7, 500, "open.file", "early"), facts(104, 7, 5, "open.file", "younger"),
	}))
	mustAppend(t, s, Batch(Agent2, 7, []*event.SpoolRecord{facts(1, 7, 5, "open.file", "other agent")}))
	closeStore(t, s)
	s = open(t)
	defer closeStore(t, s)
	got, err := s.FileFacts(context.Background(), Agent1, []event.Ref{{Run: 7, Seq: 5}, {Run: 7, Seq: 9}, {Run: 7, Seq: 6}, {Run: 8, Seq: 5}, {Run: 7, Seq: 500}, {}})
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for ref, list := range got {
		for _, f := range list {
			if f.Event != ref || f.Metadata == nil || f.Metadata.BuildID != "ab" || f.Before == nil || f.Before.Size != 5 || f.After == nil || f.After.Mode != 0o104755 {
				t.Errorf("facts of %v: %+v", ref, f)
			}
			text = append(text, fmt.Sprint(ref.Run, " ", ref.Seq, " ", f.Field, " ", f.Hashes))
		}
	}
	slices.Sort(text)
	diff(t, "facts", []string{"7 5 open.file [younger]", "7 500 open.file [early]", "7 9 link.file [c]", "7 9 open.file [b]"}, text)
}

func rare(run uint64) []*event.SpoolRecord {
	return []*event.SpoolRecord{
		{Seq: 1, RunStart: &event.RunStart{Run: run, HostID: Agent1, Hostname: "web-1", Mode: "tracepoint", At: Epoch, Seed: []byte{1, 2}}},
		{Seq: 2, FilterPlan: &event.FilterPlan{At: Epoch, Kinds: []event.KindPlan{{Kind: event.KindOpen, Mode: "filtered"}}}},
		{Seq: 3, Context: &event.Context{Key: "sudo_0001", Layer: "sudo", Priority: 48, Entity: "a to root", At: Epoch, Episodic: true}},
		{Seq: 4, ContextHot: &event.ContextHot{Key: "sudo_0001", At: Epoch, Hot: true, By: event.Ref{Run: run, Seq: 10}}},
		{Seq: 5, Link: &event.ContextLink{FromContext: "sudo_0001", ToContext: "tainted_1", Type: "file_executed", Weight: 0.9, At: Epoch, Path: "/tmp/x"}},
		{Seq: 6, Lost: &event.Lost{Kind: event.KindOpen, Reason: "ring_full_bulk", Count: 12, From: Epoch, To: Epoch + step, Where: "kernel"}},
		{Seq: 7, Canary: &event.Canary{Nonce: 5, At: Epoch + 2*step}},
	}
}

// testCollected expects filter plans and losses, with their runs, and nothing
// else.
func testCollected(t *testing.T, open Opener) {
	s := open(t)
	mustAppend(t, s, Batch(Agent1, 7, rare(7)))
	mustAppend(t, s, Batch(Agent2, 9, rare(9)))
	mustAppend(t, s, Batch(Agent1, 7, Events(7, 4, 30)))
	closeStore(t, s)
	s = open(t)
	defer closeStore(t, s)
	var got []string
	err := s.Collected(context.Background(), func(agent string, run uint64, rec *event.SpoolRecord) error {
		if (rec.FilterPlan == nil) == (rec.Lost == nil) {
			t.Errorf("record %+v", rec)
		}
		got = append(got, fmt.Sprint(agent == Agent1, run, rec.Seq))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	diff(t, "records", []string{"false 9 2", "false 9 6", "true 7 2", "true 7 6"}, got)
	end := errors.New("enough")
	if err := s.Collected(context.Background(), func(string, uint64, *event.SpoolRecord) error { return end }); !errors.Is(err, end) {
		t.Errorf("error %v", err)
	}
}

func testReplay(t *testing.T, open Opener) {
	s := open(t)
	mustAppend(t, s, Batch(Agent1, 7, rare(7)))
	mustAppend(t, s, Batch(Agent1, 7, Events(7, 4, 300)))
	closeStore(t, s)
	s = open(t)
	defer closeStore(t, s)
	var got []string
	signals := map[uint64]bool{}
	youngest := map[string]uint64{}
	err := s.Replay(context.Background(), func(agent string, rec *event.SpoolRecord) error {
		switch {
		case agent != Agent1:
			t.Errorf("agent %q", agent)
		case rec.Event != nil:
			key := rec.Event.ContextKeys[0]
			youngest[key] = max(youngest[key], rec.Event.Seq)
			if len(rec.Event.Signals) > 0 {
				signals[rec.Event.Seq] = true
			}
		case rec.RunStart != nil, rec.Context != nil, rec.ContextHot != nil, rec.Link != nil, rec.Lost != nil:
			got = append(got, fmt.Sprint(rec.Seq))
		default:
			t.Errorf("record %+v", rec)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "records", []string{"1", "3", "4", "5", "6"}, got)
	if len(signals) != 30 {
		t.Errorf("%d signals", len(signals))
	}
	want := map[string]uint64{}
	for _, r := range Events(7, 4, 300) {
		if r.Event != nil {
			want[r.Event.ContextKeys[0]] = r.Event.Seq
		}
	}
	diff(t, "youngest events", want, youngest)
	stop := errors.New("stop")
	if err := s.Replay(context.Background(), func(string, *event.SpoolRecord) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error %v of the callee is lost", err)
	}
}

func testRuns(t *testing.T, open Opener) {
	s := open(t)
	mustAppend(t, s, Batch(Agent1, 7, rare(7)))
	mustAppend(t, s, Batch(Agent1, 7, Events(7, 4, 20)))
	mustAppend(t, s, Batch(Agent2, 9, Events(9, 4, 20)))
	check := func(s store.Store) {
		t.Helper()
		runs, err := s.Runs(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "runs", []store.Run{
			{Agent: Agent1, Run: 7, Start: rare(7)[0].RunStart, FirstSeq: 1, LastSeq: 32, CanaryAt: Epoch + 2*step, Lost: 12, LastTime: Epoch + 23*step},
			{Agent: Agent2, Run: 9, FirstSeq: 8, LastSeq: 32, LastTime: Epoch + 23*step},
		}, runs)
	}
	check(s)
	closeStore(t, s)
	s = open(t)
	check(s)
	closeStore(t, s)
}

func testRefused(t *testing.T, open Opener) {
	s := open(t)
	defer closeStore(t, s)
	good := Batch(Agent1, 7, Events(7, 4, 10))
	for name, change := range map[string]func(*store.Batch){
		"no id":     func(b *store.Batch) { b.ID = "" },
		"long id":   func(b *store.Batch) { b.ID = strings.Repeat("x", store.MaxIDLen+1) },
		"no agent":  func(b *store.Batch) { b.Agent = "" },
		"backwards": func(b *store.Batch) { b.FirstSeq, b.LastSeq = b.LastSeq, b.FirstSeq },
	} {
		b := *good
		change(&b)
		if _, err := s.Append(context.Background(), &b); !errors.Is(err, store.ErrBatch) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if st, err := s.Stats(context.Background()); err != nil || st.Events != 0 {
		t.Errorf("stats %+v, error %v", st, err)
	}
	mustAppend(t, s, good)
}

// testCancelled ends calls in the middle: a batch is then stored whole or not
// at all, and can be handed in again.
func testCancelled(t *testing.T, open Opener) {
	s := open(t)
	defer closeStore(t, s)
	mustAppend(t, s, Batch(Agent1, 7, rare(7)))
	stored := 0
	for i := range 10 {
		ctx := &endingContext{Context: context.Background(), left: i, done: make(chan struct{})}
		_, err := s.Append(ctx, Batch(Agent1, 7, Events(7, uint64(1000+i*200), 200)))
		if err == nil {
			stored++
		}
		want := 200 * stored
		if n := len(mustSearch(t, s, store.Query{Limit: store.MaxLimit}).Items); n != want {
			t.Fatalf("call %d: error %v, %d events, not %d", i, err, n, want)
		}
	}
	for i := range 10 {
		if _, err := s.Append(context.Background(), Batch(Agent1, 7, Events(7, uint64(1000+i*200), 200))); err != nil {
			t.Fatalf("batch %d again: %v", i, err)
		}
	}
	if n := len(mustSearch(t, s, store.Query{Limit: store.MaxLimit}).Items); n != 2000 {
		t.Errorf("%d events, not 2000", n)
	}
}

// An endingContext ends after it has been looked at a number of times.
type endingContext struct {
	context.Context
	mu   sync.Mutex
	left int
	over bool
	done chan struct{}
}

func (c *endingContext) look() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left--
	if c.left < 0 && !c.over {
		c.over = true
		close(c.done)
	}
	return c.over
}

func (c *endingContext) Done() <-chan struct{} {
	c.look()
	return c.done
}

func (c *endingContext) Err() error {
	if c.look() {
		return context.Canceled
	}
	return nil
}

func testOutOfOrder(t *testing.T, open Opener) {
	s := open(t)
	defer closeStore(t, s)
	for _, i := range []int{3, 0, 4, 1, 2} {
		mustAppend(t, s, Batch(Agent1, 7, Events(7, uint64(4+100*i), 100)))
	}
	got := seqs(mustSearch(t, s, store.Query{Limit: store.MaxLimit}))
	diff(t, "events", eventsOf(Events(7, 4, 500), func(*event.Event) bool { return true }), got)
}

// testParallel reads while several agents write; every event that an Append
// has returned for is found.
func testParallel(t *testing.T, open Opener) {
	s := open(t)
	defer closeStore(t, s)
	var wg sync.WaitGroup
	for a, agent := range []string{Agent1, Agent2} {
		wg.Go(func() {
			for i := range 10 {
				run := uint64(a + 1)
				if _, err := s.Append(context.Background(), Batch(agent, run, Events(run, uint64(4+100*i), 100))); err != nil {
					t.Error(err)
					return
				}
				p, err := s.Search(context.Background(), store.Query{Agent: agent, Limit: store.MaxLimit})
				if err != nil || len(p.Items) != 100*(i+1) {
					t.Errorf("%d events, error %v, after %d batches", len(p.Items), err, i+1)
				}
			}
		})
	}
	wg.Wait()
}
