//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// A hook is one program on one place.
type hook struct {
	object string
	prog   string
	// on is the system call's tracepoint; empty when the program says itself
	// where it belongs.
	on    string
	kinds []procRecKind // attached when one of them is wanted
	// optional places do not exist on every kernel or architecture; the reason
	// is in the comment beside the hook.
	optional bool
}

type kinds = []procRecKind

// lifeHooks are the same in both modes and always attached.
var lifeHooks = []hook{
	{object: "proc", prog: "on_fork", kinds: kinds{procRecKindREC_FORK}},
	{object: "proc", prog: "on_exec", kinds: kinds{procRecKindREC_EXEC}},
	{object: "proc", prog: "on_exit", kinds: kinds{procRecKindREC_EXIT}},
	{object: "proc", prog: "on_cgroup", kinds: kinds{procRecKindREC_CGROUP}},
}

var (
	kOpen   = kinds{procRecKindREC_OPEN}
	kUnlink = kinds{procRecKindREC_UNLINK}
	kChmod  = kinds{procRecKindREC_CHMOD}
	kChown  = kinds{procRecKindREC_CHOWN}
	kLink   = kinds{procRecKindREC_LINK}
	kSym    = kinds{procRecKindREC_SYMLINK}
	kRename = kinds{procRecKindREC_RENAME}
	kMkdir  = kinds{procRecKindREC_MKDIR}
	kRmdir  = kinds{procRecKindREC_RMDIR}
	kTrunc  = kinds{procRecKindREC_TRUNCATE}
	// Canaries pass by ftruncate, so it is always attached.
	kTruncCanary = kinds{procRecKindREC_TRUNCATE, procRecKindREC_CANARY}
	kUnlinkat    = kinds{procRecKindREC_UNLINK, procRecKindREC_RMDIR}
	kCred        = kinds{procRecKindREC_CRED}
)

// A call is a system call that a file program watches: at exit only, or at
// entry too when its strings matter.
type call struct {
	name  string
	enter bool
	exit  string // program at exit
	kinds kinds
	// Some calls are not on every architecture (legacy ones are missing on
	// arm64) or came late (openat2 v5.6, fchmodat2 v6.6).
	optional bool
}

var fileCalls = []call{
	{"openat", false, "exit_openat", kOpen, false},
	{"open", false, "exit_open", kOpen, true},
	{"creat", false, "exit_creat", kOpen, true},
	{"openat2", false, "exit_openat2", kOpen, true},
	{"open_by_handle_at", false, "exit_open_by_handle", kOpen, true},
	{"truncate", true, "exit_truncate", kTrunc, false},
	{"ftruncate", false, "exit_ftruncate", kTruncCanary, false},
	{"unlink", true, "exit_unlink", kUnlink, true},
	{"unlinkat", true, "exit_unlink", kUnlinkat, false},
	{"rmdir", true, "exit_rmdir", kRmdir, true},
	{"mkdir", true, "exit_mkdir", kMkdir, true},
	{"mkdirat", true, "exit_mkdir", kMkdir, false},
	{"rename", true, "exit_rename", kRename, true},
	{"renameat", true, "exit_rename", kRename, true},
	{"renameat2", true, "exit_rename", kRename, false},
	{"chmod", true, "exit_chmod", kChmod, true},
	{"fchmod", false, "exit_fchmod", kChmod, false},
	{"fchmodat", true, "exit_chmod", kChmod, false},
	{"fchmodat2", true, "exit_chmod", kChmod, true},
	{"chown", true, "exit_chown", kChown, true},
	{"lchown", true, "exit_chown", kChown, true},
	{"fchown", false, "exit_fchown", kChown, false},
	{"fchownat", true, "exit_chown", kChown, false},
	{"link", true, "exit_link", kLink, true},
	{"linkat", true, "exit_link", kLink, false},
	{"symlink", true, "exit_symlink", kSym, true},
	{"symlinkat", true, "exit_symlink", kSym, false},
}

var credCalls = []string{
	"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "capset",
}

// tracepointHooks are the hooks of tracepoint mode.
func tracepointHooks() []hook {
	hooks := append([]hook(nil), lifeHooks...)
	for _, c := range fileCalls {
		if c.enter {
			hooks = append(hooks, hook{"file_tp", "enter_" + c.name, "sys_enter_" + c.name, c.kinds, c.optional})
		}
		hooks = append(hooks, hook{"file_tp", c.exit, "sys_exit_" + c.name, c.kinds, c.optional})
	}
	hooks = append(hooks, fsmetaCallHooks()...)
	hooks = append(hooks, uringHooks()...)
	hooks = append(hooks, kernCallHooks()...)
	for _, c := range credCalls {
		hooks = append(hooks,
			hook{"cred_tp", "enter_cred", "sys_enter_" + c, kCred, false},
			hook{"cred_tp", "exit_cred", "sys_exit_" + c, kCred, false})
	}
	return append(hooks,
		hook{"net_tp", "exit_connect", "sys_exit_connect", kinds{procRecKindREC_CONNECT}, false},
		hook{"net_tp", "exit_bind", "sys_exit_bind", kinds{procRecKindREC_BIND}, false},
		hook{"net_tp", "exit_accept", "sys_exit_accept", kinds{procRecKindREC_ACCEPT}, false},
		hook{"net_tp", "exit_accept", "sys_exit_accept4", kinds{procRecKindREC_ACCEPT}, false})
}

// trampolineHooks are the hooks of trampoline mode. The programs say themselves
// which function they belong to.
func trampolineHooks() []hook {
	hooks := append([]hook(nil), lifeHooks...)
	for _, h := range []struct {
		object string
		kinds  kinds
		progs  []string
	}{
		{"file_tr", kOpen, []string{"tr_open", "tr_file_open", "tr_open_root"}},
		{"file_tr", kTrunc, []string{"tr_truncate"}},
		{"file_tr", kTruncCanary, []string{"tr_ftruncate", "tr_ksys_ftruncate"}},
		{"file_tr", kChmod, []string{"tr_chmod"}},
		{"file_tr", kChown, []string{"tr_chown"}},
		{"file_tr", kUnlink, []string{"hold_unlink", "tr_unlink"}},
		{"file_tr", kRmdir, []string{"hold_rmdir", "tr_rmdir"}},
		{"file_tr", kMkdir, []string{"hold_mkdir", "tr_mkdir"}},
		{"file_tr", kSym, []string{"hold_symlink", "tr_symlink"}},
		{"file_tr", kLink, []string{"hold_link", "tr_link"}},
		{"file_tr", kRename, []string{"hold_rename", "tr_rename"}},
		{"net_tr", kinds{procRecKindREC_CONNECT}, []string{"tr_connect"}},
		{"net_tr", kinds{procRecKindREC_BIND}, []string{"tr_bind"}},
		{"net_tr", kinds{procRecKindREC_ACCEPT}, []string{"tr_accept"}},
		{"cred_tr", kCred, []string{"tr_cred"}},
	} {
		for _, p := range h.progs {
			hooks = append(hooks, hook{object: h.object, prog: p, kinds: h.kinds})
		}
	}
	// Since v6.11.
	hooks = append(hooks, hook{object: "net_tr", prog: "tr_bind_socket", kinds: kinds{procRecKindREC_BIND}, optional: true})
	hooks = append(hooks, fsmetaTrampolineHooks()...)
	hooks = append(hooks, kernTrampolineHooks()...)
	return hooks
}

var sockoptTracepointHooks = []hook{
	{object: "sockopt_tp", prog: "exit_socket", on: "sys_exit_socket", kinds: kinds{procRecKindREC_SOCKET}},
	{object: "sockopt_tp", prog: "exit_setsockopt", on: "sys_exit_setsockopt", kinds: kinds{procRecKindREC_SETSOCKOPT}},
}

var sockoptTrampolineHooks = []hook{
	{object: "sockopt_tr", prog: "tr_socket", kinds: kinds{procRecKindREC_SOCKET}},
	// Since v5.19.
	{object: "sockopt_tr", prog: "tr_socket_file", kinds: kinds{procRecKindREC_SOCKET}, optional: true},
	{object: "sockopt_tr", prog: "tr_setsockopt", kinds: kinds{procRecKindREC_SETSOCKOPT}},
}

// packetHooks are the same in both modes.
var packetHooks = []hook{
	{object: "packet", prog: "packet_egress", kinds: kinds{procRecKindREC_DNS, procRecKindREC_IMDS}},
	{object: "packet", prog: "packet_ingress", kinds: kinds{procRecKindREC_DNS, procRecKindREC_IMDS}},
	{object: "flow", prog: "flow_egress", kinds: kinds{procRecKindREC_FLOWS}},
	{object: "flow", prog: "flow_ingress", kinds: kinds{procRecKindREC_FLOWS}},
}

// hooksFor lists the hooks of a mode.
func hooksFor(mode Mode) []hook {
	if mode == Trampoline {
		return slices.Concat(trampolineHooks(), sockoptTrampolineHooks, packetHooks, moreHooks(mode))
	}
	return slices.Concat(tracepointHooks(), sockoptTracepointHooks, packetHooks, moreHooks(mode))
}

func (h *hook) wanted(p *kernelPlan) bool {
	for _, k := range h.kinds {
		if p.wanted[k] || k == procRecKindREC_CANARY {
			return true
		}
	}
	return false
}

// tracefs reads the ids of tracepoints, which only that file system tells. It
// is opened detached: it appears in no mount table and needs no clean-up.
type tracefs struct{ fd int }

func openTracefs() (*tracefs, error) {
	for _, p := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		if fd, err := unix.Open(p+"/events", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			return &tracefs{fd}, nil
		}
	}
	ctx, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open tracefs: %w", err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		return nil, fmt.Errorf("create tracefs: %w", err)
	}
	mnt, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount tracefs: %w", err)
	}
	defer unix.Close(mnt)
	fd, err := unix.Openat(mnt, "events", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open tracefs events: %w", err)
	}
	return &tracefs{fd}, nil
}

func (t *tracefs) Close() error { return unix.Close(t.fd) }

// id of a tracepoint, os.ErrNotExist if the kernel does not have it.
func (t *tracefs) id(group, name string) (uint64, error) {
	b, err := t.read(filepath.Join(group, name, "id"), 32)
	if err != nil {
		return 0, fmt.Errorf("tracepoint %s: %w", name, err)
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("tracepoint %s: %w", name, err)
	}
	return id, nil
}

// read reads a small file of a tracepoint.
func (t *tracefs) read(path string, limit int64) ([]byte, error) {
	fd, err := unix.Openat(t.fd, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// perfLink is a program on a tracepoint.
type perfLink struct {
	perf int
	l    link.Link
}

func (p *perfLink) Close() error {
	err := p.l.Close()
	return errors.Join(err, unix.Close(p.perf))
}

// attachTracepoint puts a program on a tracepoint of the kernel. The event is
// opened on one CPU; the program runs on all.
func attachTracepoint(id uint64, prog *ebpf.Program) (io.Closer, error) {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Sample: 1, Sample_type: unix.PERF_SAMPLE_RAW, Wakeup: 1,
	}
	attr.Size = uint32(unix.PERF_ATTR_SIZE_VER5)
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open perf event: %w", err)
	}
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: fd, Program: prog, Attach: ebpf.AttachPerfEvent})
	if err != nil && before515() {
		err = errors.Join(unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, prog.FD()),
			unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0))
		if err == nil {
			return heldByEvent(fd), nil
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("attach: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
		l.Close()
		unix.Close(fd)
		return nil, fmt.Errorf("enable perf event: %w", err)
	}
	return &perfLink{perf: fd, l: l}, nil
}

// heldByEvent is a perf event that holds its program, as before v5.15
// (b89fbfbb854c), which brought links for it: the program goes with the event.
type heldByEvent int

func (fd heldByEvent) Close() error { return unix.Close(int(fd)) }

// closeAll takes programs off and closes what they were on.
//
// Each program waits for a grace period when it is taken off, tens of
// milliseconds where the processors are idle; all at once they share one.
// Closing the perf event of a tracepoint waits again, under one lock for all
// of them, and there are some sixty: the bare events, which do nothing any
// more, are left to the kernel.
func closeAll(links []io.Closer) error {
	var wg sync.WaitGroup
	errs := make([]error, len(links))
	var events []int
	for i, l := range links {
		if p, ok := l.(*perfLink); ok {
			events = append(events, p.perf)
			l = p.l
		}
		wg.Go(func() { errs[i] = l.Close() })
	}
	wg.Wait()
	if !leaveToKernel(events) {
		for _, fd := range events {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}

// maxRights is how many descriptors one message may carry (SCM_MAX_FD).
const maxRights = 253

// leaveToKernel gives descriptors away so that a worker of the kernel closes
// them in its own time: they are sent, together with the receiving socket, to
// that socket, and then nobody holds it any more. The collector of such
// circles runs in a work queue since v6.8, 8b90a9f819dc; before, and if there is
// no such socket to be had, whoever closes waits. It tells whether it took
// them.
func leaveToKernel(fds []int) bool {
	if len(fds) == 0 || len(fds) >= maxRights {
		return len(fds) == 0
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	err = unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(append([]int{pair[1]}, fds...)...), nil, 0)
	if err == nil {
		for _, fd := range fds {
			unix.Close(fd) // the message holds it
		}
	}
	unix.Close(pair[1])
	unix.Close(pair[0]) // the last one wakes the collector
	return err == nil
}
