package lint_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/lint"
	"github.com/clewsec/clew/internal/ruleset/ruletest"
)

var update = flag.Bool("update", false, "rewrite golden files")

const policy = `rules:
  - {id: good, expression: 'exec.file.path == "/bin/x" && process.file.path != "/usr/bin/dpkg"'}
  - {id: no_cases, expression: 'exec.file.path == "/bin/no"'}
  - {id: only_fires, expression: 'exec.file.path == "/bin/only"'}
  - {id: never_fires, expression: 'exec.file.path == "/bin/never"'}
  - {id: plain, expression: 'open.file.name == "*.so"'}
  - {id: plain_list, expression: 'open.file.path in ["/tmp/**", "/x"]'}
  - {id: mixed, expression: 'exec.uid == 7 && exec.gid == 7 || exec.uid == 8'}
  - {id: reversed, expression: '5s < exec.created_at'}
  - {id: two_names, expression: 'exec.file.name == "a" && exec.file.name in ["b", "c"]'}
  - {id: excluded_all, expression: 'exec.file.name in ["a", "b"] && exec.file.name not in ["a", "b"]'}
  - {id: two_numbers, expression: 'exec.uid == 1 && exec.uid == 2'}
  - {id: half_possible, expression: '(exec.uid == 1 && exec.uid == 2) || exec.uid == 3'}
  - {id: args_are_many, expression: 'exec.argv == "a" && exec.argv == "b"'}
  - {id: sequence, sequence: {within: 1s, steps: ['exec.uid == 1 && exec.uid == 2', 'exec.uid == 4']}}
  - {id: by_name, expression: 'open.file.path == "/etc/shadow" && process.file.name != "sudo"'}
  - {id: by_tmp, expression: 'open.file.path == "/etc/shadow" && process.file.path not in [~"/tmp/ours/*", "/tmp/mine/x"]'}
  - {id: by_glob, expression: 'open.file.path == "/etc/passwd" && process.file.path !~ "/tmp/**"'}
  - {id: by_folder, expression: 'open.file.path == "/etc/group" && process.file.path !~ "/var/tmp/ours/**"'}
  - {id: same, expression: 'process.file.path != "/usr/bin/dpkg" && exec.file.path == "/bin/x"'}
  - {id: narrower, expression: 'exec.file.path == "/bin/no" && exec.uid == 0'}
  - {id: narrower_but_graver, tags: {threat_score: 9}, expression: 'exec.file.path == "/bin/no" && exec.uid == 1'}
`

func cases(r *ruleset.Rule) ([]ruletest.Case, error) {
	switch r.ID {
	case "no_cases":
		return nil, nil
	case "only_fires":
		return []ruletest.Case{{Fires: true}}, nil
	case "never_fires":
		return []ruletest.Case{{}}, nil
	}
	return []ruletest.Case{{Fires: true}, {}}, nil
}

func TestRun(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	set, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "x.policy", Data: []byte(policy)}})
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed() {
		t.Fatalf("%+v", report.Problems)
	}
	findings, err := lint.Run(set, report, cases)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(f.String() + "\n")
	}
	golden := filepath.Join("testdata", "lint.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
