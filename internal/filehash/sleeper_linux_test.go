package filehash

import (
	"bufio"
	"io"
	"os/exec"
	"testing"
)

// sleeper starts a process in a mount namespace of its own that sees a tmpfs at
// dir, and returns its process id. It ends with the test.
func sleeper(t *testing.T, dir string) int {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs none "$1" && echo ready && exec cat`, "sh", dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(io.LimitReader(out, 6)).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("namespace: %q, %v", line, err)
	}
	return cmd.Process.Pid
}
