package story

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/apijson"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (see it with -update and git diff)", path)
	}
}

// told folds records and draws every story.
func told(t testing.TB, agent string, recs []*event.SpoolRecord, opt Options) []*clewv1.Story {
	t.Helper()
	f, m := NewFold(Config{}), NewMemory()
	for _, r := range recs {
		f.Add(agent, r)
		m.Add(agent, r)
	}
	var out []*clewv1.Story
	for _, h := range f.Heads(0) {
		st, err := Build(f, m, h.ID(), opt)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, st)
	}
	return out
}

func text(spans []*clewv1.Span) string {
	var b strings.Builder
	for _, s := range spans {
		b.WriteString(s.T)
	}
	return b.String()
}

func printed(t testing.TB, stories []*clewv1.Story) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, s := range stories {
		raw, err := apijson.MarshalIndent(s)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(raw)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func TestAttack(t *testing.T) {
	h := intrusion()
	stories := told(t, h.agent, h.recs, Options{})
	if len(stories) != 1 {
		for _, s := range stories {
			t.Logf("%s %s", s.Id, s.Title)
		}
		t.Fatalf("%d stories, want 1", len(stories))
	}
	s := stories[0]
	t.Log(s.Title)
	t.Log(text(s.Sentence))
	golden(t, "attack.story.json", printed(t, stories))
	checkGraph(t, s, 150)

	want := "127.0.0.1 made httpd start sh; it looked around with id, uname and ps; downloaded and ran /tmp/.cache/updater; read /etc/shadow; " +
		"tried to connect to 169.254.169.254:80; set the set-user-ID bit on /tmp/.cache/rootsh; wrote /etc/cron.d/upd, which cron ran; " +
		"removed /var/log/httpd/access.log and /tmp/.cache/history."
	if got := text(s.Sentence); got != want {
		t.Errorf("sentence:\n got %s\nwant %s", got, want)
	}
	if len(s.Contexts) != 2 || len(s.Links) != 1 {
		t.Errorf("%d contexts, %d links", len(s.Contexts), len(s.Links))
	}
	raw := string(printed(t, stories))
	for _, other := range []string{"apt-get", aptKey} {
		if strings.Contains(raw, other) {
			t.Errorf("%s is in the story", other)
		}
	}
	sum := int32(0)
	for _, p := range s.ScoreParts {
		sum += p.Points
	}
	if sum != s.Score || s.Score < 60 || s.Score > 100 {
		t.Errorf("score %d, parts add up to %d", s.Score, sum)
	}
	if len(s.Gaps) != 1 || s.Gaps[0].Lost != 214 {
		t.Errorf("gaps: %v", s.Gaps)
	}
}

// checkGraph checks what holds for every graph.
func checkGraph(t *testing.T, s *clewv1.Story, budget int) {
	t.Helper()
	g := s.Graph
	nodes := map[string]*clewv1.Node{}
	lanes := map[string]bool{}
	for _, l := range g.Lanes {
		lanes[l.Id] = true
	}
	for _, l := range g.Lanes {
		if l.ParentId != "" && !lanes[l.ParentId] {
			t.Errorf("lane %s has no parent %s", l.Id, l.ParentId)
		}
	}
	for _, n := range g.Nodes {
		if nodes[n.Id] != nil {
			t.Errorf("node %s is there twice", n.Id)
		}
		nodes[n.Id] = n
		if !lanes[n.LaneId] {
			t.Errorf("node %s: no lane %s", n.Id, n.LaneId)
		}
	}
	if len(g.Nodes) > budget {
		t.Errorf("%d nodes, budget %d", len(g.Nodes), budget)
	}
	folded := int64(0)
	for _, n := range g.Nodes {
		if n.TreeParentId != "" && nodes[n.TreeParentId] == nil {
			t.Errorf("node %s: no parent %s", n.Id, n.TreeParentId)
		}
		seen := map[string]bool{}
		for at := n; at != nil; at = nodes[at.TreeParentId] {
			if seen[at.Id] {
				t.Fatalf("node %s is its own ancestor", n.Id)
			}
			seen[at.Id] = true
		}
		if n.Kind == "group" {
			folded += n.Count
			if n.FoldReason != "budget" && slices.Contains([]string{"medium", "high", "critical"}, n.Severity) {
				t.Errorf("group %s hides severity %s for the reason %s", n.Label, n.Severity, n.FoldReason)
			}
		}
	}
	hidden := int64(0)
	for _, h := range g.Hidden {
		hidden += h.Nodes
	}
	visible := int64(0)
	for _, n := range g.Nodes {
		if n.Kind != "group" && n.Kind != "ancestors" {
			visible++
		}
	}
	if visible+hidden != g.Totals.Nodes {
		t.Errorf("%d nodes shown + %d hidden, but %d in all", visible, hidden, g.Totals.Nodes)
	}
	for _, e := range g.Edges {
		if nodes[e.Source] == nil || nodes[e.Target] == nil {
			t.Errorf("edge %s %s: ends %s, %s", e.Id, e.Kind, e.Source, e.Target)
			continue
		}
		if e.Tree && nodes[e.Target].TreeParentId != e.Source {
			t.Errorf("edge %s %s says tree, but the parent of %s is %s", e.Id, e.Kind, e.Target, nodes[e.Target].TreeParentId)
		}
		if len(e.EventIds) > 5 {
			t.Errorf("edge %s has %d sample events", e.Id, len(e.EventIds))
		}
	}
	edges := map[string]bool{}
	for _, e := range g.Edges {
		edges[e.Id] = true
	}
	for _, it := range s.Timeline.Items {
		for _, id := range it.NodeIds {
			if nodes[id] == nil && !lanes[id] {
				t.Errorf("entry %s (%s) names node %s", it.Id, text(it.Text), id)
			}
		}
		for _, id := range it.EdgeIds {
			if !edges[id] {
				t.Errorf("entry %s (%s) names edge %s", it.Id, text(it.Text), id)
			}
		}
	}
	for _, sp := range s.Sentence {
		if sp.Node != "" && nodes[sp.Node] == nil {
			t.Errorf("the sentence names node %s for %q", sp.Node, sp.T)
		}
	}
	if s.Graph.EntryId != "" && nodes[s.Graph.EntryId] == nil {
		t.Errorf("no entry %s", s.Graph.EntryId)
	}
}

func TestAnyOrderAndTwice(t *testing.T) {
	h := intrusion()
	want := printed(t, told(t, h.agent, h.recs, Options{}))
	for seed := range int64(20) {
		r := rand.New(rand.NewSource(seed))
		recs := slices.Clone(h.recs)
		for range len(recs) / 2 {
			recs = append(recs, h.recs[r.Intn(len(h.recs))])
		}
		r.Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
		if got := printed(t, told(t, h.agent, recs, Options{})); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: another story", seed)
		}
	}
}

func TestMergeKeepsOldIDs(t *testing.T) {
	h := intrusion()
	f := NewFold(Config{})
	var link *event.SpoolRecord
	for _, r := range h.recs {
		if r.Link != nil {
			link = r
			continue
		}
		f.Add(h.agent, r)
	}
	heads := f.Heads(0)
	if len(heads) != 2 {
		t.Fatalf("%d stories before the link, want 2", len(heads))
	}
	for i, h := range heads {
		if changed := f.AddTriage(Triage{StoryID: h.ID(), At: int64(i + 1), Actor: "ann", State: []string{"under_review", "archived"}[i], Verdict: "malicious"}); !slices.Equal(changed, []string{h.ID()}) {
			t.Errorf("triage changed %v", changed)
		}
	}
	changed := f.Add(h.agent, link)
	if len(changed) != 2 || f.Len() != 1 {
		t.Fatalf("the link changed %v; %d stories", changed, f.Len())
	}
	for _, old := range heads {
		got, ok := f.Find(old.ID())
		if !ok || got.ID() != changed[0] {
			t.Errorf("%s leads to %v", old.ID(), got.Story)
		}
	}
	got, _ := f.Find(changed[0])
	if n := len(got.Story.Activity); n < 4 {
		t.Errorf("%d lines of history, want those of both", n)
	}
	if again := f.Add(h.agent, link); len(again) != 0 {
		t.Errorf("the same link again changed %v", again)
	}
	if _, ok := f.Find("st_000000000000"); ok {
		t.Error("an unknown id was found")
	}
	if _, err := Build(f, NewMemory(), "st_nothing", Options{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func marshal(s *clewv1.Story) ([]byte, error) { return apijson.Marshal(s) }

// large makes a story of about n events: a tree of processes at work, some of
// them with signals.
func large(n int, seed int64) *host {
	r := rand.New(rand.NewSource(seed))
	h := newHost()
	init := h.process(nil, "/sbin/init", "root", cgroupKey)
	h.context(event.Context{Key: cgroupKey, Layer: "cgroup", Priority: 10})
	h.context(event.Context{Key: shellKey, Layer: "spawned_shell", Priority: 60, Episodic: true, ParentKey: cgroupKey})
	h.keys[h.pid+1] = []string{shellKey, cgroupKey}
	live := []*event.Process{h.start(init, "/usr/bin/sh", nil, signal("root", "Shell", "high", "TA0002", "T1059"))}
	severities := []string{"info", "low", "medium", "high", "critical"}
	tactics := []string{"TA0002", "TA0003", "TA0006", "TA0007"}
	for len(h.recs) < n*3/2 {
		p := live[r.Intn(len(live))]
		var sig []event.Signal
		if r.Intn(60) == 0 {
			sig = []event.Signal{signal(fmt.Sprintf("rule%d", r.Intn(12)), "A rule", severities[r.Intn(5)], tactics[r.Intn(4)])}
		}
		switch r.Intn(9) {
		case 0, 1, 2:
			c := h.start(p, []string{"/usr/bin/sleep", "/usr/bin/id", "/usr/bin/curl", "/tmp/x1"}[r.Intn(4)], []string{fmt.Sprint(r.Intn(1000)), "-x"}, sig...)
			if len(live) < 40 {
				live = append(live, c)
			} else {
				h.exit(c, int64(r.Intn(2)))
			}
		case 3:
			live[r.Intn(len(live))] = h.become(p, "/usr/bin/python3", []string{"-c", "pass"}, sig...)
		case 4:
			h.open(p, fmt.Sprintf("/tmp/d%d/f%d.txt", r.Intn(9), r.Intn(300)), 0x241, r.Intn(2) == 0, sig...)
		case 5:
			h.open(p, fmt.Sprintf("/etc/f%d", r.Intn(40)), 0, false, sig...)
		case 6:
			h.connect(p, fmt.Sprintf("%d.0.0.%d:443", r.Intn(2)*8+1, r.Intn(200)), int64(-r.Intn(2)*111), sig...)
		case 7:
			h.unlink(p, fmt.Sprintf("/tmp/d%d/f%d.txt", r.Intn(9), r.Intn(300)), sig...)
		case 8:
			h.event(p, &event.Event{Kind: event.KindRename, Rename: &event.Rename{File: event.File{Path: fmt.Sprintf("/tmp/d1/f%d.txt", r.Intn(30))}, Destination: event.File{Path: fmt.Sprintf("/tmp/x%d", r.Intn(3))}}}, sig...)
		}
	}
	return h
}

func TestGraphInvariants(t *testing.T) {
	for seed := range int64(4) {
		h := large(80+int(seed)*200, seed)
		for _, budget := range []int{20, 60, 150} {
			st := told(t, h.agent, h.recs, Options{Budget: budget})[0]
			checkGraph(t, st, budget)
			var open []string
			for _, n := range st.Graph.Nodes {
				if n.ExpandToken != "" {
					open = append(open, n.ExpandToken)
				}
			}
			checkGraph(t, told(t, h.agent, h.recs, Options{Budget: budget, Open: open})[0], budget)
			if t.Failed() {
				t.Fatalf("seed %d, budget %d", seed, budget)
			}
		}
	}
}

func TestOpenUnfolds(t *testing.T) {
	h := intrusion()
	folded := told(t, h.agent, h.recs, Options{})[0]
	var group *clewv1.Node
	for _, n := range folded.Graph.Nodes {
		if n.Kind == "group" {
			group = n
		}
	}
	if group == nil || group.Count != 12 || group.Label != "sleep {n}.{n}" || len(group.Members) != 12 || !slices.Contains(group.Varies, "args[1]") {
		t.Fatalf("group: %v", group)
	}
	open := told(t, h.agent, h.recs, Options{Open: []string{group.ExpandToken}})[0]
	if got, want := len(open.Graph.Nodes), len(folded.Graph.Nodes)+11; got != want {
		t.Errorf("%d nodes, want %d", got, want)
	}
	ids := map[string]bool{}
	for _, n := range open.Graph.Nodes {
		ids[n.Id] = true
	}
	for _, m := range group.Members {
		if !ids[m.Id] {
			t.Errorf("member %s is not shown", m.Id)
		}
	}
}

// TestGrowthAddsAtEnds checks that what was drawn stays where it was when
// later records come.
func TestGrowthAddsAtEnds(t *testing.T) {
	h := intrusion()
	before := told(t, h.agent, h.recs, Options{})[0]
	sh := &event.Process{}
	for _, r := range h.recs {
		if r.ProcessNode != nil && r.ProcessNode.File.Path == "/tmp/.cache/updater" {
			sh = r.ProcessNode
			break
		}
	}
	h.open(sh, "/etc/passwd", 0, false)
	after := told(t, h.agent, h.recs, Options{})[0]
	place := map[string]*clewv1.Node{}
	for _, n := range after.Graph.Nodes {
		place[n.Id] = n
	}
	for _, n := range before.Graph.Nodes {
		m := place[n.Id]
		if m == nil || m.Order != n.Order || m.TreeParentId != n.TreeParentId || m.LaneId != n.LaneId {
			t.Errorf("%s moved", n.Label)
		}
	}
	if after.Graph.Version == before.Graph.Version {
		t.Error("the version did not change")
	}
}

func TestAgentDownIsAGap(t *testing.T) {
	h := intrusion()
	before := told(t, h.agent, h.recs, Options{})[0]
	h.put(&event.SpoolRecord{Lost: &event.Lost{Reason: "agent_down", From: h.now + 30e9, To: h.now + 90e9, Where: "agent"}})
	h.put(&event.SpoolRecord{Lost: &event.Lost{Reason: "agent_down", From: h.now + 900e9, To: h.now + 990e9, Where: "agent"}})
	s := told(t, h.agent, h.recs, Options{})[0]
	if len(s.Gaps) != 2 || s.Gaps[1].Reason != "agent_down" || !strings.Contains(s.Gaps[1].Text, "no agent ran") {
		t.Errorf("gaps: %v", s.Gaps)
	}
	if s.Version == before.Version {
		t.Error("the version did not change")
	}
	if n := s.Timeline.Counts["gap"]; n != 2 {
		t.Errorf("%d gaps in the timeline", n)
	}
}

// TestSentenceOfLittle checks stories without a program that was started.
func TestSentenceOfLittle(t *testing.T) {
	h := newHost()
	h.context(event.Context{Key: cgroupKey, Layer: "cgroup", Priority: 10})
	init := h.process(nil, "/sbin/init", "root", cgroupKey)
	daemon := h.process(init, "/usr/sbin/named", "root", cgroupKey)
	other := h.process(init, "/usr/sbin/other", "root", cgroupKey)
	h.open(other, "/etc/other", 0x41, true)
	h.connect(daemon, "10.1.2.3:4444", 0, signal("odd_port", "Odd port", "medium", "TA0011", "T1571"))
	h.open(daemon, "/etc/passwd", 0x241, false, signal("accounts_changed", "Accounts changed", "high", "TA0003", "T1136.001"))
	h.event(daemon, &event.Event{Kind: event.KindSetuid, Setuid: &event.Setuid{UID: 53, EUID: 53, EUser: "bind"}}, signal("user_changed", "User changed", "low", "TA0004"))
	stories := told(t, h.agent, h.recs, Options{})
	if len(stories) != 1 {
		t.Fatalf("%d stories", len(stories))
	}
	if got, want := text(stories[0].Sentence), "named connected to 10.1.2.3:4444; it emptied /etc/passwd; became bind."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	checkGraph(t, stories[0], 150)
	for _, n := range stories[0].Graph.Nodes {
		if strings.Contains(n.Label, "other") {
			t.Errorf("%s has no part in it", n.Label)
		}
	}
}

func BenchmarkBuild10k(b *testing.B) {
	h := large(10000, 1)
	f, m := NewFold(Config{}), NewMemory()
	for _, r := range h.recs {
		f.Add(h.agent, r)
		m.Add(h.agent, r)
	}
	id := f.Heads(0)[0].ID()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(f, m, id, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	h := large(10000, 1)
	b.ReportAllocs()
	for b.Loop() {
		f := NewFold(Config{})
		for _, r := range h.recs {
			f.Add(h.agent, r)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(h.recs)), "ns/record")
}

// BenchmarkHub is a session in which very many contexts are opened.
func BenchmarkHub(b *testing.B) {
	const n = 20000
	var recs []*event.SpoolRecord
	at := int64(1763758500) * 1e9
	recs = append(recs, &event.SpoolRecord{Context: &event.Context{Key: "hub", Episodic: true, At: at}}, lone("hub", at, 1, "r", "high"))
	for i := range n {
		key := fmt.Sprintf("c%d", i)
		recs = append(recs,
			&event.SpoolRecord{Context: &event.Context{Key: key, ParentKey: "hub", Episodic: true, At: at + int64(i)}},
			&event.SpoolRecord{Link: &event.ContextLink{FromContext: "hub", ToContext: key, Type: "parent", Weight: 0.9, At: at + int64(i)}})
	}
	b.ReportAllocs()
	for b.Loop() {
		f := NewFold(Config{})
		for _, r := range recs {
			f.Add(testAgent, r)
		}
		if f.Len() != 1 {
			b.Fatal(f.Len())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(recs)), "ns/record")
}
