package backtest

import (
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/match"
)

// alwaysKept are the kinds of event that agents keep each of.
var alwaysKept = []event.Kind{
	event.KindExec, event.KindExit, event.KindSetuid, event.KindSetgid, event.KindCgroupWrite, event.KindBind,
	event.KindMount, event.KindUmount,
}

// openWrites are the flags of open of which one makes an event a change.
const openWrites = 0o1103

// changed are, by kind, the fields of which one must lie below a watched root
// for an event to be kept.
var changed = map[event.Kind][]string{
	event.KindOpen:    {"open.file.path"},
	event.KindUnlink:  {"unlink.file.path"},
	event.KindRename:  {"rename.file.path", "rename.file.destination.path"},
	event.KindChmod:   {"chmod.file.path"},
	event.KindChown:   {"chown.file.path"},
	event.KindLink:    {"link.file.path", "link.file.destination.path"},
	event.KindSymlink: {"symlink.file.path"},
	event.KindMkdir:   {"mkdir.file.path"},
	event.KindRmdir:   {"rmdir.file.path"},
}

// keptWhole tells whether an agent keeps every event that a condition can
// match, whatever rules it runs. Where that is not certain the answer is no.
func keptWhole(c *ruleset.Condition) bool {
	if slices.Contains(alwaysKept, c.Kind) {
		return true
	}
	if c.Kind == event.KindSetxattr || c.Kind == event.KindRemovexattr {
		return implies(c.Expr, func(e *check.Expr) bool { return security(e, c.Kind.String()+".file.destination.") })
	}
	fields := changed[c.Kind]
	if fields == nil || !implies(c.Expr, func(e *check.Expr) bool { return belowRoots(e, fields) }) {
		return false
	}
	return c.Kind != event.KindOpen || implies(c.Expr, writes)
}

// capabilities tells whether a condition asks for capabilities of a process.
// Not every event that changes them is kept.
func capabilities(e *check.Expr) bool {
	if e.Op == check.FieldOp && e.Field.Kind == "" && (strings.HasSuffix(e.Field.Name, ".cap_effective") || strings.HasSuffix(e.Field.Name, ".cap_permitted")) {
		return true
	}
	return slices.ContainsFunc(e.Args, capabilities)
}

// keptWords says what is kept of a kind of which not all is.
func keptWords(k event.Kind) string {
	const signals = "; beside that, what a rule matched and what happened in hot contexts"
	switch {
	case k == event.KindConnect || k == event.KindAccept:
		return "kept is the first connection of a process with each peer" + signals
	case k == event.KindOpen:
		return "kept are opens for writing below watched directories" + signals
	case k == event.KindSetxattr || k == event.KindRemovexattr:
		return "kept are changes of security attributes" + signals
	case changed[k] != nil:
		return "kept are changes below watched directories" + signals
	}
	return "kept is what a rule matched and what happened in hot contexts"
}

// implies tells whether a condition can hold only where one of its leaves
// does for which leaf is true.
func implies(e *check.Expr, leaf func(*check.Expr) bool) bool {
	if leaf(e) {
		return true
	}
	switch e.Op {
	case check.And:
		return slices.ContainsFunc(e.Args, func(a *check.Expr) bool { return implies(a, leaf) })
	case check.Or:
		return !slices.ContainsFunc(e.Args, func(a *check.Expr) bool { return !implies(a, leaf) })
	}
	return false
}

// belowRoots tells whether a comparison asks for paths in one of the fields
// that all lie below watched roots.
func belowRoots(e *check.Expr, fields []string) bool {
	if e.Op != check.InSet || e.Set.Fold() {
		return false
	}
	x := e.Args[0]
	if x.Op != check.FieldOp || x.Length || x.List || !slices.Contains(fields, x.Field.Name) {
		return false
	}
	roots := pipeline.DefaultRoots()
	below := func(path string) bool {
		return slices.ContainsFunc(roots, func(r string) bool { return strings.HasPrefix(path, r) })
	}
	for _, v := range e.Set.Values {
		if !below(v) {
			return false
		}
	}
	for _, m := range e.Set.Matchers {
		g, ok := m.(*match.Glob)
		if !ok || !below(g.Dir()+"/") {
			return false
		}
	}
	return true
}

// security tells whether a comparison asks for attributes of the namespace
// that decides over rights. prefix is that of the attribute's fields.
func security(e *check.Expr, prefix string) bool {
	if e.Op != check.InSet || e.Set.Fold() || len(e.Set.Matchers) > 0 {
		return false
	}
	x := e.Args[0]
	if x.Op != check.FieldOp || x.Length || x.List {
		return false
	}
	switch x.Field.Name {
	case prefix + "namespace":
		return !slices.ContainsFunc(e.Set.Values, func(v string) bool { return v != "security" })
	case prefix + "name":
		return !slices.ContainsFunc(e.Set.Values, func(v string) bool { return !strings.HasPrefix(v, "security.") })
	}
	return false
}

// writes tells whether a comparison asks for a flag of open that makes the
// event a change.
func writes(e *check.Expr) bool {
	switch e.Op {
	case check.InInts:
		mask, ok := openFlags(e.Args[0])
		return ok && !slices.ContainsFunc(e.Ints, func(v int64) bool { return v&mask&openWrites == 0 })
	case check.Less, check.LessEq:
		// 0 < flags & mask, or 1 <= flags & mask.
		l, r := e.Args[0], e.Args[1]
		if l.Op != check.Const || e.Op == check.Less && l.Int < 0 || e.Op == check.LessEq && l.Int < 1 {
			return false
		}
		mask, ok := openFlags(r)
		return ok && mask&^openWrites == 0
	case check.Not:
		// Not one of some numbers of which one is 0: some bit is set.
		if a := e.Args[0]; a.Op == check.InInts && slices.Contains(a.Ints, 0) {
			mask, ok := openFlags(a.Args[0])
			return ok && mask&^openWrites == 0
		}
	}
	return false
}

// openFlags tells whether an expression is the flags of an open, or some bits
// of them, and which.
func openFlags(e *check.Expr) (mask int64, ok bool) {
	switch e.Op {
	case check.FieldOp:
		return -1, e.Field.Name == "open.flags" && !e.Length && !e.List
	case check.BitAnd:
		a, b := e.Args[0], e.Args[1]
		if a.Op == check.Const {
			a, b = b, a
		}
		if m, ok := openFlags(a); ok && b.Op == check.Const {
			return m & b.Int, true
		}
	}
	return 0, false
}
