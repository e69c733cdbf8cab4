package story

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
)

// TestFileFacts: what was found out about a file after an event stands at the
// file, whatever the order in which the records came.
func TestFileFacts(t *testing.T) {
	h := intrusion()
	var at event.Ref
	path := ""
	for _, r := range h.recs {
		if r.Event != nil && r.Event.Open != nil && r.Event.Open.File.Path == "/etc/cron.d/upd" {
			at, path = r.Event.Ref(), r.Event.Open.File.Path
		}
	}
	if path == "" {
		t.Fatal("the intrusion writes no such file")
	}
	facts := &event.FileFacts{
		Event: at, Field: "open.file", Hashes: []string{"sha256:abcd"}, Diff: "@@ -1 +1 @@\n+x\n",
		Metadata: &event.FileMetadata{Type: event.FileELF, Linkage: event.LinkageStatic, IsStripped: true, BuildID: "b1d"},
		Before:   &event.FileState{Mode: 0o100600, Size: 17, Hashes: []string{"sha256:old"}},
	}
	h.put(&event.SpoolRecord{FileFacts: facts})
	stories := told(t, h.agent, h.recs, Options{})
	want := map[string]string{
		"hashes": "sha256:abcd", "metadata.type": "ELF, static, stripped", "metadata.build_id": "b1d", "diff": "@@ -1 +1 @@\n+x",
		"before": "mode 0600, owner 0:0, 17 bytes, sha256:old",
	}
	found := false
	for _, n := range stories[0].Graph.Nodes {
		got := map[string]string{}
		for _, a := range n.Attributes {
			if _, field, ok := strings.Cut(a.Field, "file."); ok {
				got[field] = a.Value
			}
		}
		if got["path"] != path {
			continue
		}
		found = true
		for field, v := range want {
			if got[field] != v {
				t.Errorf("%s is %q, want %q", field, got[field], v)
			}
		}
	}
	if !found {
		t.Fatalf("the graph has no node for %s", path)
	}
	reversed := slices.Clone(h.recs)
	slices.Reverse(reversed)
	if !bytes.Equal(printed(t, told(t, h.agent, reversed, Options{})), printed(t, stories)) {
		t.Error("another order is another story")
	}
}
