package ruleset

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
)

// TestPanic holds that a condition that panics costs its rule and nothing
// else, and that a panic while conditions are looked up costs those at fault.
func TestPanic(t *testing.T) {
	schema, err := NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	broken := schema.Map(func(f field) field {
		switch f.Name {
		case "exec.gid":
			f.Get.Int = func(*event.Event) int64 { panic("gid") }
		case "exec.comm":
			f.Get.Str = func(*event.Event) string { panic("comm") }
		}
		return f
	})
	var many strings.Builder
	for i := range 20 {
		fmt.Fprintf(&many, "  - {id: c%d, expression: exec.comm == \"c%d\"}\n", i, i)
	}
	for _, tc := range []struct {
		rules  string
		panics uint64
		plain  bool
	}{
		{"  - {id: bad, expression: exec.uid == 0 && exec.gid < 5}\n", 1, false},
		{many.String(), 20, true},
	} {
		set, report, err := Load(Config{Schema: broken, OwnRatesOnly: true}, []File{{Name: "x.policy", Data: []byte(
			"rules:\n  - {id: first, expression: exec.uid == 0}\n" + tc.rules + "  - {id: last, expression: exec.uid == 0}\n")}})
		if err != nil || report.Failed() {
			t.Fatalf("%v, %+v", err, report)
		}
		e := &event.Event{Kind: event.KindExec, Exec: &event.Exec{}, Proc: &event.Process{}}
		for range 3 {
			out := set.Eval(e, nil)
			if len(out) != 2 || out[0].Rule.ID != "first" || out[1].Rule.ID != "last" {
				t.Fatalf("got %v", out)
			}
		}
		if b := &set.buckets[event.KindExec]; set.Panics() != tc.panics || b.plain != tc.plain || !b.entries[1].off {
			t.Errorf("%d panics, plain %v, off %v", set.Panics(), b.plain, b.entries[1].off)
		}
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
