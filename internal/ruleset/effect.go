package ruleset

import (
	"strings"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/secl"
	"github.com/clewsec/clew/internal/secl/ast"
)

// Effect is something that a rule which matched asks to be done. The set does
// nothing itself: it says what is to be done, in an order that depends on the
// events alone. Exactly one of the pointers is set.
type Effect struct {
	// Rule asks; nil for what follows from a signal alone, whatever its rule.
	Rule *Rule
	// Event is the event that matched.
	Event *event.Event
	Log   *LogEffect
	Hash  *HashEffect
}

// LogEffect is a line for the agent's log.
type LogEffect struct {
	Level   string // debug, info, warn or error
	Message string
}

// HashEffect asks for the hashes of a file of the event.
type HashEffect struct {
	// Field is the object in the rule's words: exec.file, open.file.
	Field string
	// File is the file as the event has it: path, device and inode say which
	// one is meant.
	File *event.File
	// MaxFileSize is the size in bytes above which it is not wanted; 0 leaves
	// that to whoever computes it.
	MaxFileSize int64
}

// Levels are the levels of the log action.
var Levels = []string{"debug", "info", "warn", "error"}

// maxLogMessage bounds a message in which fields were put in, in bytes.
const maxLogMessage = 4 << 10

// Effects returns what the rules that matched in the last evaluation ask for.
// It is valid until the next one. A rule asks no more often than it may raise
// signals; a silent one asks, too.
func (s *Set) Effects() []Effect { return s.effects }

// act notes what a rule that matched asks for.
func (s *Set) act(e *entry) {
	for i := range e.rule.Actions {
		a := &e.rule.Actions[i]
		if a.Log == nil && a.Hash == nil || a.program != nil && !a.program.Match(&s.ctx) {
			continue
		}
		x := Effect{Rule: e.rule, Event: s.ctx.Event}
		switch {
		case a.Log != nil:
			msg := a.Log.Message
			if a.Log.text != nil {
				msg = a.Log.text.Text(&s.ctx)
			}
			if len(msg) > maxLogMessage {
				msg = strings.ToValidUTF8(msg[:maxLogMessage], "")
			}
			x.Log = &LogEffect{Level: a.Log.Level, Message: msg}
		default:
			field, file := a.Hash.file(s.ctx.Event)
			if file == nil || file.Path == "" && file.Inode == 0 {
				continue
			}
			x.Hash = &HashEffect{Field: field, File: file, MaxFileSize: a.Hash.MaxFileSize}
		}
		s.effects = append(s.effects, x)
	}
}

// acts tells whether the rule asks for anything beside signals.
func (r *Rule) acts() bool {
	for i := range r.Actions {
		if r.Actions[i].Log != nil || r.Actions[i].Hash != nil {
			return true
		}
	}
	return false
}

// CarriedOut tells whether this version does what the action says. What it
// does not is checked, and reported.
func (a *Action) CarriedOut() bool { return a.Set != nil || a.Log != nil || a.Hash != nil }

// Name is the action's key in a rule.
func (a *Action) Name() string {
	switch {
	case a.Set != nil:
		return "set"
	case a.Kill != nil:
		return "kill"
	case a.Hash != nil:
		return "hash"
	case a.Log != nil:
		return "log"
	case a.NetworkFilter != nil:
		return "network_filter"
	case a.Coredump:
		return "coredump"
	}
	return ""
}

// Changed is the file whose content, name or attributes an event changed, in the
// rules' words, under the name it has afterwards. It is nil for events that
// changed none, as reads and attempts that failed.
func Changed(e *event.Event) (field string, f *event.File) {
	if e.Retval() < 0 {
		return "", nil
	}
	switch e.Kind {
	case event.KindOpen:
		const writes = 0o1 | 0o2 | 0o100 | 0o1000 // O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
		if e.Open.Flags&writes == 0 {
			return "", nil
		}
		return "open.file", &e.Open.File
	case event.KindUnlink:
		return "unlink.file", &e.Unlink.File
	case event.KindRename:
		return "rename.file.destination", sameFile(&e.Rename.Destination, &e.Rename.File)
	case event.KindLink:
		return "link.file.destination", sameFile(&e.Link.Destination, &e.Link.File)
	case event.KindChmod:
		return "chmod.file", &e.Chmod.File
	case event.KindChown:
		return "chown.file", &e.Chown.File
	case event.KindSetxattr:
		return "setxattr.file", &e.Setxattr.File
	case event.KindRemovexattr:
		return "removexattr.file", &e.Removexattr.File
	case event.KindUtimes:
		return "utimes.file", &e.Utimes.File
	case event.KindSplice:
		return "splice.file", &e.Splice.File
	}
	return "", nil
}

// sameFile is a new name of a file, with what the kernel said of the old one
// where it says nothing of the new one.
func sameFile(name, file *event.File) *event.File {
	if name.Inode != 0 || file.Inode == 0 {
		return name
	}
	f := *file
	f.Path = name.Path
	return &f
}

// fileOf finds an object of an event.
type fileOf func(*event.Event) *event.File

// hashDefaults are the objects that are hashed where a rule names none.
var hashDefaults = map[event.Kind]string{event.KindOpen: "open.file", event.KindExec: "exec.file"}

// fileByName finds a file object that events of a kind have.
func fileByName(kind event.Kind, name string) (fileOf, bool) {
	for _, r := range event.FileRefs {
		if r.Kind == kind && r.Path == name {
			return r.Get, true
		}
	}
	processes := map[string]func(*event.Event) *event.Process{
		"process":        func(e *event.Event) *event.Process { return e.Proc },
		"process.parent": func(e *event.Event) *event.Process { return parentOf(e.Proc) },
	}
	for _, r := range event.ProcessRefs {
		if r.Kind != kind {
			continue
		}
		processes[r.Path] = r.Get
		if r.Context {
			processes[r.Path+".parent"] = func(e *event.Event) *event.Process { return parentOf(r.Get(e)) }
		}
	}
	for _, object := range [...]string{".interpreter.file", ".file"} {
		path, ok := strings.CutSuffix(name, object)
		get := processes[path]
		if !ok || get == nil {
			continue
		}
		return func(e *event.Event) *event.File {
			p := get(e)
			switch {
			case p == nil:
				return nil
			case object == ".file":
				return &p.File
			}
			return &p.Interpreter
		}, true
	}
	return nil, false
}

func parentOf(p *event.Process) *event.Process {
	if p == nil {
		return nil
	}
	return p.Parent
}

// file finds what is to be hashed of an event.
func (a *HashAction) file(e *event.Event) (field string, f *event.File) {
	t, ok := a.targets[e.Kind]
	if !ok {
		return "", nil
	}
	return t.field, t.get(e)
}

type hashTarget struct {
	field string
	get   fileOf
}

// hash works out which object a hash action means, for each kind of event of
// the rule. A rule about changes of files means the file that is changed.
func (l *loader) hash(d *ruleDef, a *HashAction, at Position) {
	a.targets = map[event.Kind]hashTarget{}
	for _, k := range d.Kinds {
		field := a.Field
		if field == "" {
			field = hashDefaults[k]
		}
		if rest, ok := strings.CutPrefix(field, "fim.write."); ok {
			field = k.String() + "." + rest
		}
		get, ok := fileByName(k, field)
		switch {
		case ok:
			a.targets[k] = hashTarget{field, get}
		case field == "":
			d.problems = append(d.problems, Problem{At: at, Rule: d.ID, Msg: "hash: " + k.String() + " events have no file by default; name one with field, as process.file"})
		default:
			d.problems = append(d.problems, Problem{At: at, Rule: d.ID, Msg: "hash: " + k.String() + " events have no file " + field})
		}
	}
}

// log compiles the message of a log action.
func (l *loader) log(d *ruleDef, e *env, a *LogAction, opt secl.Options) {
	if !strings.Contains(a.Message, "${") && !strings.Contains(a.Message, "%{") {
		return
	}
	v, ps := secl.CompileText(e, a.Message, opt)
	d.problems = append(d.problems, d.file.expressionProblems(d.ID, a.message, ps)...)
	a.text = v
}

// notCarriedOut says, for the report, which actions of a rule this version does
// not carry out.
func (d *ruleDef) notCarriedOut() {
	for i := range d.Actions {
		if a := &d.Actions[i]; !a.CarriedOut() {
			msg := a.Name() + ": is checked, but not carried out by this version"
			d.problems = append(d.problems, Problem{At: a.At, Rule: d.ID, Code: ast.Lint, Warning: true, Msg: msg})
		}
	}
}
