package ruleset

import (
	"math"
	"path"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/match"
)

// DerivePlan works out what the kernel may leave away because no rule of the
// set can match it. What contexts and the baseline need besides has to be
// joined to it.
//
// Each condition is read with its negations pushed down to the leaves. A leaf
// that says something about flags or the base name of a file is kept, every
// other one counts as true, negated or not. What is left is a test that holds
// whenever the condition does; where there is none the whole kind passes.
func DerivePlan(s *Set) kfilter.Plan {
	var plan kfilter.Plan
	for k := range s.buckets {
		for _, e := range s.buckets[k].entries {
			if readsCapabilities(e.program.Expr) {
				plan.Wants(event.KindCapabilities, kfilter.Kind{Mode: kfilter.All})
			}
		}
		for _, e := range s.buckets[k].entries {
			n, ok := derive(event.Kind(k), e.program.Expr, false)
			if event.Kind(k) == event.KindOndemand {
				// A rule that names no function has none watched; it sees the
				// calls of those that others name.
				ok = true
			}
			if !ok {
				plan.Wants(event.Kind(k), kfilter.Kind{Mode: kfilter.All})
				break
			}
			plan.Wants(event.Kind(k), kfilter.Kind{Mode: kfilter.Filtered, FlagsAny: n.flags, Names: n.names})
		}
	}
	plan.Fit()
	return plan
}

// readsCapabilities tells whether a condition asks what capabilities a process
// was asked for or granted, which only events of their own kind tell.
func readsCapabilities(e *check.Expr) bool {
	if e.Field != nil && (strings.HasSuffix(e.Field.Name, ".caps_attempted") || strings.HasSuffix(e.Field.Name, ".caps_used")) {
		return true
	}
	return slices.ContainsFunc(e.Args, readsCapabilities)
}

// need says that a condition can hold only for an event with one of the flags,
// or a file of one of the names. Without either it can never hold.
type need struct {
	flags uint64
	names []string
}

// cost orders needs: fewer names are better than more, and all of them better
// than flags, which many events have.
func (n need) cost() int {
	c := len(n.names)
	if n.flags != 0 {
		c += 256
	}
	return c
}

func derive(kind event.Kind, e *check.Expr, negated bool) (need, bool) {
	switch {
	case e.Op == check.Not:
		return derive(kind, e.Args[0], !negated)
	case e.Op == check.Const:
		return need{}, e.Bool == negated
	case e.Op == check.And && !negated, e.Op == check.Or && negated:
		var best need
		found := false
		for _, a := range e.Args {
			if n, ok := derive(kind, a, negated); ok && (!found || n.cost() < best.cost()) {
				best, found = n, true
			}
		}
		return best, found
	case e.Op == check.Or, e.Op == check.And:
		var all need
		for _, a := range e.Args {
			n, ok := derive(kind, a, negated)
			if !ok {
				return need{}, false
			}
			all.flags |= n.flags
			all.names = append(all.names, n.names...)
		}
		return all, true
	case e.Op == check.InSet && !negated:
		return deriveNames(kind, e)
	case e.Op == check.InInts:
		return deriveFlags(kind, e, negated)
	case (e.Op == check.Less || e.Op == check.LessEq) && !negated:
		// 0 < flags & mask, or 1 <= flags & mask.
		l, r := e.Args[0], e.Args[1]
		if l.Op != check.Const || e.Op == check.Less && l.Int < 0 || e.Op == check.LessEq && l.Int < 1 {
			return need{}, false
		}
		if mask, ok := flagsOf(kind, r); ok {
			return need{flags: mask}, true
		}
	}
	return need{}, false
}

// deriveNames handles a file's name, or its path, being one of some literals.
func deriveNames(kind event.Kind, e *check.Expr) (need, bool) {
	x := e.Args[0]
	if kind == event.KindOndemand {
		return deriveFunctions(x, e)
	}
	if x.Op != check.FieldOp || x.Length || x.List || e.Set.Fold() || x.Field.Kind != kind.String() {
		return need{}, false
	}
	object, isPath := strings.CutSuffix(x.Field.Name, ".path")
	if !isPath {
		var isName bool
		if object, isName = strings.CutSuffix(x.Field.Name, ".name"); !isName {
			return need{}, false
		}
	}
	if !fileObject(kind, object) {
		return need{}, false
	}
	var n need
	for _, v := range e.Set.Values {
		if isPath {
			if v == "" || v == "/" {
				return need{}, false
			}
			v = path.Base(v)
		}
		if v == "" {
			return need{}, false
		}
		n.names = append(n.names, v)
	}
	for _, m := range e.Set.Matchers {
		g, ok := m.(*match.Glob)
		if !ok {
			return need{}, false
		}
		base, ok := g.Base()
		if !ok || base == "" {
			return need{}, false
		}
		n.names = append(n.names, base)
	}
	return n, true
}

// deriveFunctions handles the name of a function being one of some literals.
func deriveFunctions(x, e *check.Expr) (need, bool) {
	if x.Op != check.FieldOp || x.Length || x.Field.Name != "ondemand.name" || e.Set.Fold() || len(e.Set.Matchers) > 0 {
		return need{}, false
	}
	return need{names: slices.Clone(e.Set.Values)}, true
}

// fileObject tells whether events of the kind have a file at the path.
func fileObject(kind event.Kind, object string) bool {
	return slices.ContainsFunc(event.FileRefs, func(r event.ObjectRef[event.File]) bool {
		return r.Kind == kind && r.Path == object
	})
}

// deriveFlags handles flags being equal, or not equal, to some numbers, and
// values being equal to them.
func deriveFlags(kind event.Kind, e *check.Expr, negated bool) (need, bool) {
	if valueOf(kind, e.Args[0]) && !negated {
		var n need
		for _, v := range e.Ints {
			n.flags |= kfilter.ValueBit(kind, v)
		}
		return n, true
	}
	mask, ok := flagsOf(kind, e.Args[0])
	zero := slices.Contains(e.Ints, 0)
	if !ok || zero != negated {
		return need{}, false
	}
	if negated {
		// Not one of some numbers that include 0: some bit is set.
		return need{flags: mask}, true
	}
	var n need
	// A number without any of the bits that are looked at is never met.
	for _, v := range e.Ints {
		n.flags |= uint64(v) & mask
	}
	return n, true
}

// valueOf tells whether an expression is what the kind's filter knows by its
// values.
func valueOf(kind event.Kind, e *check.Expr) bool {
	if e.Op != check.FieldOp || e.Length || e.List {
		return false
	}
	switch e.Field.Name {
	case "ptrace.request", "prctl.option", "bpf.cmd", "signal.type", "setrlimit.resource", "sysctl.action":
		return e.Field.Kind == kind.String()
	}
	return false
}

// flagsOf tells whether an expression is the flags of the kind's filter, or
// some bits of them, and which.
func flagsOf(kind event.Kind, e *check.Expr) (mask uint64, ok bool) {
	switch e.Op {
	case check.FieldOp:
		switch {
		case e.Length || e.List:
		case kind == event.KindOpen && e.Field.Name == "open.flags",
			kind == event.KindChmod && e.Field.Name == "chmod.file.destination.mode",
			kind == event.KindMmap && e.Field.Name == "mmap.protection",
			kind == event.KindMprotect && e.Field.Name == "mprotect.req_protection",
			kind == event.KindUnshare && e.Field.Name == "unshare.flags":
			return math.MaxUint64, true
		case kind == event.KindChmod && e.Field.Name == "chmod.file.destination.rights":
			return 0o7777, true
		}
	case check.BitAnd:
		a, b := e.Args[0], e.Args[1]
		if a.Op == check.Const {
			a, b = b, a
		}
		if m, ok := flagsOf(kind, a); ok && b.Op == check.Const {
			return m & uint64(b.Int), true
		}
	}
	return 0, false
}
