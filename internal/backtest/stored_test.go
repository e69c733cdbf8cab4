package backtest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/clewsec/clew/internal/backtest"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/store"
	"github.com/clewsec/clew/internal/store/sqlite"
	"github.com/clewsec/clew/internal/stream"
	"github.com/clewsec/clew/internal/testkit/streamtest"
	"github.com/clewsec/clew/rules"
)

// ingest stores what an agent that runs set keeps of a stream.
func ingest(t testing.TB, st store.Store, agent string, set *ruleset.Set, recs []*event.StreamRecord, batch int) {
	t.Helper()
	cfg, err := pipeline.Standard(set)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var run uint64
	var pending []*event.SpoolRecord
	flush := func() {
		if len(pending) == 0 {
			return
		}
		b := &store.Batch{ID: fmt.Sprintf("%x-%d", run, pending[0].Seq), Agent: agent, Run: run, FirstSeq: pending[0].Seq, LastSeq: pending[len(pending)-1].Seq, Records: pending}
		if _, err := st.Append(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		pending = nil
	}
	for _, rec := range recs {
		own := new(event.StreamRecord)
		if err := event.ConsumeStreamRecord(event.AppendStreamRecord(nil, rec), own); err != nil {
			t.Fatal(err)
		}
		if own.RunStart != nil {
			run, own.RunStart.HostID = own.RunStart.Run, agent
		}
		err := p.Push(own, func(out *event.SpoolRecord) error {
			kept := new(event.SpoolRecord)
			if err := event.ConsumeSpoolRecord(event.AppendSpoolRecord(nil, out), kept); err != nil {
				return err
			}
			if pending = append(pending, kept); len(pending) == batch {
				flush()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	flush()
}

func openStore(t testing.TB) store.Store {
	t.Helper()
	st, err := sqlite.Open(context.Background(), sqlite.Config{Dir: t.TempDir()}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// outcome is what must not depend on where the events come from.
type outcome struct {
	ID              string
	Matches         uint64
	Signals         uint64
	First, Last     int64
	Examples        []string
	Status          ruleset.Status
	CollectedAtAll  bool
	MatchesPerAgent map[string]uint64
}

func outcomes(res *backtest.Result) (out []outcome) {
	for i := range res.Rules {
		r := &res.Rules[i]
		out = append(out, outcome{r.ID, r.Matches, r.Signals, r.First, r.Last, r.Examples, r.Status, r.Collected, r.Hosts})
	}
	return out
}

// bothWays evaluates rules on a stream as a recording, and stored by an agent
// that runs them itself.
func bothWays(t *testing.T, load backtest.Load, recs []*event.StreamRecord) (recorded, stored *backtest.Result) {
	t.Helper()
	recorded, err := backtest.Run(write(t, recs), load, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := load(ruleset.Facts{}, false)
	if err != nil {
		t.Fatal(err)
	}
	st := openStore(t)
	ingest(t, st, stream.HostID(recs[0].RunStart), set, recs, 50)
	stored, err = backtest.Stored(context.Background(), backtest.Config{Store: st, Load: load, Now: time.Now}, backtest.Request{From: recorded.From, To: recorded.To + 1})
	if err != nil {
		t.Fatal(err)
	}
	if stored.UnknownProcesses != 0 {
		t.Errorf("%d events have no process", stored.UnknownProcesses)
	}
	return recorded, stored
}

// allKinds is a plan that lets through every kind.
func allKinds() *event.FilterPlan {
	var p kfilter.Plan
	for k := range p.Kinds {
		p.Kinds[k].Mode = kfilter.All
	}
	return p.Record()
}

// story is a stream with lineage, changes of users and groups of control, and
// several things that rules over several events look for.
func story(t testing.TB) []*event.StreamRecord {
	t.Helper()
	b, init := streamtest.New()
	setuid := func(p *streamtest.Proc, uid uint32) {
		b.Records = append(b.Records, &event.StreamRecord{BootNS: b.Records[len(b.Records)-1].BootNS + 1, Event: &event.Event{
			Kind: event.KindSetuid, PID: p.PID, TID: p.PID, StartNS: p.Start, Setuid: &event.Setuid{UID: uid, EUID: uid, FSUID: uid},
		}})
	}
	moved := func(p *streamtest.Proc, cgroup string) {
		b.Records = append(b.Records, &event.StreamRecord{BootNS: b.Records[len(b.Records)-1].BootNS + 1, Event: &event.Event{
			Kind: event.KindCgroupWrite, PID: 1, TID: 1, StartNS: 1, CgroupWrite: &event.CgroupWrite{PID: p.PID, MovedStartNS: p.Start, Cgroup: cgroup, CgroupID: 9},
		}})
	}
	sshd := b.Spawn(init, "/usr/sbin/sshd", nil, streamtest.Setsid)
	for i := range 300 {
		sh := b.Spawn(sshd, "/bin/bash", nil, streamtest.Setsid)
		if i%3 == 0 {
			setuid(sh, 1000)
		}
		if i%7 == 0 {
			moved(sh, "/docker/"+strings.Repeat("ab", 32))
		}
		b.Spawn(sh, "/usr/bin/curl", []string{"http://x"})
		worker := b.Fork(sh)
		b.Exec(worker, "/bin/tar", []string{"xf", "x"})
		b.Write(worker, fmt.Sprintf("/etc/x%d", i%5))
		b.Read(worker, "/etc/shadow")
		b.Connect(worker, "192.0.2.1:443")
		b.Chmod(worker, "/usr/bin/x", 0o4755)
		b.Records = append(b.Records, &event.StreamRecord{BootNS: b.Records[len(b.Records)-1].BootNS + 1, Event: &event.Event{
			Kind: event.KindSignal, PID: worker.PID, TID: worker.PID, StartNS: worker.Start,
			SignalSent: &event.SignalSent{Type: 9, Target: event.Target{PID: sh.PID, StartNS: sh.Start}},
		}}, &event.StreamRecord{BootNS: b.Records[len(b.Records)-1].BootNS + 2, Event: &event.Event{
			Kind: event.KindCapset, PID: worker.PID, TID: worker.PID, StartNS: worker.Start, Capset: &event.Capset{CapEffective: 1 << 21},
		}})
		b.Exit(worker, 0)
		if i%2 == 0 {
			b.Exit(sh, int64(i%4))
		}
	}
	// The plan comes after the start of the run.
	recs := slices.Insert(b.Records, 1, &event.StreamRecord{BootNS: b.Records[0].BootNS, FilterPlan: allKinds()})
	for i, r := range recs {
		r.Seq = uint64(i + 1)
		if r.Event != nil {
			r.Event.BootNS = r.BootNS
		}
	}
	return recs
}

const storyRules = `
rules:
  - {id: download, expression: exec.file.name == "curl"}
  - {id: download_below_ssh, expression: 'exec.file.name == "curl" && process.ancestors.file.name == "sshd" && process.parent.file.name == "bash"'}
  - {id: of_a_user, expression: 'exec.file.name == "curl" && process.parent.uid == 1000'}
  - {id: in_container, expression: 'exec.file.name == "tar" && container.id != ""'}
  - {id: parent_in_container, expression: 'exit.code >= 0 && process.parent.container.id != ""'}
  - {id: failed, expression: exit.code > 0}
  - {id: seldom, expression: exit.code >= 0, every: 100ms}
  - {id: often, expression: exec.file.path =~ "/bin/*"}
  - {id: killed, expression: 'signal.type == 9 && signal.target.file.name == "bash" && signal.target.parent.file.name == "sshd"'}
  - {id: raised, expression: capset.cap_effective > 0}
  - {id: ended_raised, expression: 'exit.code == 0 && process.cap_effective & CAP_SYS_ADMIN > 0'}
  - {id: became, expression: setuid.uid == 1000}
  - {id: etc, expression: 'open.file.path =~ "/etc/**" && open.flags & O_WRONLY > 0'}
  - {id: shadow, expression: open.file.path == "/etc/shadow"}
  - {id: bits, expression: 'chmod.file.path =~ "/usr/**"'}
  - {id: peer, expression: connect.addr.port == 443}
  - {id: in_a_row, sequence: {within: 1s, by: process, steps: ['exec.file.name == "tar"', exit.code == 0]}}
  - {id: many, expression: exec.file.name == "bash", threshold: {count: 10, within: 1m, by: host}}
  - {id: different, expression: exec.file.path != "", threshold: {count: 3, within: 1m, by: host, distinct: exec.file.path}}
  - {id: stays, expression: exec.file.name == "bash", absence: {of: exit.code >= 0, within: 5ms, by: process}}
`

// TestBothWays holds that a stream gives the same matches as a recording and
// out of a store, where the agent kept what the rules matched.
func TestBothWays(t *testing.T) {
	recorded, stored := bothWays(t, compile(t, storyRules), story(t))
	if d := cmp.Diff(outcomes(recorded), outcomes(stored)); d != "" {
		t.Errorf("-recorded +stored:\n%s", d)
	}
	for _, r := range stored.Rules {
		if r.Matches == 0 {
			t.Errorf("%s matches nothing", r.ID)
		}
	}
	// What the agent keeps of each kind decides how much a number says.
	for id, want := range map[string]backtest.Bound{
		"download": backtest.Exact, "etc": backtest.Exact, "bits": backtest.Exact, "shadow": backtest.AtLeast, "peer": backtest.AtLeast,
	} {
		if r := rulesByID(stored)[id]; r.Bound != want || (want == backtest.Exact) != (r.Shares[backtest.All] == 1) {
			t.Errorf("%s: %s, %v, want %s", id, r.Bound, r.Shares, want)
		}
		if r := rulesByID(recorded)[id]; r.Bound != backtest.Exact {
			t.Errorf("%s in the recording: %s, %v", id, r.Bound, r.Shares)
		}
	}
}

// TestVariables does the same with a rule that leaves something behind for
// another, where the events of both are kept, and with rates that depend on
// what matched before.
func TestVariables(t *testing.T) {
	recorded, stored := bothWays(t, compile(t, `
rules:
  - id: unpacks
    expression: exec.file.name == "tar"
    silent: true
    actions: [{set: {name: unpacked, value: true, scope: process}}]
  - {id: unpacked, expression: 'exit.code == 0 && ${process.unpacked} == true'}
  - {id: other, expression: 'exit.code >= 0 && ${process.unpacked} == false', every: 1s}
`), story(t))
	if d := cmp.Diff(outcomes(recorded), outcomes(stored)); d != "" {
		t.Errorf("-recorded +stored:\n%s", d)
	}
	// The stream takes 3.5 s: a burst of 40 and 10 a second, or one a second.
	for id, want := range map[string][2]uint64{"unpacks": {300, 0}, "unpacked": {300, 74}, "other": {150, 4}} {
		if r := rulesByID(stored)[id]; r.Matches != want[0] || r.Signals != want[1] {
			t.Errorf("%s: %d matches, %d signals, want %v", id, r.Matches, r.Signals, want)
		}
	}
}

// TestDemo does the same with the shipped rules and a real recording.
func TestDemo(t *testing.T) {
	f, err := os.Open("../demo/demo.clewrec")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sr, err := stream.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer sr.Close()
	var recs []*event.StreamRecord
	for {
		rec, err := sr.Next()
		if err != nil {
			break
		}
		recs = append(recs, rec)
	}
	files, err := ruleset.ReadFiles(rules.FS, ".", "shipped")
	if err != nil {
		t.Fatal(err)
	}
	recorded, stored := bothWays(t, backtest.Compile(files), recs)
	if d := cmp.Diff(outcomes(recorded), outcomes(stored)); d != "" {
		t.Errorf("-recorded +stored:\n%s", d)
	}
	if !stored.Matched() {
		t.Error("nothing matches")
	}
}

// TestWindow begins in the middle: processes are as they were then, also
// where they changed before, or were started long before.
func TestWindow(t *testing.T) {
	recs := story(t)
	load := compile(t, storyRules)
	st := openStore(t)
	agent := stream.HostID(recs[0].RunStart)
	ingest(t, st, agent, nil, recs, 64)
	cfg := backtest.Config{Store: st, Load: load, Now: time.Now}
	run := func(from, to int64) *backtest.Result {
		t.Helper()
		res, err := backtest.Stored(context.Background(), cfg, backtest.Request{From: from, To: to})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	first := streamtest.T0
	last := first + int64(recs[len(recs)-1].BootNS) + 1
	whole := run(first, last)
	sum := map[string]uint64{}
	var events uint64
	const parts = 13
	for i := range int64(parts) {
		res := run(first+(last-first)*i/parts, first+(last-first)*(i+1)/parts)
		events += res.Events
		for _, r := range res.Rules {
			sum[r.ID] += r.Matches
		}
	}
	if events != whole.Events {
		t.Errorf("%d events in parts, %d at once", events, whole.Events)
	}
	for _, r := range whole.Rules {
		if strings.Contains(" in_a_row many different stays seldom ", " "+r.ID+" ") {
			continue // they look over the edges of a part
		}
		if sum[r.ID] != r.Matches {
			t.Errorf("%s: %d matches in parts, %d at once", r.ID, sum[r.ID], r.Matches)
		}
	}
}

// TestHosts keeps what rules count apart by host, and finds hosts by name and
// id.
func TestHosts(t *testing.T) {
	load := compile(t, `
rules:
  - {id: three, expression: exec.file.name == "x", threshold: {count: 3, within: 1h, by: host}}
  - {id: here, expression: 'exec.file.name == "x" && event.hostname == "two"'}
`)
	st := openStore(t)
	agents := []string{"3f1c0c3e-6e1e-4c8f-9a51-0d2b7f5f2f11", "3f1c0c3e-6e1e-4c8f-9a51-0d2b7f5f2f12"}
	for i, name := range []string{"one", "two"} {
		b, init := streamtest.New()
		b.Records[0].RunStart.Hostname = name
		for range 2 + i {
			b.Spawn(init, "/bin/x", nil)
		}
		ingest(t, st, agents[i], nil, b.Records, 100)
	}
	cfg := backtest.Config{Store: st, Load: load, Now: time.Now}
	for host, want := range map[string]string{"": "one two three:1 here:3", "one": "one three:0 here:0", agents[1]: "two three:1 here:3"} {
		res, err := backtest.Stored(context.Background(), cfg, backtest.Request{From: streamtest.T0, To: streamtest.T0 + 1e10, Host: host})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range res.Hosts {
			got = append(got, h.Name)
		}
		for _, r := range res.Rules {
			got = append(got, fmt.Sprintf("%s:%d", r.ID, r.Matches))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("host %q: got %s, want %s", host, s, want)
		}
	}
	_, err := backtest.Stored(context.Background(), cfg, backtest.Request{From: streamtest.T0, To: streamtest.T0 + 1, Host: "three"})
	var unknown *backtest.HostError
	if !errors.As(err, &unknown) || !slices.Equal(unknown.Known, []string{"one", "two"}) {
		t.Errorf("error %v", err)
	}
	// A time in which there was no agent.
	res, err := backtest.Stored(context.Background(), cfg, backtest.Request{From: 1e9, To: 2e9})
	if err != nil || len(res.Hosts) != 0 || len(res.Rules) != 2 || res.Rules[0].Collected {
		t.Errorf("nobody there: %+v, error %v", res, err)
	}
}

// spool makes spool records of what says what was collected.
func spool(recs ...*event.SpoolRecord) []*event.SpoolRecord {
	for i, r := range recs {
		r.Seq = uint64(i + 1)
	}
	return recs
}

// TestCoverage says of each moment what was collected, and why not all.
func TestCoverage(t *testing.T) {
	const (
		agent = "3f1c0c3e-6e1e-4c8f-9a51-0d2b7f5f2f11"
		sec   = int64(1e9)
	)
	at := func(s int64) int64 { return start + s*sec }
	plan := func(s int64, kinds ...event.KindPlan) *event.SpoolRecord {
		return &event.SpoolRecord{FilterPlan: &event.FilterPlan{At: at(s), Kinds: kinds}}
	}
	lost := func(kind event.Kind, reason string, n uint64, from, to int64) *event.SpoolRecord {
		return &event.SpoolRecord{Lost: &event.Lost{Kind: kind, Reason: reason, Count: n, From: at(from), To: at(to)}}
	}
	canary := func(s int64) *event.SpoolRecord {
		return &event.SpoolRecord{Canary: &event.Canary{Nonce: 1, At: at(s)}}
	}
	all := func(k event.Kind) event.KindPlan { return event.KindPlan{Kind: k, Mode: "all"} }
	st := openStore(t)
	for i, recs := range [][]*event.SpoolRecord{
		// From 100 to 400; another plan from 200 on; the agent is killed.
		spool(&event.SpoolRecord{RunStart: &event.RunStart{Run: 1, HostID: agent, Hostname: "h", At: at(100)}},
			plan(101, all(event.KindExec), event.KindPlan{Kind: event.KindOpen, Mode: "filtered", Names: []string{"a", "b", "c", "d"}, FlagsAny: kfilter.OpenWrite}),
			plan(200, all(event.KindExec), all(event.KindOpen), all(event.KindChmod)),
			lost(event.KindExec, "ring_full_critical", 3, 150, 152), lost(event.KindExec, "ring_full_critical", 4, 153, 154), lost(event.KindOpen, "ring_full_bulk", 9, 160, 161),
			canary(398)),
		// From 500 on; nobody knows the plan; still there.
		spool(&event.SpoolRecord{RunStart: &event.RunStart{Run: 2, HostID: agent, Hostname: "h", At: at(500)}}, lost(0, "agent_down", 0, 400, 500), canary(950)),
	} {
		b := &store.Batch{ID: fmt.Sprint(i), Agent: agent, Run: uint64(i + 1), FirstSeq: 1, LastSeq: uint64(len(recs)), Records: recs}
		if _, err := st.Append(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	load := compile(t, `
rules:
  - {id: exec, expression: exec.file.name == "x"}
  - {id: named, expression: open.file.name == "a"}
  - {id: etc, expression: 'open.file.path == "/etc/a" && open.flags & (O_WRONLY|O_RDWR) != 0'}
  - {id: other, expression: open.file.name == "e"}
  - {id: mode, expression: 'chmod.file.path in ["/etc/a", ~"/usr/**"]'}
  - {id: anywhere, expression: 'chmod.file.path == "/etc/a" || chmod.file.path == "/tmp/a"'}
  - {id: unlinked, expression: unlink.file.path == "/etc/a"}
  - {id: both, sequence: {within: 1s, steps: [exec.file.name == "x", unlink.file.path == "/etc/a"]}}
  - {id: not_followed, expression: exec.file.name == "x", absence: {of: unlink.file.path == "/etc/a", within: 1s}}
`)
	for _, c := range []struct {
		now  int64
		want map[string]string
	}{
		{1000, map[string]string{
			"exec":     "0-100 down, 100-400 all, 400-500 down, 500-1000 unknown, ",
			"named":    "0-100 down, 100-400 part, 400-500 down, 500-1000 unknown, ",
			"etc":      "0-100 down, 100-400 all, 400-500 down, 500-1000 unknown, ",
			"other":    "0-100 down, 100-200 part, 200-400 part, 400-500 down, 500-1000 unknown, ",
			"mode":     "0-100 down, 100-200 none, 200-400 all, 400-500 down, 500-1000 unknown, ",
			"anywhere": "0-100 down, 100-200 none, 200-400 part, 400-500 down, 500-1000 unknown, ",
			"unlinked": "0-100 down, 100-400 none, 400-500 down, 500-1000 unknown, ",
		}},
		{2000, map[string]string{"exec": "0-100 down, 100-400 all, 400-500 down, 500-950 unknown, 950-1000 down, "}},
	} {
		res, err := backtest.Stored(context.Background(), backtest.Config{Store: st, Load: load, Now: func() time.Time { return time.Unix(0, at(c.now)) }},
			backtest.Request{From: at(0), To: at(1000)})
		if err != nil {
			t.Fatal(err)
		}
		rules := rulesByID(res)
		for id, want := range c.want {
			if got := intervals(rules[id].Coverage); got != want {
				t.Errorf("%s at %d: got %s, want %s", id, c.now, got, want)
			}
		}
		if c.now != 1000 {
			continue
		}
		var kinds []string
		for _, iv := range res.Coverage {
			if iv.Coverage == backtest.Lost || iv.Coverage == backtest.Part {
				kinds = append(kinds, fmt.Sprintf("%s %d %s: %s", iv.Kind, iv.Lost, iv.Why, strings.Join(iv.RuleIDs, ",")))
			}
		}
		if d := cmp.Diff([]string{
			"exec 7 a ring of the sensor was full: ",
			"open 0 kept are opens for writing below watched directories; beside that, what a rule matched and what happened in hot contexts: named,other",
			"open 9 a ring of the sensor was full: ",
			"chmod 0 kept are changes below watched directories; beside that, what a rule matched and what happened in hot contexts: anywhere",
		}, kinds); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		if s := rules["exec"].Shares; s[backtest.Lost] != 0.004 || s[backtest.Down] != 0.2 || s[backtest.All] != 0.296 || s[backtest.Unknown] != 0.5 {
			t.Errorf("shares %v", s)
		}
		for id, want := range map[string]struct {
			collected bool
			bound     backtest.Bound
		}{
			"exec": {true, backtest.AtLeast}, "both": {true, backtest.AtLeast}, "not_followed": {true, backtest.Unsure}, "unlinked": {true, backtest.AtLeast},
		} {
			if r := rules[id]; r.Collected != want.collected || r.Bound != want.bound {
				t.Errorf("%s: collected %t, %s", id, r.Collected, r.Bound)
			}
		}
		// Before the second run, no unlink was collected.
		res, err = backtest.Stored(context.Background(), backtest.Config{Store: st, Load: load, Now: time.Now}, backtest.Request{From: at(0), To: at(450)})
		if err != nil {
			t.Fatal(err)
		}
		rules = rulesByID(res)
		if rules["unlinked"].Collected || rules["both"].Collected || !rules["not_followed"].Collected || rules["not_followed"].Bound != backtest.Unsure {
			t.Errorf("before the second run: %+v, %+v, %+v", rules["unlinked"], rules["both"], rules["not_followed"])
		}
	}
}

// TestKept holds what coverage says about what agents keep to what they keep.
func TestKept(t *testing.T) {
	load := compile(t, storyRules)
	recs := story(t)
	st := openStore(t)
	// The agent runs no rules: what is there is there whatever they say.
	ingest(t, st, stream.HostID(recs[0].RunStart), nil, recs, 50)
	recorded, err := backtest.Run(write(t, recs), load, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := backtest.Stored(context.Background(), backtest.Config{Store: st, Load: load, Now: time.Now}, backtest.Request{From: recorded.From, To: recorded.To + 1})
	if err != nil {
		t.Fatal(err)
	}
	fewer := 0
	for id, r := range rulesByID(stored) {
		was := rulesByID(recorded)[id]
		switch {
		case r.Bound == backtest.Exact && r.Matches != was.Matches:
			t.Errorf("%s: %d matches are said to be all of %d", id, r.Matches, was.Matches)
		case r.Bound == backtest.AtLeast && r.Matches > was.Matches:
			t.Errorf("%s: %d matches of %d", id, r.Matches, was.Matches)
		case r.Matches < was.Matches:
			fewer++
		}
	}
	if fewer == 0 {
		t.Error("everything was kept")
	}
}

// slow is a store that takes a second for each page.
type slow struct {
	backtest.Store
	clock *time.Time
	pages int
}

func (s *slow) Search(ctx context.Context, q store.Query) (store.Page, error) {
	s.pages++
	*s.clock = s.clock.Add(time.Second)
	q.Limit = 100
	return s.Store.Search(ctx, q)
}

// TestEnd ends early: because time is up, with what was found, or because the
// caller goes.
func TestEnd(t *testing.T) {
	recs := story(t)
	st := openStore(t)
	ingest(t, st, stream.HostID(recs[0].RunStart), nil, recs, 50)
	load := compile(t, storyRules)
	clock := time.Unix(0, streamtest.T0)
	store := &slow{Store: st, clock: &clock}
	cfg := backtest.Config{Store: store, Load: load, Now: func() time.Time { return clock }, MaxTime: 5 * time.Second}
	req := backtest.Request{From: streamtest.T0, To: streamtest.T0 + 100e9}
	res, err := backtest.Stored(context.Background(), cfg, req)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(res.Incomplete, "more than 5s") || store.pages != 6 || res.Events == 0 {
		t.Errorf("%q after %d pages, %d events", res.Incomplete, store.pages, res.Events)
	}
	for _, r := range res.Rules {
		if r.Bound == backtest.Exact || r.Shares[backtest.Unknown] == 0 {
			t.Errorf("%s: %s, %v", r.ID, r.Bound, r.Shares)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cfg.MaxTime = 0
	pauses := 0
	cfg.Pause = func(context.Context, time.Duration) error {
		if pauses++; pauses == 3 {
			cancel()
		}
		return nil
	}
	if _, err := backtest.Stored(ctx, cfg, req); !errors.Is(err, context.Canceled) || pauses != 3 {
		t.Errorf("after %d pauses: %v", pauses, err)
	}
	// What was done is told.
	cfg.Pause = nil
	var last backtest.Progress
	reports := 0
	cfg.Loaded = func(*ruleset.Report) error { reports++; return nil }
	cfg.Progress = func(p backtest.Progress) error {
		if p.Done < last.Done || p.Done > 1 || p.Events < last.Events || p.Host != "test-host" {
			t.Errorf("progress %+v after %+v", p, last)
		}
		last = p
		return nil
	}
	if _, err := backtest.Stored(context.Background(), cfg, req); err != nil || reports != 1 || last.Events == 0 {
		t.Errorf("%d reports, last %+v, error %v", reports, last, err)
	}
}
