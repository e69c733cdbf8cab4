package check

import (
	"slices"
	"testing"
)

func TestConstantNames(t *testing.T) {
	names := ConstantNames()
	if !slices.IsSorted(names) || len(names) != len(constants) {
		t.Errorf("%d names of %d constants, sorted %v", len(names), len(constants), slices.IsSorted(names))
	}
	for _, n := range []string{"O_CREAT", "SIGKILL", "EPERM", "AF_INET"} {
		if !slices.Contains(names, n) {
			t.Errorf("%s is missing", n)
		}
	}
	if slices.Contains(names, "true") {
		t.Error("true is no number")
	}
}
