package ruleset

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/clewsec/clew/internal/event"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite golden files")

func schema(t testing.TB) *Schema {
	t.Helper()
	s, err := NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(t testing.TB, files ...File) (*Set, *Report) {
	t.Helper()
	set, report, err := Load(Config{
		Schema: schema(t),
		Facts:  Facts{OSID: "debian", VersionID: "12", Kernel: "6.1.0-18-amd64", Hostname: "host", Env: []string{"A=b"}, CORE: true},
	}, files)
	if err != nil {
		t.Fatal(err)
	}
	return set, report
}

// TestLoad reads each testdata/*.txtar as a set of policies and compares what a
// check prints about them.
func TestLoad(t *testing.T) {
	archives, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var files []File
			var golden []*txtar.File
			for i := range a.Files {
				f := &a.Files[i]
				if f.Name == "want.txt" || f.Name == "want.json" {
					golden = append(golden, f)
					continue
				}
				files = append(files, File{Name: f.Name, Data: f.Data})
			}
			if len(golden) == 0 {
				t.Fatal("archive has no want.txt")
			}
			_, report := load(t, files...)
			for _, g := range golden {
				var b bytes.Buffer
				write := report.WriteText
				if g.Name == "want.json" {
					write = report.WriteJSON
				}
				if err := write(&b); err != nil {
					t.Fatal(err)
				}
				if *update {
					g.Data = b.Bytes()
				} else if got := b.String(); got != string(g.Data) {
					t.Errorf("%s: got\n%s\nwant\n%s", g.Name, got, g.Data)
				}
			}
			if *update {
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestGivenMacros holds that rules can be checked by themselves with the macros
// of other policies, and that those do not get in the way.
func TestGivenMacros(t *testing.T) {
	macros := []File{{Name: "m.policy", Data: []byte("macros:\n  - {id: ONE, values: [sh]}\n  - {id: TWO, values: [x]}\nrules:\n  - {id: other, expression: exec.uid == 0}\n")}}
	files := []File{{Name: "r.policy", Data: []byte("macros:\n  - {id: TWO, values: [bash]}\nrules:\n  - {id: r, expression: exec.comm in ONE || exec.comm in TWO}\n")}}
	set, report, err := Load(Config{Schema: schema(t), Macros: macros}, files)
	if err != nil || report.Failed() || len(set.Rules()) != 1 {
		t.Fatalf("got %+v, %v", report, err)
	}
	for comm, want := range map[string]int{"sh": 1, "bash": 1, "x": 0} {
		e := &event.Event{Kind: event.KindExec, Exec: &event.Exec{}, Proc: &event.Process{Comm: comm}}
		if got := len(set.Eval(e, nil)); got != want {
			t.Errorf("%s: got %d, want %d", comm, got, want)
		}
	}
}

func TestReadFiles(t *testing.T) {
	fsys := fstest.MapFS{
		"b.policy":         {Data: []byte("rules: []\n")},
		"a/rule.yaml":      {Data: []byte("id: a\n")},
		"a/README.md":      {Data: []byte("text")},
		"a/cases/one.yaml": {Data: []byte("[]")},
		"odd.yaml":         {Data: []byte("rules: []\n")},
	}
	files, err := ReadFiles(fsys, ".", "dir")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "dir/a/rule.yaml dir/b.policy" {
		t.Errorf("got %s", got)
	}
	if files, err = ReadFiles(fsys, "odd.yaml", ""); err != nil || len(files) != 1 {
		t.Errorf("a file that is named is read whatever its name: %v, %v", files, err)
	}
	if _, err = ReadFiles(fsys, "missing", ""); err == nil {
		t.Error("a missing file is no error")
	}
	big := fstest.MapFS{"x.policy": {Data: make([]byte, MaxFileBytes+1)}}
	if _, err = ReadFiles(big, ".", ""); err == nil {
		t.Error("a huge file is read")
	}
}

func TestUnreadable(t *testing.T) {
	for text, want := range map[string]int{
		"rules: [":                     1,
		"":                             1,
		"rules: {}":                    1,
		"- a":                          1,
		"rules: [{}]":                  0,
		"macros: [{}]":                 0,
		"rulez: []":                    0,
		"rules: [17]":                  0,
		"macros: [{id: X, values: a}]": 0,
	} {
		_, report := load(t, File{Name: "x.policy", Data: []byte(text)})
		if got := len(report.Unreadable()); got != want {
			t.Errorf("%q: got %d, want %d: %v", text, got, want, report.Problems)
		}
	}
}

func TestSatisfies(t *testing.T) {
	have := version{7, 83, 0}
	for c, want := range map[string]bool{
		">=7.68": true, "< 7.71": false, ">= 7.40, < 7.90": true, ">=7.40 <7.50 || >=7.80": true,
		"7.83": true, "=7.83.0": true, "7.x": true, "~7.83": true, "~7.82": false, "^7.1": true, "!=7.83.0": false,
		">= 7.27.0-0": true, ">7.83.0": false,
	} {
		got, err := satisfies(have, c)
		if err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", c, got, err, want)
		}
	}
	for _, c := range []string{">=", "", "|| 7", "=>x", "7.1.2.3", "<>7"} {
		if _, err := satisfies(have, c); err == nil {
			t.Errorf("%q is accepted", c)
		}
	}
}

// FuzzLoad reads any bytes as a policy and as a rule's folder.
func FuzzLoad(f *testing.F) {
	archives, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range archives {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			f.Add(file.Data)
		}
	}
	f.Add([]byte("rules: &a [*a]\nmacros: *a\n"))
	s := schema(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, report, err := Load(Config{Schema: s}, []File{{Name: "x.policy", Data: data}, {Name: "x/rule.yaml", Data: data}})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := report.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		if err := report.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
	})
}
