package ruletest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/ruletest"
)

func run(t *testing.T, rule, cases string) error {
	t.Helper()
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	set, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "t.policy", Data: []byte("rules:\n  - id: r\n    expression: |-\n      " + rule + "\n")}})
	if err != nil || report.Failed() {
		t.Fatal(err, report.Problems)
	}
	list, err := ruletest.Parse([]byte(cases))
	if err != nil {
		return err
	}
	return ruletest.Run(set, "r", &list[0])
}

// TestFields holds that cases can give fields by name, alone and beside the
// short forms.
func TestFields(t *testing.T) {
	for _, tc := range []struct{ rule, event, problem string }{
		{`dns.question.name == "EXAMPLE.org" && dns.question.type == TXT && network.destination.port == 53`,
			`{kind: dns, fields: {dns.question.name: example.org, dns.question.type: 16, network.destination.port: 53}}`, ""},
		{`mmap.protection & PROT_EXEC > 0 && mmap.file.name == "x" && process.file.name == "y" && process.uid == 5`,
			`{kind: mmap, lineage: [{exec: /bin/y, uid: 5}], fields: {mmap.protection: 7, mmap.file.path: /tmp/x}}`, ""},
		{`exec.comm == "c" && process.ancestors[A].file.name == "b" && process.ancestors[A].uid == 7`,
			`{kind: exec, fields: {exec.comm: c, process.ancestors: [{file.path: /a}, {file.path: /b, uid: 7}]}}`, ""},
		{`network_flow_monitor.flows[F].source.port == 2 && network_flow_monitor.flows[F].destination.ip == 192.0.2.0/24`,
			`{kind: network_flow_monitor, fields: {network_flow_monitor.flows: [{source.port: 1}, {source.port: 2, destination.ip: 192.0.2.9}]}}`, ""},
		{`exec.argv in ["-x"] && exec.args == "-x y"`, `{kind: exec, lineage: [{exec: /bin/a, args: [a]}], fields: {exec.argv: [-x, "y"]}}`, ""},
		{`exec.file.name == "link"`, `{kind: exec, lineage: [{exec: /bin/a}], fields: {exec.file.other_paths: [/bin/link]}}`, ""},
		{`bpf.prog.helpers == 36`, `{kind: bpf, fields: {bpf.prog.helpers: [1, 36]}}`, ""},
		{`exec.uid == 0`, `{kind: exec, fields: {exec.uidd: 1}}`, "exec events have no field process.uidd"},
		{`exec.uid == 0`, `{kind: exec, fields: {open.flags: 1}}`, "exec events have no field open.flags"},
		{`exec.uid == 0`, `{kind: exec, fields: {exec.file.name: x}}`, "is computed from others"},
		{`exec.uid == 0`, `{kind: exec, fields: {exec.uid: x}}`, `field exec.uid: "x" is no integer`},
		{`exec.uid == 0`, `{kind: exec}`, "neither a lineage nor fields"},
		{`exec.uid == 0`, `{kind: fork, fields: {exec.uid: 1}}`, `unknown kind "fork"`},
	} {
		err := run(t, tc.rule, "- {name: n, fires: true, event: "+tc.event+"}\n")
		switch {
		case tc.problem == "" && err != nil:
			t.Errorf("%s: %v", tc.event, err)
		case tc.problem != "" && (err == nil || !strings.Contains(err.Error(), tc.problem)):
			t.Errorf("%s: got %v, want %s", tc.event, err, tc.problem)
		}
	}
}

// TestKinds holds that a case can be of every kind that rules can name.
func TestKinds(t *testing.T) {
	for k := event.Kind(1); int(k) < event.NumKinds; k++ {
		if k.Info().Hidden || k.Info().Name == "" {
			continue
		}
		cases, err := ruletest.Parse([]byte(fmt.Sprintf("- {name: n, event: {kind: %s, lineage: [{exec: /bin/a}]}}\n", k)))
		if err != nil {
			t.Fatal(err)
		}
		if e, err := cases[0].Build(); err != nil || !e.Complete() {
			t.Errorf("%s: %v", k, err)
		}
	}
}
