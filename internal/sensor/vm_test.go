//go:build linux && (amd64 || arm64)

package sensor

import (
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/testkit/vm"
)

// vmTests are the tests that need a kernel; a machine runs them in each mode.
const vmTests = "^(TestKinds|TestOverfill|TestFilter|TestSelf|TestStream|TestNothingLeft|TestSinkFails)$"

// TestMachine runs this package's live tests in a virtual machine with a
// distribution's kernel: trampolines, which many development machines refuse,
// and tracepoints on another kernel than this one.
func TestMachine(t *testing.T) {
	if vm.Inside() {
		t.Skip("this is the machine")
	}
	for _, mode := range []Mode{Trampoline, Tracepoint} {
		t.Run(string(mode), func(t *testing.T) {
			out := vm.TestPackage(t, vm.Config{Env: []string{"CLEW_SENSOR_MODE=" + string(mode)}}, ".", "-test.run="+vmTests)
			for _, name := range []string{"TestKinds", "TestOverfill", "TestFilter", "TestSelf", "TestStream", "TestNothingLeft", "TestSinkFails"} {
				if !strings.Contains(out, "--- PASS: "+name+" ") {
					t.Errorf("%s did not pass in the machine", name)
				}
			}
		})
	}
}
