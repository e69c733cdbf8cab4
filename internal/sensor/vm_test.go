//go:build linux && (amd64 || arm64)

package sensor

import (
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/testkit/vm"
)

// machines are where TestMachine runs the tests of the kinds: by trampolines,
// which many development machines refuse, where they came to be what they are
// and where functions have other names; on the oldest kernel, and on another
// architecture.
var machines = []struct {
	kernel, arch string
	mode         Mode
	tests        []string
}{
	{"5.10", "", Tracepoint, []string{"TestKinds"}},
	{"6.1", "", Trampoline, []string{"TestKinds", "TestKernKinds", "TestAttack", "TestProbe", "TestPackets", "TestSockets", "TestFlows"}},
	{"newest", "", Trampoline, []string{"TestKinds", "TestKernKinds", "TestPackets", "TestSockets"}},
	{"6.1", "arm64", Tracepoint, []string{"TestKinds", "TestKernKinds", "TestPackets", "TestSockets"}},
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
				Kernel: m.kernel, Arch: m.arch, Env: []string{"CLEW_SENSOR_MODE=" + string(m.mode)}, Append: "no_timer_check",
			}
			withModule(t, &cfg)
			out := vm.TestPackage(t, cfg, ".", "-test.run=^("+strings.Join(m.tests, "|")+")$")
			for _, name := range m.tests {
				if !strings.Contains(out, "--- PASS: "+name+" ") {
					t.Errorf("%s did not pass in the machine", name)
				}
			}
		})
	}
}

// withModule puts a module of the machine's kernel into it. The newest kernels
// have theirs compressed, and the tests load what they find as it is.
func withModule(t *testing.T, cfg *vm.Config) {
	t.Helper()
	if cfg.Kernel == "newest" {
		return
	}
	module, err := vm.Module(t.Context(), vm.FindConfig{Name: cfg.Kernel, Arch: cfg.Arch}, "dummy")
	if err != nil {
		// The machine says so, too, where it cannot run at all.
		t.Logf("nothing loads modules: %v", err)
		return
	}
	cfg.Files = append(cfg.Files, module)
	cfg.Env = append(cfg.Env, moduleEnv+"="+module)
}
