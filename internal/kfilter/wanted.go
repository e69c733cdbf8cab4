package kfilter

import "github.com/clewsec/clew/internal/event"

// Compose joins what is always kept with what the rules want, and remembers
// which is which: of a flood, what passes the plan without passing the rules'
// part may be held back in the kernel.
func Compose(base, rules Plan) Plan {
	p := base
	p.Join(rules)
	p.Rules, p.Shaped = rules.Kinds, true
	return p
}

// Wanted tells whether a rule may want an event that Lets lets through. Such an
// event is never held back. Of a plan that is not Shaped all is wanted.
//
// The kernel's half says yes wherever it cannot decide, as for a name that is
// too long, or a path that may end in a symbolic link.
func (p *Plan) Wanted(kind event.Kind, flags uint64, names ...string) bool {
	if !p.Shaped {
		return p.Lets(kind, flags, names...)
	}
	r := Plan{Kinds: p.Rules}
	return r.Lets(kind, flags, names...)
}

// deepKinds are the kinds of which everything that a hot process does leaves the
// kernel, as far as programs are attached for them. Memory is not among them:
// every program that starts maps a dozen files; nor is traffic, which the kernel
// adds up, and knows no process of.
var deepKinds = [...]event.Kind{
	event.KindOpen, event.KindUnlink, event.KindRename, event.KindChmod, event.KindChown, event.KindLink,
	event.KindSymlink, event.KindMkdir, event.KindRmdir, event.KindChdir, event.KindUtimes, event.KindSplice,
	event.KindSetxattr, event.KindRemovexattr, event.KindPtrace, event.KindSignal, event.KindPrctl,
	event.KindSetrlimit, event.KindUnshare, event.KindBPF, event.KindSysctl,
}

// Deep tells whether all events of the kind leave the kernel in a hot context.
func Deep(kind event.Kind) bool {
	for _, k := range deepKinds {
		if k == kind {
			return true
		}
	}
	return false
}

// A Task is a process as the kernel's side knows it.
type Task struct {
	PID     uint32
	StartNS uint64 // boot time
	Session uint32
	Ended   bool // nothing more is done by it; what it did may be of interest
}
