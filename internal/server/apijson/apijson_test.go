package apijson

import (
	"strings"
	"testing"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

func TestMarshal(t *testing.T) {
	m := &clewv1.StoryVersion{Id: "st_1", Version: "a b"}
	got, err := Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"id":"st_1","version":"a b"}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	got, err = Marshal(&clewv1.Entry{Id: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"until":null`, `"nodeIds":[]`, `"laneId":""`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
}

func TestList(t *testing.T) {
	got, err := List([]*clewv1.StoryVersion{{Id: "a"}, {Id: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"items":[{"id":"a","version":""},{"id":"b","version":""}]}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestClean(t *testing.T) {
	s := &clewv1.Story{
		Title:     "a\xffb",
		Redirects: []string{"ok", "\xfe"},
		Graph:     &clewv1.Graph{Nodes: []*clewv1.Node{{Label: "é\x80", Did: map[string]int64{"file": 1}}}},
	}
	if _, err := Marshal(s); err == nil {
		t.Fatal("bytes that are no UTF-8 were printed")
	}
	Clean(s)
	if s.Title != `a\xffb` || s.Redirects[1] != `\xfe` || s.Graph.Nodes[0].Label != `é\x80` {
		t.Errorf("got %q %q %q", s.Title, s.Redirects, s.Graph.Nodes[0].Label)
	}
	if _, err := Marshal(s); err != nil {
		t.Fatal(err)
	}
}
