//go:build linux && (amd64 || arm64)

package sensor

import (
	"bytes"
	"os"
	"slices"

	"github.com/cilium/ebpf/btf"
)

var (
	kCapabilities = kinds{procRecKindREC_CAPABILITIES}
	kSELinux      = kinds{procRecKindREC_SELINUX}
)

// moreHooks are those of capabilities and SELinux. Calls that write are watched
// only where nothing better can be: every write pays for it.
func moreHooks(mode Mode) []hook {
	if mode == Trampoline {
		return []hook{
			{object: "caps_tr", prog: "tr_capable", kinds: kCapabilities},
			{object: "selinux_tr", prog: "tr_enforce", kinds: kSELinux},
			// Gone in v6.4.
			{object: "selinux_tr", prog: "tr_disable", kinds: kSELinux, optional: true},
			{object: "selinux_tr", prog: "tr_bool", kinds: kSELinux},
			{object: "selinux_tr", prog: "tr_commit", kinds: kSELinux},
		}
	}
	return []hook{
		{object: "caps_tp", prog: "on_capable", kinds: kCapabilities},
		{object: "selinux_tp", prog: "exit_write", on: "sys_exit_write", kinds: kSELinux},
		{object: "selinux_tp", prog: "exit_writev", on: "sys_exit_writev", kinds: kSELinux},
	}
}

// expendable are the objects of moreHooks: on a kernel that refuses one, its
// kind is missing and the others are watched.
var expendable = map[string]bool{"caps_tp": true, "caps_tr": true, "selinux_tp": true, "selinux_tr": true}

const (
	noCapabilities = "needs a tracepoint of Linux 6.14, or trampolines"
	noSELinux      = "SELinux is not in use"
)

// absent says of which hooks of moreHooks this kernel has nothing to see.
func absent(hooks []hook, missing map[string]string) {
	inUse := selinuxInUse()
	for i := range hooks {
		switch h := &hooks[i]; h.object {
		case "selinux_tp", "selinux_tr":
			if !inUse {
				missing[h.place()] = noSELinux
			}
		case "caps_tp":
			if !hasTracepoint("cap_capable") {
				missing[h.place()] = noCapabilities
			}
		}
	}
}

// hasTracepoint tells whether the kernel has a tracepoint that BPF can attach
// to by its types.
func hasTracepoint(name string) bool {
	types, err := btf.NewCache().Kernel()
	if err != nil {
		return false
	}
	var t *btf.Typedef
	return types.TypeByName("btf_trace_"+name, &t) == nil
}

// selinuxInUse tells whether the kernel runs with SELinux: only then it knows
// its file system.
func selinuxInUse() bool {
	b, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return true // nobody knows; the hooks themselves will tell
	}
	return slices.ContainsFunc(bytes.Split(b, []byte("\n")), func(l []byte) bool {
		f := bytes.Fields(l)
		return len(f) > 0 && string(f[len(f)-1]) == "selinuxfs"
	})
}
