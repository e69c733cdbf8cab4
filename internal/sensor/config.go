// Package sensor watches the Linux kernel with BPF and gives what it sees as
// the stream: process life, files, sockets, credentials and cgroups, and what
// processes do to others, to memory and to the kernel, decoded,
// scrubbed of secrets, in order of kernel time and numbered. It loads and
// attaches programs, probes what this kernel allows, reads the rings, and
// counts what was left out and why. It draws no conclusions.
//
// It needs Linux 5.10 with BTF, on amd64 or arm64; before 5.15 it sees process
// life, files, credentials and sockets only. There are two ways to
// attach: trampolines, which see what the kernel has resolved, whoever asked;
// and tracepoints, where those are refused, which see what the kernel opened
// but for other calls only the name that the caller gave, no 32-bit system
// calls, and of io_uring only what opens, makes, moves and removes files, and what
// makes, binds, connects and accepts sockets. Probe says what a kernel allows.
//
// The programs are in bpf/; generate.sh builds them.
package sensor

import (
	"errors"
	"log/slog"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// A Mode is a way to attach to the kernel.
type Mode string

// The modes. Auto takes Trampoline where the kernel lets it attach.
const (
	Auto       Mode = "auto"
	Trampoline Mode = "trampoline"
	Tracepoint Mode = "tracepoint"
)

// ErrNotSupported says that this system has no kernel that can be watched.
var ErrNotSupported = errors.New("sensor: not supported on this system")

// Config says how to watch. The zero Config is usable, except for Start.
type Config struct {
	Mode Mode
	// Plan is what to let through until SetPlan changes it. Fork, exec and
	// exit always leave the kernel.
	Plan kfilter.Plan
	// Start is the first record of the stream. Its caller sets Run, Seed,
	// HostID and Version; what is empty of the rest is filled in.
	Start event.RunStart
	// Self are the thread groups whose files and sockets are not reported,
	// beside this process and those it starts of the same program.
	Self []uint32
	// NotSelf reports this process's files and sockets, too; for tests.
	NotSelf bool
	// See32 also watches 32-bit system calls in tracepoint mode, which takes a
	// program on every system call of the host. amd64 only, from Linux 5.15;
	// trampoline mode sees them anyway.
	See32 bool
	// Rings' sizes in bytes, rounded up to a power of two.
	CriticalBytes, BulkBytes int
	// EnvAllow are variables whose values are kept, beside the built-in list.
	EnvAllow []string
	// DNSPorts are the ports of name servers, at most MaxDNSPorts; 53 when empty.
	DNSPorts []uint16
	// FlowInterval is how often flows are told while the plan wants them; ten
	// seconds when 0.
	FlowInterval time.Duration
	// Shape limits how much of what no rule wants leaves the kernel, where the
	// plan is Shaped.
	Shape Shape
	// NoRecorder turns the flight recorder off.
	NoRecorder bool
	// Log receives starts, stops and degradations. nil drops them.
	Log *slog.Logger
}

// A Rate is how many events a producer may send: so many in a second on
// average, and at most Burst of them at once. A negative PerSecond is no limit.
type Rate struct {
	PerSecond, Burst int
}

// A Shape is the limits of floods: of a session, which is what a login, a
// service or a container begins, and of a control group. What is zero of them
// is as documented with the defaults.
type Shape struct {
	Session, Cgroup Rate
}

// A producer that keeps to the default is read as fast as it writes; what is
// above that, from a few of them, would fill the ring for all others.
var (
	defaultSession = Rate{PerSecond: 10_000, Burst: 10_000}
	defaultCgroup  = Rate{PerSecond: 20_000, Burst: 20_000}
)

const (
	// A ring counts in this process's resident memory as a whole.
	//
	// An exec record is 4 to 8 KiB; this holds five hundred and more, what two
	// cores execute in a fifth of a second.
	defaultCriticalBytes = 4 << 20
	// 50,000 records of 450 bytes a second for a third of a second.
	defaultBulkBytes = 8 << 20

	// calmTick is how long records lie in the rings at most. Programs wake the
	// reader when the bulk ring fills faster than that. Each turn costs the
	// agent about as much as ten records, so they are no more frequent than the
	// way of a signal to the page allows.
	calmTick = 50 * time.Millisecond
	// busyTick is the same while a ring was more than a busyPart full.
	busyTick = 20 * time.Millisecond
	busyPart = 16
	// slack is how much younger records may be on the ring before one that
	// another CPU is just about to write.
	slack = 2 * time.Millisecond
	// housekeeping is how often the counters and the clock are looked at.
	housekeeping = time.Second
	// clockStep is the least change of the wall clock that makes a record.
	clockStep = time.Millisecond
)

// MaxDNSPorts is how many ports may be watched for names.
const MaxDNSPorts = 4

func ringSize(n, def int) uint32 {
	if n <= 0 {
		n = def
	}
	size := uint32(4096)
	for int(size) < n && size < 1<<30 {
		size <<= 1
	}
	return size
}
