// Package kfilter describes what the kernel side of the sensor may drop. A
// Plan is plain data: the rule set derives it, the sensor puts it into maps.
//
// A plan is sound when it drops only what no rule, context or hot process
// wants. Lets is the reference for the kernel's half.
package kfilter

import (
	"slices"

	"github.com/clewsec/clew/internal/event"
)

// A Mode says what happens to the events of a kind.
type Mode uint8

// The modes of a kind.
const (
	Off      Mode = iota // nothing leaves the kernel
	Filtered             // what one of the filters names leaves the kernel
	All                  // everything leaves the kernel
)

var modeNames = [...]string{"off", "filtered", "all"}

func (m Mode) String() string { return modeNames[m] }

// MaxNames is how many base names the kernel's map holds for all kinds
// together; a plan with more of them switches its kinds to All.
const MaxNames = 4096

// MaxNameLen is how many bytes of a base name the kernel compares. A longer
// name cannot be a filter.
const MaxNameLen = 63

// A Kind is the filter of one kind of event.
type Kind struct {
	Mode     Mode
	FlagsAny uint64   // Filtered: an event with one of these flag bits passes
	Names    []string // Filtered: an event whose file has this base name passes; sorted
}

// A Plan is the filter of all kinds. The zero Plan lets nothing through.
type Plan struct {
	Kinds [event.NumKinds]Kind
	// Rules is what rules want of it, in a plan that is Shaped: a flood of the
	// rest may be thinned out in the kernel, and is counted. See Compose.
	Rules  [event.NumKinds]Kind
	Shaped bool
}

// Wants makes sure that at least what k lets through leaves the kernel.
func (p *Plan) Wants(kind event.Kind, k Kind) {
	p.Kinds[kind].join(kind, k)
}

func (have *Kind) join(kind event.Kind, k Kind) {
	have.Mode = max(have.Mode, k.Mode)
	have.FlagsAny |= k.FlagsAny
	have.Names = append(slices.Clone(have.Names), k.Names...)
	slices.Sort(have.Names)
	have.Names = slices.Compact(have.Names)
	if have.Mode == All && fileNames(kind) {
		have.FlagsAny, have.Names = 0, nil
	}
}

// Join makes sure that what q lets through passes p as well, and that what is
// wanted of either is wanted of both.
func (p *Plan) Join(q Plan) {
	rules := q.Rules
	if !q.Shaped {
		rules = q.Kinds
	}
	for k := range q.Kinds {
		p.Wants(event.Kind(k), q.Kinds[k])
		if p.Shaped {
			p.Rules[k].join(event.Kind(k), rules[k])
		}
	}
}

// Fit switches to All what the kernel's maps cannot hold.
func (p *Plan) Fit() {
	names := map[string]bool{}
	for _, kinds := range []*[event.NumKinds]Kind{&p.Kinds, &p.Rules} {
		for k := range kinds {
			if !fileNames(event.Kind(k)) {
				continue
			}
			if slices.ContainsFunc(kinds[k].Names, func(n string) bool { return len(n) > MaxNameLen }) {
				kinds[k] = Kind{Mode: All}
				p.Kinds[k] = Kind{Mode: All}
			}
			for _, n := range kinds[k].Names {
				names[n] = true
			}
		}
	}
	if len(names) <= MaxNames {
		return
	}
	for k := range p.Kinds {
		if !fileNames(event.Kind(k)) {
			continue
		}
		if len(p.Kinds[k].Names) > 0 || len(p.Rules[k].Names) > 0 {
			p.Kinds[k] = Kind{Mode: All}
		}
		if len(p.Rules[k].Names) > 0 {
			p.Rules[k] = Kind{Mode: All}
		}
	}
}

// Lets tells whether an event of the kind, with these flags and files of
// these base names, leaves the kernel.
func (p *Plan) Lets(kind event.Kind, flags uint64, names ...string) bool {
	k := &p.Kinds[kind]
	switch k.Mode {
	case All:
		return true
	case Filtered:
		if flags&k.FlagsAny != 0 {
			return true
		}
		for _, n := range names {
			if _, ok := slices.BinarySearch(k.Names, n); ok {
				return true
			}
		}
	}
	return false
}

// Record is the plan as a stream carries it.
func (p *Plan) Record() *event.FilterPlan {
	var r event.FilterPlan
	for k, f := range p.Kinds {
		if f.Mode != Off {
			r.Kinds = append(r.Kinds, event.KindPlan{
				Kind: event.Kind(k), Mode: f.Mode.String(), FlagsAny: f.FlagsAny, Names: f.Names,
			})
		}
	}
	return &r
}

// Write flags of open(2): access mode other than O_RDONLY, O_CREAT, O_TRUNC,
// O_APPEND. The same numbers on amd64 and arm64 (asm-generic/fcntl.h).
const OpenWrite = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000

// The namespaces of an extended attribute, as flags of setxattr and
// removexattr.
const (
	XattrSecurity = 1 << iota
	XattrSystem
	XattrTrusted
	XattrUser
)

// ValueBit is the bit of FlagsAny that stands for a value, for kinds whose
// filter is a set of values and not of flags: ptrace by request, prctl by
// option, bpf by command, signal by number, setrlimit by resource, sysctl by
// action. What has no bit of its own shares the last one.
func ValueBit(kind event.Kind, v int64) uint64 {
	// Requests of ptrace(2) lie in two ranges.
	switch {
	case kind != event.KindPtrace:
	case v >= 0x4200 && v < 0x421f:
		return 1 << (32 + v&31)
	case v >= 32:
		return 1 << 63
	}
	if v < 0 || v > 62 {
		return 1 << 63
	}
	return 1 << v
}

// traceRequests are the requests of ptrace(2) by which a process gets hold of
// another, or writes into it: TRACEME, POKETEXT, POKEDATA, POKEUSR, SETREGS,
// SETFPREGS, ATTACH, SETREGSET, SEIZE. The rest goes on all the time below a
// debugger.
var traceRequests = [...]int64{0, 4, 5, 6, 13, 15, 16, 0x4205, 0x4206}

// TakesHold tells whether a request of ptrace(2) is one by which a process gets
// hold of another, or writes into it.
func TakesHold(request int64) bool { return slices.Contains(traceRequests[:], request) }

// bpfCommands are the commands of bpf(2) that put something into the kernel
// that runs: PROG_LOAD, PROG_ATTACH, RAW_TRACEPOINT_OPEN, LINK_CREATE.
var bpfCommands = [...]int64{5, 8, 17, 28}

// Baseline is what leaves the kernel whatever the rules are: process life,
// credentials, control group moves, connections, answers of name servers,
// mounts, every change of a file, and of what decides over its rights; modules,
// the start of tracing, and programs for the kernel.
func Baseline() Plan {
	var p Plan
	for _, k := range []event.Kind{
		event.KindFork, event.KindExec, event.KindExit, event.KindSetuid, event.KindSetgid, event.KindCgroupWrite,
		event.KindConnect, event.KindAccept, event.KindBind,
		event.KindUnlink, event.KindRename, event.KindChmod, event.KindChown, event.KindLink, event.KindSymlink,
		event.KindMount, event.KindUmount, event.KindCapset, event.KindLoadModule, event.KindUnloadModule,
	} {
		p.Kinds[k].Mode = All
	}
	for kind, values := range map[event.Kind][]int64{event.KindPtrace: traceRequests[:], event.KindBPF: bpfCommands[:]} {
		k := Kind{Mode: Filtered}
		for _, v := range values {
			k.FlagsAny |= ValueBit(kind, v)
		}
		p.Kinds[kind] = k
	}
	// Answers of name servers: a connection is told by the name it was meant for.
	p.Kinds[event.KindDNS].Mode = All
	p.Kinds[event.KindOpen] = Kind{Mode: Filtered, FlagsAny: OpenWrite}
	p.Kinds[event.KindSetxattr] = Kind{Mode: Filtered, FlagsAny: XattrSecurity}
	p.Kinds[event.KindRemovexattr] = Kind{Mode: Filtered, FlagsAny: XattrSecurity}
	return p
}
