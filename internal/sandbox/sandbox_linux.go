package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsyscall "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// Become gives up root for good: groups, user, every capability.
func Become(uid, gid uint32) error {
	if uid == 0 || gid == 0 {
		return errors.New("give up root: the user to become is root")
	}
	// The syscall package changes all threads of the process.
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("give up groups: %w", err)
	}
	if err := syscall.Setresgid(int(gid), int(gid), int(gid)); err != nil {
		return fmt.Errorf("become group %d: %w", gid, err)
	}
	if err := syscall.Setresuid(int(uid), int(uid), int(uid)); err != nil {
		return fmt.Errorf("become user %d: %w", uid, err)
	}
	return nil
}

// Enter restricts the process from here on. Files that are open stay open. It
// fails when the process could still harm the host: as root or with a
// capability. A kernel without Landlock is only reported.
func Enter(cfg Config) (Report, error) {
	r := Report{UID: uint32(os.Getuid())}
	if os.Getuid() == 0 || os.Geteuid() == 0 {
		return r, errors.New("sandbox: the process is root")
	}
	if err := dropCapabilities(); err != nil {
		return r, fmt.Errorf("sandbox: %w", err)
	}
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return r, fmt.Errorf("sandbox: no_new_privs: %w", err)
	}
	// No core file with keys in it, and no /proc/PID/mem for the same user.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return r, fmt.Errorf("sandbox: dumpable: %w", err)
	}
	if err := restrictFiles(cfg, &r); err != nil {
		return r, err
	}
	if err := filterCalls(&r, denied); err != nil {
		return r, err
	}
	return r, nil
}

// Reduce takes from a process that stays root, and from all it will start, the
// capabilities and the system calls that it does not keep. Files and the
// network stay open to it. What fails halfway leaves the process with less, and
// is told.
func Reduce(keep Reduction) (Report, error) {
	r := Report{UID: uint32(os.Getuid())}
	if err := keepCapabilities(keep.Capabilities); err != nil {
		return r, fmt.Errorf("sandbox: %w", err)
	}
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return r, fmt.Errorf("sandbox: no_new_privs: %w", err)
	}
	deny := slices.DeleteFunc(slices.Clone(denied), func(call uintptr) bool { return slices.Contains(keep.Calls, call) })
	if err := filterCalls(&r, deny); err != nil {
		return r, err
	}
	return r, nil
}

// keepCapabilities drops all capabilities but some, from what the process has
// and from what it may ever get.
func keepCapabilities(keep []uintptr) error {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	// The bounding set first: to change it takes a capability.
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		switch err := allThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0); {
		case errors.Is(err, unix.EINVAL): // not one of this kernel's
		case err != nil:
			return fmt.Errorf("drop capability %d for good: %w", c, err)
		}
	}
	var mask [2]uint32
	for _, c := range keep {
		mask[c/32] |= 1 << (c % 32)
	}
	for i := range data {
		data[i].Effective &= mask[i]
		data[i].Permitted &= mask[i]
		data[i].Inheritable = 0
	}
	header = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	err := allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&data)
	if err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

func restrictFiles(cfg Config, r *Report) error {
	version, err := llsyscall.LandlockGetABIVersion()
	if err != nil || version < 1 {
		r.Weaknesses = append(r.Weaknesses, "this kernel has no Landlock: every file that the server's user may read can be read")
		return nil
	}
	r.Landlock = version
	var rules []landlock.Rule
	for _, dir := range cfg.ReadWrite {
		rules = append(rules, landlock.RWDirs(dir))
	}
	for _, path := range cfg.ReadOnly {
		fi, err := os.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		case err != nil:
			return fmt.Errorf("sandbox: %w", err)
		case fi.IsDir():
			rules = append(rules, landlock.RODirs(path))
		default:
			rules = append(rules, landlock.ROFiles(path))
		}
	}
	if err := landlock.V5.BestEffort().RestrictPaths(rules...); err != nil {
		return fmt.Errorf("sandbox: restrict files: %w", err)
	}
	// What the server listens on is open by now; it calls nobody.
	if err := landlock.V5.BestEffort().RestrictNet(); err != nil {
		return fmt.Errorf("sandbox: restrict network: %w", err)
	}
	return nil
}

// dropCapabilities empties every set of every thread and looks whether it
// worked.
func dropCapabilities() error {
	if err := allThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&data)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("look at capabilities: %w", err)
	}
	for line := range bytes.Lines(status) {
		name, value, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		switch name {
		case "CapInh", "CapPrm", "CapEff", "CapAmb":
			if set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err != nil || set != 0 {
				return fmt.Errorf("capabilities are left: %s %s", name, value)
			}
		}
	}
	return nil
}

// allThreads makes a system call in every thread. The standard library's way is
// not there in a program that links C code.
func allThreads(call, a, b, c uintptr) error {
	if _, _, errno := psx.Syscall6(call, a, b, c, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// denied are the system calls that a server never makes and attacks like:
// starting programs, looking into other processes, changing the kernel or what
// a namespace sees.
var denied = []uintptr{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD, unix.SYS_PROCESS_MADVISE,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_LOOKUP_DCOOKIE,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSCONFIG,
	unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
	unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_FANOTIFY_INIT,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG, unix.SYS_VHANGUP,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_PERSONALITY, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
}

// workCalls are the system calls of a process that works on what it has been
// handed: reading, answering, memory and threads. It opens nothing.
var workCalls = append([]uintptr{
	unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_FSTAT, unix.SYS_LSEEK, unix.SYS_FCNTL, unix.SYS_SENDMSG, unix.SYS_RECVMSG,
	unix.SYS_RECVFROM, unix.SYS_SHUTDOWN, unix.SYS_GETSOCKOPT,
	unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MPROTECT, unix.SYS_MREMAP, unix.SYS_BRK, unix.SYS_MINCORE, unix.SYS_MEMBARRIER,
	unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY,
	unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_SIGALTSTACK, unix.SYS_TGKILL, unix.SYS_RESTART_SYSCALL,
	unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_GETRANDOM, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_PRCTL,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
}, archCalls...)

// Seal restricts the process, which must not be root, to work on the
// descriptors that it has and is sent: it can open no file, start no process,
// reach nobody. Where the kernel has no system call filters it is what Enter
// makes of it, and the report says so.
func Seal() (Report, error) {
	r, err := Enter(Config{})
	if err != nil || !r.Seccomp {
		return r, err
	}
	return r, install(&r, onlyProgram(auditArch[runtime.GOARCH], workCalls))
}

// onlyProgram is a filter that lets some calls pass, and the start of threads;
// everything else gets EPERM.
func onlyProgram(arch uint32, allowed []uintptr) []unix.SockFilter {
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	n := len(allowed)
	prog := []unix.SockFilter{
		load(offArch),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: arch, Jf: uint8(n + 7)},
		load(offNr),
	}
	for i, call := range allowed {
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(call), Jt: uint8(n - i + 3)})
	}
	return append(prog,
		// The flags of clone3 are in memory, where a filter cannot look. A libc
		// that is told there is no such call takes clone.
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE3, Jt: 4},
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jf: 4},
		load(offArgs), // the flags' lower half, on the machines of auditArch
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_THREAD, Jf: 2},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	)
}

// auditArch is the only calling convention the filter lets through.
var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// x32Bit marks a call of the x32 convention, which has numbers of its own.
const x32Bit = 0x40000000

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

// program is the filter: what is denied, and every foreign calling convention,
// gets EPERM, the rest passes.
func program(arch uint32, denied []uintptr) []unix.SockFilter {
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	n := len(denied)
	// Jumps are relative and one byte wide; the list must stay below that.
	prog := []unix.SockFilter{
		load(offArch),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: arch, Jf: uint8(n + 3)},
		load(offNr),
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: x32Bit, Jt: uint8(n + 1)},
	}
	for i, call := range denied {
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(call), Jt: uint8(n - i)})
	}
	return append(prog,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	)
}

func filterCalls(r *Report, denied []uintptr) error {
	arch, ok := auditArch[runtime.GOARCH]
	if !ok {
		r.Weaknesses = append(r.Weaknesses, "no system call filter for "+runtime.GOARCH)
		return nil
	}
	return install(r, program(arch, denied))
}

func install(r *Report, prog []unix.SockFilter) error {
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	failed, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(prog)
	switch {
	case errno == unix.ENOSYS || errno == unix.EINVAL:
		r.Weaknesses = append(r.Weaknesses, "this kernel has no system call filters")
		return nil
	case errno != 0:
		return fmt.Errorf("sandbox: system call filter: %w", errno)
	case failed != 0:
		return fmt.Errorf("sandbox: system call filter: thread %d has another one", failed)
	}
	r.Seccomp = true
	return nil
}
