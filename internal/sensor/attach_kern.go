//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
)

var (
	kPtrace    = kinds{procRecKindREC_PTRACE}
	kSignal    = kinds{procRecKindREC_SIGNAL}
	kPrctl     = kinds{procRecKindREC_PRCTL}
	kSetrlimit = kinds{procRecKindREC_SETRLIMIT}
	kUnshare   = kinds{procRecKindREC_UNSHARE}
	kMmap      = kinds{procRecKindREC_MMAP}
	kMprotect  = kinds{procRecKindREC_MPROTECT}
	kBPF       = kinds{procRecKindREC_BPF}
	kLoad      = kinds{procRecKindREC_LOAD_MODULE}
	kUnload    = kinds{procRecKindREC_UNLOAD_MODULE}
	kSysctl    = kinds{procRecKindREC_SYSCTL}
)

// kernHooks are the same in both modes. A kernel may have been built without
// modules.
var kernHooks = []hook{
	{object: "kern", prog: "on_signal", kinds: kSignal},
	{object: "kern", prog: "on_module_load", kinds: kLoad, optional: true},
	{object: "kern", prog: "on_module_free", kinds: kUnload, optional: true},
	{object: "kern", prog: "on_sysctl", kinds: kSysctl},
}

// A kernCall is a system call about processes, memory or the kernel.
type kernCall struct {
	name  string
	kinds kinds
	// Optional are module calls (kernels without modules), calls that arm64
	// lacks or that came late (pidfd_send_signal v5.1).
	optional bool
	// compat is the name of the function that serves 32-bit callers on amd64,
	// empty if it is the same.
	compat string
}

var kernCalls = []kernCall{
	{"ptrace", kPtrace, false, ""},
	{"prctl", kPrctl, false, ""},
	{"setrlimit", kSetrlimit, false, ""},
	{"prlimit64", kSetrlimit, false, ""},
	{"unshare", kUnshare, false, ""},
	{"kill", kSignal, false, ""},
	{"tkill", kSignal, false, ""},
	{"tgkill", kSignal, false, ""},
	{"rt_sigqueueinfo", kSignal, false, ""},
	{"rt_tgsigqueueinfo", kSignal, false, ""},
	{"pidfd_send_signal", kSignal, true, ""},
	{"mmap", kMmap, false, "mmap_pgoff"},
	{"mprotect", kMprotect, false, ""},
	{"pkey_mprotect", kMprotect, true, ""},
	{"bpf", kBPF, false, ""},
	{"init_module", kLoad, true, ""},
	{"finit_module", kLoad, true, ""},
	{"delete_module", kUnload, true, ""},
}

// kernCallHooks are those of tracepoint mode.
func kernCallHooks() []hook {
	hooks := slices.Clone(kernHooks)
	for _, c := range kernCalls {
		prog := tracepointProg(c.name)
		if prog == "mprotect" {
			hooks = append(hooks, hook{"kern_tp", "enter_mprotect", "sys_enter_" + c.name, c.kinds, c.optional})
		}
		hooks = append(hooks, hook{"kern_tp", "exit_" + prog, "sys_exit_" + c.name, c.kinds, c.optional})
	}
	return hooks
}

// compatOnArm64 are the calls for which arm64 has a function of their own for
// 32-bit callers.
var compatOnArm64 = []string{"ptrace", "setrlimit", "rt_sigqueueinfo", "rt_tgsigqueueinfo"}

// kernTrampolineHooks are those of trampoline mode. What serves 32-bit callers
// is optional: kernels may be built without it.
func kernTrampolineHooks() []hook {
	hooks := slices.Clone(kernHooks)
	add := func(prog string, kinds kinds, optional bool) {
		hooks = append(hooks, hook{object: "kern_tr", prog: prog, kinds: kinds, optional: optional})
	}
	for _, c := range kernCalls {
		compat := c.name
		if c.compat != "" {
			compat = c.compat
		}
		amd64 := runtime.GOARCH == "amd64"
		if protect := c.name == "mprotect" || c.name == "pkey_mprotect"; protect {
			add("in_"+c.name, c.kinds, c.optional)
			if amd64 {
				add("in32_"+c.name, c.kinds, true)
			}
		}
		add("tr_"+c.name, c.kinds, c.optional)
		if amd64 || slices.Contains(compatOnArm64, c.name) {
			add("tr32_"+compat, c.kinds, true)
		}
	}
	add(helperProg, kBPF, true)
	return hooks
}

// settle looks at what of kernHooks and kernCalls this kernel has. Optional
// tracepoints that are not there are left out. A call whose function is not
// there, or shares its name with another (two descriptions of its arguments
// are enough), is watched by its tracepoints in trampoline mode, too.
func settle(hooks []hook, specs map[string]*ebpf.CollectionSpec) ([]hook, error) {
	types, err := btf.NewCache().Kernel()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's types: %w", err)
	}
	var out []hook
	for _, h := range hooks {
		p := specs[h.object].Programs[h.prog]
		switch {
		case p == nil:
		case h.object == "kern" && h.optional && p.AttachType == ebpf.AttachTraceRawTp:
			var t *btf.Typedef
			if types.TypeByName("btf_trace_"+p.AttachTo, &t) != nil {
				continue
			}
		case h.object == "kern_tr":
			var f *btf.Func
			if types.TypeByName(p.AttachTo, &f) == nil {
				break
			}
			if name, ok := strings.CutPrefix(h.prog, "tr_"); ok && h.prog != helperProg {
				h = hook{"kern_tp", "exit_" + tracepointProg(name), "sys_exit_" + name, h.kinds, h.optional}
			} else if name, ok := strings.CutPrefix(h.prog, "in_"); ok {
				h = hook{"kern_tp", "enter_" + tracepointProg(name), "sys_enter_" + name, h.kinds, h.optional}
			}
		}
		out = append(out, h)
	}
	return out, nil
}

// helperProg is what the verifier tells of helper functions.
const helperProg = "tr_helper"

// tracepointProg is the program of a call's tracepoints.
func tracepointProg(call string) string {
	if call == "pkey_mprotect" {
		return "mprotect"
	}
	return call
}

// kernNote says what is missing of a kind about processes, memory or the
// kernel, given the hooks it has.
func kernNote(kind event.Kind, mode Mode, hooks []hook) string {
	var by, helpers, compat bool // by tracepoints; the verifier; a function of 32-bit callers
	for i := range hooks {
		h := &hooks[i]
		if !slices.Contains(h.kinds, recKinds[kind][0]) {
			continue
		}
		by = by || h.object == "kern_tp"
		helpers = helpers || h.prog == helperProg
		compat = compat || strings.HasPrefix(h.prog, "tr32_")
	}
	var notes []string
	switch kind {
	case event.KindPtrace, event.KindPrctl, event.KindSetrlimit, event.KindUnshare, event.KindMmap, event.KindMprotect,
		event.KindBPF, event.KindLoadModule, event.KindUnloadModule:
		if by && !compat {
			notes = append(notes, "32-bit system calls are not seen")
		}
	case event.KindSignal:
		if by && !compat {
			notes = append(notes, "what 32-bit system calls were refused is not seen")
		}
	case event.KindCapset:
		if mode == Tracepoint {
			notes = append(notes, "32-bit system calls are not seen")
		}
	case event.KindSysctl:
		if !firstCgroupNS() {
			notes = append(notes, "only processes in the same namespace of control groups are seen")
		}
	default:
		return ""
	}
	if kind == event.KindBPF && !helpers {
		notes = append(notes, "helper functions are not known")
	}
	if (kind == event.KindMprotect || kind == event.KindMmap) && features.HaveProgramHelper(ebpf.TracePoint, asm.FnFindVma) != nil {
		if kind == event.KindMprotect {
			notes = append(notes, "the protection before is not known")
		} else {
			notes = append(notes, "files are those of descriptors")
		}
	}
	return strings.Join(notes, "; ")
}

// kernKind tells whether kernNote knows the kind.
func kernKind(kind event.Kind) bool {
	switch kind {
	case event.KindPtrace, event.KindPrctl, event.KindSetrlimit, event.KindUnshare, event.KindMmap, event.KindMprotect,
		event.KindBPF, event.KindLoadModule, event.KindUnloadModule, event.KindSignal, event.KindCapset, event.KindSysctl:
		return true
	}
	return false
}

// firstCgroupNS tells whether this process sees all control groups.
func firstCgroupNS() bool {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/cgroup", &st); err != nil {
		return errors.Is(err, os.ErrNotExist) // a kernel without such namespaces
	}
	return st.Ino == initCgroupNS
}

// attachSysctl puts a program on the parameters that processes of all control
// groups read and write.
func attachSysctl(root int, p *ebpf.Program) (io.Closer, error) {
	l, err := link.AttachCgroup(link.CgroupOptions{
		Path: fmt.Sprintf("/proc/self/fd/%d", root), Attach: ebpf.AttachCGroupSysctl, Program: p,
	})
	if err != nil {
		return nil, fmt.Errorf("attach to the root control group: %w", err)
	}
	return l, nil
}
