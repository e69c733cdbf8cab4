package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// TestHooks shows that a machine has what it is there for: the kinds of
// program that many development machines refuse attach in it, run and, in the
// case of LSM, decide. On the host it starts a machine and runs itself there.
func TestHooks(t *testing.T) {
	if !Inside() {
		out := TestPackage(t, Config{}, ".", "-test.run=^TestHooks$")
		for _, name := range []string{"TestHooks/fentry", "TestHooks/fexit", "TestHooks/tp_btf", "TestHooks/lsm", "TestHooks/guest"} {
			if !strings.Contains(out, "--- PASS: "+name+" ") {
				t.Errorf("%s did not pass in the machine", name)
			}
		}
		return
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	t.Run("guest", testGuest)
	unlink := func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "f")
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Remove(name)); err != nil {
			t.Fatal(err)
		}
	}
	run := func(t *testing.T) {
		if err := exec.Command("/bin/true").Run(); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		spec   ebpf.ProgramSpec
		result int32
		do     func(*testing.T)
	}{
		{"fentry", ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: "security_inode_unlink"}, 0, unlink},
		{"fexit", ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFExit, AttachTo: "vfs_unlink"}, 0, unlink},
		{"tp_btf", ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sched_process_exec"}, 0, run},
		{"lsm", ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "file_open"}, 0, run},
		{"lsm denies", ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "bprm_check_security"}, -int32(syscall.EPERM), func(t *testing.T) {
			if err := exec.Command("/bin/true").Run(); !errors.Is(err, syscall.EPERM) {
				t.Errorf("exec: %v, want EPERM", err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer calls.Close()
			tt.spec.Name = "count"
			tt.spec.License = "Dual BSD/GPL"
			tt.spec.Instructions = counter(calls, tt.result)
			prog, err := ebpf.NewProgram(&tt.spec)
			if err != nil {
				t.Fatalf("load: %+v", err)
			}
			defer prog.Close()
			var l link.Link
			if tt.spec.Type == ebpf.LSM {
				l, err = link.AttachLSM(link.LSMOptions{Program: prog})
			} else {
				l, err = link.AttachTracing(link.TracingOptions{Program: prog})
			}
			if errors.Is(err, ebpf.ErrNotSupported) && runtime.GOARCH == "arm64" && olderThan(t, 6, 4) && tt.name != "tp_btf" {
				t.Skip("arm64 can call trampolines since 6.4, 2aa6ac03516d")
			}
			if err != nil {
				t.Fatalf("attach: %v", err)
			}
			tt.do(t)
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			var n uint64
			if err := calls.Lookup(uint32(0), &n); err != nil || n == 0 {
				t.Errorf("program ran %d times: %v", n, err)
			}
		})
	}
}

// olderThan compares the machine's kernel with a version.
func olderThan(t *testing.T, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	var a, b int
	if _, err := fmt.Sscanf(release, "%d.%d", &a, &b); err != nil {
		t.Fatalf("kernel release %q: %v", release, err)
	}
	return a < major || a == major && b < minor
}

// counter is a program that adds one to the map's only value and returns
// result.
func counter(m *ebpf.Map, result int32) asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.R10, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, result).WithSymbol("out"),
		asm.Return(),
	}
}

// testGuest holds what init promises to tests.
func testGuest(t *testing.T) {
	for _, name := range []string{"/proc/self/status", "/sys/kernel/btf/vmlinux", "/sys/kernel/tracing/events", "/sys/kernel/security/lsm", "/sys/fs/cgroup/cgroup.procs", "/dev/null", "/dev/fd/0"} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	if err := os.Mkdir("/sys/fs/bpf/x", 0o700); err != nil {
		t.Error(err)
	}
	out, err := exec.Command("ip", "-o", "addr", "show", "lo").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "127.0.0.1") {
		t.Errorf("loopback: %v\n%s", err, out)
	}
	// An orphan must be reaped by init, not stay as a zombie.
	out, err = exec.Command("sh", "-c", "(true & echo $!)").Output()
	if err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(string(out))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat("/proc/" + pid); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s is still there", pid)
		}
	}
}
