//go:build linux && (amd64 || arm64)

package sensor

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/clewsec/clew/internal/event"
)

// kernSamples are records about processes, memory and the kernel.
func kernSamples() map[string][]byte {
	call := func(kind procRecKind, flags procRecCallFlag, text string, a, b, c, d uint64) []byte {
		r := procRecCall{Retval: -1, Flags: uint32(flags), A: a, B: b, C: c, D: d, Target: 9, TargetStart: 900}
		used := 0
		r.Text = at[procRecCall](text, &used)
		p := newPack(&r)
		p.b = append(p.b, text...)
		return p.done(kind)
	}
	m := procRecMmap{Addr: 1 << 40, Len: 4096, Offset: 8192, Prot: 5, MmapFlags: 2}
	used := 0
	m.File = procRecFile{Inode: 3, Flags: uint16(procRecFileFlagRF_PRESENT | procRecFileFlagRF_TRUNCATED)}
	m.File.Path = at[procRecMmap]("so\x00lib\x00", &used)
	mp := newPack(&m)
	mp.b = append(mp.b, "so\x00lib\x00"...)

	b := procRecBpf{Retval: 7, Cmd: 5, ProgType: 2, AttachType: 3, MapType: 4, Tag: [8]uint8{0xab, 1}, Flags: uint32(procRecCallFlagRC_HELPERS)}
	b.Helpers = [4]uint64{1<<1 | 1<<5, 1 << 63, 0, 1}
	copy(b.ProgName[:], []int8{'p'})
	for i := range b.MapName { // a name without its end
		b.MapName[i] = 'm'
	}
	module := func(kind procRecKind, flags procRecCallFlag, args, kept string) []byte {
		r := procRecModule{Flags: uint32(flags)}
		used := 0
		r.Name = at[procRecModule]("dummy", &used)
		r.Args = at[procRecModule](args, &used)
		r.Kept = at[procRecModule](kept, &used)
		p := newPack(&r)
		p.b = append(p.b, "dummy"+args+kept...)
		return p.done(kind)
	}
	s := procRecSysctl{Write: 2, Position: 3, Flags: uint32(procRecCallFlagRC_NAME_CUT | procRecCallFlagRC_OLD_CUT)}
	used = 0
	s.Name = at[procRecSysctl]("kernel/x", &used)
	s.Value = at[procRecSysctl]("1\n\x00", &used)
	s.Old = at[procRecSysctl]("0\x00", &used)
	sp := newPack(&s)
	sp.b = append(sp.b, "kernel/x1\n\x000\x00"...)
	caps := procRecCred{Before: procRecIds{CapEffective: 7}, After: procRecIds{CapEffective: 3, CapPermitted: 1}}
	return map[string][]byte{
		"ptrace":        call(procRecKindREC_PTRACE, 0, "", 16, 4096, 0, 0),
		"signal":        call(procRecKindREC_SIGNAL, 0, "", 9, ^uint64(0), 0, 0),
		"setrlimit":     call(procRecKindREC_SETRLIMIT, procRecCallFlagRC_USER, "", 4, 5, ^uint64(0), 0),
		"prctl":         call(procRecKindREC_PRCTL, procRecCallFlagRC_NAME_CUT, "kworker", 15, 2, 0, 0),
		"prctl_other":   call(procRecKindREC_PRCTL, 0, "junk", 4, 0, 0, 0),
		"unshare":       call(procRecKindREC_UNSHARE, 0, "", 0x10000000, 0, 0, 0),
		"mprotect":      call(procRecKindREC_MPROTECT, 0, "", 3, 5, 4096, 8192),
		"mmap":          mp.done(procRecKindREC_MMAP),
		"bpf":           newPack(&b).done(procRecKindREC_BPF),
		"load_module":   module(procRecKindREC_LOAD_MODULE, 0, "a=1 b=\"x y\"", "a\x001\x00b\x00\x00x y\x00"),
		"load_changed":  module(procRecKindREC_LOAD_MODULE, procRecCallFlagRC_MEMORY, "a=2 b", "a\x001\x00b"),
		"load_refused":  module(procRecKindREC_LOAD_MODULE, procRecCallFlagRC_USER|procRecCallFlagRC_TEXT_CUT, "x", ""),
		"unload_module": module(procRecKindREC_UNLOAD_MODULE, 0, "", ""),
		"sysctl":        sp.done(procRecKindREC_SYSCTL),
		"capset":        newPack(&caps).done(procRecKindREC_CRED),
	}
}

func TestDecodeKern(t *testing.T) {
	check := func(name string, flags uint32, get func(e *event.Event) any, want any) {
		t.Helper()
		e := mustDecode(t, name).ev
		if e.Flags != flags {
			t.Errorf("%s: flags %#x, want %#x", name, e.Flags, flags)
		}
		if diff := cmp.Diff(want, get(e)); diff != "" {
			t.Errorf("%s: want - got +\n%s", name, diff)
		}
	}
	target := event.Target{PID: 9, StartNS: 900}
	check("ptrace", 0, func(e *event.Event) any { return e.Ptrace }, &event.Ptrace{Request: 16, Tracee: target, Addr: 4096, Retval: -1})
	check("signal", 0, func(e *event.Event) any { return e.SignalSent }, &event.SignalSent{Type: 9, Target: target, PIDGiven: -1, Retval: -1})
	check("setrlimit", event.FlagPathUser, func(e *event.Event) any { return e.Setrlimit },
		&event.Setrlimit{Resource: 4, RlimCur: 5, RlimMax: ^uint64(0), Target: target, Retval: -1})
	check("prctl", 0, func(e *event.Event) any { return e.Prctl }, &event.Prctl{Option: 15, Arg: 2, NewName: "kworker", IsNameTruncated: true, Retval: -1})
	check("prctl_other", 0, func(e *event.Event) any { return e.Prctl }, &event.Prctl{Option: 4, Retval: -1})
	check("unshare", 0, func(e *event.Event) any { return e.Unshare }, &event.Unshare{Flags: 0x10000000, Retval: -1})
	check("mprotect", 0, func(e *event.Event) any { return e.Mprotect },
		&event.Mprotect{VmProtection: 3, ReqProtection: 5, Addr: 4096, Len: 8192, Retval: -1})
	check("mmap", event.FlagPathCut, func(e *event.Event) any { return e.Mmap }, &event.Mmap{
		File: event.File{Path: "/lib/so", Inode: 3, PathSource: "kernel"}, Protection: 5, Flags: 2, Addr: 1 << 40, Len: 4096, Offset: 8192,
	})
	check("bpf", 0, func(e *event.Event) any { return e.BPF }, &event.BPF{
		Cmd: 5, MapName: "mmmmmmmmmmmmmmmm", MapType: 4, ProgName: "p", ProgTag: "ab01000000000000", ProgType: 2, ProgAttachType: 4,
		ProgHelpers: []int64{1, 5, 127, 192}, Retval: 7,
	})
	load := func(e *event.Event) any { return e.LoadModule }
	check("load_module", 0, load, &event.LoadModule{Name: "dummy", Argv: []string{"a=1", `b="x`, `y"`}})
	check("load_changed", event.FlagPathChanged, load, &event.LoadModule{Name: "dummy", Argv: []string{"a", "1", "b"}, LoadedFromMemory: true})
	check("load_refused", event.FlagPathUser, load, &event.LoadModule{Name: "dummy", Argv: []string{"x"}, ArgsTruncated: true})
	check("unload_module", 0, func(e *event.Event) any { return e.UnloadModule }, &event.UnloadModule{Name: "dummy"})
	check("sysctl", 0, func(e *event.Event) any { return e.Sysctl }, &event.Sysctl{
		Action: 2, Name: "kernel/x", NameTruncated: true, Value: "1", OldValue: "0", OldValueTruncated: true, FilePosition: 3,
	})
	check("capset", 0, func(e *event.Event) any { return e.Capset }, &event.Capset{CapEffective: 3, CapPermitted: 1})

	// A record that is too short for its kind is none.
	for name, b := range kernSamples() {
		if name == "capset" {
			continue // in a record that is not of its own
		}
		short := append([]byte(nil), b[:120]...)
		short[4], short[5], short[6], short[7] = 120, 0, 0, 0
		if _, err := newDecoder(nil).decode(short); err == nil {
			t.Errorf("%s: 120 bytes are enough", name)
		}
	}
}
