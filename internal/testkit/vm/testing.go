package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// testTimeout is how long one machine of TestPackage may run, a few times
// what a busy machine needs.
const testTimeout = 10 * time.Minute

// Require ends the test if no machine can be run: as a skip where somebody
// develops, as a failure under continuous integration (CI=true), where a skip
// would mean that nobody ever runs it.
func Require(t testing.TB, arch string) {
	t.Helper()
	err := Available(arch)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// TestPackage compiles the tests of pkg, a path as the go command takes it,
// and runs them in a machine with args, as in "-test.run=TestHooks". The
// package's testdata is there. What the tests print goes to t's log as it
// comes and is returned; the test fails if they do.
func TestPackage(t testing.TB, cfg Config, pkg string, args ...string) string {
	t.Helper()
	Require(t, cfg.Arch)
	ctx, cancel := context.WithTimeoutCause(t.Context(), testTimeout, fmt.Errorf("machine still running after %s", testTimeout))
	defer cancel()
	cfg.Binary = filepath.Join(t.TempDir(), "vm.test")
	if err := BuildTest(ctx, pkg, cfg.Binary, cfg.Arch); err != nil {
		t.Fatal(err)
	}
	if cfg.Dir == "" {
		dir, err := filepath.Abs(pkg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); err == nil {
			cfg.Dir = dir
		}
	}
	if testdata := filepath.Join(cfg.Dir, "testdata"); cfg.Dir != "" {
		if _, err := os.Stat(testdata); err == nil {
			cfg.Files = append(cfg.Files, testdata)
		}
	}
	cfg.Args = append(append([]string{"-test.v", "-test.timeout=" + (testTimeout - 30*time.Second).String()}, args...), cfg.Args...)
	var out bytes.Buffer
	cfg.Output = io.MultiWriter(&out, t.Output())
	res, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if res.Status != 0 {
		t.Fatalf("tests of %s end with status %d on %s", pkg, res.Status, res.Kernel)
	}
	t.Logf("%s: tests of %s took %s", res.Kernel, pkg, res.Elapsed.Round(100*time.Millisecond))
	return out.String()
}
