package format_test

import (
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/format"
	"github.com/clewsec/clew/rules"
)

func TestExpression(t *testing.T) {
	long := strings.Repeat("a", 60)
	for in, want := range map[string]string{
		`exec.uid == 1 && exec.gid == 2 || exec.pid == 3`:             `exec.uid == 1 && (exec.gid == 2 || exec.pid == 3)`,
		`exec.uid==1 and exec.gid==2`:                                 `exec.uid == 1 && exec.gid == 2`,
		"exec.uid == 1\n  && exec.gid == 2":                           "exec.uid == 1\n  && exec.gid == 2",
		`not (exec.uid == 1)`:                                         `!(exec.uid == 1)`,
		`exec.comm == "` + long + `" and exec.comm != "` + long + `"`: "exec.comm == \"" + long + "\"\n&& exec.comm != \"" + long + `"`,
	} {
		got, err := format.Expression(in)
		if err != nil || got != want {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", in, got, err, want)
			continue
		}
		if again, err := format.Expression(got); err != nil || again != got {
			t.Errorf("%s: not stable: %s, %v", got, again, err)
		}
	}
	if _, err := format.Expression("exec.uid =="); err == nil {
		t.Error("nonsense is formatted")
	}
}

const before = `# A policy.
version: 1.0.0
rules:
  - id: plain
    expression: exec.uid == 1 and exec.gid == 2 # beside
    # below
    silent: true

  - id: quoted
    expression: "exec.uid == 1 && exec.gid == 2 || exec.comm == \"x\""
    actions:
      - filter: exec.uid == 0
        log: {level: info}
  - expression: >-
      exec.uid == 1 or
      exec.gid == 2 && exec.pid == 3

    id: folded
  - {id: flow, expression: exec.uid == 1 and exec.gid == 2}
  - id: broken
    expression: exec.uid == and
watch:
  - id: w
    allow:
      - condition: process.uid == 1 or process.gid == 2 and process.comm == "x"
`

const after = `# A policy.
version: 1.0.0
rules:
  - id: plain
    expression: | # beside
      exec.uid == 1 && exec.gid == 2
    # below
    silent: true

  - id: quoted
    expression: |
      exec.uid == 1 && (exec.gid == 2 || exec.comm == "x")
    actions:
      - filter: exec.uid == 0
        log: {level: info}
  - expression: |
      exec.uid == 1 || (exec.gid == 2 && exec.pid == 3)

    id: folded
  - {id: flow, expression: exec.uid == 1 and exec.gid == 2}
  - id: broken
    expression: exec.uid == and
watch:
  - id: w
    allow:
      - condition: |
          process.uid == 1 || (process.gid == 2 && process.comm == "x")
`

func TestFile(t *testing.T) {
	for _, in := range []string{before, after} {
		got, err := format.File(ruleset.File{Name: "x.policy", Data: []byte(in)})
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != after {
			t.Errorf("got\n%s", got)
		}
	}
}

// TestShipped holds that the shipped rules are formatted.
func TestShipped(t *testing.T) {
	files, err := ruleset.ReadFiles(rules.FS, ".", "rules")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		got, err := format.File(f)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(f.Data) {
			t.Errorf("%s: want\n%s", f.Name, got)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add(before)
	f.Add("expression: a\n b == 1 or c\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := format.File(ruleset.File{Name: "x.policy", Data: []byte(text)})
		if err != nil {
			return
		}
		again, err := format.File(ruleset.File{Name: "x.policy", Data: got})
		if err != nil || string(again) != string(got) {
			t.Errorf("%q: not stable: %q, %q, %v", text, got, again, err)
		}
	})
}
