package story

import (
	"bytes"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/event"
)

const minute = int64(time.Minute)

// lone makes a record of one signal.
func lone(key string, at int64, seq uint64, rule, severity string) *event.SpoolRecord {
	keys := []string{key}
	if key == "" {
		keys = nil
	}
	return &event.SpoolRecord{Seq: seq, Event: &event.Event{Seq: seq, Run: 7, TimeNS: at, Kind: event.KindExec, Exec: &event.Exec{}, PID: 9, StartNS: 1,
		ContextKeys: keys, Signals: []event.Signal{{RuleID: rule, Title: rule, Severity: severity, Type: "process"}}}}
}

func TestWhatIsAStory(t *testing.T) {
	const at = int64(1763758500) * 1e9
	derived := &event.SpoolRecord{Context: &event.Context{Key: "d", Layer: "cgroup", At: at}}
	derived2 := &event.SpoolRecord{Context: &event.Context{Key: "d2", Layer: "cgroup", At: at}}
	episodic := &event.SpoolRecord{Context: &event.Context{Key: "e", Layer: "sudo", At: at, Episodic: true, ParentKey: "d"}}
	episodic2 := &event.SpoolRecord{Context: &event.Context{Key: "e2", Layer: "tainted", At: at + minute, Episodic: true}}
	child := &event.SpoolRecord{Context: &event.Context{Key: "c", Layer: "daemonized", At: at + 2*minute, Episodic: true, ParentKey: "e2"}}
	link := func(from, to string, weight float64) *event.SpoolRecord {
		return &event.SpoolRecord{Link: &event.ContextLink{FromContext: from, ToContext: to, Type: "file_executed", Weight: weight, At: at + minute}}
	}
	for _, tc := range []struct {
		name string
		recs []*event.SpoolRecord
		want int
	}{
		{"nothing", nil, 0},
		{"no signal", []*event.SpoolRecord{derived, episodic, link("e", "e2", 0.9), episodic2}, 0},
		{"one low signal in a derived context", []*event.SpoolRecord{derived, lone("d", at, 1, "r", "low")}, 0},
		{"the same rule often", []*event.SpoolRecord{derived, lone("d", at, 1, "r", "low"), lone("d", at+1, 2, "r", "low")}, 0},
		{"two low rules in a derived context", []*event.SpoolRecord{derived, lone("d", at, 1, "r", "low"), lone("d", at+1, 2, "q", "info")}, 1},
		{"one medium signal in a derived context", []*event.SpoolRecord{derived, lone("d", at, 1, "r", "medium")}, 1},
		{"a signal of an actor that nothing is known about", []*event.SpoolRecord{lone("", at, 1, "r", "high")}, 1},
		{"one low signal in an episodic context", []*event.SpoolRecord{episodic, lone("e", at, 1, "r", "low")}, 1},
		{"an episode ends after half an hour", []*event.SpoolRecord{derived, lone("d", at, 1, "r", "high"), lone("d", at+31*minute, 2, "r", "high")}, 2},
		{"an episode goes on", []*event.SpoolRecord{derived, lone("d", at, 1, "r", "high"), lone("d", at+29*minute, 2, "r", "high"), lone("d", at+58*minute, 3, "r", "high")}, 1},
		{"an episodic context has no episodes", []*event.SpoolRecord{episodic, lone("e", at, 1, "r", "high"), lone("e", at+90*minute, 2, "r", "high")}, 1},
		{"a link joins", []*event.SpoolRecord{episodic, episodic2, lone("e", at, 1, "r", "high"), lone("e2", at+minute, 2, "r", "high"), link("e", "e2", 0.9)}, 1},
		{"without it they are two", []*event.SpoolRecord{episodic, episodic2, lone("e", at, 1, "r", "high"), lone("e2", at+minute, 2, "r", "high")}, 2},
		{"a link without weight joins nothing", []*event.SpoolRecord{episodic, episodic2, lone("e", at, 1, "r", "high"), lone("e2", at+minute, 2, "r", "high"), link("e", "e2", 0)}, 2},
		{"nothing is joined through a derived key", []*event.SpoolRecord{derived, episodic, episodic2, lone("e", at, 1, "r", "high"), lone("e2", at+minute, 2, "r", "high"),
			link("e", "d", 0.9), link("d", "e2", 0.9)}, 2},
		{"a derived context is not joined either", []*event.SpoolRecord{derived, derived2, lone("d", at, 1, "r", "high"), lone("d2", at, 2, "r", "high"), link("d", "d2", 0.9)}, 2},
		{"what was opened in a context that a link reached", []*event.SpoolRecord{episodic, episodic2, child, lone("e", at, 1, "r", "high"), lone("c", at+3*minute, 2, "r", "high"), link("e", "e2", 0.9)}, 1},
		{"a parent alone joins nothing", []*event.SpoolRecord{episodic2, child, lone("e2", at+3*minute, 1, "r", "high"), lone("c", at+3*minute, 2, "r", "high")}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := rand.New(rand.NewSource(1))
			for range 8 {
				f := NewFold(Config{})
				for _, rec := range tc.recs {
					f.Add(testAgent, rec)
				}
				for _, h := range f.Heads(0) {
					if _, err := Build(f, NewMemory(), h.ID(), Options{}); err != nil {
						t.Fatal(err)
					}
				}
				if got := f.Len(); got != tc.want {
					t.Fatalf("%d stories, want %d", got, tc.want)
				}
				r.Shuffle(len(tc.recs), func(i, j int) { tc.recs[i], tc.recs[j] = tc.recs[j], tc.recs[i] })
			}
		})
	}
}

func TestAddSaysWhatChanged(t *testing.T) {
	const at = int64(1763758500) * 1e9
	f := NewFold(Config{})
	f.Add(testAgent, &event.SpoolRecord{Context: &event.Context{Key: "e", At: at, Episodic: true}})
	late := f.Add(testAgent, lone("e", at+minute, 2, "r", "high"))
	if len(late) != 1 {
		t.Fatalf("changed %v", late)
	}
	version := f.Heads(0)[0].Story.Version
	if again := f.Add(testAgent, lone("e", at+minute, 2, "r", "high")); len(again) != 0 {
		t.Errorf("the same signal again changed %v", again)
	}
	// An earlier signal makes another anchor: the old id leads to the new one.
	early := f.Add(testAgent, lone("e", at, 1, "r", "high"))
	if len(early) != 2 || early[1] != late[0] || early[0] == late[0] {
		t.Fatalf("changed %v after %v", early, late)
	}
	h, ok := f.Find(late[0])
	if !ok || h.ID() != early[0] {
		t.Errorf("%s leads to %v", late[0], h.Story)
	}
	if h.Story.Version == version {
		t.Error("the version did not change")
	}
	quiet := lone("e", at+2*minute, 3, "r", "high")
	quiet.Event.Signals = nil
	if got := f.Add(testAgent, quiet); !slices.Equal(got, early[:1]) {
		t.Errorf("an event without a signal changed %v", got)
	}

	// A server that saw both in order never gave the late id out.
	g := NewFold(Config{})
	g.Add(testAgent, &event.SpoolRecord{Context: &event.Context{Key: "e", At: at, Episodic: true}})
	g.Add(testAgent, lone("e", at, 1, "r", "high"))
	g.Add(testAgent, lone("e", at+minute, 2, "r", "high"))
	if h, ok := g.Find(late[0]); !ok || h.ID() != early[0] {
		t.Errorf("another server: %s leads to %v", late[0], h.Story)
	}
}

func TestManySignalsAreBounded(t *testing.T) {
	const at = int64(1763758500) * 1e9
	var recs []*event.SpoolRecord
	for i := range 5000 {
		recs = append(recs, lone("d", at+int64(i)*1e9, uint64(i+1), fmt.Sprintf("r%d", i%2), "high"))
	}
	var want []byte
	for seed := range int64(3) {
		r := rand.New(rand.NewSource(seed))
		r.Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
		f := NewFold(Config{})
		for _, rec := range recs {
			f.Add(testAgent, rec)
			f.Add(testAgent, rec)
		}
		heads := f.Heads(0)
		if len(heads) != 1 || heads[0].Story.Counts.Signals != 5000 {
			t.Fatalf("%d stories, %v", len(heads), heads[0].Story.Counts)
		}
		if n := len(f.resolve(heads[0].ID()).signals()); n > 2*64*4 {
			t.Errorf("%d signals are kept", n)
		}
		st, err := Build(f, NewMemory(), heads[0].ID(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if !bytes.Equal(got, want) {
			t.Errorf("seed %d: another story", seed)
		}
	}
}

func TestTriage(t *testing.T) {
	const at = int64(1763758500) * 1e9
	signalAt := func(when int64, seq uint64) *event.SpoolRecord { return lone("d", when, seq, "r", "high") }
	probe := NewFold(Config{})
	id := probe.Add(testAgent, signalAt(at, 1))[0]

	steps := []Triage{
		{StoryID: id, At: at + 1, Actor: "ann", State: "under_review", Assignee: "ann", Comment: "looking"},
		{StoryID: id, At: at + 2, Actor: "bob", State: "archived", Verdict: "malicious"},
		{StoryID: id, At: at + 2, Actor: "ann", State: "open"},
	}
	for range 6 {
		f := NewFold(Config{})
		for _, s := range steps {
			f.AddTriage(s) // before the story is known
		}
		f.Add(testAgent, signalAt(at, 1))
		for _, s := range steps {
			f.AddTriage(s)
		}
		st := f.Heads(0)[0].Story
		if st.State != "archived" || st.Verdict != "malicious" || st.Assignee != "ann" || len(st.Activity) != 5 {
			t.Fatalf("state %s, verdict %s, assignee %s, %d lines", st.State, st.Verdict, st.Assignee, len(st.Activity))
		}
		f.Add(testAgent, signalAt(at+minute, 2))
		if st := f.Heads(0)[0].Story; st.State != "open" {
			t.Errorf("a signal after it was archived: %s", st.State)
		}
		f.AddTriage(Triage{StoryID: id, At: at + 3, Actor: "ann", State: "archived", Verdict: "expected_activity"})
		if st := f.Heads(0)[0].Story; st.State != "archived" {
			t.Errorf("a signal that was expected: %s", st.State)
		}
		steps[0], steps[1], steps[2] = steps[1], steps[2], steps[0]
	}
}

func TestDecayAndOrder(t *testing.T) {
	const at = int64(1763758500) * 1e9
	f := NewFold(Config{})
	f.Add(testAgent, lone("a", at, 1, "r", "medium"))
	f.Add(testAgent, lone("b", at+1, 2, "r", "critical"))
	f.Add(testAgent, lone("c", at+2, 3, "r", "medium"))
	heads := f.Heads(0)
	if heads[0].Story.Severity != "critical" || heads[1].First < heads[2].First {
		t.Errorf("order: %v", heads)
	}
	now := f.Heads(at + minute)[0].Story
	later := f.Heads(at + 5*24*60*minute)[0].Story
	if later.Score != now.Score-8 {
		t.Errorf("score %d, after 5 days %d", now.Score, later.Score)
	}
	if again := f.Heads(at + minute)[0].Story; again.Score != now.Score {
		t.Error("asking for a later time changed the story")
	}
	for _, s := range f.Heads(at + 500*24*60*minute) {
		if s.Story.Score < 1 {
			t.Errorf("score %d", s.Story.Score)
		}
	}
}

func TestForget(t *testing.T) {
	const at = int64(1763758500) * 1e9
	f := NewFold(Config{})
	f.Add(testAgent, lone("old", at, 1, "r", "high"))
	f.Add(testAgent, lone("new", at+100*minute, 2, "r", "high"))
	old := f.Heads(0)[1].ID()
	if n := f.Forget(at + 50*minute); n != 1 || f.Len() != 1 {
		t.Errorf("%d went, %d are left", n, f.Len())
	}
	if _, ok := f.Find(old); ok {
		t.Error("what was forgotten is found")
	}
	if h, ok := f.Find(f.Heads(0)[0].ID()); !ok || h.First != at+100*minute {
		t.Error("what is left is not found")
	}
}

// TestHostileRecords checks that records that no agent sends do no harm.
func TestHostileRecords(t *testing.T) {
	f, m := NewFold(Config{}), NewMemory()
	ref := event.Ref{Run: 7, Seq: 1}
	recs := []*event.SpoolRecord{
		{},
		{Event: &event.Event{}},
		{Event: &event.Event{Kind: 250, ContextKeys: []string{""}, Signals: []event.Signal{{}}}},
		{Event: &event.Event{Seq: 2, TimeNS: -1 << 63, ContextKeys: []string{"x"}, Signals: []event.Signal{{Severity: "no such", Techniques: []string{"", "\xff"}}}, ProcID: ref}},
		{Event: &event.Event{Seq: 5, TimeNS: 1 << 62, ContextKeys: []string{"x"}, Signals: []event.Signal{{RuleID: "late"}}, ProcID: ref}},
		{Event: &event.Event{Seq: 3, TimeNS: 1<<63 - 1, ContextKeys: []string{"x"}, Signals: []event.Signal{{RuleID: "\xff"}}, ProcID: ref, Open: &event.Open{File: event.File{Path: "\xff"}}}},
		{ProcessNode: &event.Process{ID: ref, ParentID: ref}},
		{ProcessNode: &event.Process{ID: event.Ref{Run: 7, Seq: 2}, ParentID: event.Ref{Run: 7, Seq: 3}, PID: 1}},
		{ProcessNode: &event.Process{ID: event.Ref{Run: 7, Seq: 3}, ParentID: event.Ref{Run: 7, Seq: 2}, PID: 2}},
		{Event: &event.Event{Seq: 4, TimeNS: 5, Kind: event.KindExec, ContextKeys: []string{"x"}, Signals: []event.Signal{{}}, ProcID: event.Ref{Run: 7, Seq: 3}}},
		{Context: &event.Context{Key: "x", ParentKey: "x", Episodic: true}},
		{Link: &event.ContextLink{FromContext: "x", ToContext: "x", Weight: 1}},
		{Link: &event.ContextLink{FromContext: "x", ToContext: "y", Weight: 1, Type: "file_scheduled", Path: "/p", Event: event.Ref{Run: 0, Seq: 4}}},
		{Context: &event.Context{Key: "y", ParentKey: "x", Episodic: true}},
		{Lost: &event.Lost{From: 1 << 62, To: -1 << 62, Count: 1<<64 - 1, Kind: 200}},
		{Lost: &event.Lost{From: 0, To: 1 << 62, Count: 1<<64 - 1}},
	}
	for _, r := range recs {
		f.Add("not a uuid", r)
		m.Add("not a uuid", r)
	}
	if f.Refused() != 3 {
		t.Errorf("%d records were refused, want 3", f.Refused())
	}
	for _, h := range f.Heads(0) {
		st, err := Build(f, m, h.ID(), Options{Budget: -5, Open: []string{"", "g_"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := marshal(st); err != nil {
			t.Error(err)
		}
		checkGraph(t, st, 20)
	}
}

// TestRandomRecords checks that order and repetition make no difference,
// whatever the records say.
func TestRandomRecords(t *testing.T) {
	const at = int64(1763758500) * 1e9
	stories, joined := 0, 0
	for seed := range int64(30) {
		r := rand.New(rand.NewSource(seed))
		key := func() string { return fmt.Sprintf("c%d", r.Intn(20)) }
		when := func() int64 { return at + int64(r.Intn(200))*minute }
		var recs []*event.SpoolRecord
		recs = append(recs, &event.SpoolRecord{RunStart: &event.RunStart{Run: 7, Hostname: "h", At: at}}, &event.SpoolRecord{RunStart: &event.RunStart{Run: 8, Hostname: "i", At: at + 1}})
		for i := range 20 {
			recs = append(recs, &event.SpoolRecord{Context: &event.Context{Key: fmt.Sprintf("c%d", i), ParentKey: key(), At: when(), Episodic: r.Intn(3) > 0, Layer: "l"}})
		}
		for i := range 40 {
			severity := []string{"info", "low", "medium", "high", "critical"}[r.Intn(5)]
			recs = append(recs, lone(key(), when(), uint64(i+1), fmt.Sprintf("r%d", r.Intn(5)), severity))
		}
		for range 10 {
			recs = append(recs, &event.SpoolRecord{Link: &event.ContextLink{FromContext: key(), ToContext: key(), Type: "t", Weight: float64(r.Intn(3)) / 2, At: when(), Path: "/p"}})
			recs = append(recs, &event.SpoolRecord{Lost: &event.Lost{Reason: "ring_full_bulk", Count: uint64(r.Intn(9)), From: when(), To: at + 200*minute}})
		}
		triage := []Triage{}
		first := NewFold(Config{})
		ids := map[string]bool{}
		for _, rec := range recs {
			for _, id := range first.Add(testAgent, rec) {
				ids[id] = true
			}
		}
		for id := range ids {
			triage = append(triage, Triage{StoryID: id, At: int64(len(id)) + at, Actor: id, State: []string{"archived", "under_review"}[int(id[5])%2], Comment: "c"})
		}
		var want []byte
		for range 12 {
			f := NewFold(Config{})
			for i, rec := range recs {
				f.Add(testAgent, rec)
				if r.Intn(2) == 0 {
					f.Add(testAgent, recs[r.Intn(i+1)])
				}
				if i < len(triage) {
					f.AddTriage(triage[i])
				}
			}
			for _, tr := range triage {
				f.AddTriage(tr)
			}
			var got bytes.Buffer
			for _, h := range f.Heads(0) {
				raw, err := marshal(h.Story)
				if err != nil {
					t.Fatal(err)
				}
				got.Write(append(raw, '\n'))
				stories++
				joined += len(h.Story.Redirects)
			}
			for id := range ids {
				if _, ok := f.Find(id); !ok && f.resolve(id) == nil {
					if _, known := f.anchor(id); !known {
						t.Fatalf("seed %d: %s leads nowhere", seed, id)
					}
				}
			}
			if want == nil {
				want = got.Bytes()
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Fatalf("seed %d:\n%s\nand\n%s", seed, got.Bytes(), want)
			}
			r.Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
			r.Shuffle(len(triage), func(i, j int) { triage[i], triage[j] = triage[j], triage[i] })
		}
	}
	if stories == 0 || joined == 0 {
		t.Errorf("%d stories, %d joined: the test tests nothing", stories, joined)
	}
	t.Logf("%d stories, %d joined", stories, joined)
}
