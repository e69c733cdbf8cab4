//go:build linux && (amd64 || arm64)

package sensor

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/ruleset"
)

const attackPolicy = `
rules:
  - id: sshd_traced
    expression: ptrace.request in [PTRACE_ATTACH, PTRACE_SEIZE] && ptrace.retval == 0 && ptrace.tracee.file.name == "sshd"
  - id: sshd_signalled
    expression: signal.type == SIGURG && signal.target.file.name == "sshd" && process.file.name != "sshd"
  - id: written_memory_executable
    expression: mprotect.req_protection & PROT_EXEC > 0 && mprotect.vm_protection & VM_WRITE > 0
  - id: module_from_file
    expression: load_module.name == "dummy" && load_module.args == "numdummies=0" && load_module.loaded_from_memory == false
  - id: traced_by_root_only
    expression: ptrace.request == PTRACE_ATTACH && process.uid != 0
`

// TestAttack lets somebody trace sshd, send it signals, make written memory
// executable and load a module, with the kernel's filter made from the rules,
// and holds that these fire at the end of the pipeline.
func TestAttack(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	set, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "attack.policy", Data: []byte(attackPolicy)}})
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed() {
		report.WriteText(t.Output())
		t.Fatal("the policy is wrong")
	}
	w := startWatch(t, Config{Plan: ruleset.DerivePlan(set), NotSelf: true})

	sshd := filepath.Join(realTemp(t), "sshd")
	program, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sshd, program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sshd)
	cmd.Env = []string{"CLEW_SENSOR_HELPER=wait"}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		cmd.Wait()
	}()
	victim := uint32(cmd.Process.Pid)
	w.eventOf(event.KindExec, func(e *event.Event) bool { return e.PID == victim })

	want := map[string]uint32{}
	want["sshd_traced"], _ = w.mustKern("ptrace", strconv.Itoa(int(victim)))
	want["sshd_signalled"], _ = w.mustKern("signals", strconv.Itoa(int(victim)))
	want["written_memory_executable"], _ = w.mustKern("memory", sshd)
	if module := os.Getenv(moduleEnv); module != "" {
		want["module_from_file"], _ = w.mustKern("module", module, "numdummies=0", "dummy")
	}
	w.settle()
	w.stop()

	cfg, err := pipeline.Standard(set)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint32{}
	for _, r := range w.recs {
		err := p.Push(r, func(s *event.SpoolRecord) error {
			e := s.Event
			if e == nil {
				return nil
			}
			for _, sig := range e.Signals {
				got[sig.RuleID] = e.PID
				if target := e.Target(); target != nil && (target.Proc == nil || target.PID != victim || target.Proc.File.Path != sshd) {
					t.Errorf("%s: target %+v", sig.RuleID, target)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for rule, pid := range want {
		if got[rule] != pid {
			t.Errorf("%s: fired for process %d, want %d", rule, got[rule], pid)
		}
	}
	if len(got) != len(want) {
		t.Errorf("fired: %v, want %v", got, want)
	}

	// What no rule asks for did not leave the kernel.
	for _, e := range w.events(func(e *event.Event) bool { return slices.Contains(kernKinds, e.Kind) }) {
		switch {
		case e.Ptrace != nil && e.Ptrace.Request != 16 && e.Ptrace.Request != 0x4206,
			e.SignalSent != nil && e.SignalSent.Type != 23,
			e.Mprotect != nil && e.Mprotect.ReqProtection&4 == 0,
			e.Mmap != nil, e.Prctl != nil, e.BPF != nil:
			t.Errorf("reported %s: %+v", e.Kind, e)
		}
	}
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
}
