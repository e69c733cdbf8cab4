package ruleset_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
)

// wanted says what the last evaluation asks for.
func wanted(set *ruleset.Set) string {
	var out []string
	for _, x := range set.Effects() {
		switch {
		case x.Log != nil:
			out = append(out, fmt.Sprintf("%s %s %s", x.Rule.ID, x.Log.Level, x.Log.Message))
		default:
			out = append(out, fmt.Sprintf("%s hash %s %s max %d", x.Rule.ID, x.Hash.Field, x.Hash.File.Path, x.Hash.MaxFileSize))
		}
	}
	return strings.Join(out, "; ")
}

func TestEffects(t *testing.T) {
	set := loadRules(t, `
rules:
  - id: note
    silent: true
    expression: exec.file.name == "id"
    actions:
      - set: {name: seen, expression: "${seen} + 1", default_value: 0}
  - id: log
    expression: exec.file.name == "id"
    actions:
      - log: {level: warning, message: "pid ${process.pid} ran ${exec.file.path} with %{exec.argv} as %{process.user}: 100% of ${seen}"}
      - log: {message: plain}
      - log: {message: never}
        filter: exec.uid == 0
  - id: quiet
    silent: true
    expression: exec.file.name == "id"
    actions: [{hash: {}}, {hash: {field: process.parent.file, max_file_size: 100}}]
  - id: change
    expression: fim.write.file.name == "x"
    actions: [{hash: {field: fim.write.file}}]
  - id: opened
    expression: open.file.name == "x"
    actions: [{hash: {}}]
  - id: nothing
    expression: exec.file.name == "id"
    actions: [{hash: {field: process.interpreter.file}}]
`)
	exec := build(t, `{kind: exec, lineage: [{exec: /usr/bin/id, args: [id, -u, root], pid: 7, uid: 5}, {exec: /bin/sh}]}`)
	exec.Proc.User = "eve"
	for i, want := range []string{
		`log warn pid 7 ran /usr/bin/id with -u,root as eve: 100% of 1; log info plain; quiet hash exec.file /usr/bin/id max 0; quiet hash process.parent.file /bin/sh max 100`,
		`log warn pid 7 ran /usr/bin/id with -u,root as eve: 100% of 2; log info plain; quiet hash exec.file /usr/bin/id max 0; quiet hash process.parent.file /bin/sh max 100`,
	} {
		if got := ids(set.Eval(exec, nil)); got != "log nothing" {
			t.Errorf("got %s", got)
		}
		if got := wanted(set); got != want {
			t.Errorf("time %d: got\n%s\nwant\n%s", i, got, want)
		}
	}
	for text, want := range map[string]string{
		`{kind: open, file: {path: /etc/x}, flags: [O_WRONLY], lineage: [{exec: /bin/vi}]}`:             "change hash open.file /etc/x max 0; opened hash open.file /etc/x max 0",
		`{kind: unlink, file: {path: /etc/x}, lineage: [{exec: /bin/rm}]}`:                              "change hash unlink.file /etc/x max 0",
		`{kind: rename, file: {path: /etc/x}, destination: {path: /etc/x}, lineage: [{exec: /bin/mv}]}`: "change hash rename.file /etc/x max 0",
		`{kind: exec, lineage: [{exec: /bin/true}]}`:                                                    "",
	} {
		set.Eval(build(t, text), nil)
		if got := wanted(set); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

// TestEffectsRate holds that a rule asks for no more than its rate lets it.
func TestEffectsRate(t *testing.T) {
	set := loadRules(t, `
rules:
  - {id: r, every: 1h, silent: true, expression: 'exec.file.name == "id"', actions: [{log: {message: "m"}}]}
  - {id: long, every: 1h, expression: 'exec.file.name == "id"', actions: [{log: {message: "%{exec.args}"}}]}
`)
	e := build(t, `{kind: exec, lineage: [{exec: /usr/bin/id, args: [id, `+strings.Repeat("ä", 5000)+`]}]}`)
	set.Eval(e, nil)
	got := set.Effects()
	if len(got) != 2 || len(got[1].Log.Message) != 4096 {
		t.Fatalf("got %d effects", len(got))
	}
	set.Eval(e, nil)
	if got := wanted(set); got != "" {
		t.Errorf("again: got %q", got)
	}
}

func TestEffectProblems(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	for action, want := range map[string]string{
		`hash: {}`:                                     "error: hash: signal events have no file by default; name one with field, as process.file",
		`hash: {field: open.file}`:                     "error: hash: signal events have no file open.file",
		`hash: {field: signal.target.file}`:            "",
		`log: {message: "${nope}"}`:                    "error: unknown variable ${nope}",
		`log: {message: "%{open.flags}"}`:              "error: open.flags is a field of open events",
		`log: {level: loud, message: "m"}`:             `error: "loud" is no level`,
		`log: {}`:                                      "warning: log has no message",
		`kill: {signal: SIGKILL}`:                      "warning: kill: is checked, but not carried out by this version",
		`network_filter: {filter: "port 1"}`:           "warning: network_filter: is checked, but not carried out by this version",
		`coredump: {process: true}`:                    "warning: coredump: is checked, but not carried out by this version",
		`log: {message: "%{signal.target.file.path}"}`: "",
	} {
		_, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "t.policy", Data: []byte(
			"rules:\n  - id: r\n    expression: signal.type == SIGKILL\n    actions:\n      - " + action + "\n")}})
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, p := range report.Problems {
			kind := "error: "
			if p.Warning {
				kind = "warning: "
			}
			said = append(said, kind+p.Msg)
		}
		if got := strings.Join(said, "; "); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", action, got, want)
		}
	}
}

// TestOverdue holds that an absence is certain when its time is over, whatever
// happens then or nothing, in the order of time, and that the signal belongs to
// the event that was not followed.
func TestOverdue(t *testing.T) {
	const policy = `
rules:
  - id: r
    expression: open.file.name == "lock"
    absence: {of: 'unlink.file.name == "lock"', within: 10s, by: process}
    actions: [{log: {message: "%{open.file.path} stays"}}]
  - id: s
    expression: open.file.name == "lock"
    absence: {of: 'unlink.file.name == "lock"', within: 5s, by: process}
`
	set := loadRules(t, policy)
	const sec = int64(1e9)
	event1 := func(at int64, pid uint32, kind event.Kind) *event.Event {
		e := &event.Event{Kind: kind, TimeNS: at, Proc: &event.Process{PID: pid}}
		f := event.File{Path: fmt.Sprintf("/%d/lock", pid)}
		switch kind {
		case event.KindOpen:
			e.Open = &event.Open{File: f}
		case event.KindUnlink:
			e.Unlink = &event.Unlink{File: f}
		default:
			e.Exit = &event.Exit{}
		}
		return e
	}
	say := func(ms []ruleset.Match) string {
		var out []string
		for _, m := range ms {
			out = append(out, fmt.Sprintf("%s %d", m.Rule.ID, m.Event.Proc.PID))
		}
		return strings.Join(out, ", ")
	}
	for pid := range uint32(4) {
		set.Eval(event1(int64(pid)+1, 9-pid, event.KindOpen), nil)
	}
	set.Eval(event1(sec, 7, event.KindUnlink), nil)
	if got := say(set.Overdue(5*sec, nil)); got != "" {
		t.Errorf("too early: %s", got)
	}
	if got := say(set.Overdue(6*sec, nil)); got != "s 9, s 8, s 6" {
		t.Errorf("got %s", got)
	}
	if got := wanted(set); got != "" {
		t.Errorf("s asks for %s", got)
	}
	// A reload does not forget what is awaited.
	next := loadRules(t, policy)
	next.Adopt(set)
	if got := say(next.Eval(event1(10*sec+2, 100, event.KindExit), nil)); got != "r 9" {
		t.Errorf("got %s", got)
	}
	if got := wanted(next); got != "r info /9/lock stays" {
		t.Errorf("got %s", got)
	}
	if got := say(next.Overdue(11*sec, nil)); got != "r 8, r 6" {
		t.Errorf("got %s", got)
	}
	if got := say(next.Overdue(1000*sec, nil)); got != "" {
		t.Errorf("got %s", got)
	}
}

// TestOverdueMemory holds that what waits is bounded, and that what was given
// up never fires.
func TestOverdueMemory(t *testing.T) {
	set := loadRules(t, `
rules:
  - id: r
    expression: open.file.name == "lock"
    absence: {of: 'unlink.file.name == "lock"', within: 10s, by: process}
    every: 1ns
`)
	for pid := range uint32(5000) {
		e := &event.Event{Kind: event.KindOpen, TimeNS: int64(pid), Open: &event.Open{File: event.File{Path: "/lock"}}, Proc: &event.Process{PID: pid}}
		set.Eval(e, nil)
		if pid%2 == 0 { // open and close again and again leaves nothing behind
			set.Eval(&event.Event{Kind: event.KindUnlink, TimeNS: int64(pid), Unlink: &event.Unlink{File: event.File{Path: "/lock"}}, Proc: e.Proc}, nil)
			set.Eval(e, nil)
		}
	}
	ms := set.Overdue(1e18, nil)
	if set.Evicted() != 5000-4096 || len(ms) != 4096 {
		t.Errorf("%d given up, %d fired", set.Evicted(), len(ms))
	}
}

// TestThresholdMemory holds that a rule that remembers much of a key tells
// fewer keys apart.
func TestThresholdMemory(t *testing.T) {
	set := loadRules(t, `
rules:
  - {id: r, expression: 'open.file.name == "a"', threshold: {count: 10000, within: 1h, by: process}}
`)
	for pid := range uint32(1000) {
		set.Eval(&event.Event{Kind: event.KindOpen, TimeNS: 1, Open: &event.Open{File: event.File{Path: "/a"}}, Proc: &event.Process{PID: pid}}, nil)
	}
	if got := set.Evicted(); got != 1000-(1<<20)/10000 {
		t.Errorf("%d given up", got)
	}
}
