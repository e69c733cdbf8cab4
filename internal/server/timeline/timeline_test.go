package timeline

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/graph"
)

const start = int64(1763758500) * 1e9

func placed(seq uint64, at int64, label string, e event.Event) graph.Placed {
	e.Run, e.Seq, e.TimeNS = 1, seq, at
	return graph.Placed{Item: graph.Item{Agent: "a", Event: &e}, Actor: graph.Name{ID: "p_" + fmt.Sprint(seq), Label: label}, Parent: graph.Name{ID: "p_sh", Label: "sh"}}
}

func run(seq uint64, at int64, label string, sig ...event.Signal) graph.Placed {
	return placed(seq, at, label, event.Event{Kind: event.KindExec, Exec: &event.Exec{}, Signals: sig})
}

func TestRepeatsAreOneEntry(t *testing.T) {
	low := event.Signal{RuleID: "r", Title: "R", Severity: "low"}
	in := Input{Items: []graph.Placed{
		run(1, start, "sleep 1"),
		run(2, start+1e9, "id", low),
		run(3, start+2e9, "sleep 2"),
		run(4, start+59e9, "sleep 30"),
		run(5, start+61e9, "sleep 4"),
		run(6, start+62e9, "id"),
	}}
	res := Build(in)
	var got []string
	for _, e := range res.Timeline.Items {
		got = append(got, fmt.Sprintf("%s %s ×%d", e.Kind, plainText(e.Text), e.Count))
	}
	want := "event sh started sleep {n} ×3, signal sh started id ×1, event sh started sleep 4 ×1, event sh started id ×1"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	first := res.Timeline.Items[0]
	if len(first.Members) != 3 || first.Until.AsTime().UnixNano() != start+59e9 || plainText(first.Members[0].Text) != "sh started sleep 1" {
		t.Errorf("folded: %v", first)
	}
	if res.EntryOf[3] != first.Id || res.EntryOf[4] == first.Id {
		t.Errorf("entries: %v", res.EntryOf)
	}
	if c := res.Timeline.Counts; c["event"] != 5 || c["signal"] != 1 {
		t.Errorf("counts: %v", c)
	}
}

func TestGapsDecisionsAndActions(t *testing.T) {
	in := Input{
		Items: []graph.Placed{run(1, start, "a"), run(2, start+10e9, "b")},
		Gaps:  []*clewv1.Gap{{LaneId: "l_1", From: graph.Time(start + 2e9), To: graph.Time(start + 4e9), Lost: 7, Text: "7 events lost"}},
		Triage: []Triage{
			{At: start + 5e9, Actor: "ann", State: "under_review", Comment: "looking"},
			{At: start + 6e9, Actor: "ann", Comment: "nothing yet"},
		},
		Recommended: []*clewv1.RecommendedAction{{Id: "isolate_host", Label: "Isolate", Why: "it spreads", Targets: []string{"l_1", "p_1"}}},
	}
	res := Build(in)
	var kinds []string
	for _, e := range res.Timeline.Items {
		kinds = append(kinds, e.Kind)
	}
	if got := strings.Join(kinds, " "); got != "event gap triage note event action" {
		t.Errorf("got %s", got)
	}
	action := res.Timeline.Items[5]
	if action.At != nil || action.LaneId != "l_1" || len(action.NodeIds) != 1 || plainText(action.Text) != "Isolate: it spreads" {
		t.Errorf("action: %v", action)
	}
	lost, gaps, events := int64(0), 0, int64(0)
	for _, b := range res.Timeline.Histogram.Buckets {
		lost += b.Lost
		events += b.Events
		if b.Gap {
			gaps++
		}
	}
	if n := len(res.Timeline.Histogram.Buckets); n > maxBuckets || lost != 7 || gaps < 2 || events != 2 {
		t.Errorf("%d buckets, %d lost, %d with gaps, %d events", n, lost, gaps, events)
	}
}

func TestTimelineIsBounded(t *testing.T) {
	var in Input
	for i := range 3 * maxEntries {
		in.Items = append(in.Items, run(uint64(i+1), start+int64(i)*1e6, "cmd"+strings.Repeat("x", i)))
	}
	res := Build(in)
	if n := len(res.Timeline.Items); n != maxEntries+1 {
		t.Errorf("%d entries", n)
	}
	last := res.Timeline.Items[maxEntries]
	if last.Kind != "note" || last.Count != 2*maxEntries {
		t.Errorf("last: %v", last)
	}
}

func TestDescribe(t *testing.T) {
	sh := &event.Process{File: event.File{Path: "/bin/sh"}, UID: 33, User: "www-data"}
	file := func(p string) event.File { return event.File{Path: p} }
	for _, tc := range []struct {
		e    event.Event
		want string
	}{
		{event.Event{Kind: event.KindOpen, Open: &event.Open{File: file("/a"), Retval: -13}}, "sh was refused to open /a"},
		{event.Event{Kind: event.KindOpen, Open: &event.Open{File: file("/a"), Retval: -2}}, "sh tried to open /a"},
		{event.Event{Kind: event.KindOpen, Open: &event.Open{File: file("/a"), Flags: 1}}, "sh opened for writing /a"},
		{event.Event{Kind: event.KindOpen, Open: &event.Open{File: file("/a"), Created: true}}, "sh created /a"},
		{event.Event{Kind: event.KindUnlink, Unlink: &event.Unlink{File: file("/a")}}, "sh removed /a"},
		{event.Event{Kind: event.KindRename, Rename: &event.Rename{File: file("/a"), Destination: file("/b")}}, "sh renamed /a to /b"},
		{event.Event{Kind: event.KindChmod, Chmod: &event.Chmod{File: file("/a"), DestinationMode: 0o4755}}, "sh set the set-user-ID bit on /a (mode 4755)"},
		{event.Event{Kind: event.KindChmod, Chmod: &event.Chmod{File: file("/a"), DestinationMode: 0o644}}, "sh changed the mode of /a (mode 0644)"},
		{event.Event{Kind: event.KindChown, Chown: &event.Chown{File: file("/a"), DestinationUID: 0}}, "sh changed the owner of /a to uid 0"},
		{event.Event{Kind: event.KindSymlink, Symlink: &event.Symlink{File: file("/a"), Target: "b"}}, "sh made symbolic link /a to b"},
		{event.Event{Kind: event.KindMkdir, Mkdir: &event.Mkdir{File: file("/a")}}, "sh made directory /a"},
		{event.Event{Kind: event.KindSetuid, Setuid: &event.Setuid{}}, "sh became user 0, was www-data"},
		{event.Event{Kind: event.KindExit, Exit: &event.Exit{Cause: 2, Code: 9}}, "sh was ended by signal 9"},
		{event.Event{Kind: event.KindExit, Exit: &event.Exit{Code: 3}}, "sh ended with status 3"},
		{event.Event{Kind: 200}, "sh: unknown"},
	} {
		p := placed(1, start, "sh", tc.e)
		p.Object = graph.Name{ID: "o", Label: "object"}
		if got := plainText(Describe(p, sh)); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}
