//go:build linux && (amd64 || arm64)

package sensor

import (
	"fmt"
	"os"
	"testing"

	"github.com/clewsec/clew/internal/testkit/proc"
)

// TestMain also plays the programs that the tests watch, compares what was
// found out with what is checked in (finish), and looks for what the tests left
// in the kernel.
func TestMain(m *testing.M) {
	if what := os.Getenv("CLEW_SENSOR_HELPER"); what != "" {
		os.Exit(helper(what, os.Args[1:]))
	}
	os.Exit(proc.Clean(os.Stderr, func() int {
		status := m.Run()
		if status == 0 {
			if err := finish(os.Stdout); err != nil {
				fmt.Fprintln(os.Stderr, err)
				status = 1
			}
		}
		return status
	}))
}
