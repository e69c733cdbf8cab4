//go:build linux && (amd64 || arm64)

package sensor

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// recKinds says which of the kernel's records an event kind comes from.
var recKinds = [event.NumKinds][]procRecKind{
	event.KindFork:               {procRecKindREC_FORK},
	event.KindExec:               {procRecKindREC_EXEC},
	event.KindExit:               {procRecKindREC_EXIT},
	event.KindOpen:               {procRecKindREC_OPEN, procRecKindREC_TRUNCATE},
	event.KindUnlink:             {procRecKindREC_UNLINK},
	event.KindRename:             {procRecKindREC_RENAME},
	event.KindChmod:              {procRecKindREC_CHMOD},
	event.KindChown:              {procRecKindREC_CHOWN},
	event.KindLink:               {procRecKindREC_LINK},
	event.KindSymlink:            {procRecKindREC_SYMLINK},
	event.KindConnect:            {procRecKindREC_CONNECT},
	event.KindAccept:             {procRecKindREC_ACCEPT},
	event.KindBind:               {procRecKindREC_BIND},
	event.KindSetuid:             {procRecKindREC_CRED},
	event.KindSetgid:             {procRecKindREC_CRED},
	event.KindCgroupWrite:        {procRecKindREC_CGROUP},
	event.KindMkdir:              {procRecKindREC_MKDIR},
	event.KindRmdir:              {procRecKindREC_RMDIR},
	event.KindSocket:             {procRecKindREC_SOCKET},
	event.KindSetsockopt:         {procRecKindREC_SETSOCKOPT},
	event.KindNetworkFlowMonitor: {procRecKindREC_FLOWS},
	event.KindDNS:                {procRecKindREC_DNS},
	event.KindFailedDNS:          {procRecKindREC_DNS},
	event.KindIMDS:               {procRecKindREC_IMDS},
	event.KindChdir:              {procRecKindREC_CHDIR},
	event.KindMount:              {procRecKindREC_MOUNT},
	event.KindUmount:             {procRecKindREC_UMOUNT},
	event.KindSetxattr:           {procRecKindREC_SETXATTR},
	event.KindRemovexattr:        {procRecKindREC_REMOVEXATTR},
	event.KindSplice:             {procRecKindREC_SPLICE},
	event.KindUtimes:             {procRecKindREC_UTIMES},
	event.KindCapset:             {procRecKindREC_CRED},
	event.KindPtrace:             {procRecKindREC_PTRACE},
	event.KindSignal:             {procRecKindREC_SIGNAL},
	event.KindPrctl:              {procRecKindREC_PRCTL},
	event.KindSetrlimit:          {procRecKindREC_SETRLIMIT},
	event.KindUnshare:            {procRecKindREC_UNSHARE},
	event.KindMmap:               {procRecKindREC_MMAP},
	event.KindMprotect:           {procRecKindREC_MPROTECT},
	event.KindBPF:                {procRecKindREC_BPF},
	event.KindLoadModule:         {procRecKindREC_LOAD_MODULE},
	event.KindUnloadModule:       {procRecKindREC_UNLOAD_MODULE},
	event.KindSysctl:             {procRecKindREC_SYSCTL},
	event.KindCapabilities:       {procRecKindREC_CAPABILITIES},
	event.KindSELinux:            {procRecKindREC_SELINUX},
	event.KindOndemand:           {procRecKindREC_ONDEMAND},
}

// eventKinds is the other direction, for counters.
var eventKinds = map[procRecKind]event.Kind{
	procRecKindREC_FORK: event.KindFork, procRecKindREC_EXEC: event.KindExec, procRecKindREC_EXIT: event.KindExit,
	procRecKindREC_CRED: event.KindSetuid, procRecKindREC_CGROUP: event.KindCgroupWrite,
	procRecKindREC_OPEN: event.KindOpen, procRecKindREC_TRUNCATE: event.KindOpen,
	procRecKindREC_UNLINK: event.KindUnlink, procRecKindREC_RMDIR: event.KindRmdir,
	procRecKindREC_RENAME: event.KindRename, procRecKindREC_MKDIR: event.KindMkdir,
	procRecKindREC_CHMOD: event.KindChmod, procRecKindREC_CHOWN: event.KindChown,
	procRecKindREC_LINK: event.KindLink, procRecKindREC_SYMLINK: event.KindSymlink,
	procRecKindREC_CONNECT: event.KindConnect, procRecKindREC_ACCEPT: event.KindAccept,
	procRecKindREC_BIND:   event.KindBind,
	procRecKindREC_SOCKET: event.KindSocket, procRecKindREC_SETSOCKOPT: event.KindSetsockopt,
	procRecKindREC_FLOWS: event.KindNetworkFlowMonitor,
	procRecKindREC_DNS:   event.KindDNS, procRecKindREC_IMDS: event.KindIMDS,
	procRecKindREC_CHDIR: event.KindChdir, procRecKindREC_MOUNT: event.KindMount,
	procRecKindREC_UMOUNT: event.KindUmount, procRecKindREC_SETXATTR: event.KindSetxattr,
	procRecKindREC_REMOVEXATTR: event.KindRemovexattr, procRecKindREC_SPLICE: event.KindSplice,
	procRecKindREC_UTIMES:        event.KindUtimes,
	procRecKindREC_PTRACE:        event.KindPtrace,
	procRecKindREC_SIGNAL:        event.KindSignal,
	procRecKindREC_PRCTL:         event.KindPrctl,
	procRecKindREC_SETRLIMIT:     event.KindSetrlimit,
	procRecKindREC_UNSHARE:       event.KindUnshare,
	procRecKindREC_MMAP:          event.KindMmap,
	procRecKindREC_MPROTECT:      event.KindMprotect,
	procRecKindREC_BPF:           event.KindBPF,
	procRecKindREC_LOAD_MODULE:   event.KindLoadModule,
	procRecKindREC_UNLOAD_MODULE: event.KindUnloadModule,
	procRecKindREC_SYSCTL:        event.KindSysctl,
	procRecKindREC_CAPABILITIES:  event.KindCapabilities,
	procRecKindREC_SELINUX:       event.KindSELinux,
	procRecKindREC_ONDEMAND:      event.KindOndemand,
}

// kernelPlan is a plan as the maps hold it.
type kernelPlan struct {
	data  procPlanData
	names map[procNameKey]uint64
	// wanted are the records that some program has to make.
	wanted [procRecKindREC_KINDS]bool
	// hooks are the functions that rules name, instead of files.
	hooks []string
}

// Process life is not the plan's to turn off.
func withLife(p kfilter.Plan) kfilter.Plan {
	for _, k := range []event.Kind{event.KindFork, event.KindExec, event.KindExit} {
		p.Kinds[k] = kfilter.Kind{Mode: kfilter.All}
	}
	return p
}

func compilePlan(p kfilter.Plan) *kernelPlan {
	p = withLife(p)
	p.Fit()
	k := &kernelPlan{names: make(map[procNameKey]uint64)}
	for kind, f := range p.Kinds {
		if event.Kind(kind) == event.KindOndemand && f.Mode != kfilter.Off {
			// The names say where programs belong; what those see is wanted.
			k.hooks = f.Names
			k.data.Mode[procRecKindREC_ONDEMAND] = procPlanModePLAN_ALL
			continue
		}
		if f.Mode == kfilter.Off {
			continue
		}
		rules := f // of a plan that is not shaped rules want everything
		if p.Shaped {
			rules = p.Rules[kind]
		}
		for _, rec := range recKinds[kind] {
			k.wanted[rec] = true
			k.data.Mode[rec] = max(k.data.Mode[rec], planMode(f.Mode))
			k.data.FlagsAny[rec] |= f.FlagsAny
			k.data.RuleMode[rec] = max(k.data.RuleMode[rec], planMode(rules.Mode))
			k.data.RuleFlags[rec] |= rules.FlagsAny
			if kfilter.Deep(event.Kind(kind)) {
				k.data.Deep |= 1 << rec
			}
			// Whoever is wanted by name is wanted by a rule: the baseline names
			// nobody, and if it did, that would be held back less, not more.
			for _, names := range [][]string{f.Names, rules.Names} {
				if len(names) > 0 {
					k.data.ByName |= 1 << rec
				}
				for _, n := range names {
					k.names[nameKey(n)] |= 1 << rec
					word, bit := bloomBit(n)
					k.data.Bloom[word] |= 1 << bit
				}
			}
		}
	}
	return k
}

func planMode(m kfilter.Mode) procPlanMode {
	switch m {
	case kfilter.All:
		return procPlanModePLAN_ALL
	case kfilter.Filtered:
		return procPlanModePLAN_FILTERED
	}
	return procPlanModePLAN_OFF
}

// nameKey cuts a name as the kernel does: a longer one matches more than asked.
func nameKey(name string) procNameKey {
	var k procNameKey
	for i := 0; i < len(name) && i < len(k.Name)-1; i++ {
		k.Name[i] = int8(name[i])
	}
	return k
}

// bloomBit must give what bloom_has in filter.h looks at.
func bloomBit(name string) (word, bit uint64) {
	var head [8]byte
	copy(head[:], name)
	h := (binary.LittleEndian.Uint64(head[:]) ^ uint64(len(name))<<56) * 0x9e3779b97f4a7c15
	b := h >> 54
	return b >> 6 & 15, b & 63
}

// apply writes a plan so that at no moment something is left out that both the
// plan before and the one after want: names are added first and taken last.
func (k *kernelPlan) apply(plan, names *ebpf.Map, before *kernelPlan) error {
	for key, kinds := range k.names {
		both := kinds
		if before != nil {
			both |= before.names[key]
		}
		if err := names.Put(key, both); err != nil {
			return fmt.Errorf("write filter names: %w", err)
		}
	}
	if err := plan.Put(uint32(0), k.data); err != nil {
		return fmt.Errorf("write filter plan: %w", err)
	}
	if before == nil {
		return nil
	}
	for key := range before.names {
		kinds, ok := k.names[key]
		if ok {
			if err := names.Put(key, kinds); err != nil {
				return fmt.Errorf("write filter names: %w", err)
			}
		} else if err := names.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete filter name: %w", err)
		}
	}
	return nil
}
