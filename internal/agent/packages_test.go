package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestPackager holds that the programs of packages are told of once, and again
// when packages change: what is new, different or gone.
func TestPackager(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	const status = "Package: a\nStatus: install ok installed\nVersion: 1:2.3-4\nSource: b (2.2-1)\n"
	write("var/lib/dpkg/status", status, 0o644)
	write("var/lib/dpkg/info/a.list", "/usr/bin/run\n/usr/bin/data\n/usr/bin/absent\n/etc/x\n/usr/bin/dir\n", 0o644)
	write("usr/bin/run", "x", 0o755)
	write("usr/bin/data", "x", 0o644)
	write("usr/bin/other", "x", 0o755)
	write("etc/x", "x", 0o755)
	if err := os.Mkdir(filepath.Join(root, "usr/bin/dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := &packager{root: root}
	got := p.changed()
	if len(got) != 1 || got[0].Key != "/usr/bin/run" || got[0].Question != "package" {
		t.Fatalf("%+v", got)
	}
	want := []string{"a", "1", "2.3", "4", "0", "2.2", "1"}
	for i, v := range want {
		if got[0].Values[i] != v {
			t.Errorf("value %d is %q, want %q", i, got[0].Values[i], v)
		}
	}
	if len(got[0].Values) != 8 || got[0].Values[7] == "0" {
		t.Errorf("%q", got[0].Values)
	}
	if again := p.changed(); len(again) != 0 {
		t.Errorf("nothing has changed: %+v", again)
	}
	write("var/lib/dpkg/info/a.list", "/usr/bin/other\n", 0o644)
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(root, "var/lib/dpkg/status"), later, later); err != nil {
		t.Fatal(err)
	}
	got = p.changed()
	if len(got) != 2 || got[0].Key != "/usr/bin/other" || len(got[0].Values) != 8 || got[1].Key != "/usr/bin/run" || len(got[1].Values) != 0 {
		t.Errorf("%+v", got)
	}
}
