package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/sensor"
)

// TestSilentRules holds that doctor names the rules that wait for what does not
// occur, and why.
func TestSilentRules(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "own.policy")
	if err := os.WriteFile(policy, []byte(`
rules:
  - {id: never, expression: 'packet.filter == "tcp"'}
  - {id: here, expression: exec.uid == 0}
  - {id: elsewhere, expression: open.flags == 0}
  - {id: mode, expression: bind.addr.port == 1}
  - {id: broken, expression: exec.uidd == 0}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &sensor.Report{Mode: "tracepoint", Kernel: "6.1", Kinds: []sensor.KindCheck{
		{Kind: event.KindOpen, Status: sensor.Impossible, Reason: "no hook"},
	}}
	for k := event.Kind(1); int(k) < event.NumKinds; k++ {
		if k != event.KindOpen && k != event.KindBind && sensor.Produces(k) {
			r.Kinds = append(r.Kinds, sensor.KindCheck{Kind: k, Status: sensor.OK})
		}
	}
	silent, err := silentRules(r, []string{policy})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := writeDoctorText(&b, r, silent); err != nil {
		t.Fatal(err)
	}
	for name, why := range map[string]string{
		"never": "packet events are not produced by this version", "elsewhere": "open events: no hook", "mode": "bind events are not produced in tracepoint mode",
		"broken": "it is not loaded: unknown field",
	} {
		found := false
		for line := range strings.Lines(b.String()) {
			f := strings.Fields(line)
			found = found || len(f) > 0 && f[0] == name && strings.Contains(line, why)
		}
		if !found {
			t.Errorf("%s: want %q in\n%s", name, why, b.String())
		}
	}
	if strings.Contains(b.String(), "  here ") {
		t.Errorf("a rule that can fire is named:\n%s", b.String())
	}
}

// TestDoctorJSON holds the shape that programs read.
func TestDoctorJSON(t *testing.T) {
	r := &sensor.Report{
		Mode: "tracepoint", Kernel: "6.1",
		Features: []sensor.Feature{{Name: "trampolines", Answer: sensor.No, Reason: "refused"}, {Name: "ring buffer", Answer: sensor.Yes}},
		Kinds:    []sensor.KindCheck{{Kind: event.KindOpen, Status: sensor.Degraded, Reason: "some"}, {Kind: event.KindExec, Status: sensor.OK}},
	}
	var b strings.Builder
	if err := writeDoctorJSON(&b, r, []silentRule{{ID: "x", Reason: "y"}}); err != nil {
		t.Fatal(err)
	}
	var compact strings.Builder
	var doc any
	if err := json.Unmarshal([]byte(b.String()), &doc); err != nil {
		t.Fatal(err)
	}
	enc := json.NewEncoder(&compact)
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	const want = `{"features":[{"answer":"no","name":"trampolines","reason":"refused"},{"answer":"yes","name":"ring buffer","reason":""}],` +
		`"kernel":"6.1","kinds":[{"kind":"open","reason":"some","status":"degraded"},{"kind":"exec","reason":"","status":"ok"}],` +
		`"mode":"tracepoint","ok":true,"silentRules":[{"id":"x","reason":"y"}]}`
	if got := strings.TrimSpace(compact.String()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// Where nothing can be watched lists are empty, not null.
	b.Reset()
	if err := writeDoctorJSON(&b, &sensor.Report{}, []silentRule{}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "null") {
		t.Error(b.String())
	}
}
