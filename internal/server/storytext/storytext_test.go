package storytext

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func load(t *testing.T) *clewv1.Story {
	t.Helper()
	raw, err := os.ReadFile("../story/testdata/attack.story.json")
	if err != nil {
		t.Fatal(err)
	}
	s := &clewv1.Story{}
	if err := protojson.Unmarshal(raw, s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGolden(t *testing.T) {
	s := load(t)
	for name, got := range map[string]string{
		"attack.txt":      Text(s, Options{}),
		"attack.md":       Markdown(s, Options{}),
		"attack.list.txt": List([]*clewv1.Story{s}, Options{}),
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs (see it with -update and git diff)", path)
		}
	}
}

// TestHostileText checks that what an attacker names does not reach the
// terminal or a Markdown reader as more than text.
func TestHostileText(t *testing.T) {
	s := load(t)
	evil := "\x1b[2J\u202egnp.exe\r\n| <script>alert(1)</script> ```"
	s.Title = evil
	s.Graph.Nodes[0].Label = evil
	s.Graph.Nodes[0].Why = []string{evil}
	s.Timeline.Items[0].Text = []*clewv1.Span{{T: evil}}
	s.Recommended[0].Label = evil
	for name, got := range map[string]string{"text": Text(s, Options{}), "markdown": Markdown(s, Options{}), "list": List([]*clewv1.Story{s}, Options{})} {
		if strings.ContainsAny(got, "\x1b\r\u202e") {
			t.Errorf("%s has characters that steer a terminal", name)
		}
	}
	md := Markdown(s, Options{})
	for _, line := range strings.Split(md, "\n") {
		if strings.HasPrefix(line, "|") && strings.Contains(line, "<script>") && !strings.Contains(line, `\<script\>`) {
			t.Errorf("HTML in a table: %s", line)
		}
	}
	if !strings.Contains(md, "````") {
		t.Error("the fence ends inside the tree")
	}
}

func TestEmptyStory(t *testing.T) {
	s := &clewv1.Story{Id: "st_1", Title: "t"}
	if got := Text(s, Options{}); !strings.Contains(got, "st_1") {
		t.Errorf("got %q", got)
	}
	if got := Markdown(s, Options{}); !strings.Contains(got, "st") {
		t.Errorf("got %q", got)
	}
	if got := List(nil, Options{}); got != "No stories.\n" {
		t.Errorf("got %q", got)
	}
}
