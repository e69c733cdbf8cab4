//go:build linux && (amd64 || arm64)

package sensor

import (
	"bytes"
	"encoding/hex"
	"strings"

	"github.com/clewsec/clew/internal/event"
)

// PR_SET_NAME of prctl(2).
const prSetName = 15

// call decodes what is about numbers and perhaps another process.
func (d *decoder) call(rec *record, b []byte) bool {
	r, ok := fill[procRecCall](b)
	if !ok {
		return false
	}
	has := func(f procRecCallFlag) bool { return r.Flags&uint32(f) != 0 }
	target := event.Target{PID: r.Target, StartNS: r.TargetStart}
	text := string(str(b, r.Text))
	ret := int64(r.Retval)
	var ev *event.Event
	switch rec.kind {
	case procRecKindREC_PTRACE:
		ev = d.event(event.KindPtrace, &r.Hdr)
		ev.Ptrace = &event.Ptrace{Request: int64(r.A), Tracee: target, Addr: r.B, Retval: ret}
	case procRecKindREC_SIGNAL:
		ev = d.event(event.KindSignal, &r.Hdr)
		ev.SignalSent = &event.SignalSent{Type: int64(r.A), Target: target, PIDGiven: int64(r.B), Retval: ret}
	case procRecKindREC_SETRLIMIT:
		ev = d.event(event.KindSetrlimit, &r.Hdr)
		ev.Setrlimit = &event.Setrlimit{Resource: int64(r.A), RlimCur: r.B, RlimMax: r.C, Target: target, Retval: ret}
	case procRecKindREC_PRCTL:
		ev = d.event(event.KindPrctl, &r.Hdr)
		ev.Prctl = &event.Prctl{Option: int64(r.A), Arg: r.B, Retval: ret}
		if r.A == prSetName {
			ev.Prctl.NewName, ev.Prctl.IsNameTruncated = text, has(procRecCallFlagRC_NAME_CUT)
		}
	case procRecKindREC_CAPABILITIES:
		ev = d.event(event.KindCapabilities, &r.Hdr)
		ev.Capabilities = &event.Capabilities{Attempted: r.A, Used: r.B}
	case procRecKindREC_SELINUX:
		ev = d.selinux(r, text)
	case procRecKindREC_UNSHARE:
		ev = d.event(event.KindUnshare, &r.Hdr)
		ev.Unshare = &event.Unshare{Flags: int64(r.A), Retval: ret}
	case procRecKindREC_MPROTECT:
		ev = d.event(event.KindMprotect, &r.Hdr)
		ev.Mprotect = &event.Mprotect{
			VmProtection: int64(r.A), ReqProtection: int64(r.B), Addr: r.C, Len: r.D, Retval: ret,
		}
	default:
		return false
	}
	if has(procRecCallFlagRC_USER) {
		ev.Flags |= event.FlagPathUser
	}
	rec.ev = ev
	return true
}

func (d *decoder) mmap(rec *record, b []byte) bool {
	r, ok := fill[procRecMmap](b)
	if !ok {
		return false
	}
	ev := d.event(event.KindMmap, &r.Hdr)
	ev.Mmap = &event.Mmap{
		File: d.file(b, &r.File), Protection: int64(r.Prot), Flags: int64(r.MmapFlags), Retval: int64(r.Retval),
		Addr: r.Addr, Len: r.Len, Offset: r.Offset,
	}
	if r.File.Flags&uint16(procRecFileFlagRF_TRUNCATED) != 0 {
		ev.Flags |= event.FlagPathCut
	}
	rec.ev = ev
	return true
}

func (d *decoder) bpf(rec *record, b []byte) bool {
	r, ok := fill[procRecBpf](b)
	if !ok {
		return false
	}
	ev := d.event(event.KindBPF, &r.Hdr)
	e := &event.BPF{
		Cmd: int64(r.Cmd), MapName: string(cstrBytes(r.MapName[:])), MapType: int64(r.MapType),
		ProgName: string(cstrBytes(r.ProgName[:])), ProgType: int64(r.ProgType),
		Retval: int64(r.Retval),
	}
	if r.ProgType != 0 {
		// Rules count the kinds of attachment from 1, the kernel from 0.
		e.ProgAttachType = int64(r.AttachType) + 1
	}
	if r.Tag != [8]uint8{} {
		e.ProgTag = hex.EncodeToString(r.Tag[:])
	}
	if r.Flags&uint32(procRecCallFlagRC_HELPERS) != 0 {
		for n := range int64(len(r.Helpers) * 64) {
			if r.Helpers[n/64]>>(n%64)&1 != 0 {
				e.ProgHelpers = append(e.ProgHelpers, n)
			}
		}
	}
	if r.Flags&uint32(procRecCallFlagRC_USER) != 0 {
		ev.Flags |= event.FlagPathUser
	}
	ev.BPF = e
	rec.ev = ev
	return true
}

func (d *decoder) module(rec *record, b []byte) bool {
	r, ok := fill[procRecModule](b)
	if !ok {
		return false
	}
	has := func(f procRecCallFlag) bool { return r.Flags&uint32(f) != 0 }
	name, ret := string(str(b, r.Name)), int64(r.Retval)
	if rec.kind == procRecKindREC_UNLOAD_MODULE {
		rec.ev = d.event(event.KindUnloadModule, &r.Hdr)
		rec.ev.UnloadModule = &event.UnloadModule{Name: name, Retval: ret}
	} else {
		rec.ev = d.event(event.KindLoadModule, &r.Hdr)
		e := &event.LoadModule{
			File: d.file(b, &r.File), Name: name, Retval: ret, LoadedFromMemory: has(procRecCallFlagRC_MEMORY),
		}
		// Parameters are words; one that holds spaces is quoted, which is left
		// as it is.
		args := str(b, r.Args)
		if kept := str(b, r.Kept); len(kept) > 0 && !sameWords(args, kept) {
			// Rewritten since the kernel took its copy: that one counts, though
			// names and values are apart in it.
			args = bytes.ReplaceAll(kept, []byte{0}, []byte{' '})
			rec.ev.Flags |= event.FlagPathChanged
		}
		spaced := bytes.Join(bytes.Fields(args), []byte{0})
		e.Argv, e.ArgsTruncated = strs(spaced, maxStrings, has(procRecCallFlagRC_TEXT_CUT))
		if len(e.Argv) == 0 {
			e.Argv = nil
		}
		if r.File.Flags&uint16(procRecFileFlagRF_TRUNCATED) != 0 {
			rec.ev.Flags |= event.FlagPathCut
		}
		rec.ev.LoadModule = e
	}
	if has(procRecCallFlagRC_USER) {
		rec.ev.Flags |= event.FlagPathUser
	}
	return true
}

// sameWords tells whether the kernel's copy of parameters, which ends its words
// with NULs in place of blanks, quotes and equal signs, is that of a text.
func sameWords(text, kept []byte) bool {
	if len(text) != len(kept) {
		return false
	}
	for i, c := range kept {
		if c != text[i] && (c != 0 || !bytes.ContainsRune([]byte(" \t\n\r\v\f\"="), rune(text[i]))) {
			return false
		}
	}
	return true
}

func (d *decoder) sysctl(rec *record, b []byte) bool {
	r, ok := fill[procRecSysctl](b)
	if !ok {
		return false
	}
	has := func(f procRecCallFlag) bool { return r.Flags&uint32(f) != 0 }
	// Values come with the line's end or a NUL behind them.
	value := func(s procRecStr) string { return strings.TrimRight(string(str(b, s)), "\x00\n") }
	rec.ev = d.event(event.KindSysctl, &r.Hdr)
	rec.ev.Sysctl = &event.Sysctl{
		Action: int64(r.Write), Name: value(r.Name), NameTruncated: has(procRecCallFlagRC_NAME_CUT),
		Value: value(r.Value), ValueTruncated: has(procRecCallFlagRC_TEXT_CUT),
		OldValue: value(r.Old), OldValueTruncated: has(procRecCallFlagRC_OLD_CUT), FilePosition: int64(r.Position),
	}
	return true
}
