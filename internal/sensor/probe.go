//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
)

// nothing is a program that returns.
var nothing = asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}

const license = "Dual BSD/GPL"

// tryTracing loads and attaches an empty program of the tracing type.
func tryTracing(at ebpf.AttachType, to string) error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: at, AttachTo: to, Instructions: nothing, License: license,
	})
	if err != nil {
		return fmt.Errorf("load a program for %s: %w", to, brief(err))
	}
	defer p.Close()
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	if err != nil {
		return fmt.Errorf("attach to %s: %w", to, brief(err))
	}
	return l.Close()
}

// brief is an error without the loader's guesses about its cause.
func brief(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// errTracefs says that system calls' tracepoints could not be looked up.
var errTracefs = errors.New("tracepoints cannot be looked up")

func trySyscall(name string) error {
	t, err := openTracefs()
	if err != nil {
		return fmt.Errorf("%w: %w", errTracefs, err)
	}
	defer t.Close()
	id, err := t.id("syscalls", name)
	if err != nil {
		return err
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.TracePoint, Instructions: nothing, License: license})
	if err != nil {
		return fmt.Errorf("load a tracepoint program: %w", brief(err))
	}
	defer p.Close()
	l, err := attachTracepoint(id, p)
	if err != nil {
		return err
	}
	return l.Close()
}

func tryIterator() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "task", Instructions: nothing, License: license,
	})
	if err != nil {
		return fmt.Errorf("load a task iterator: %w", brief(err))
	}
	defer p.Close()
	l, err := link.AttachIter(link.IterOptions{Program: p})
	if err != nil {
		return fmt.Errorf("attach a task iterator: %w", brief(err))
	}
	return l.Close()
}

func tryRing() error {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if err != nil {
		return fmt.Errorf("create a ring: %w", brief(err))
	}
	return m.Close()
}

// pickMode is what Auto means here: trampolines where they attach.
func pickMode() Mode {
	if tryTrampolines() == nil {
		return Trampoline
	}
	return Tracepoint
}

// Probe finds out what can be watched, by loading and attaching empty
// programs. It leaves nothing behind.
func Probe() Report {
	var r Report
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		r.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	privileged := mayAsk()
	check := func(name string, err error) bool {
		r.Features = append(r.Features, asked(name, err, privileged))
		return err == nil
	}
	_, err := btf.LoadKernelSpec()
	types := check("kernel type information", err)
	ring := check("ring buffer", tryRing())
	life := check("scheduler tracepoints", tryTracing(ebpf.AttachTraceRawTp, "sched_process_exec"))
	iter := check("process iterator", tryIterator())
	tramp := check("trampolines", tryTrampolines())
	calls := check("system call tracepoints", trySyscall("sys_exit_openat"))
	regs := check("system call arguments", callArguments())
	switch base := types && ring && life && iter; {
	case base && tramp:
		r.Mode = Trampoline
	case base && calls && regs:
		r.Mode = Tracepoint
	}
	r.Kinds = kindChecks(r.Mode)
	return r
}

// mayAsk tells whether this process may ask the kernel for programs at all. If
// not, a refusal says nothing of the kernel.
func mayAsk() bool {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err == nil {
		err = m.Close()
	}
	return !errors.Is(err, unix.EPERM)
}

// asked says what a trial tells of a feature. A trial that failed for want of
// privileges, memory or descriptors, or because tracefs could not be opened,
// tells nothing.
func asked(name string, err error, privileged bool) Feature {
	f := Feature{Name: name, Answer: Yes}
	if err == nil {
		return f
	}
	f.Answer, f.Reason = No, err.Error()
	switch {
	case !privileged && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)):
		f.Answer, f.Reason = Unknown, "needs root: "+f.Reason
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.EINTR),
		errors.Is(err, errTracefs):
		f.Answer = Unknown
	}
	return f
}

// tryTrampolines attaches to the function that opens files, by any of its names.
func tryTrampolines() error {
	if before515() {
		return errors.New(needs515)
	}
	err := tryTracing(ebpf.AttachTraceFExit, "do_filp_open")
	if err == nil {
		return nil
	}
	switch other := tryTracing(ebpf.AttachTraceFExit, "do_file_open"); {
	case other == nil:
		return nil
	case errors.Is(err, ebpf.ErrNotSupported):
		return other
	}
	return err
}

// byString are kinds of which a tracepoint sees only the caller's string.
var byString = map[event.Kind]bool{
	event.KindUnlink: true, event.KindRename: true, event.KindChmod: true, event.KindChown: true, event.KindLink: true,
	event.KindSymlink: true, event.KindMkdir: true, event.KindRmdir: true,
}

func kindChecks(mode Mode) (out []KindCheck) {
	hooks, missing := hooksFor(mode), map[string]string{}
	if mode != "" {
		if specs, err := specsFor(mode); err == nil {
			if there, err := settle(built(hooks, specs, missing), specs); err == nil {
				hooks = there
			}
			if there, err := present(hooks, specs, missing); err == nil {
				hooks = there
			}
			absent(hooks, missing)
		}
	}
	calls := func(string) error { return nil }
	if t, err := openTracefs(); err == nil {
		defer t.Close()
		calls = func(name string) error {
			_, err := t.id("syscalls", name)
			return err
		}
	}
	packets := sync.OnceValue(tryPackets)
	have := func(h *hook) error {
		if why := missing[h.place()]; why != "" {
			return errors.New(why)
		}
		if h.object == "packet" || h.object == "flow" {
			return packets()
		}
		if h.on != "" {
			return calls(h.on)
		}
		return nil
	}
	for kind := range recKinds {
		if recKinds[kind] == nil {
			continue
		}
		c := KindCheck{Kind: event.Kind(kind), Status: OK}
		unseen := "32-bit system calls are not seen"
		if uringDoes[c.Kind] && !(byUring[c.Kind] && seesUring(hooks)) {
			unseen = "32-bit system calls and io_uring are not seen"
		}
		var absent []string
		found := 0
		for i := range hooks {
			h := &hooks[i]
			for _, rec := range recKinds[kind] {
				for _, k := range h.kinds {
					if k != rec {
						continue
					}
					switch err := have(h); {
					case err == nil:
						found++
					case errors.Is(err, errCgroupNS):
						found++
						absent = append(absent, err.Error())
					case h.optional && errors.Is(err, os.ErrNotExist):
					default:
						absent = append(absent, err.Error())
					}
				}
			}
		}
		if c.Kind == event.KindOndemand && mode != "" && !before515() {
			found++ // what rules name is asked for by itself
		}
		switch {
		case mode == "":
			c.Status, c.Reason = Impossible, "this kernel cannot be watched"
		case found == 0 && len(absent) == 0 && before515():
			c.Status, c.Reason = Impossible, needs515
		case found == 0 && len(absent) == 0:
			c.Status, c.Reason = Impossible, "this kernel was built without it"
		case found == 0:
			c.Status, c.Reason = Impossible, strings.Join(slices.Compact(absent), "; ")
		case len(absent) > 0:
			c.Status, c.Reason = Degraded, strings.Join(slices.Compact(absent), "; ")
		case kernKind(c.Kind):
			if c.Reason = kernNote(c.Kind, mode, hooks); c.Reason != "" {
				c.Status = Degraded
			}
		case notes[mode][c.Kind] != "":
			c.Status, c.Reason = Degraded, notes[mode][c.Kind]
		case mode == Tracepoint && byString[c.Kind]:
			c.Status = Degraded
			c.Reason = "paths come from the caller's memory; " + unseen
		case mode == Tracepoint && !alwaysSeen(c.Kind):
			c.Status, c.Reason = Degraded, unseen
		}
		out = append(out, c)
	}
	return out
}

// alwaysSeen are the kinds that the kernel's own tracepoints report, and those
// that are packets.
func alwaysSeen(k event.Kind) bool {
	switch k {
	case event.KindFork, event.KindExec, event.KindExit, event.KindCgroupWrite, event.KindDNS, event.KindFailedDNS,
		event.KindIMDS, event.KindNetworkFlowMonitor, event.KindCapabilities:
		return true
	}
	return false
}
