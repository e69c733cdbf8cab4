//go:build linux && (amd64 || arm64)

package sensor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// moduleEnv names a module of the running kernel that takes numdummies.
const moduleEnv = "CLEW_TEST_MODULE"

// kernKinds are the kinds about processes, memory and the kernel.
var kernKinds = []event.Kind{
	event.KindPtrace, event.KindSignal, event.KindPrctl, event.KindSetrlimit, event.KindUnshare, event.KindMmap,
	event.KindMprotect, event.KindBPF, event.KindLoadModule, event.KindUnloadModule, event.KindSysctl, event.KindCapset,
}

// kernHelper does one thing that the tests watch, on one thread.
func kernHelper(args []string) int {
	runtime.LockOSThread()
	number := func(i int) int {
		n, err := strconv.Atoi(args[i])
		if err != nil {
			panic(err)
		}
		return n
	}
	do := func(nr uintptr, a ...any) bool {
		_, errno := raw(nr, a...)
		if errno != 0 {
			fmt.Println(errno)
		}
		return errno == 0
	}
	ok := true
	if args[0] != "module" {
		become()
	}
	switch args[0] {
	case "ptrace":
		pid := number(1)
		if ok = do(unix.SYS_PTRACE, unix.PTRACE_ATTACH, pid); ok {
			var st unix.WaitStatus
			_, err := unix.Wait4(pid, &st, unix.WALL, nil)
			ok = err == nil && do(unix.SYS_PTRACE, unix.PTRACE_DETACH, pid)
		}
	case "traceme":
		ok = do(unix.SYS_PTRACE, unix.PTRACE_TRACEME)
	case "signals": // PID of a process that ignores them
		pid := number(1)
		fd, err := unix.PidfdOpen(pid, 0)
		var info [128]byte
		*(*int32)(unsafe.Pointer(&info[0])) = int32(unix.SIGCHLD)
		*(*int32)(unsafe.Pointer(&info[8])) = -2 // what a timer's signal says
		ok = err == nil && do(unix.SYS_KILL, pid, int(unix.SIGWINCH)) && do(unix.SYS_TGKILL, pid, pid, int(unix.SIGURG)) &&
			do(unix.SYS_RT_SIGQUEUEINFO, pid, int(unix.SIGCHLD), unsafe.Pointer(&info)) &&
			do(unix.SYS_PIDFD_SEND_SIGNAL, fd, int(unix.SIGCONT), 0, 0) && do(unix.SYS_KILL, pid, 0) && timer()
	case "kill":
		ok = do(unix.SYS_KILL, number(1), number(2))
	case "prctl":
		ok = do(unix.SYS_PRCTL, unix.PR_SET_NAME, "a-name-that-is-too-long") &&
			do(unix.SYS_PRCTL, unix.PR_SET_NAME, "short") && do(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	case "rlimit":
		lim := unix.Rlimit{Cur: 77, Max: 99}
		ok = unix.Prlimit(number(1), unix.RLIMIT_CORE, &lim, nil) == nil && unix.Prlimit(number(1), unix.RLIMIT_CPU, nil, &lim) == nil &&
			do(unix.SYS_SETRLIMIT, unix.RLIMIT_CORE, unsafe.Pointer(&unix.Rlimit{Cur: 5, Max: 6}))
	case "unshare":
		ok = unix.Unshare(unix.CLONE_NEWUTS|unix.CLONE_NEWIPC) == nil
	case "memory":
		f, err := os.Open(args[1])
		if err != nil {
			return 1
		}
		if _, err := unix.Mmap(int(f.Fd()), 4096, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE); err != nil {
			return 1
		}
		b, err := unix.Mmap(-1, 0, 3*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return 1
		}
		ok = unix.Mprotect(b[:2*4096], unix.PROT_READ|unix.PROT_EXEC) == nil
		fmt.Println(uintptr(unsafe.Pointer(&b[0])))
	case "bpf":
		return bpfHelper()
	case "module":
		return moduleHelper(args[1:])
	case "sysctl":
		if unix.Unshare(unix.CLONE_NEWUTS) != nil {
			return 1
		}
		_, err := os.ReadFile("/proc/sys/kernel/hostname")
		ok = err == nil && os.WriteFile("/proc/sys/kernel/hostname", []byte("clew-test"), 0) == nil
	case "capset":
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if unix.Capget(&hdr, &data[0]) != nil {
			return 1
		}
		for range 2 { // the second time nothing changes
			data[0].Effective &^= 1 << unix.CAP_SYS_CHROOT
			data[0].Permitted &^= 1 << unix.CAP_SYS_CHROOT
			ok = ok && unix.Capset(&hdr, &data[0]) == nil
		}
		fmt.Println(uint64(data[1].Effective)<<32|uint64(data[0].Effective), uint64(data[1].Permitted)<<32|uint64(data[0].Permitted))
	default:
		return 99
	}
	if !ok {
		return 1
	}
	return 0
}

// become makes the process run as who $CLEW_SENSOR_UID says.
func become() {
	uid, err := strconv.Atoi(os.Getenv("CLEW_SENSOR_UID"))
	if err == nil {
		err = syscall.Setuid(uid)
	}
	if err != nil {
		panic(err)
	}
}

// timer lets a timer of the process send it a signal.
func timer() bool {
	got := make(chan os.Signal, 1)
	signal.Notify(got, unix.SIGALRM)
	it := unix.Itimerval{Value: unix.Timeval{Usec: 1}}
	_, err := unix.Setitimer(unix.ITIMER_REAL, it)
	<-got
	return err == nil
}

// bpfHelper makes a map and a program, or is refused both.
func bpfHelper() int {
	if os.Getuid() != 0 {
		// BPF_MAP_CREATE of one entry, by hand: a library would ask other
		// things first.
		attr := [72]byte{0: 1, 4: 4, 8: 8, 12: 1}
		copy(attr[28:], "clew_test_map")
		if _, errno := raw(unix.SYS_BPF, 0, unsafe.Pointer(&attr), len(attr)); errno == unix.EPERM {
			return 3
		}
		return 1
	}
	_ = rlimit.RemoveMemlock()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "clew_test_map", Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer m.Close()
	if err := m.Put(uint32(1), uint64(2)); err != nil {
		return 1
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "clew_test_prog", Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: license,
		Instructions: asm.Instructions{asm.FnKtimeGetNs.Call(), asm.FnGetPrandomU32.Call(), asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return 1
	}
	fmt.Println(info.Tag)
	return 0
}

// moduleHelper loads a module from its file and from memory, and removes it.
func moduleHelper(args []string) int {
	b, err := os.ReadFile(args[0])
	if err != nil {
		return 1
	}
	f, err := os.Open(args[0])
	if err != nil {
		return 1
	}
	become()
	if err := unix.FinitModule(int(f.Fd()), args[1], 0); err != nil {
		fmt.Println(err)
		if errors.Is(err, unix.EPERM) {
			return 3
		}
		return 1
	}
	if err := unix.DeleteModule(args[2], 0); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := unix.InitModule(b, ""); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := unix.DeleteModule(args[2], 0); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// TestKernKinds has a test for each kind about processes, memory and the
// kernel, all under one sensor.
func TestKernKinds(t *testing.T) {
	var p kfilter.Plan
	for _, k := range kernKinds {
		p.Kinds[k].Mode = kfilter.All
	}
	w := startWatch(t, Config{Plan: p, NotSelf: true})
	sub := func(name string, f func(t *testing.T, w *watch)) {
		t.Run(name, func(t *testing.T) {
			w.t = t
			f(t, w)
		})
	}
	sub("ptrace", testPtrace)
	sub("signal", testSignal)
	sub("prctl", testPrctl)
	sub("setrlimit", testSetrlimit)
	sub("unshare", testUnshare)
	sub("memory", testMemory)
	sub("bpf", testBPF)
	sub("module", testModule)
	sub("sysctl", testSysctl)
	sub("capset", testCapset)
	w.t = t
	w.stop()
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
	for place, why := range st.Missing {
		t.Logf("missing: %s: %s", place, why)
	}
}

// kern runs a helper to its end and returns its pid, output and exit status.
func (w *watch) kern(uid uint32, args ...string) (pid uint32, out string, status int) {
	w.t.Helper()
	cmd := exec.Command(self(w.t), args...)
	cmd.Env = []string{"CLEW_SENSOR_HELPER=kern", fmt.Sprintf("CLEW_SENSOR_UID=%d", uid)}
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return uint32(cmd.Process.Pid), strings.TrimSpace(buf.String()), cmd.ProcessState.ExitCode()
}

// mustKern is kern for what has to succeed.
func (w *watch) mustKern(args ...string) (pid uint32, out string) {
	w.t.Helper()
	pid, out, status := w.kern(0, args...)
	if status != 0 {
		w.t.Fatalf("%q ended with %d: %s", args, status, out)
	}
	return pid, out
}

// idle is a process that waits until the test ends.
func idle(t *testing.T) int {
	t.Helper()
	cmd := exec.Command(self(t))
	cmd.Env = []string{"CLEW_SENSOR_HELPER=wait"}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return cmd.Process.Pid
}

func checkTarget(t *testing.T, got event.Target, pid int) {
	t.Helper()
	if got.PID != uint32(pid) || got.StartNS/1e7 != startOf(t, pid) {
		t.Errorf("target %d started %d, want %d %d", got.PID, got.StartNS/1e7, pid, startOf(t, pid))
	}
}

const nobody = 65534

func testPtrace(t *testing.T, w *watch) {
	target := idle(t)
	pid, _ := w.mustKern("ptrace", strconv.Itoa(target))
	for _, request := range []int64{unix.PTRACE_ATTACH, unix.PTRACE_DETACH} {
		e := w.eventOf(event.KindPtrace, func(e *event.Event) bool { return e.PID == pid && e.Ptrace.Request == request })
		checkTarget(t, e.Ptrace.Tracee, target)
		if e.Ptrace.Retval != 0 || e.Flags != 0 {
			t.Errorf("%+v flags %#x", e.Ptrace, e.Flags)
		}
	}
	pid, _ = w.mustKern("traceme")
	e := w.eventOf(event.KindPtrace, func(e *event.Event) bool { return e.PID == pid })
	if e.Ptrace.Request != unix.PTRACE_TRACEME || e.Ptrace.Tracee.PID != pid || e.Ptrace.Tracee.StartNS != e.StartNS {
		t.Errorf("%+v", e.Ptrace)
	}
	pid, _, status := w.kern(nobody, "ptrace", strconv.Itoa(target))
	if status == 0 {
		t.Fatal("nobody may trace")
	}
	e = w.eventOf(event.KindPtrace, func(e *event.Event) bool { return e.PID == pid })
	checkTarget(t, e.Ptrace.Tracee, target)
	if e.Ptrace.Retval != -int64(unix.EPERM) || e.UID != nobody {
		t.Errorf("%+v by %d", e.Ptrace, e.UID)
	}
}

func testSignal(t *testing.T, w *watch) {
	target := idle(t)
	pid, _ := w.mustKern("signals", strconv.Itoa(target))
	for sig, given := range map[unix.Signal]int64{unix.SIGWINCH: int64(target), unix.SIGURG: int64(target), unix.SIGCHLD: int64(target), unix.SIGCONT: 0} {
		e := w.eventOf(event.KindSignal, func(e *event.Event) bool {
			return e.PID == pid && e.SignalSent.Type == int64(sig) && e.SignalSent.Target.PID == uint32(target)
		})
		checkTarget(t, e.SignalSent.Target, target)
		if e.SignalSent.PIDGiven != given || e.SignalSent.Retval != 0 {
			t.Errorf("%+v, want process %d given", e.SignalSent, given)
		}
	}
	w.eventOf(event.KindSignal, func(e *event.Event) bool { return e.PID == pid })
	if got := w.events(func(e *event.Event) bool {
		return e.SignalSent != nil && e.PID == pid && (e.SignalSent.Type == int64(unix.SIGALRM) || e.SignalSent.Type == 0)
	}); len(got) > 0 {
		t.Errorf("reported %+v", got[0].SignalSent)
	}
	other := idle(t)
	pid, _, status := w.kern(nobody, "kill", strconv.Itoa(other), "9")
	if status == 0 {
		t.Fatal("nobody may kill")
	}
	e := w.eventOf(event.KindSignal, func(e *event.Event) bool { return e.PID == pid && e.SignalSent.Retval != 0 })
	checkTarget(t, e.SignalSent.Target, other)
	if e.SignalSent.Type != 9 || e.SignalSent.Retval != -int64(unix.EPERM) || e.SignalSent.PIDGiven != int64(other) {
		t.Errorf("%+v", e.SignalSent)
	}
}

func testPrctl(t *testing.T, w *watch) {
	pid, _ := w.mustKern("prctl")
	name := func(want string, cut bool) {
		t.Helper()
		e := w.eventOf(event.KindPrctl, func(e *event.Event) bool { return e.PID == pid && e.Prctl.NewName == want })
		if e.Prctl.Option != unix.PR_SET_NAME || e.Prctl.IsNameTruncated != cut || e.Prctl.Retval != 0 || e.Prctl.Arg == 0 {
			t.Errorf("%+v", e.Prctl)
		}
	}
	name("a-name-that-is-", true)
	name("short", false)
	e := w.eventOf(event.KindPrctl, func(e *event.Event) bool { return e.PID == pid && e.Prctl.Option == unix.PR_SET_DUMPABLE })
	if e.Prctl.NewName != "" || e.Prctl.Arg != 0 {
		t.Errorf("%+v", e.Prctl)
	}
}

func testSetrlimit(t *testing.T, w *watch) {
	target := idle(t)
	pid, _ := w.mustKern("rlimit", strconv.Itoa(target))
	e := w.eventOf(event.KindSetrlimit, func(e *event.Event) bool { return e.PID == pid && e.Setrlimit.RlimCur == 77 })
	checkTarget(t, e.Setrlimit.Target, target)
	if s := e.Setrlimit; s.Resource != unix.RLIMIT_CORE || s.RlimMax != 99 || s.Retval != 0 || e.Flags != 0 {
		t.Errorf("%+v flags %#x", s, e.Flags)
	}
	e = w.eventOf(event.KindSetrlimit, func(e *event.Event) bool { return e.PID == pid && e.Setrlimit.RlimCur == 5 })
	if s := e.Setrlimit; s.Resource != unix.RLIMIT_CORE || s.RlimMax != 6 || s.Target.PID != pid || s.Target.StartNS != e.StartNS {
		t.Errorf("%+v", s)
	}
	if got := w.events(func(e *event.Event) bool {
		return e.PID == pid && e.Setrlimit != nil && e.Setrlimit.Resource == unix.RLIMIT_CPU
	}); len(got) > 0 {
		t.Errorf("a question was reported: %+v", got[0].Setrlimit)
	}
}

func testUnshare(t *testing.T, w *watch) {
	pid, _ := w.mustKern("unshare")
	e := w.eventOf(event.KindUnshare, func(e *event.Event) bool { return e.PID == pid })
	if e.Unshare.Flags != unix.CLONE_NEWUTS|unix.CLONE_NEWIPC || e.Unshare.Retval != 0 {
		t.Errorf("%+v", e.Unshare)
	}
	pid, _, status := w.kern(nobody, "unshare")
	if status == 0 {
		t.Fatal("nobody may leave namespaces")
	}
	e = w.eventOf(event.KindUnshare, func(e *event.Event) bool { return e.PID == pid })
	if e.Unshare.Retval != -int64(unix.EPERM) {
		t.Errorf("%+v", e.Unshare)
	}
}

func testMemory(t *testing.T, w *watch) {
	path := filepath.Join(realTemp(t), "mapped")
	if err := os.WriteFile(path, make([]byte, 8192), 0o640); err != nil {
		t.Fatal(err)
	}
	pid, out := w.mustKern("memory", path)
	at, err := strconv.ParseUint(out, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	e := w.eventOf(event.KindMmap, func(e *event.Event) bool { return e.PID == pid && e.Mmap.File.Path == path })
	checkFile(t, &e.Mmap.File, path)
	if m := e.Mmap; m.Protection != unix.PROT_READ|unix.PROT_EXEC || m.Flags != unix.MAP_PRIVATE || m.Offset != 4096 || m.Len != 4096 || m.Addr == 0 || m.Retval != 0 {
		t.Errorf("%+v", m)
	}
	e = w.eventOf(event.KindMmap, func(e *event.Event) bool { return e.PID == pid && e.Mmap.Addr == at })
	if m := e.Mmap; m.Protection != unix.PROT_READ|unix.PROT_WRITE || m.Flags != unix.MAP_PRIVATE|unix.MAP_ANON || m.Len != 3*4096 || m.File.Path != "" {
		t.Errorf("%+v", m)
	}
	e = w.eventOf(event.KindMprotect, func(e *event.Event) bool { return e.PID == pid && e.Mprotect.Addr == at })
	const rwx = 7
	if m := e.Mprotect; m.VmProtection&rwx != unix.PROT_READ|unix.PROT_WRITE || m.ReqProtection != unix.PROT_READ|unix.PROT_EXEC || m.Len != 2*4096 || m.Retval != 0 {
		t.Errorf("%+v", m)
	}
}

func testBPF(t *testing.T, w *watch) {
	pid, tag := w.mustKern("bpf")
	const mapCreate, mapUpdate, progLoad = 0, 2, 5
	of := func(cmd int64, name string) *event.Event {
		return w.eventOf(event.KindBPF, func(e *event.Event) bool {
			return e.PID == pid && e.BPF.Cmd == cmd && (e.BPF.MapName == name || e.BPF.ProgName == name)
		})
	}
	e := of(mapCreate, "clew_test_map")
	if e.BPF.MapType != int64(ebpf.Hash) || e.BPF.Retval < 0 || e.Flags != 0 {
		t.Errorf("%+v flags %#x", e.BPF, e.Flags)
	}
	e = of(mapUpdate, "clew_test_map")
	if e.BPF.MapType != int64(ebpf.Hash) || e.BPF.Retval != 0 || e.Flags != event.FlagPathUser {
		t.Errorf("%+v flags %#x", e.BPF, e.Flags)
	}
	e = of(progLoad, "clew_test_prog")
	// One more than the kernel's number, as BPF_CGROUP_INET_EGRESS in rules.
	egress := int64(ebpf.AttachCGroupInetEgress) + 1
	if e.BPF.ProgType != int64(ebpf.CGroupSKB) || e.BPF.ProgAttachType != egress || e.BPF.ProgTag != tag || e.Flags != 0 {
		t.Errorf("%+v flags %#x, want tag %s", e.BPF, e.Flags, tag)
	}
	w.s.mu.Lock()
	verifier := w.s.k.progs["kern_tr/tr_helper"] != nil
	w.s.mu.Unlock()
	if want := []int64{int64(asm.FnKtimeGetNs), int64(asm.FnGetPrandomU32)}; verifier && !slices.Equal(e.BPF.ProgHelpers, want) {
		t.Errorf("helpers %d, want %d", e.BPF.ProgHelpers, want)
	} else if !verifier && e.BPF.ProgHelpers != nil {
		t.Errorf("helpers %d from nowhere", e.BPF.ProgHelpers)
	}
	pid, out, status := w.kern(nobody, "bpf")
	if status == 3 {
		e = w.eventOf(event.KindBPF, func(e *event.Event) bool {
			return e.PID == pid && e.BPF.Cmd == mapCreate && e.BPF.Retval < 0 && e.BPF.MapName == "clew_test_map"
		})
		if e.BPF.Retval != -int64(unix.EPERM) || e.Flags != event.FlagPathUser {
			t.Errorf("%+v flags %#x", e.BPF, e.Flags)
		}
	} else {
		t.Logf("this kernel lets nobody use BPF: %d %s", status, out)
	}
	// The sensor's own calls are none.
	if got := w.events(func(e *event.Event) bool { return e.BPF != nil && e.PID == uint32(os.Getpid()) }); len(got) > 0 {
		t.Errorf("reported our own: %+v", got[0].BPF)
	}
}

// testModule needs a kernel with modules, and one of its own to load: the
// machine of TestMachine has both.
func testModule(t *testing.T, w *watch) {
	module := os.Getenv(moduleEnv)
	if module == "" {
		t.Skip("no module of this kernel is at hand")
	}
	if _, err := os.Stat("/proc/modules"); err != nil {
		t.Skip("this kernel has no modules")
	}
	module, err := filepath.EvalSymlinks(module)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSuffix(filepath.Base(module), ".ko")
	pid, _ := w.mustKern("module", module, "numdummies=3 nonsense=1", name)
	load := func(memory bool) *event.Event {
		return w.eventOf(event.KindLoadModule, func(e *event.Event) bool { return e.PID == pid && e.LoadModule.LoadedFromMemory == memory })
	}
	e := load(false)
	checkFile(t, &e.LoadModule.File, module)
	if m := e.LoadModule; m.Name != name || !slices.Equal(m.Argv, []string{"numdummies=3", "nonsense=1"}) || m.ArgsTruncated || m.Retval != 0 || e.Flags != 0 {
		t.Errorf("%+v flags %#x", m, e.Flags)
	}
	e = load(true)
	if m := e.LoadModule; m.Name != name || len(m.Argv) != 0 || m.File.Path != "" || m.Retval != 0 {
		t.Errorf("%+v", m)
	}
	e = w.eventOf(event.KindUnloadModule, func(e *event.Event) bool { return e.PID == pid })
	if m := e.UnloadModule; m.Name != name || m.Retval != 0 || e.Flags != 0 {
		t.Errorf("%+v flags %#x", m, e.Flags)
	}
	pid, _, status := w.kern(nobody, "module", module, "numdummies=4", name)
	if status != 3 {
		t.Fatal("nobody may load modules")
	}
	e = w.eventOf(event.KindLoadModule, func(e *event.Event) bool { return e.PID == pid })
	checkFile(t, &e.LoadModule.File, module)
	if m := e.LoadModule; m.Name != "" || !slices.Equal(m.Argv, []string{"numdummies=4"}) || m.Retval != -int64(unix.EPERM) || e.Flags != event.FlagPathUser {
		t.Errorf("%+v flags %#x", m, e.Flags)
	}
}

func testSysctl(t *testing.T, w *watch) {
	before, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := w.mustKern("sysctl")
	e := w.eventOf(event.KindSysctl, func(e *event.Event) bool {
		return e.PID == pid && e.Sysctl.Name == "kernel/hostname" && e.Sysctl.Action == 1
	})
	if s := e.Sysctl; s.OldValue != before || s.Value != "" || s.OldValueTruncated || s.FilePosition != 0 {
		t.Errorf("%+v", s)
	}
	e = w.eventOf(event.KindSysctl, func(e *event.Event) bool { return e.PID == pid && e.Sysctl.Action == 2 })
	if s := e.Sysctl; s.Name != "kernel/hostname" || s.Value != "clew-test" || s.OldValue != before || s.ValueTruncated || s.NameTruncated {
		t.Errorf("%+v", s)
	}
}

func testCapset(t *testing.T, w *watch) {
	pid, out := w.mustKern("capset")
	var effective, permitted uint64
	if _, err := fmt.Sscan(out, &effective, &permitted); err != nil {
		t.Fatal(err)
	}
	e := w.eventOf(event.KindCapset, func(e *event.Event) bool { return e.PID == pid })
	if e.Capset.CapEffective != effective || e.Capset.CapPermitted != permitted {
		t.Errorf("%#x, want %#x %#x", e.Capset, effective, permitted)
	}
	w.settle()
	if got := w.events(func(e *event.Event) bool { return e.PID == pid && e.Capset != nil }); len(got) != 1 {
		t.Errorf("%d changes", len(got))
	}
}
