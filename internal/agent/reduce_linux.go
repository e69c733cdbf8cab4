package agent

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/sandbox"
)

// reduce gives up what watching does not take, once the programs are in the
// kernel: whoever takes over the agent afterwards cannot load modules, mount,
// trace, change the clock or call itself somebody else than root's watcher.
//
// What stays: programs are attached and detached as rules change (BPF, PERFMON,
// and NET_ADMIN for those on control groups), other processes are looked at
// (SYS_PTRACE, DAC_READ_SEARCH), files that are to be hashed are opened, whoever
// they belong to and below the root of whoever used them (the same, and FOWNER to
// leave their time of access alone) once nobody writes to them any more (LEASE,
// which asks the kernel that), and the server is started again as its own
// user and ended (SETUID, SETGID, KILL). Preparing the data directory for it
// takes CHOWN, FOWNER and DAC_OVERRIDE, and, below a closed directory as /root,
// mounts of its own.
func (a *Agent) reduce(dir *dataDir) {
	if os.Geteuid() != 0 {
		return
	}
	keep := sandbox.Reduction{
		Capabilities: []uintptr{
			unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH,
			unix.CAP_LEASE, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_KILL, unix.CAP_CHOWN, unix.CAP_FOWNER, unix.CAP_DAC_OVERRIDE,
		},
		Calls: []uintptr{
			unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN,
			unix.SYS_PROCESS_VM_READV, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
		},
	}
	if dir.closed() != "" {
		keep.Capabilities = append(keep.Capabilities, unix.CAP_SYS_ADMIN)
		keep.Calls = append(keep.Calls, unix.SYS_UNSHARE, unix.SYS_MOUNT)
	}
	r, err := sandbox.Reduce(keep)
	if err != nil {
		// It watches all the same, and says that it can do more than it needs.
		a.cfg.Log.Warn("the agent keeps more privileges than it needs", "error", err)
		return
	}
	for _, w := range r.Weaknesses {
		a.cfg.Log.Warn("the agent is less confined than it could be", "weakness", w)
	}
	a.cfg.Log.Info("privileges given up", "capabilities", len(keep.Capabilities), "seccomp", r.Seccomp)
}
