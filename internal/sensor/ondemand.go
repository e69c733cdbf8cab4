//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/clewsec/clew/internal/kfilter"
)

const (
	hookArgs = 6  // HOOK_ARGS in ondemand.bpf.c
	hookName = 80 // HOOK_NAME
	// syscallHook begins the name of a system call; any other name is a
	// function's.
	syscallHook = "syscall:"
)

// A namedHook is a program on a function that a rule names.
type namedHook struct {
	prog *ebpf.Program
	link io.Closer
}

func (n *namedHook) Close() error { return errors.Join(n.link.Close(), n.prog.Close()) }

// setNamed attaches to the functions that rules name, and leaves those that no
// rule names any more. What cannot be attached to is missing; rules are many
// and come from everywhere, so it stops nothing.
func (k *kernel) setNamed(names []string) error {
	want := make(map[string]bool, len(names))
	for _, name := range names {
		want[name] = true
	}
	var drop []io.Closer
	for name, h := range k.named {
		if !want[name] {
			drop = append(drop, h)
			delete(k.named, name)
		}
	}
	for place := range k.missing {
		if name, ok := strings.CutPrefix(place, "ondemand/"); ok && !want[name] {
			delete(k.missing, place)
		}
	}
	for _, name := range names {
		if k.named[name] != nil || k.missing["ondemand/"+name] != "" {
			continue
		}
		h, err := k.attachNamed(name)
		if err != nil {
			k.missing["ondemand/"+name] = err.Error()
			k.log.Warn("function cannot be watched", "function", name, "err", err)
			continue
		}
		k.named[name] = h
	}
	if err := closeAll(drop); err != nil {
		return fmt.Errorf("detach from functions: %w", err)
	}
	return nil
}

// errTooMany says that rules name more functions than are attached to.
var errTooMany = fmt.Errorf("rules name more than %d functions", kfilter.MaxHooks)

func (k *kernel) attachNamed(name string) (*namedHook, error) {
	if len(k.named) >= kfilter.MaxHooks {
		return nil, errTooMany
	}
	if len(name) >= hookName {
		return nil, fmt.Errorf("the name is longer than %d bytes", hookName-1)
	}
	if k.specs == nil {
		specs, err := k.read()
		if err != nil {
			return nil, err
		}
		k.specs = specs
	}
	spec := k.specs["ondemand"]
	if spec == nil {
		return nil, errors.New(needs515)
	}
	spec = spec.Copy()
	call, isCall := strings.CutPrefix(name, syscallHook)
	var id uint64
	var args int
	var err error
	prog := "on_function"
	switch {
	case isCall && k.trace == nil:
		return nil, errTracefs
	case isCall:
		prog = "on_call"
		if id, err = k.trace.id("syscalls", "sys_enter_"+call); err != nil {
			return nil, err
		}
		if args, err = k.trace.arguments("sys_enter_" + call); err != nil {
			return nil, err
		}
	case k.mode != Trampoline:
		return nil, errors.New("functions other than system calls need trampolines")
	default:
		if args, err = functionArgs(name); err != nil {
			return nil, err
		}
		spec.Programs[prog].AttachTo = name
	}
	for other := range spec.Programs {
		if other != prog {
			delete(spec.Programs, other)
		}
	}
	var text [hookName]byte
	copy(text[:], name)
	for v, value := range map[string]any{"cfg_name": text, "cfg_args": uint32(min(args, hookArgs))} {
		if err := spec.Variables[v].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", v, err)
		}
	}
	replace := make(map[string]*ebpf.Map)
	for name := range spec.Maps {
		if m := k.maps[name]; m != nil {
			replace[name] = m
		}
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replace})
	if err != nil {
		return nil, fmt.Errorf("load: %w", brief(err))
	}
	defer c.Close()
	h := &namedHook{prog: c.Programs[prog]}
	delete(c.Programs, prog)
	if isCall {
		h.link, err = attachTracepoint(id, h.prog)
	} else {
		h.link, err = link.AttachTracing(link.TracingOptions{Program: h.prog})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach: %w", brief(err)), h.prog.Close())
	}
	return h, nil
}

// functionArgs is how many arguments a function of the kernel has.
func functionArgs(name string) (int, error) {
	types, err := btf.NewCache().Kernel()
	if err != nil {
		return 0, fmt.Errorf("read the kernel's types: %w", err)
	}
	var f *btf.Func
	if err := types.TypeByName(name, &f); err != nil {
		return 0, fmt.Errorf("this kernel has no function %s that can be attached to", name)
	}
	proto, ok := f.Type.(*btf.FuncProto)
	if !ok {
		return 0, fmt.Errorf("function %s has no prototype", name)
	}
	return len(proto.Params), nil
}

// arguments is how many arguments a system call's tracepoint has.
func (t *tracefs) arguments(name string) (int, error) {
	b, err := t.read("syscalls/"+name+"/format", 16<<10)
	if err != nil {
		return 0, fmt.Errorf("tracepoint %s: %w", name, err)
	}
	_, fields, _ := strings.Cut(string(b), "__syscall_nr;")
	return min(strings.Count(fields, "\tfield:"), hookArgs), nil
}
