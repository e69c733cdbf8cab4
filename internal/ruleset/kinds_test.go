package ruleset_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
)

// TestUnproduced holds that a rule which waits for what never comes loads, and
// says so.
func TestUnproduced(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	set, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "t.policy", Data: []byte(`
rules:
  - {id: one, expression: mmap.protection & PROT_EXEC > 0}
  - {id: all, expression: exec.uid == 0}
  - {id: some, expression: fim.write.file.name == "x"}
  - {id: second, sequence: {within: 1s, steps: [exec.uid == 0, mmap.flags == 0]}}
  - {id: lacking, expression: exec.uid == 0, absence: {within: 1s, of: mmap.flags == 0}}
  - {id: opening, expression: mmap.flags == 0, absence: {within: 1s, of: exec.uid == 0}}
`)}})
	if err != nil || report.Failed() {
		t.Fatal(err, report.Problems)
	}
	report.Unproduced(set, func(k event.Kind) bool { return k != event.KindMmap && k != event.KindUtimes })
	if report.Failed() {
		t.Error("a warning is a failure")
	}
	var got []string
	for _, p := range report.Problems {
		got = append(got, fmt.Sprintf("%d %s: %s", p.At.Line, p.Rule, p.Msg))
	}
	const want = `3 one: mmap events are not produced by this sensor
5 some: utimes events are not produced by this sensor
6 second: mmap events are not produced by this sensor
7 lacking: mmap events are not produced by this sensor
8 opening: mmap events are not produced by this sensor`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got\n%s", s)
	}
	got = nil
	for _, r := range set.Rules() {
		if why := set.CannotFire(r, func(k event.Kind) string {
			if k == event.KindMmap || k == event.KindUtimes {
				return "no " + k.String()
			}
			return ""
		}); why != "" {
			got = append(got, r.ID+": "+why)
		}
	}
	if s := strings.Join(got, ", "); s != "one: no mmap, second: no mmap, opening: no mmap" {
		t.Errorf("got %s", s)
	}
}
