//go:build linux && (amd64 || arm64)

package sensor

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// writeByChild has another process write to a file, and gives its id.
func writeByChild(t *testing.T, f *os.File, b []byte) int {
	t.Helper()
	cmd := exec.Command(self(t))
	cmd.Env = []string{"CLEW_SENSOR_HELPER=write"}
	cmd.Stdin = bytes.NewReader(b)
	cmd.ExtraFiles = []*os.File{f}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return cmd.ProcessState.Pid()
}
