package ruleset_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/ruletest"
)

// fired says for each event which rules it completes.
func fired(t *testing.T, set *ruleset.Set, events string) string {
	t.Helper()
	cases, err := ruletest.Parse([]byte("- events:\n" + events))
	if err != nil {
		t.Fatal(err)
	}
	list, err := cases[0].BuildAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, strings.ReplaceAll(ids(set.Eval(e, nil)), " ", "+"))
	}
	return strings.Join(out, ",")
}

func TestSequence(t *testing.T) {
	const policy = `
rules:
  - id: s
    sequence:
      within: 10s
      by: %s
      steps:
        - open.file.path == "/a"
        - open.file.path == "/b"
        - connect.addr.port == 80
`
	const by = `lineage: [{exec: /bin/x, pid: 5}]`
	for _, tc := range []struct{ name, by, events, want string }{
		{"in order", "process", `
    - {kind: open, file: {path: /a}, ` + by + `}
    - {kind: open, after: 5s, file: {path: /b}, ` + by + `}
    - {kind: connect, after: 5s, addr: {ip: 1.1.1.1, port: 80}, ` + by + `}
    - {kind: connect, addr: {ip: 1.1.1.1, port: 80}, ` + by + `}`, ",,s,"},
		{"too late", "process", `
    - {kind: open, file: {path: /a}, ` + by + `}
    - {kind: open, after: 5s, file: {path: /b}, ` + by + `}
    - {kind: connect, after: 5001ms, addr: {ip: 1.1.1.1, port: 80}, ` + by + `}`, ",,"},
		{"not in order", "process", `
    - {kind: open, file: {path: /b}, ` + by + `}
    - {kind: open, file: {path: /a}, ` + by + `}
    - {kind: connect, addr: {ip: 1.1.1.1, port: 80}, ` + by + `}`, ",,"},
		{"a later start carries on", "process", `
    - {kind: open, file: {path: /a}, ` + by + `}
    - {kind: open, after: 8s, file: {path: /a}, ` + by + `}
    - {kind: open, after: 1s, file: {path: /b}, ` + by + `}
    - {kind: connect, after: 8s, addr: {ip: 1.1.1.1, port: 80}, ` + by + `}`, ",,,s"},
		{"a chain that has begun is not undone by a new start", "process", `
    - {kind: open, file: {path: /a}, ` + by + `}
    - {kind: open, after: 1s, file: {path: /b}, ` + by + `}
    - {kind: open, after: 1s, file: {path: /a}, ` + by + `}
    - {kind: connect, after: 1s, addr: {ip: 1.1.1.1, port: 80}, ` + by + `}`, ",,,s"},
		{"another process", "process", `
    - {kind: open, file: {path: /a}, ` + by + `}
    - {kind: open, file: {path: /b}, lineage: [{exec: /bin/x, pid: 6}]}
    - {kind: connect, addr: {ip: 1.1.1.1, port: 80}, ` + by + `}`, ",,"},
		{"another process of the host", "host", `
    - {kind: open, file: {path: /a}, ` + by + `}
    - {kind: open, file: {path: /b}, lineage: [{exec: /bin/x, pid: 6}]}
    - {kind: connect, addr: {ip: 1.1.1.1, port: 80}, ` + by + `}`, ",,s"},
		{"another process of the container", "container", `
    - {kind: open, file: {path: /a}, lineage: [{exec: /bin/x, pid: 6, container: c}]}
    - {kind: open, file: {path: /b}, lineage: [{exec: /bin/x, pid: 7, container: c}]}
    - {kind: connect, addr: {ip: 1.1.1.1, port: 80}, ` + by + `}
    - {kind: connect, addr: {ip: 1.1.1.1, port: 80}, lineage: [{exec: /bin/x, pid: 8, container: c}]}`, ",,,s"},
		{"another process of the context", "context", `
    - {kind: open, file: {path: /a}, context: k, ` + by + `}
    - {kind: open, file: {path: /b}, context: k, lineage: [{exec: /bin/x, pid: 6}]}
    - {kind: connect, addr: {ip: 1.1.1.1, port: 80}, context: other, ` + by + `}
    - {kind: connect, addr: {ip: 1.1.1.1, port: 80}, context: k, ` + by + `}`, ",,,s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set := loadRules(t, fmt.Sprintf(policy, tc.by))
			if got := fired(t, set, tc.events); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestSequenceOfOne holds that one event is not two steps of a chain.
func TestSequenceOfOne(t *testing.T) {
	set := loadRules(t, `
rules:
  - id: s
    sequence: {within: 10s, by: process, steps: ['open.file.name == "a"', 'open.file.path == "/a"']}
`)
	const e = `
    - {kind: open, file: {path: /a}, lineage: [{exec: /bin/x, pid: 5}]}`
	if got := fired(t, set, e+e+e+e); got != ",s,s,s" && got != ",s,,s" {
		t.Errorf("got %q", got)
	}
}

func TestThreshold(t *testing.T) {
	const open = `
    - {kind: open, after: 1s, file: {path: /%s}, lineage: [{exec: /bin/x, pid: 5}]}`
	for _, tc := range []struct{ name, threshold, paths, want string }{
		{"count", "{count: 3, within: 10s, by: process}", "a a a a a a a", ",,r,,,r,"},
		{"window", "{count: 3, within: 1s, by: process}", "a a a a", ",,,"},
		{"distinct", "{count: 3, within: 10s, by: process, distinct: open.file.path}", "a a a b b c d", ",,,,,r,"},
		{"distinct window", "{count: 3, within: 2s, by: process, distinct: open.file.path}", "a b b c a d", ",,,,r,"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set := loadRules(t, "rules: [{id: r, expression: 'open.file.path =~ \"/*\"', threshold: "+tc.threshold+"}]")
			events := ""
			for _, p := range strings.Fields(tc.paths) {
				events += fmt.Sprintf(open, p)
			}
			if got := fired(t, set, events); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAbsence(t *testing.T) {
	set := loadRules(t, `
rules:
  - id: r
    expression: open.file.path == "/lock"
    absence: {of: 'unlink.file.path == "/lock"', within: 10s, by: process}
`)
	const by = `lineage: [{exec: /bin/x, pid: 5}]`
	for _, tc := range []struct{ name, events, want string }{
		{"comes in time", `
    - {kind: open, file: {path: /lock}, ` + by + `}
    - {kind: unlink, after: 10s, file: {path: /lock}, ` + by + `}
    - {kind: exit, after: 100s, ` + by + `}`, ",,"},
		{"comes too late", `
    - {kind: open, file: {path: /lock}, ` + by + `}
    - {kind: exit, after: 10s, lineage: [{exec: /bin/x, pid: 6}]}
    - {kind: unlink, after: 1s, file: {path: /lock}, ` + by + `}
    - {kind: exit, after: 100s, ` + by + `}`, ",,r,"},
		{"does not come", `
    - {kind: open, file: {path: /lock}, ` + by + `}
    - {kind: open, after: 5s, file: {path: /lock}, ` + by + `}
    - {kind: exit, after: 6s, ` + by + `}`, ",,r"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := fired(t, set, tc.events); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestPatternMemory holds that what is kept is bounded, and that what is given
// up is counted.
func TestPatternMemory(t *testing.T) {
	set := loadRules(t, `
rules:
  - id: r
    sequence: {within: 10s, by: process, steps: ['open.file.name == "a"', 'open.file.name == "b"']}
`)
	for pid := range uint32(5000) {
		set.Eval(&event.Event{Kind: event.KindOpen, TimeNS: 1, Open: &event.Open{File: event.File{Path: "/a"}}, Proc: &event.Process{PID: pid}}, nil)
	}
	if got := set.Evicted(); got != 5000-4096 {
		t.Errorf("%d given up, want %d", got, 5000-4096)
	}
	e := &event.Event{Kind: event.KindOpen, TimeNS: 2, Open: &event.Open{File: event.File{Path: "/b"}}, Proc: &event.Process{PID: 4999}}
	if got := ids(set.Eval(e, nil)); got != "r" {
		t.Errorf("the newest key is lost: got %q", got)
	}
	e.Proc.PID = 1
	if got := ids(set.Eval(e, nil)); got != "" {
		t.Errorf("the oldest key is kept: got %q", got)
	}
}

// TestPatternAdopt holds that a reload keeps what has been seen.
func TestPatternAdopt(t *testing.T) {
	const policy = `
rules:
  - id: r
    sequence: {within: 10s, by: process, steps: ['open.file.name == "a"', 'open.file.name == "b"']}
  - id: n
    expression: open.file.name == "a"
    threshold: {count: 2, within: 10s, by: host}
`
	open := func(s *ruleset.Set, path string) string {
		return ids(s.Eval(&event.Event{Kind: event.KindOpen, TimeNS: 1, Open: &event.Open{File: event.File{Path: path}}, Proc: &event.Process{PID: 1}}, nil))
	}
	old := loadRules(t, policy)
	open(old, "/a")
	next := loadRules(t, policy)
	next.Adopt(old)
	if got := open(next, "/b"); got != "r" {
		t.Errorf("got %q", got)
	}
	if got := open(next, "/a"); got != "n" {
		t.Errorf("got %q", got)
	}
}

func TestPatternProblems(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	for rule, want := range map[string]string{
		`{id: r, sequence: {within: 1s, steps: [exec.uid == 0]}}`:                                                         "sequence needs 2 to 16 steps",
		`{id: r, sequence: {steps: [exec.uid == 0, exec.uid == 1]}}`:                                                      "sequence needs within: a duration up to 720h0m0s",
		`{id: r, expression: exec.uid == 0, sequence: {within: 1s, steps: [exec.uid == 0, exec.uid == 1]}}`:               "a rule with a sequence has its conditions in the steps, not in expression",
		`{id: r, sequence: {within: 1s, steps: [exec.uid == 0, exec.uidd == 1]}}`:                                         `unknown field "exec.uidd", did you mean "exec.uid"?`,
		`{id: r, expression: exec.uid == 0, threshold: {within: 1s, count: 1}}`:                                           "threshold needs a count from 2 to 10000",
		`{id: r, expression: exec.uid == 0, threshold: {within: 1s, count: 5000, distinct: exec.uid}}`:                    "threshold needs a count from 2 to 1000",
		`{id: r, expression: exec.uid == 0, threshold: {within: 1s, count: 5, by: proces}}`:                               `"proces" is no way to group events by; there are context, process, container, host; did you mean "process"?`,
		`{id: r, expression: exec.uid == 0, absence: {within: 1s}}`:                                                       "absence needs of: the condition that is to be met in time",
		`{id: r, expression: exec.uid == 0, absence: {within: 1s, of: exec.uid == 1}, threshold: {within: 1s, count: 2}}`: "a rule has one of sequence, threshold and absence, not two",
		`{id: r, sequence: []}`: "sequence must be a mapping",
	} {
		_, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "x.policy", Data: []byte("rules: [" + rule + "]")}})
		if err != nil {
			t.Fatal(err)
		}
		if len(report.Rules) != 1 || report.Rules[0].Status != ruleset.Failed || report.Rules[0].Reason != want {
			t.Errorf("%s: got %+v, want %s", rule, report.Rules, want)
		}
	}
}
