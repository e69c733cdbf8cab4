//go:build linux

package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Environment of the child that is sandboxed.
const (
	envChild = "CLEW_SANDBOX_TEST"
	envDir   = "CLEW_SANDBOX_DIR"
)

func TestMain(m *testing.M) {
	switch os.Getenv(envChild) {
	case "reduce":
		reduced()
		return
	case "":
	default:
		child()
		return
	}
	os.Exit(m.Run())
}

// A finding is what the child saw from inside.
type finding struct {
	Err     string
	Report  Report
	Tried   map[string]string // what was tried, and the error; "" when it worked
	Threads int
}

func child() {
	dir := os.Getenv(envDir)
	f := finding{Tried: map[string]string{}}
	try := func(name string, err error) {
		f.Tried[name] = ""
		if err != nil {
			f.Tried[name] = err.Error()
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	if os.Getuid() == 0 {
		if err := Become(FallbackUID, FallbackUID); err != nil {
			f.Err = err.Error()
		}
	}
	if f.Err == "" {
		var err error
		if f.Report, err = Enter(Config{ReadWrite: []string{filepath.Join(dir, "mine")}, ReadOnly: []string{filepath.Join(dir, "look"), filepath.Join(dir, "gone")}}); err != nil {
			f.Err = err.Error()
		}
	}
	_, err = os.ReadFile(filepath.Join(dir, "other", "file"))
	try("read other", err)
	_, err = os.ReadFile(filepath.Join(dir, "look", "file"))
	try("read look", err)
	try("write look", os.WriteFile(filepath.Join(dir, "look", "new"), nil, 0o600))
	try("write mine", os.WriteFile(filepath.Join(dir, "mine", "new"), nil, 0o600))
	try("exec", exec.Command("/bin/true").Run())
	try("unshare", unix.Unshare(unix.CLONE_NEWUSER))
	try("mount", unix.Mount("none", "/mnt", "tmpfs", 0, ""))
	try("ptrace", unix.PtraceAttach(os.Getppid()))
	_, _, errno := unix.Syscall(unix.SYS_BPF, 0, 0, 0)
	try("bpf", errno)
	_, err = net.Dial("tcp", listener.Addr().String())
	try("dial", err)
	try("setuid", unix.Setuid(0))
	tasks, err := os.ReadDir("/proc/self/task")
	try("proc", err)
	f.Threads = len(tasks)
	out, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	if _, err := os.Stdout.Write(out); err != nil {
		panic(err)
	}
}

func TestEnter(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"mine", "look", "other"} {
		path := filepath.Join(dir, d)
		if err := os.Mkdir(path, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "file"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), envChild+"=1", envDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var f finding
	if err := json.Unmarshal(out, &f); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if f.Err != "" {
		t.Fatal(f.Err)
	}
	if f.Report.UID == 0 || !f.Report.Seccomp {
		t.Errorf("report %+v", f.Report)
	}
	refused := []string{"exec", "unshare", "mount", "ptrace", "bpf", "setuid"}
	if f.Report.Landlock > 0 {
		refused = append(refused, "read other", "write look")
	}
	if f.Report.Landlock >= 4 {
		refused = append(refused, "dial")
	}
	for name, err := range f.Tried {
		switch {
		case slices.Contains(refused, name) && err == "":
			t.Errorf("%s worked", name)
		case (name == "read look" || name == "write mine") && err != "":
			t.Errorf("%s: %s", name, err)
		}
	}
}

// reduced is a child that stays root and keeps little.
func reduced() {
	f := finding{Tried: map[string]string{}}
	try := func(name string, err error) {
		f.Tried[name] = ""
		if err != nil {
			f.Tried[name] = err.Error()
		}
	}
	var err error
	f.Report, err = Reduce(Reduction{
		Capabilities: []uintptr{unix.CAP_KILL, unix.CAP_PERFMON},
		Calls:        []uintptr{unix.SYS_EXECVE},
	})
	if err != nil {
		f.Err = err.Error()
	}
	tasks, err := os.ReadDir("/proc/self/task")
	try("proc", err)
	f.Threads = len(tasks)
	want := fmt.Sprintf("%016x", uint64(1)<<unix.CAP_KILL|1<<unix.CAP_PERFMON)
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		try("status", err)
		for line := range strings.Lines(string(status)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			switch {
			case (name == "CapPrm" || name == "CapEff" || name == "CapBnd") && value != want,
				name == "CapInh" && strings.Trim(value, "0") != "":
				f.Err += fmt.Sprintf("thread %s has %s; ", task.Name(), strings.TrimSpace(line))
			}
		}
	}
	out, err := exec.Command("grep", "CapEff", "/proc/self/status").Output()
	try("exec", err)
	f.Tried["its program has "+strings.TrimSpace(string(out))] = ""
	try("mount", unix.Mount("none", "/mnt", "tmpfs", 0, ""))
	try("ptrace", unix.PtraceAttach(os.Getppid()))
	try("hostname", unix.Sethostname([]byte("other")))
	try("chown", os.Chown("/proc/self", 1, 1))
	if err := json.NewEncoder(os.Stdout).Encode(f); err != nil {
		panic(err)
	}
}

func TestReduce(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes root: only root has capabilities to give up")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), envChild+"=reduce")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var f finding
	if err := json.Unmarshal(out, &f); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if f.Err != "" || f.Report.UID != 0 || !f.Report.Seccomp || f.Threads < 2 {
		t.Errorf("%+v", f)
	}
	for name, err := range f.Tried {
		refused := slices.Contains([]string{"mount", "ptrace", "hostname", "chown"}, name)
		if refused != (err != "") {
			t.Errorf("%s: %q", name, err)
		}
	}
	if _, ok := f.Tried[fmt.Sprintf("its program has CapEff:\t%016x", uint64(1)<<unix.CAP_KILL|1<<unix.CAP_PERFMON)]; !ok {
		t.Errorf("what it starts: %v", f.Tried)
	}
}

func TestBecomeRoot(t *testing.T) {
	if err := Become(0, 0); err == nil {
		t.Error("became root")
	}
}

// TestProgram runs the filter in a virtual machine for classic BPF.
func TestProgram(t *testing.T) {
	raw := make([]bpf.RawInstruction, 0, 64)
	for _, f := range program(unix.AUDIT_ARCH_X86_64, denied) {
		raw = append(raw, bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K})
	}
	insns, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program has unknown instructions")
	}
	vm, err := bpf.NewVM(insns)
	if err != nil {
		t.Fatal(err)
	}
	// The virtual machine reads packets, in network order.
	run := func(nr, arch uint32) uint32 {
		var data [64]byte
		binary.BigEndian.PutUint32(data[offNr:], nr)
		binary.BigEndian.PutUint32(data[offArch:], arch)
		v, err := vm.Run(data[:])
		if err != nil {
			t.Fatal(err)
		}
		return uint32(v)
	}
	const deny = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	for nr := range uint32(600) {
		want := uint32(unix.SECCOMP_RET_ALLOW)
		if slices.Contains(denied, uintptr(nr)) {
			want = deny
		}
		if got := run(nr, unix.AUDIT_ARCH_X86_64); got != want {
			t.Errorf("call %d: %#x, want %#x", nr, got, want)
		}
		if got := run(nr, unix.AUDIT_ARCH_I386); got != deny {
			t.Errorf("call %d of a foreign architecture: %#x", nr, got)
		}
		if got := run(nr|x32Bit, unix.AUDIT_ARCH_X86_64); got != deny {
			t.Errorf("x32 call %d: %#x", nr, got)
		}
	}
}

// TestOnlyProgram runs the filter of a sealed process: it passes what is listed
// and the start of threads.
func TestOnlyProgram(t *testing.T) {
	raw := make([]bpf.RawInstruction, 0, 80)
	for _, f := range onlyProgram(unix.AUDIT_ARCH_X86_64, workCalls) {
		raw = append(raw, bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K})
	}
	insns, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program has unknown instructions")
	}
	vm, err := bpf.NewVM(insns)
	if err != nil {
		t.Fatal(err)
	}
	run := func(nr, arch, arg uint32) uint32 {
		var data [64]byte
		binary.BigEndian.PutUint32(data[offNr:], nr)
		binary.BigEndian.PutUint32(data[offArch:], arch)
		binary.BigEndian.PutUint32(data[offArgs:], arg)
		v, err := vm.Run(data[:])
		if err != nil {
			t.Fatal(err)
		}
		return uint32(v)
	}
	const deny = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	for nr := range uint32(600) {
		want := uint32(deny)
		if slices.Contains(workCalls, uintptr(nr)) {
			want = unix.SECCOMP_RET_ALLOW
		}
		if nr == unix.SYS_CLONE3 {
			want = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
		}
		if got := run(nr, unix.AUDIT_ARCH_X86_64, 0); got != want {
			t.Errorf("call %d: %#x, want %#x", nr, got, want)
		}
		if got := run(nr, unix.AUDIT_ARCH_I386, 0); got != deny {
			t.Errorf("call %d of a foreign architecture: %#x", nr, got)
		}
		if got := run(nr|x32Bit, unix.AUDIT_ARCH_X86_64, 0); got != deny {
			t.Errorf("x32 call %d: %#x", nr, got)
		}
	}
	if got := run(unix.SYS_CLONE, unix.AUDIT_ARCH_X86_64, unix.CLONE_THREAD|unix.CLONE_VM); got != unix.SECCOMP_RET_ALLOW {
		t.Errorf("a thread: %#x", got)
	}
	for _, nr := range []uintptr{unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_SOCKET, unix.SYS_CONNECT, unix.SYS_EXECVE, unix.SYS_CLONE3, unix.SYS_KILL, unix.SYS_PTRACE, unix.SYS_IOCTL} {
		if slices.Contains(workCalls, nr) {
			t.Errorf("call %d is allowed", nr)
		}
	}
}

func TestEnterAsRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to be refused as root")
	}
	if _, err := Enter(Config{}); err == nil {
		t.Error("root entered the sandbox as root")
	}
}
