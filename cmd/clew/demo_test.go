package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/clewsec/clew/internal/demo"
)

func TestDemoList(t *testing.T) {
	var out bytes.Buffer
	root := newRootCmd()
	root.SetOut(&out)
	root.SetArgs([]string{"demo", "--list", "--json"})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Steps []struct{ Name, Text, Marker string }
	}
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	want := demo.Example().Steps()
	if len(doc.Steps) != len(want) {
		t.Fatalf("%d steps, want %d", len(doc.Steps), len(want))
	}
	for i, s := range doc.Steps {
		if s != struct{ Name, Text, Marker string }(want[i]) {
			t.Errorf("step %d is %+v, want %+v", i, s, want[i])
		}
	}
}

func TestDemoUsage(t *testing.T) {
	for _, args := range [][]string{{"demo", "now"}, {"demo", "--fast"}} {
		if status := run(args); status != exitUsage {
			t.Errorf("clew %v: status %d, want %d", args, status, exitUsage)
		}
	}
}

// TestDemoStage: a directory that is already there is refused before anything
// is played, and stays.
func TestDemoStage(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "keep")
	if err := os.Mkdir(keep, 0o700); err != nil {
		t.Fatal(err)
	}
	if status := run([]string{"demo", "--attack", "--root", keep}); status != exitFailure {
		t.Errorf("status %d, want %d", status, exitFailure)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
}
