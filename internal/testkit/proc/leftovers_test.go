package proc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// TestCleanSees holds that the check which finds nothing in the other tests
// finds what is there: in this process, below it, and pinned where no process
// holds it.
func TestCleanSees(t *testing.T) {
	dir := t.TempDir()
	inv, err := takeInventory()
	if err != nil {
		t.Fatal(err)
	}
	has := func(what string) bool {
		return slices.ContainsFunc(inv.now(dir, false), func(line string) bool { return strings.Contains(line, what) })
	}
	child := exec.Command("sleep", "600")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !has("process ") || !has("file "+name) {
		t.Errorf("not found: %q", inv.now(dir, false))
	}
	child.Process.Kill()
	child.Wait()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if left := inv.left(dir, false); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if inv.objects == nil {
		t.Skip("BPF objects cannot be listed: needs root")
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "clew_leftover", Type: ebpf.SocketFilter, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !has("held by the tests") {
		t.Errorf("a program of this process is not found: %q", inv.now(dir, false))
	}
	p.Close()
	if left := inv.left(dir, false); len(left) > 0 {
		t.Errorf("left: %q", left)
	}

	// A program that a cgroup alone holds.
	var root string
	for _, d := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(d + "/cgroup.controllers"); err == nil {
			root = d
			break
		}
	}
	if root == "" {
		t.Fatal("no unified cgroup hierarchy is mounted")
	}
	group := filepath.Join(root, fmt.Sprintf("clew-leftover-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(group)
	f, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "clew_orphan", Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = link.RawAttachProgram(link.RawAttachProgramOptions{Target: int(f.Fd()), Program: p, Attach: ebpf.AttachCGroupInetEgress})
	p.Close()
	if err != nil {
		t.Fatal(err)
	}
	if !has("clew_orphan, held by nobody") || !has("cgroup "+group) {
		t.Errorf("not found: %q", inv.now(dir, false))
	}
	f.Close()
	if err := os.Remove(group); err != nil {
		t.Fatal(err)
	}
	if left := inv.left(dir, false); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
