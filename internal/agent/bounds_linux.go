package agent

import (
	"errors"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kernelShare is what the kernel holds for the agent beside its process: maps,
// rings, programs. Measured: 24 MiB on two processors; maps per processor make
// it more.
const kernelShare = 32 << 20

// bounds keep the agent below its ceilings, and tell how near it is.
type bounds struct {
	groups  *groups // nil: none of its own
	ceiling Ceilings
	// server is the soft limit that the server is told; 0: none.
	server int64
}

// bind puts the agent below its ceilings: in a control group of its own where
// that may be, and by the Go runtime's limit in any case. Without a control
// group the ceiling is one that the agent keeps to by itself.
func bind(l Limits, log *slog.Logger) *bounds {
	b := &bounds{ceiling: l.Agent}
	if !l.NoCgroup {
		g, err := ownGroups(l, log)
		var none *errNoGroups
		switch {
		case err == nil:
			b.groups = g
		case errors.As(err, &none):
			log.Info("clew keeps to its ceilings by itself", "reason", none.Error())
		default:
			log.Warn("clew keeps to its ceilings by itself", "error", err)
		}
	}
	server := l.Server.Memory
	if b.groups == nil {
		b.ceiling.CPUs = 0
		// A unit's own limit is for both processes.
		if n := unitCeiling(); n > 0 {
			b.ceiling.Memory, server = within(b.ceiling.Memory, n/2), within(server, n/2)
		}
	}
	if server > 0 {
		b.server = softLimit(server, 0)
	}
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set && b.ceiling.Memory > 0 {
		debug.SetMemoryLimit(softLimit(b.ceiling.Memory, kernelShare+int64(runtime.NumCPU())<<19))
	}
	return b
}

// within is the smaller of two ceilings, of which the first may be none.
func within(ceiling, other int64) int64 {
	if ceiling == 0 {
		return other
	}
	return min(ceiling, other)
}

// childEnv is what the server is told of its ceiling.
func (b *bounds) childEnv() []string {
	if _, set := os.LookupEnv("GOMEMLIMIT"); set || b.server == 0 {
		return nil
	}
	return []string{"GOMEMLIMIT=" + strconv.FormatInt(b.server, 10)}
}

// adopt moves the server, just started, into its group.
func (b *bounds) adopt(pid int) error {
	if b.groups == nil {
		return nil
	}
	return b.groups.server(pid)
}

func (b *bounds) close() error {
	if b.groups == nil {
		return nil
	}
	return b.groups.close()
}

// usage implements meter.
func (b *bounds) usage() usage {
	u := usage{ceiling: b.ceiling, resident: residentBytes()}
	u.memory = u.resident
	if b.groups != nil {
		if n, err := b.groups.memoryUsed(); err == nil {
			u.memory = n
		}
		if d, err := b.groups.throttled(); err == nil {
			u.throttled = d
		}
	}
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) == nil {
		u.user, u.system = time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano())
	}
	return u
}

// residentBytes is 0 when it cannot be read.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.ParseInt(f[1], 10, 64)
	return n * int64(os.Getpagesize())
}

// CanBind tells whether clew would get a control group of its own here, and if
// not, why.
func CanBind() (ok bool, reason string) {
	if os.Geteuid() != 0 {
		return false, "that takes root"
	}
	places, err := findGroups()
	if err != nil {
		var none *errNoGroups
		if errors.As(err, &none) {
			return false, none.reason
		}
		return false, err.Error()
	}
	for _, h := range places {
		if err := unix.Access(h.base, unix.W_OK); err != nil {
			return false, h.base + ": " + err.Error()
		}
	}
	return true, ""
}

// HostMemory is how much memory the host has, in bytes; 0 when that is not
// known.
func HostMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(uint64(info.Totalram) * uint64(info.Unit))
}
