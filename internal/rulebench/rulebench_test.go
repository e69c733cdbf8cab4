package rulebench_test

import (
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/rulebench"
	"github.com/clewsec/clew/internal/ruleset"
)

func TestRun(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := ruleset.Load(ruleset.Config{Schema: schema, OwnRatesOnly: true}, []ruleset.File{{
		Name: "x.policy", Data: []byte("rules: [{id: a, expression: exec.uid == 1}, {id: b, expression: exec.uid == 2}]"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	events := []*event.Event{
		{Kind: event.KindExec, Exec: &event.Exec{}, Proc: &event.Process{UID: 1}},
		{Kind: event.KindExec, Exec: &event.Exec{}, Proc: &event.Process{}},
	}
	res, err := rulebench.Run(t.Context(), set, events)
	if err != nil {
		t.Fatal(err)
	}
	if res.Events != 2 || res.Rules != 2 || res.Matches != 1 {
		t.Errorf("got %+v", res)
	}
	if res.NsPerEvent <= 0 || res.P99Ns < res.P50Ns || res.AllocsPerEvent > 0.01 {
		t.Errorf("got %+v", res)
	}
	if _, err := rulebench.Run(t.Context(), set, nil); err == nil {
		t.Error("no events are no error")
	}
}
