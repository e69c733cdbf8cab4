package policies

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/clewsec/clew/internal/ruleset"
)

func TestReadWorkspace(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{
		"a.policy": 1, "sub/one/rule.yaml": 1, "sub/one/other.yaml": 1, ".git/b.policy": 1, "node_modules/c.policy": 1,
		"large.policy": ruleset.MaxFileBytes + 1,
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "z.policy")); err != nil {
		t.Fatal(err)
	}
	files, err := ReadWorkspace(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		rel, err := filepath.Rel(dir, f.Name)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rel)
	}
	if want := []string{"a.policy", "sub/one/rule.yaml"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := ReadWorkspace(filepath.Join(dir, "absent")); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
	if _, ok := ReadOne(filepath.Join(dir, "z.policy")); ok {
		t.Error("a link is read")
	}
}
