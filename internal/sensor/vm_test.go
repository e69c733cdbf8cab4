//go:build linux && (amd64 || arm64)

package sensor

import (
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/testkit/vm"
)

// TestMachine runs the tests of the kinds in a virtual machine with a
// distribution's kernel, by trampolines, which many development machines
// refuse. The same works for the other mode and other kernels:
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
	tests := []string{"TestKinds", "TestProbe"}
	cfg := vm.Config{Env: []string{"CLEW_SENSOR_MODE=" + string(Trampoline)}, Append: "no_timer_check"}
	out := vm.TestPackage(t, cfg, ".", "-test.run=^("+strings.Join(tests, "|")+")$")
	for _, name := range tests {
		if !strings.Contains(out, "--- PASS: "+name+" ") {
			t.Errorf("%s did not pass in the machine", name)
		}
	}
}
