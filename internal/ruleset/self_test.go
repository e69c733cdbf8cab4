package ruleset_test

import (
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
)

// TestAgentLists holds that rules know the agent that they are loaded for, and
// that no policy can take its place.
func TestAgentLists(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	const policy = `
macros:
  - {id: CLEW_AGENT_PID, values: ["1"]}
rules:
  - {id: killed, expression: "signal.pid in CLEW_AGENT_PID"}
  - {id: changed, expression: "unlink.file.path in CLEW_AGENT_FILES && process.pid not in CLEW_AGENT_PID"}
`
	set, report, err := ruleset.Load(ruleset.Config{Schema: schema, Facts: ruleset.Facts{
		AgentPID: 815, AgentFiles: []string{"/srv/clew/**", "/opt/clew", "relative", "/odd*/name/**"},
	}}, []ruleset.File{{Name: "t.policy", Data: []byte(policy)}})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Problems) != 1 || report.Problems[0].Macro != "CLEW_AGENT_PID" {
		t.Errorf("problems %v", report.Problems)
	}
	node := &event.Process{PID: 4, TID: 4}
	kill := func(pid uint32) *event.Event {
		return &event.Event{Kind: event.KindSignal, PID: 4, Proc: node, SignalSent: &event.SignalSent{Type: 9, Target: event.Target{PID: pid}}}
	}
	remove := func(by uint32, path string) *event.Event {
		return &event.Event{Kind: event.KindUnlink, PID: by, Proc: &event.Process{PID: by}, Unlink: &event.Unlink{File: event.File{Path: path}}}
	}
	for _, tt := range []struct {
		name string
		ev   *event.Event
		want int
	}{
		{"kill of the agent", kill(815), 1},
		{"kill of another", kill(816), 0},
		{"its data", remove(4, "/srv/clew/agent/spool/1"), 1},
		{"its program", remove(4, "/opt/clew"), 1},
		{"what a package installs", remove(4, "/usr/bin/clew"), 1},
		{"by itself", remove(815, "/srv/clew/agent/spool/1"), 0},
		{"a name that is a pattern", remove(4, "/oddly/name/x"), 0},
		{"another file", remove(4, "/srv/other"), 0},
	} {
		if got := set.Eval(tt.ev, nil); len(got) != tt.want {
			t.Errorf("%s: %d matches, want %d", tt.name, len(got), tt.want)
		}
	}
}
