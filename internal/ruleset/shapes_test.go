package ruleset_test

import (
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/testkit/ruleshapes"
)

// TestShapes holds that rules of every shape on every field load, and survive
// events of their kind.
func TestShapes(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	text, rules := ruleshapes.Policy(schema)
	set := loadRules(t, text)
	if rules < 1000 || len(set.Rules()) != rules {
		t.Fatalf("%d rules, %d loaded", rules, len(set.Rules()))
	}
	matched := 0
	for k := event.Kind(1); int(k) < event.NumKinds; k++ {
		e := &event.Event{Kind: k, TimeNS: 1e18, Proc: &event.Process{PID: 7, Parent: &event.Process{PID: 1}}}
		e.Allocate()
		matched += len(set.Eval(e, nil))
		set.Eval(&event.Event{Kind: k}, nil)
	}
	if matched == 0 || set.Panics() != 0 {
		t.Errorf("%d matches, %d panics", matched, set.Panics())
	}
}
