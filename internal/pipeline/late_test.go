package pipeline_test

import (
	"fmt"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/testkit/streamtest"
)

// TestLate holds that what does not follow an event is told when its time is
// over, by the clock alone on a host where nothing happens, with the event that
// was not followed, and that what rules ask for is handed on and counted.
func TestLate(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	set, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "t.policy", Data: []byte(`
rules:
  - id: alone
    expression: exec.file.name == "job"
    absence: {of: exit.code == 0, within: 30s, by: process}
    tags: {threat_score: "7"}
    actions: [{log: {message: "%{exec.file.path} does not end"}}]
  - id: read
    silent: true
    expression: open.file.name == "shadow"
    actions: [{hash: {field: process.file}}]
`)}})
	if err != nil || report.Failed() {
		t.Fatal(err, report.Problems)
	}
	b, init := streamtest.New()
	good := b.Spawn(init, "/usr/bin/job", nil)
	bad := b.Spawn(init, "/opt/job", nil)
	b.Read(bad, "/etc/shadow")
	b.Exit(good, 0)
	records := b.Records
	tick := func(after uint64, r *event.StreamRecord) {
		last := records[len(records)-1]
		r.Seq, r.BootNS = last.Seq+1, last.BootNS+after
		records = append(records, r)
	}
	tick(29e9, &event.StreamRecord{Canary: &event.Canary{Nonce: 1}})
	tick(2e9, &event.StreamRecord{Clock: &event.Clock{OffsetNS: streamtest.T0 - 1e9}})
	tick(60e9, &event.StreamRecord{Canary: &event.Canary{Nonce: 2}})

	cfg := pipeline.Config{Rules: pipeline.SetRules(set)}
	var asked []string
	cfg.Effect = func(x ruleset.Effect) {
		if x.Log != nil {
			asked = append(asked, x.Log.Message)
		} else {
			asked = append(asked, fmt.Sprintf("hash %s %s", x.Hash.Field, x.Hash.File.Path))
		}
	}
	p, err := pipeline.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	var sent, late event.Event
	for i, r := range records {
		if err := p.Push(clone(t, r), func(s *event.SpoolRecord) error {
			switch {
			case s.Event == nil || s.Event.Kind != event.KindExec:
			case len(s.Event.Signals) > 0:
				at, late = i, *cloneSpool(t, s).Event
			case s.Event.PID == bad.PID:
				sent = *cloneSpool(t, s).Event
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if at != len(records)-2 {
		t.Errorf("the signal came with record %d of %d", at, len(records))
	}
	if late.Signals == nil || late.Signals[0].RuleID != "alone" || late.PID != bad.PID || late.ProcID != sent.ProcID || late.TimeNS != sent.TimeNS {
		t.Errorf("got %+v, the event was %+v", late, sent)
	}
	if late.Seq == sent.Seq || late.Seq == 0 {
		t.Errorf("the event that is sent once more has number %d, as it had before", late.Seq)
	}
	s := p.Stats()
	if s.Signals != 1 || s.Late != 1 || s.Logs != 1 || s.Hashes != 1 {
		t.Errorf("got %+v", s)
	}
	if got := fmt.Sprint(asked); got != "[hash process.file /opt/job /opt/job does not end]" {
		t.Errorf("got %s", got)
	}
}
