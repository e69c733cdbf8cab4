//go:build linux && (amd64 || arm64)

package sensor

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/clewsec/clew/internal/event"
)

// alternatives are programs for functions that kernels name differently. Of
// each row the first is used whose function this kernel has.
var alternatives = [][]string{
	// Renamed in v7.1 or before it.
	{"file_tr/tr_open", "file_tr/tr_file_open"},
	{"file_tr/tr_ftruncate", "file_tr/tr_ksys_ftruncate"},
}

// present leaves out the hooks whose function this kernel does not have, if
// they are optional or another of their row is there. What is missing besides
// stays, and missing says why it cannot be attached.
func present(hooks []hook, specs map[string]*ebpf.CollectionSpec, missing map[string]string) ([]hook, error) {
	functions := make(map[string]bool) // whether it is there, by object/program
	var types *btf.Spec
	for i := range hooks {
		h := &hooks[i]
		to := function(h, specs)
		if to == "" && h.object != "uring" {
			continue
		}
		if types == nil {
			var err error
			if types, err = btf.NewCache().Kernel(); err != nil {
				return nil, fmt.Errorf("read the kernel's types: %w", err)
			}
		}
		if h.object == "uring" {
			functions[h.place()] = uringFits(types, h.prog, specs[h.object].Programs[h.prog])
			continue
		}
		var f *btf.Func
		functions[h.place()] = types.TypeByName(to, &f) == nil
	}
	hooks = slices.DeleteFunc(hooks, func(h hook) bool {
		has, named := functions[h.place()]
		if !named {
			return false
		}
		for _, row := range alternatives {
			at := slices.Index(row, h.place())
			if at < 0 {
				continue
			}
			first := slices.IndexFunc(row, func(p string) bool { return functions[p] })
			// None of them: the first one stays to say so.
			return at != max(first, 0)
		}
		return h.optional && !has
	})
	for i := range hooks {
		h := &hooks[i]
		if has, named := functions[h.place()]; named && !has {
			missing[h.place()] = "this kernel has no function " + function(h, specs)
		}
	}
	return hooks, nil
}

// function is the kernel's function that a hook is on, "" if it is on none.
func function(h *hook, specs map[string]*ebpf.CollectionSpec) string {
	if h.on != "" {
		return ""
	}
	p := specs[h.object].Programs[h.prog]
	if p == nil || p.Type != ebpf.Tracing || p.AttachType != ebpf.AttachTraceFEntry && p.AttachType != ebpf.AttachTraceFExit {
		return ""
	}
	return p.AttachTo
}

var (
	kChdir       = kinds{procRecKindREC_CHDIR}
	kMount       = kinds{procRecKindREC_MOUNT}
	kUmount      = kinds{procRecKindREC_UMOUNT}
	kSetxattr    = kinds{procRecKindREC_SETXATTR}
	kRemovexattr = kinds{procRecKindREC_REMOVEXATTR}
	kUtimes      = kinds{procRecKindREC_UTIMES}
	kSplice      = kinds{procRecKindREC_SPLICE}
)

// newMountCalls have no function of their own that every kernel lets us attach
// to: both modes watch them by their tracepoints. They came with v5.2.
var newMountCalls = []hook{
	{"fsmeta_tp", "exit_fsmount", "sys_exit_fsmount", kMount, true},
	{"fsmeta_tp", "exit_open_tree", "sys_exit_open_tree", kMount, true},
	{"fsmeta_tp", "enter_move_mount", "sys_enter_move_mount", kMount, true},
	{"fsmeta_tp", "exit_move_mount", "sys_exit_move_mount", kMount, true},
}

// fsmetaCallHooks are those of tracepoint mode. Optional are calls that arm64
// does not have, and those of setxattrat (v6.13).
func fsmetaCallHooks() []hook {
	hooks := []hook{
		{"fsmeta_tp", "exit_chdir", "sys_exit_chdir", kChdir, false},
		{"fsmeta_tp", "exit_fchdir", "sys_exit_fchdir", kChdir, false},
		{"fsmeta_tp", "enter_splice", "sys_enter_splice", kSplice, false},
		{"fsmeta_tp", "exit_splice", "sys_exit_splice", kSplice, false},
		{"fsmeta_tp", "enter_mount", "sys_enter_mount", kMount, false},
		{"fsmeta_tp", "exit_mount", "sys_exit_mount", kMount, false},
		{"fsmeta_tp", "enter_umount", "sys_enter_umount", kUmount, false},
		{"fsmeta_tp", "exit_umount", "sys_exit_umount", kUmount, false},
	}
	for _, c := range []struct {
		exit     string
		kinds    kinds
		calls    []string
		optional []string
	}{
		{"exit_setxattr", kSetxattr, []string{"setxattr", "lsetxattr", "fsetxattr"}, []string{"setxattrat"}},
		{"exit_removexattr", kRemovexattr, []string{"removexattr", "lremovexattr", "fremovexattr"}, []string{"removexattrat"}},
		{"exit_utimes", kUtimes, []string{"utimensat"}, []string{"futimesat", "utimes", "utime"}},
	} {
		add := func(name string, optional bool) {
			hooks = append(hooks,
				hook{"fsmeta_tp", "enter_" + name, "sys_enter_" + name, c.kinds, optional},
				hook{"fsmeta_tp", c.exit, "sys_exit_" + name, c.kinds, optional})
		}
		for _, name := range c.calls {
			add(name, false)
		}
		for _, name := range c.optional {
			add(name, true)
		}
	}
	return append(hooks, newMountCalls...)
}

// fsmetaTrampolineHooks are those of trampoline mode. Access lists have
// functions of their own since v6.2.
func fsmetaTrampolineHooks() (hooks []hook) {
	both := kinds{procRecKindREC_SETXATTR, procRecKindREC_REMOVEXATTR}
	for _, h := range []struct {
		kinds    kinds
		progs    []string
		optional bool
	}{
		{kinds{procRecKindREC_EXEC}, []string{"hold_script"}, false},
		{kChdir, []string{"tr_chdir"}, false},
		{kUtimes, []string{"tr_utimes"}, false},
		{both, []string{"note_write", "note_write_file"}, false},
		{kSetxattr, []string{"begin_setxattr", "tr_setxattr"}, false},
		{kRemovexattr, []string{"begin_removexattr", "tr_removexattr"}, false},
		{kSetxattr, []string{"begin_set_acl", "tr_set_acl"}, true},
		{kRemovexattr, []string{"begin_remove_acl", "tr_remove_acl"}, true},
		{kSplice, []string{"begin_splice", "tr_splice"}, false},
		{kMount, []string{"begin_mount", "tr_mount"}, false},
		{kUmount, []string{"begin_umount", "tr_umount"}, false},
	} {
		for _, p := range h.progs {
			hooks = append(hooks, hook{object: "fsmeta_tr", prog: p, kinds: h.kinds, optional: h.optional})
		}
	}
	return append(hooks, newMountCalls...)
}

// notes say what a mode cannot give of a kind, where that is not what the mode
// cannot give of any.
var notes = map[Mode]map[event.Kind]string{
	Trampoline: {
		event.KindChdir:      "changes that were refused are not seen",
		event.KindMount:      "fsmount, open_tree and move_mount by 32-bit system calls are not seen",
		event.KindSetsockopt: "io_uring is not seen",
		event.KindOndemand:   "system calls of 32-bit callers and of io_uring are not seen",
	},
	Tracepoint: {
		event.KindMount:       "where nothing was mounted, paths come from the caller's memory; 32-bit system calls are not seen",
		event.KindUmount:      "paths come from the caller's memory; 32-bit system calls are not seen",
		event.KindSetxattr:    "paths and names come from the caller's memory; 32-bit system calls and io_uring are not seen",
		event.KindRemovexattr: "paths and names come from the caller's memory; 32-bit system calls are not seen",
		event.KindUtimes:      "paths come from the caller's memory; 32-bit system calls are not seen",
		event.KindSELinux:     "what was written comes from the caller's memory; 32-bit system calls and io_uring are not seen",
		event.KindOndemand:    "of functions only system calls; 32-bit callers and io_uring are not seen",
		event.KindChdir:       "32-bit system calls are not seen",
	},
}
