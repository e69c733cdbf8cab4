//go:build linux && (amd64 || arm64)

package sensor

import (
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
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
		prog := c.name
		if c.name == "pkey_mprotect" {
			prog = "mprotect"
		}
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
	add("tr_helper", kBPF, true)
	return hooks
}

// presentTracepoints leaves out the optional tracepoints of the kernel that
// it does not have.
func presentTracepoints(hooks []hook, specs map[string]*ebpf.CollectionSpec) ([]hook, error) {
	var types *btf.Spec
	var err error
	hooks = slices.DeleteFunc(hooks, func(h hook) bool {
		if !h.optional || h.on != "" || err != nil {
			return false
		}
		p := specs[h.object].Programs[h.prog]
		if p == nil || p.AttachType != ebpf.AttachTraceRawTp {
			return false
		}
		if types == nil {
			if types, err = btf.NewCache().Kernel(); err != nil {
				return false
			}
		}
		var t *btf.Typedef
		return types.TypeByName("btf_trace_"+p.AttachTo, &t) != nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the kernel's types: %w", err)
	}
	return hooks, nil
}

// attachSysctl puts a program on the parameters that processes of all control
// groups read and write.
func attachSysctl(p *ebpf.Program) (io.Closer, error) {
	root, err := openRootCgroup()
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	l, err := link.AttachCgroup(link.CgroupOptions{
		Path: fmt.Sprintf("/proc/self/fd/%d", root), Attach: ebpf.AttachCGroupSysctl, Program: p,
	})
	if err != nil {
		return nil, fmt.Errorf("attach to the root control group: %w", err)
	}
	return l, nil
}
