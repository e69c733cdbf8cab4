//go:build linux && (amd64 || arm64)

package sensor

import (
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/testkit/vm"
)

// TestMachine runs this package's live tests in a virtual machine with a
// distribution's kernel: trampolines, which many development machines refuse,
// and tracepoints on another kernel than this one.
func TestMachine(t *testing.T) {
	if vm.Inside() {
		t.Skip("this is the machine")
	}
	// Under emulation the verifier takes seconds for each sensor that starts:
	// the machine runs what depends on the kernel, the host the rest.
	for mode, tests := range map[Mode][]string{
		Trampoline: {"TestKinds", "TestFilter", "TestProbe"},
		Tracepoint: {"TestKinds"},
	} {
		t.Run(string(mode), func(t *testing.T) {
			out := vm.TestPackage(t, vm.Config{Env: []string{"CLEW_SENSOR_MODE=" + string(mode)}}, ".",
				"-test.run=^("+strings.Join(tests, "|")+")$")
			for _, name := range tests {
				if !strings.Contains(out, "--- PASS: "+name+" ") {
					t.Errorf("%s did not pass in the machine", name)
				}
			}
		})
	}
}
