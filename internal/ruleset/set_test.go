package ruleset

import (
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
)

// TestPanic holds that a condition that panics costs its rule and nothing
// else.
func TestPanic(t *testing.T) {
	set, _ := load(t, File{Name: "x.policy", Data: []byte(`
rules:
  - {id: bad, expression: exec.uid == 0}
  - {id: good, expression: exec.uid == 0}
`)})
	b := &set.buckets[event.KindExec]
	b.entries[0].program = nil
	e := &event.Event{Kind: event.KindExec, Exec: &event.Exec{}, Proc: &event.Process{}}
	for range 3 {
		out := set.Eval(e, nil)
		if len(out) != 1 || out[0].Rule.ID != "good" {
			t.Fatalf("got %v", out)
		}
	}
	if set.Panics() != 1 || !b.entries[0].off {
		t.Errorf("%d panics, off %v", set.Panics(), b.entries[0].off)
	}
}

func TestAdopt(t *testing.T) {
	const policy = `
rules:
  - id: note
    silent: true
    expression: exec.file.name == "sh"
    actions:
      - set: {name: kept, value: 1}
      - set: {name: changed, value: %s}
  - {id: kept, expression: 'exec.file.name == "id" && ${kept} == 1'}
  - {id: changed, expression: 'exec.file.name == "id" && ${changed} == %s'}
`
	replace := func(v string) File {
		return File{Name: "x.policy", Data: []byte(strings.ReplaceAll(policy, "%s", v))}
	}
	old, _ := load(t, replace("1"))
	run := func(s *Set, name string) int {
		return len(s.Eval(&event.Event{
			Kind: event.KindExec, Exec: &event.Exec{}, Proc: &event.Process{File: event.File{Path: "/bin/" + name}},
		}, nil))
	}
	run(old, "sh")
	if n := run(old, "id"); n != 2 {
		t.Fatalf("got %d signals, want 2", n)
	}
	next, _ := load(t, replace(`"a"`))
	next.Adopt(old)
	if n := run(next, "id"); n != 1 {
		t.Errorf("got %d signals, want the one of the variable that stayed", n)
	}
}
