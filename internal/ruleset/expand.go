package ruleset

import (
	"fmt"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/parse"
)

// fimPrefix is the virtual object of rules about any change of a file.
const fimPrefix = "fim.write.file."

// changes are the objects it stands for. A rule on the virtual object becomes
// one rule for each.
var changes = []struct {
	kind, object string
	// own marks what the object stands for in rules of ours only: a symbolic
	// link put in a file's place is a change, too, but no policy of others
	// reckons with it.
	own bool
}{
	{"open", "open.file.", false},
	{"chmod", "chmod.file.", false},
	{"chown", "chown.file.", false},
	{"link", "link.file.", false},
	{"rename", "rename.file.", false},
	{"rename", "rename.file.destination.", false},
	{"unlink", "unlink.file.", false},
	{"utimes", "utimes.file.", false},
	{"symlink", "symlink.file.", true},
}

// writeFlags is the further condition on open: the file is opened for writing.
const writeFlags = "open.flags & (O_CREAT|O_TRUNC|O_APPEND|O_RDWR|O_WRONLY) > 0"

// expand returns the concrete forms of a rule's expression: itself, or one per
// kind of change that is observed. own tells that the rule is in a folder of
// its own.
func (l *loader) expand(n ast.Node, own bool) ([]ast.Node, error) {
	virtual := false
	ast.Walk(n, func(n ast.Node) bool {
		name, ok := identName(n)
		virtual = virtual || ok && strings.HasPrefix(name, fimPrefix)
		return true
	})
	if !virtual {
		return []ast.Node{n}, nil
	}
	var out []ast.Node
	for _, c := range changes {
		if c.own && !own {
			continue
		}
		if _, ok := l.cfg.Schema.Field(c.object + "path"); !ok {
			continue
		}
		v := replace(n, c.object)
		if c.kind == "open" {
			extra, ps := parse.Expression(writeFlags)
			if extra == nil {
				return nil, fmt.Errorf("expand %s*: %w", fimPrefix, ps)
			}
			v = &ast.Binary{At: n.Span(), Op: ast.And, OpAt: n.Span(), Left: extra, Right: v}
		}
		out = append(out, v)
	}
	return out, nil
}

func identName(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.Ident:
		return n.Name, true
	case *ast.FieldRef:
		return n.Name, true
	}
	return "", false
}

// replace copies a tree with the virtual object replaced by a concrete one.
func replace(n ast.Node, object string) ast.Node {
	switch n := n.(type) {
	case *ast.Ident:
		if rest, ok := strings.CutPrefix(n.Name, fimPrefix); ok {
			return &ast.Ident{At: n.At, Name: object + rest}
		}
	case *ast.FieldRef:
		if rest, ok := strings.CutPrefix(n.Name, fimPrefix); ok {
			return &ast.FieldRef{At: n.At, Name: object + rest}
		}
	case *ast.Unary:
		c := *n
		c.X = replace(n.X, object)
		return &c
	case *ast.Binary:
		c := *n
		c.Left, c.Right = replace(n.Left, object), replace(n.Right, object)
		return &c
	}
	return n
}

// otherKinds are the kinds of event of the language that no Linux host has.
// Rules on them are not wrong, they have nothing to see.
var otherKinds = []string{
	"create", "delete", "write", "create_key", "open_key", "set_key_value", "set", "delete_key", "change_permission",
}

// otherFields are fields of the language that no Linux host has, or has no
// more, by the object they belong to; empty is the event itself.
var otherFields = map[string][]string{
	"process": {"cmdline", "user_sid", "file.overlay_numlower"},
	"file":    {"device_path"},
}

// otherField tells whether a name is a field of the language that does not
// exist here.
func (l *loader) otherField(name string) bool {
	name = l.cfg.Schema.Canonical(name)
	if _, ok := l.cfg.Schema.Field(name); ok {
		return false
	}
	name = strings.TrimSuffix(name, ".length")
	if strings.HasPrefix(name, "open.registry.") {
		return true
	}
	if slices.Contains(otherFields[""], name) {
		return true
	}
	processes := []string{"process.", "process.parent.", ancestors + "."}
	for _, r := range event.ProcessRefs {
		processes = append(processes, r.Path+".")
	}
	files := make([]string, 0, len(event.FileRefs))
	for _, r := range event.FileRefs {
		files = append(files, r.Path+".")
	}
	for _, p := range processes {
		files = append(files, p+"file.", p+"interpreter.file.")
		if rest, ok := strings.CutPrefix(name, p); ok && slices.Contains(otherFields["process"], rest) {
			return true
		}
	}
	for _, f := range files {
		if rest, ok := strings.CutPrefix(name, f); ok && slices.Contains(otherFields["file"], rest) {
			return true
		}
	}
	return false
}

// unobserved tells whether an expression names a kind of event, or a field,
// that exists but not here, and what to say about it.
func (l *loader) unobserved(n ast.Node, depth int) (what string, found bool) {
	ast.Walk(n, func(n ast.Node) bool {
		name, ok := identName(n)
		if found || !ok {
			return !found
		}
		if m, isMacro := l.env.Macros[name]; isMacro && depth < 16 {
			what, found = l.unobserved(m, depth+1)
			return !found
		}
		if open := strings.IndexByte(name, '['); open >= 0 {
			_, rest, _ := strings.Cut(name, "]")
			name = name[:open] + rest
		}
		first, _, dotted := strings.Cut(name, ".")
		switch {
		case !dotted:
		case slices.Contains(otherKinds, first) && len(l.cfg.Schema.Under(first)) == 0:
			what, found = "there are no "+first+" events on Linux", true
		case l.otherField(name):
			what, found = "there is no field "+name+" on Linux", true
		}
		return !found
	})
	return what, found
}
