//go:build linux && (amd64 || arm64)

package sensor

import (
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/testkit/vm"
)

// machines are where TestMachine runs the tests of the kinds: in full by
// trampolines on the kernel that most will have, which many development
// machines refuse; and, with one case for each kind, on the oldest kernel, an
// older and the newest one, and another architecture. Each machine also loads
// all objects, and makes a row of docs/reference/kinds-by-kernel.md.
var machines = []struct {
	kernel, arch string
	mode         Mode
	full         bool
}{
	{"6.12", "", Trampoline, true},
	{"5.10", "", Tracepoint, false},
	{"6.1", "", Trampoline, false},
	{"newest", "", Trampoline, false},
	{"6.12", "arm64", Trampoline, false},
	{"6.1", "arm64", Tracepoint, false},
}

// oneOfEach is what runs everywhere.
var oneOfEach = []string{"TestEachKind"}

// inFull is what runs where all variants do.
var inFull = []string{
	"TestKinds", "TestKernKinds", "TestCapabilities", "TestOndemand", "TestPackets", "TestSockets", "TestFlows", "TestAttack",
	"TestProbe", "TestEvasion",
}

// TestMachine runs tests in virtual machines with a distribution's kernels. The
// same works for the other mode and other kernels:
//
//	CGO_ENABLED=0 go test -c -o sensor.test ./internal/sensor
//	go run ./internal/testkit/vm/cmd/vmtest -kernel 6.12 -env CLEW_SENSOR_MODE=tracepoint -- ./sensor.test -test.run=TestKinds
func TestMachine(t *testing.T) {
	if vm.Inside() {
		t.Skip("this is the machine")
	}
	// Under emulation the verifier takes seconds for each sensor that starts:
	// the machine runs what depends on the kernel, the host the rest. On a busy
	// host the emulated timer is late, which the kernel takes for broken.
	for _, m := range machines {
		t.Run(strings.TrimSuffix(m.kernel+" "+string(m.mode)+" "+m.arch, " "), func(t *testing.T) {
			cfg := vm.Config{
				Kernel: m.kernel, Arch: m.arch, Env: []string{"CLEW_SENSOR_MODE=" + string(m.mode), rowEnv + "=1"}, Append: "no_timer_check",
			}
			tests := oneOfEach
			if m.full {
				tests = inFull
			}
			withModule(t, &cfg)
			out := vm.TestPackage(t, cfg, ".", "-test.run=^("+strings.Join(tests, "|")+")$")
			for _, name := range tests {
				if !strings.Contains(out, "--- PASS: "+name+" ") {
					t.Errorf("%s did not pass in the machine", name)
				}
			}
			p, err := readRow(out)
			if err != nil {
				t.Fatal(err)
			}
			if p.Row.Mode != m.mode || m.kernel != "newest" && p.Row.Kernel != m.kernel {
				t.Errorf("the machine is %s", p.Row.name())
			}
			if err := p.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// withModule puts a module of the machine's kernel into it.
func withModule(t *testing.T, cfg *vm.Config) {
	t.Helper()
	module, err := vm.Module(t.Context(), vm.FindConfig{Name: cfg.Kernel, Arch: cfg.Arch}, "dummy")
	if err != nil {
		// The machine says so, too, where it cannot run at all.
		t.Logf("nothing loads modules: %v", err)
		return
	}
	cfg.Files = append(cfg.Files, module)
	cfg.Env = append(cfg.Env, moduleEnv+"="+module)
}
