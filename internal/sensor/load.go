//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"

	"github.com/clewsec/clew/internal/kfilter"
	"golang.org/x/sys/unix"
)

// kernel is what of us lives in the kernel: maps, programs, links.
type kernel struct {
	mode Mode
	log  *slog.Logger
	// specs are the objects while programs are loaded from them. They take
	// megabytes, and plans change seldom: read gives them anew.
	specs map[string]*ebpf.CollectionSpec
	read  func() (map[string]*ebpf.CollectionSpec, error)
	maps  map[string]*ebpf.Map
	progs map[string]*ebpf.Program // by object/name
	hooks []hook
	links map[int]io.Closer // by place in hooks
	named map[string]*namedHook
	trace *tracefs
	// root is the root control group; -1 if it cannot be had. It is opened
	// before privileges are given up, a plan may need it later.
	root int
	plan *kernelPlan
	// depthState is what is written with every change of the hints.
	depthState procHintState
	// missing are places that this kernel does not have or does not let us
	// attach to, with the reason.
	missing map[string]string
	ended   bool // nothing is attached any more
}

// cpus is how many CPUs may ever run a program.
func cpus() (int, error) {
	n, err := ebpf.PossibleCPU()
	if err != nil {
		return 0, fmt.Errorf("count CPUs: %w", err)
	}
	return n, nil
}

const scratchSlots = 2 // SCRATCH_SLOTS in maps.h

// specsFor gives the objects of a mode, as this kernel takes them.
func specsFor(mode Mode) (map[string]*ebpf.CollectionSpec, error) {
	if mode == Tracepoint && before515() {
		return readSpecs(v510Objects)
	}
	loaders := map[string]func() (*ebpf.CollectionSpec, error){
		"proc": loadProc, "file_tp": loadFile_tp, "net_tp": loadNet_tp, "cred_tp": loadCred_tp, "fsmeta_tp": loadFsmeta_tp, "uring": loadUring,
		"kern": loadKern, "kern_tp": loadKern_tp, "caps_tp": loadCaps_tp, "selinux_tp": loadSelinux_tp,
	}
	if mode == Trampoline {
		loaders = map[string]func() (*ebpf.CollectionSpec, error){
			"proc": loadProc, "file_tr": loadFile_tr, "net_tr": loadNet_tr, "cred_tr": loadCred_tr, "fsmeta_tp": loadFsmeta_tp, "fsmeta_tr": loadFsmeta_tr,
			"kern": loadKern, "kern_tp": loadKern_tp, "kern_tr": loadKern_tr,
			"caps_tr": loadCaps_tr, "selinux_tr": loadSelinux_tr,
		}
	}
	loaders["packet"], loaders["flow"], loaders["ondemand"] = loadPacket, loadFlow, loadOndemand
	if mode == Trampoline {
		loaders["sockopt_tr"] = loadSockopt_tr
	} else {
		loaders["sockopt_tp"] = loadSockopt_tp
	}
	return readSpecs(loaders)
}

func readSpecs(loaders map[string]func() (*ebpf.CollectionSpec, error)) (map[string]*ebpf.CollectionSpec, error) {
	specs := make(map[string]*ebpf.CollectionSpec, len(loaders))
	for name, load := range loaders {
		spec, err := load()
		if err != nil {
			return nil, fmt.Errorf("read object %s: %w", name, err)
		}
		specs[name] = spec
	}
	return specs, nil
}

// sizedSpecs gives the objects of a mode with the sizes of their maps and the
// values of their settings.
func sizedSpecs(mode Mode, see32 bool, sizes map[string]uint32, vars map[string]any) (map[string]*ebpf.CollectionSpec, error) {
	specs, err := specsFor(mode)
	if err == nil && see32 {
		specs["see32"], err = see32Object()
	}
	if err != nil {
		return nil, err
	}
	for _, spec := range specs {
		for name, size := range sizes {
			if m := spec.Maps[name]; m != nil {
				m.MaxEntries = size
			}
		}
		for name, value := range vars {
			if v := spec.Variables[name]; v != nil {
				if err := v.Set(value); err != nil {
					return nil, fmt.Errorf("set %s: %w", name, err)
				}
			}
		}
	}
	return specs, nil
}

// newKernel creates the maps. Nothing is attached yet.
func newKernel(mode Mode, cfg *Config, log *slog.Logger) (_ *kernel, err error) {
	// Needed before v5.11, where maps count as locked memory; harmless after.
	if err := rlimit.RemoveMemlock(); err != nil {
		log.Debug("memlock limit stays", "err", err)
	}
	n, err := cpus()
	if err != nil {
		return nil, err
	}
	sizes := map[string]uint32{
		procMapCritical: ringSize(cfg.CriticalBytes, defaultCriticalBytes),
		procMapBulk:     ringSize(cfg.BulkBytes, defaultBulkBytes),
		procMapScratch:  uint32(n * scratchSlots),
	}
	vars := map[string]any{
		procVarCfgAgentTgid:    uint32(os.Getpid()),
		procVarCfgBulkSpare:    uint64(sizes[procMapBulk] / 4 * 3),
		procVarCfgCriticalHalf: uint64(sizes[procMapCritical] / 2),
		procVarCfgWakeBytes:    uint64(sizes[procMapBulk] / 4),
		packetVarCfgDnsPorts:   dnsPorts(cfg.DNSPorts),
	}
	see32 := cfg.See32 && mode == Tracepoint
	if why := canSee32(); see32 && why != nil {
		log.Warn("32-bit system calls are not seen", "err", why)
		see32 = false
	}
	read := func() (map[string]*ebpf.CollectionSpec, error) { return sizedSpecs(mode, see32, sizes, vars) }
	specs, err := read()
	if err != nil {
		return nil, err
	}
	k := &kernel{
		mode: mode, log: log, specs: specs, read: read, maps: make(map[string]*ebpf.Map), progs: make(map[string]*ebpf.Program),
		links: make(map[int]io.Closer), named: make(map[string]*namedHook), missing: make(map[string]string), root: -1,
	}
	defer func() {
		if err != nil {
			k.Close()
		}
	}()
	hooks := hooksFor(mode)
	if see32 {
		hooks = append(hooks, see32Hooks()...)
	}
	if k.hooks, err = settle(built(hooks, specs, k.missing), specs); err != nil {
		return nil, err
	}
	if k.hooks, err = present(k.hooks, specs, k.missing); err != nil {
		return nil, err
	}
	absent(k.hooks, k.missing)
	for _, spec := range specs {
		for name, m := range spec.Maps {
			if strings.HasPrefix(name, ".") || k.maps[name] != nil {
				continue
			}
			if k.maps[name], err = ebpf.NewMap(m); err != nil {
				return nil, fmt.Errorf("create map %s: %w", name, err)
			}
		}
	}
	if k.trace, err = openTracefs(); err != nil {
		if mode == Tracepoint {
			return nil, err
		}
		for i := range k.hooks {
			if h := &k.hooks[i]; h.on != "" {
				k.missing[h.place()] = err.Error()
			}
		}
	}
	if k.root, err = openRootCgroup(); err != nil {
		log.Warn("root control group cannot be opened", "err", err)
		err = nil
	}
	if err := k.maps[procMapShape].Put(uint32(0), cfg.Shape.data()); err != nil {
		return nil, fmt.Errorf("write limits: %w", err)
	}
	if !cfg.NoRecorder {
		k.depthState.Recording = 1
	}
	if err := k.maps[procMapDepthState].Put(uint32(0), k.depthState); err != nil {
		return nil, fmt.Errorf("write depth state: %w", err)
	}
	one := uint32(1)
	for _, pid := range cfg.Self {
		if err := k.maps[procMapSelf].Put(pid, one); err != nil {
			return nil, fmt.Errorf("write own processes: %w", err)
		}
	}
	if !cfg.NotSelf {
		if err := k.maps[procMapSelf].Put(uint32(os.Getpid()), one); err != nil {
			return nil, fmt.Errorf("write own processes: %w", err)
		}
	}
	return k, nil
}

// dnsPorts fills up with zeros, which are no port.
func dnsPorts(ports []uint16) (out [MaxDNSPorts]uint16) {
	out[0] = 53
	copy(out[:], ports)
	return out
}

// load makes sure that programs are in the kernel: object name to programs.
func (k *kernel) load(want map[string][]string) error {
	if len(want) > 0 && k.specs == nil {
		specs, err := k.read()
		if err != nil {
			return err
		}
		k.specs = specs
	}
	// The kernel's types take tens of megabytes: read once for all objects, and
	// let go of after.
	cache := btf.NewCache()
	for object, names := range want {
		spec := k.specs[object].Copy()
		for name := range spec.Programs {
			if !slices.Contains(names, name) || k.progs[object+"/"+name] != nil {
				delete(spec.Programs, name)
			}
		}
		if len(spec.Programs) == 0 {
			continue
		}
		replace := make(map[string]*ebpf.Map)
		for name := range spec.Maps {
			if m := k.maps[name]; m != nil {
				replace[name] = m
			}
		}
		c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replace, Cache: cache})
		if err != nil && (k.specs[object].Programs[names[0]].Type == ebpf.CGroupSKB || expendable[object]) {
			// Packets and some rare kinds are worth less than all the rest.
			k.without(object, fmt.Errorf("load: %w", brief(err)))
			continue
		}
		if err != nil {
			return fmt.Errorf("load object %s: %w", object, err)
		}
		for name, p := range c.Programs {
			k.progs[object+"/"+name] = p
			delete(c.Programs, name)
		}
		c.Close()
	}
	return nil
}

// without gives up the hooks of an object.
func (k *kernel) without(object string, why error) {
	for i := range k.hooks {
		if h := &k.hooks[i]; h.object == object {
			k.missing[h.place()] = why.Error()
		}
	}
	k.log.Warn("hooks cannot be attached", "hooks", object, "err", why)
}

// attachOne puts one hook in place.
func (k *kernel) attachOne(h *hook) (io.Closer, error) {
	p := k.progs[h.object+"/"+h.prog]
	if h.on != "" {
		id, err := k.trace.id("syscalls", h.on)
		if err != nil {
			return nil, err
		}
		return attachTracepoint(id, p)
	}
	switch p.Type() {
	case ebpf.LSM:
		return link.AttachLSM(link.LSMOptions{Program: p})
	case ebpf.CGroupSysctl:
		return attachSysctl(k.root, p)
	case ebpf.CGroupSKB:
		return attachPackets(k.root, p, k.specs[h.object].Programs[h.prog].AttachType)
	default:
		return link.AttachTracing(link.TracingOptions{Program: p})
	}
}

// setPlan loads and attaches what the plan needs, writes the filters, and
// detaches what it does not need any more.
func (k *kernel) setPlan(p *kernelPlan) error {
	if k.ended {
		return ErrNotRunning
	}
	want := make(map[string][]string)
	for i := range k.hooks {
		h := &k.hooks[i]
		if !h.wanted(p) || k.links[i] != nil || k.missing[h.place()] != "" {
			continue
		}
		if h.on != "" && h.optional {
			if _, err := k.trace.id("syscalls", h.on); errors.Is(err, os.ErrNotExist) {
				k.missing[h.place()] = "not on this kernel"
				continue
			}
		}
		want[h.object] = append(want[h.object], h.prog)
	}
	defer func() { k.specs = nil }()
	if err := k.load(want); err != nil {
		return err
	}
	// The filter comes first: a program never runs without one.
	if err := p.apply(k.maps[procMapPlan], k.maps[procMapNames], k.plan); err != nil {
		return err
	}
	k.plan = p
	var drop []io.Closer
	for i := range k.hooks {
		h := &k.hooks[i]
		switch has := k.links[i]; {
		case h.wanted(p) && has == nil && k.missing[h.place()] == "":
			l, err := k.attachOne(h)
			if err != nil {
				if h.object == "proc" {
					return fmt.Errorf("attach %s: %w", h.place(), err)
				}
				k.missing[h.place()] = err.Error()
				k.log.Warn("hook cannot be attached", "hook", h.place(), "err", err)
				continue
			}
			k.links[i] = l
		case !h.wanted(p) && has != nil:
			drop = append(drop, has)
			delete(k.links, i)
		}
	}
	if err := closeAll(drop); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	return k.setNamed(p.hooks)
}

// leaveOut turns off the kinds of a plan that no attached program reports.
func (k *kernel) leaveOut(p *kfilter.Plan) {
	var reported [procRecKindREC_KINDS]bool
	for i := range k.hooks {
		if k.links[i] == nil {
			continue
		}
		for _, rec := range k.hooks[i].kinds {
			reported[rec] = true
		}
	}
	reported[procRecKindREC_ONDEMAND] = len(k.named) > 0
	for kind := range p.Kinds {
		if !slices.ContainsFunc(recKinds[kind], func(rec procRecKind) bool { return reported[rec] }) {
			p.Kinds[kind] = kfilter.Kind{}
		}
	}
}

func (h *hook) place() string {
	if h.on != "" {
		return h.on
	}
	return h.object + "/" + h.prog
}

// detach ends all programs and leaves the maps.
func (k *kernel) detach() error {
	links := make([]io.Closer, 0, len(k.links))
	for i, l := range k.links {
		links = append(links, l)
		delete(k.links, i)
	}
	for name, h := range k.named {
		links = append(links, h)
		delete(k.named, name)
	}
	k.ended = true
	return closeAll(links)
}

// Close takes everything out of the kernel.
func (k *kernel) Close() error {
	err := k.detach()
	for name, p := range k.progs {
		err = errors.Join(err, p.Close())
		delete(k.progs, name)
	}
	for name, m := range k.maps {
		err = errors.Join(err, m.Close())
		delete(k.maps, name)
	}
	if k.root >= 0 {
		err = errors.Join(err, unix.Close(k.root))
		k.root = -1
	}
	if k.trace != nil {
		err = errors.Join(err, k.trace.Close())
		k.trace = nil
	}
	return err
}
