//go:build linux && (amd64 || arm64)

package sensor

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/sensor/scrub"
)

// TestCapabilities asks for capabilities, with and without having them.
func TestCapabilities(t *testing.T) {
	var p kfilter.Plan
	p.Kinds[event.KindCapabilities].Mode = kfilter.All
	w := startWatch(t, Config{Plan: p, NotSelf: true})
	if testMode() == Tracepoint && !hasTracepoint("cap_capable") {
		t.Skip("this kernel has no tracepoint where capabilities are checked")
	}
	of := func(pid uint32, mask uint64, used bool) *event.Event {
		t.Helper()
		return w.eventOf(event.KindCapabilities, func(e *event.Event) bool {
			c := e.Capabilities
			return e.PID == pid && c.Attempted&mask != 0 && (c.Used&mask != 0) == used
		})
	}
	// A new namespace takes CAP_SYS_ADMIN.
	const admin, rawio = 1 << unix.CAP_SYS_ADMIN, 1 << unix.CAP_SYS_RAWIO
	pid, _ := w.mustKern("unshare")
	e := of(pid, admin, true)
	if e.UID != 0 || e.Capabilities.Used&^e.Capabilities.Attempted != 0 {
		t.Errorf("%+v of %d", e.Capabilities, e.UID)
	}
	pid, _, status := w.kern(nobody, "unshare")
	if status == 0 {
		t.Fatal("nobody may leave namespaces")
	}
	of(pid, admin, false)
	// Memory that is accounted for asks for the same, and does not count.
	pid, _ = w.mustKern("prctl")
	w.eventOf(event.KindCapabilities, func(e *event.Event) bool { return e.PID != 0 })
	w.settle()
	if got := w.events(func(e *event.Event) bool {
		return e.PID == pid && e.Capabilities != nil && e.Capabilities.Attempted&(admin|rawio) != 0
	}); len(got) > 0 {
		t.Errorf("a process that asked for nothing: %+v", got[0].Capabilities)
	}
	// Each is told once, and all of them together at the end.
	sum := map[uint32]uint64{}
	for _, e := range w.events(func(e *event.Event) bool { return e.Capabilities != nil }) {
		c := e.Capabilities
		if c.Attempted|sum[e.PID] != c.Attempted && e.PID == pid {
			t.Errorf("%#x after %#x", c.Attempted, sum[e.PID])
		}
		sum[e.PID] |= c.Attempted
	}
	w.stop()
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
}

// TestCapabilitiesFiltered asks only for what a rule wants.
func TestCapabilitiesFiltered(t *testing.T) {
	const admin, clock = 1 << unix.CAP_SYS_ADMIN, 1 << unix.CAP_SYS_TIME
	var p kfilter.Plan
	p.Kinds[event.KindCapabilities] = kfilter.Kind{Mode: kfilter.Filtered, FlagsAny: clock}
	w := startWatch(t, Config{Plan: p, NotSelf: true})
	if testMode() == Tracepoint && !hasTracepoint("cap_capable") {
		t.Skip("this kernel has no tracepoint where capabilities are checked")
	}
	pid, _ := w.mustKern("unshare")
	w.settle()
	if got := w.events(func(e *event.Event) bool { return e.PID == pid && e.Capabilities != nil }); len(got) > 0 {
		t.Errorf("not asked for: %+v", got[0].Capabilities)
	}
	p.Kinds[event.KindCapabilities].FlagsAny |= admin
	if err := w.s.SetPlan(p); err != nil {
		t.Fatal(err)
	}
	pid, _ = w.mustKern("unshare")
	w.eventOf(event.KindCapabilities, func(e *event.Event) bool { return e.PID == pid && e.Capabilities.Used&admin != 0 })
}

// testCapability is TestCapabilities in short.
func testCapability(t *testing.T, w *watch) {
	if testMode() == Tracepoint && !hasTracepoint("cap_capable") {
		t.Skip("this kernel has no tracepoint where capabilities are checked")
	}
	pid, _ := w.mustKern("unshare")
	const admin = 1 << unix.CAP_SYS_ADMIN
	w.eventOf(event.KindCapabilities, func(e *event.Event) bool { return e.PID == pid && e.Capabilities.Used&admin != 0 })
}

// testNamed is TestOndemand in short.
func testNamed(t *testing.T, w *watch) {
	const path = "/clew-test/no/such/root"
	if err := unix.Chroot(path); err == nil {
		t.Fatal("there is such a root")
	}
	e := w.event(event.KindOndemand, func(e *event.Event) bool { return e.Ondemand.Arg1Str == path })
	checkActor(t, e)
	if o := e.Ondemand; o.Name != "syscall:chroot" || o.Arg2Uint != 0 {
		t.Errorf("%+v", o)
	}
}

// TestOndemand has functions watched that are named at run time.
func TestOndemand(t *testing.T) {
	var p kfilter.Plan
	names := []string{"syscall:mkdirat", "syscall:no_such_call", "no_such_function"}
	if testMode() == Trampoline {
		names = append(names, "vfs_rmdir", "security_path_rename")
	}
	p.Kinds[event.KindOndemand] = kfilter.Kind{Mode: kfilter.Filtered, Names: names}
	w := startWatch(t, Config{Plan: p, NotSelf: true})
	if before515() {
		t.Skip(needs515)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := unix.Open(realTemp(t), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for name, want := range map[string]string{"made": "made", "--password=hunter2": "--password=" + scrub.Redacted} {
		if err := unix.Mkdirat(fd, name, 0o751); err != nil {
			t.Fatal(err)
		}
		e := w.event(event.KindOndemand, func(e *event.Event) bool { return e.Ondemand.Arg3Uint == 0o751 && e.Ondemand.Arg2Str == want })
		checkActor(t, e)
		if o := e.Ondemand; o.Name != "syscall:mkdirat" || o.Arg1Uint != uint64(fd) || o.Arg2Uint < 4096 || o.Arg1Str != "" ||
			o.Arg3Str != "" || o.Arg4Uint != 0 || e.Flags != event.FlagPathUser {
			t.Errorf("%+v flags %#x", o, e.Flags)
		}
		if err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err != nil {
			t.Fatal(err)
		}
	}
	if testMode() == Trampoline {
		e := w.event(event.KindOndemand, func(e *event.Event) bool { return e.Ondemand.Name == "vfs_rmdir" })
		if e.Ondemand.Arg2Uint>>63 != 1 {
			t.Errorf("%+v", e.Ondemand)
		}
	}
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names[1:3] {
		if st.Missing["ondemand/"+name] == "" {
			t.Errorf("%s is not missing: %v", name, st.Missing)
		}
	}
	// Without a rule there is nothing.
	links := st.Links
	if err := w.s.SetPlan(kfilter.Plan{}); err != nil {
		t.Fatal(err)
	}
	if st, err = w.s.Stats(); err != nil || st.Links >= links || st.Missing["ondemand/no_such_function"] != "" {
		t.Errorf("%d links after %d, missing %v: %v", st.Links, links, st.Missing, err)
	}
	p.Kinds[event.KindOndemand].Names = nil
	for i := range kfilter.MaxHooks + 2 {
		p.Kinds[event.KindOndemand].Names = append(p.Kinds[event.KindOndemand].Names, "syscall:"+calls[i])
	}
	if err := w.s.SetPlan(p); err != nil {
		t.Fatal(err)
	}
	if st, err = w.s.Stats(); err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, name := range p.Kinds[event.KindOndemand].Names {
		if st.Missing["ondemand/"+name] == errTooMany.Error() {
			left++
		}
	}
	if left != 2 {
		t.Errorf("%d names are too many, want 2: %v", left, st.Missing)
	}
	if err := w.s.SetPlan(kfilter.Plan{}); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if st, err = w.s.Stats(); err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
}

var calls = strings.Fields("adjtimex bind capget capset chroot fchdir fchmod fchown fsync getgid getgroups " +
	"getpriority getresgid getresuid getrlimit getsid getuid listen mlock munlock")

// TestUringSockets makes, binds, connects and accepts by io_uring.
func TestUringSockets(t *testing.T) {
	var p kfilter.Plan
	for _, k := range []event.Kind{event.KindSocket, event.KindBind, event.KindConnect, event.KindAccept} {
		p.Kinds[k].Mode = kfilter.All
	}
	w := startWatch(t, Config{Plan: p, NotSelf: true})
	if before515() {
		t.Skip(needs515)
	}
	if testMode() == Tracepoint && !seesUring(w.s.k.hooks) {
		t.Skip("this kernel's tracepoints do not show what a request is about")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := newUring(t)
	const accept, connect, socket, bind = 13, 16, 45, 56
	do := func(q uringRequest) int32 {
		t.Helper()
		res := r.do(t, q)
		for tries := 0; res == -int32(unix.ECANCELED) && tries < 100; tries++ {
			res = r.do(t, q)
		}
		return res
	}
	uring := func(e *event.Event) bool { return testMode() == Trampoline || e.Flags&event.FlagAsync != 0 }
	addr := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: [4]byte{127, 0, 0, 1}}
	at := uint64(uintptr(unsafe.Pointer(&addr)))
	size := uint64(unsafe.Sizeof(addr))

	// Where the kernel's io_uring has no such operation the system call does
	// what the next step needs.
	server := do(uringRequest{opcode: socket, fd: unix.AF_INET, off: unix.SOCK_STREAM, len: unix.IPPROTO_TCP})
	if server >= 0 {
		e := w.event(event.KindSocket, func(e *event.Event) bool { return e.Socket.Protocol == unix.IPPROTO_TCP && uring(e) })
		checkActor(t, e)
		if s := e.Socket; s.Domain != unix.AF_INET || s.Type != unix.SOCK_STREAM || s.Retval < 0 {
			t.Errorf("%+v", s)
		}
	} else {
		t.Logf("socket: %v", unix.Errno(-server))
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		server = int32(fd)
	}
	defer unix.Close(int(server))
	bound := do(uringRequest{opcode: bind, fd: server, addr: at, off: size})
	if bound < 0 {
		t.Logf("bind: %v", unix.Errno(-bound))
		if err := unix.Bind(int(server), &unix.SockaddrInet4{Addr: addr.Addr}); err != nil {
			t.Fatal(err)
		}
	}
	name, err := unix.Getsockname(int(server))
	if err != nil {
		t.Fatal(err)
	}
	port := name.(*unix.SockaddrInet4).Port
	if bound == 0 {
		e := w.event(event.KindBind, func(e *event.Event) bool { return int(e.Bind.Addr.Port) == port })
		checkActor(t, e)
		if e.Bind.Addr.IP.String() != "127.0.0.1" || !uring(e) {
			t.Errorf("%+v flags %#x", e.Bind, e.Flags)
		}
	}
	if err := unix.Listen(int(server), 1); err != nil {
		t.Fatal(err)
	}
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(client)
	addr.Port = uint16(port)<<8 | uint16(port)>>8
	if res := do(uringRequest{opcode: connect, fd: int32(client), addr: at, off: size}); res != 0 {
		t.Fatalf("connect: %v", unix.Errno(-res))
	}
	e := w.event(event.KindConnect, func(e *event.Event) bool { return int(e.Connect.Addr.Port) == port && uring(e) })
	checkActor(t, e)
	if c := e.Connect; c.Addr.IP.String() != "127.0.0.1" || c.Protocol != unix.IPPROTO_TCP ||
		c.Retval != 0 && c.Retval != -int64(unix.EINPROGRESS) {
		t.Errorf("%+v", c)
	}
	fd := do(uringRequest{opcode: accept, fd: server})
	if fd < 0 {
		t.Fatalf("accept: %v", unix.Errno(-fd))
	}
	defer unix.Close(int(fd))
	name, err = unix.Getsockname(client)
	if err != nil {
		t.Fatal(err)
	}
	from := name.(*unix.SockaddrInet4).Port
	e = w.event(event.KindAccept, func(e *event.Event) bool { return int(e.Accept.Addr.Port) == from && uring(e) })
	checkActor(t, e)
	runtime.KeepAlive(&addr)
	w.stop()
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
}

// TestSELinux switches modes and booleans. It needs a kernel that was started
// with SELinux, as a machine is with lsm=selinux,bpf selinux=1 enforcing=0.
func TestSELinux(t *testing.T) {
	if !selinuxInUse() {
		t.Skip("this kernel runs without SELinux")
	}
	dir := t.TempDir()
	if err := unix.Mount("selinuxfs", dir, "selinuxfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, 0)
	var p kfilter.Plan
	p.Kinds[event.KindSELinux].Mode = kfilter.All
	w := startWatch(t, Config{Plan: p, NotSelf: true})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	write := func(name, text string) error {
		t.Helper()
		fd, err := unix.Open(filepath.Join(dir, name), unix.O_WRONLY, 0)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer unix.Close(fd)
		_, err = unix.Write(fd, []byte(text))
		return err
	}
	check := func(what string, want event.SELinux) {
		t.Helper()
		e := w.event(event.KindSELinux, func(e *event.Event) bool { return *e.SELinux == want })
		checkActor(t, e)
		if kernel := want.EnforceStatus != "" && w.saysMode(e); e.Flags != 0 && kernel {
			t.Errorf("%s: flags %#x", what, e.Flags)
		}
	}
	if policy, err := os.ReadFile("testdata/selinux/policy"); err != nil {
		t.Fatal(err)
	} else if err := write("load", string(policy)); err != nil {
		t.Fatalf("load policy: %v", err)
	}
	for _, mode := range []struct{ text, status string }{{"1", "enforcing"}, {"0", "permissive"}} {
		if err := write("enforce", mode.text); err != nil {
			t.Fatalf("enforce %s: %v", mode.text, err)
		}
		check(mode.status, event.SELinux{EnforceStatus: mode.status})
	}
	if err := write("booleans/clew_test", "1\n"); err != nil {
		t.Fatal(err)
	}
	check("boolean", event.SELinux{BoolName: "clew_test", BoolState: "on"})
	if err := write("commit_pending_bools", "1"); err != nil {
		t.Fatal(err)
	}
	check("commit", event.SELinux{BoolCommitState: true})
	if b, err := os.ReadFile(filepath.Join(dir, "booleans/clew_test")); err != nil || strings.TrimSpace(string(b)) != "1 1" {
		t.Errorf("the boolean is %q, %v", b, err)
	}
	w.stop()
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
}

// saysMode tells whether the mode is the kernel's word.
func (w *watch) saysMode(e *event.Event) bool { return e.Flags&event.FlagPathUser == 0 }

// moreSamples are records for the decoder's tests.
func moreSamples() map[string][]byte {
	var c procRecCall
	c.A, c.B = 0x200080, 0x80
	caps := newPack(&c).done(procRecKindREC_CAPABILITIES)
	var s procRecCall
	s.A, s.B, s.C = uint64(selinux_tpSelinuxFileSELINUX_BOOL), 2, 0x0a31
	used := 0
	s.Text = at[procRecCall]("httpd_can_network_connect", &used)
	p := newPack(&s)
	p.b = append(p.b, "httpd_can_network_connect"...)
	var h ondemandRecHook
	h.Args, h.Arg = 2, [6]uint64{7, 1 << 20, 3}
	for i, b := range []byte("syscall:chroot") {
		h.Name[i] = int8(b)
	}
	used = 0
	text := at[ondemandRecHook]("/srv/jail", &used)
	h.Text[1].Off, h.Text[1].Len = text.Off, text.Len
	q := newPack(&h)
	q.b = append(q.b, "/srv/jail"...)
	return map[string][]byte{"capabilities": caps, "selinux": p.done(procRecKindREC_SELINUX), "ondemand": q.done(procRecKindREC_ONDEMAND)}
}

func TestDecodeMore(t *testing.T) {
	d := newDecoder(nil)
	for name, check := range map[string]func(*event.Event) bool{
		"capabilities": func(e *event.Event) bool {
			return *e.Capabilities == event.Capabilities{Attempted: 0x200080, Used: 0x80}
		},
		"selinux": func(e *event.Event) bool {
			return *e.SELinux == event.SELinux{BoolName: "httpd_can_network_connect", BoolState: "on"}
		},
		"ondemand": func(e *event.Event) bool {
			return *e.Ondemand == event.Ondemand{Name: "syscall:chroot", Arg1Uint: 7, Arg2Uint: 1 << 20, Arg2Str: "/srv/jail"}
		},
	} {
		b := moreSamples()[name]
		rec, err := d.decode(b)
		if err != nil || !check(rec.ev) {
			t.Errorf("%s: %v %+v", name, err, rec.ev)
		}
		for n := range len(b) {
			if _, err := d.decode(b[:n]); err == nil {
				t.Fatalf("%s cut to %d bytes", name, n)
			}
		}
	}
	// What is written to SELinux need not be a number.
	for text, want := range map[string]event.SELinux{
		"0": {EnforceStatus: "permissive"}, "1\n": {EnforceStatus: "enforcing"}, " 7": {EnforceStatus: "enforcing"}, "x": {}, "": {},
	} {
		var r procRecCall
		r.A, r.B = uint64(selinux_tpSelinuxFileSELINUX_ENFORCE), uint64(len(text))
		for i := range len(text) {
			r.C |= uint64(text[i]) << (8 * i)
		}
		if rec, err := d.decode(newPack(&r).done(procRecKindREC_SELINUX)); err != nil || *rec.ev.SELinux != want {
			t.Errorf("%q: %v %+v", text, err, rec.ev.SELinux)
		}
	}
	if got := plainText([]byte("a\x01b")); got != "" {
		t.Errorf("%q is no text", got)
	}
}
