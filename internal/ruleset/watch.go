package ruleset

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/clewsec/clew/internal/secl"
	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/match"
	"github.com/clewsec/clew/internal/secl/parse"
	"go.yaml.in/yaml/v3"
)

// Operations are what a watch can look for, in the order of their conditions.
// A watch that names none looks for all of them.
var Operations = []string{"create", "write", "rename", "delete", "link", "mode", "owner", "attributes", "times", "mount", "splice"}

// Watch is what a rule with watch says of files. The slices belong to the set
// and must not be changed.
type Watch struct {
	// Paths are absolute paths and globs as SECL has them; one that ends in a
	// slash is a directory with what stands directly in it.
	Paths []string
	// Recursive tells that everything below the paths belongs to them.
	Recursive bool
	// Operations are a part of the list of that name, never empty.
	Operations []string
	// Attempts tells that what the kernel refused counts, too.
	Attempts bool
}

// Globs returns the paths that are watched in the form of SECL's globs, where
// * stays within a segment and /** at the end is everything below.
func (w *Watch) Globs() []string {
	var out []string
	for _, p := range w.Paths {
		out = append(out, reach(p, w.Recursive)...)
	}
	return out
}

// reach writes a path of a watch as globs.
func reach(p string, recursive bool) []string {
	dir, isDir := strings.CutSuffix(p, "/")
	switch {
	case strings.HasSuffix(p, "/**"):
		return []string{p}
	case recursive && dir == "":
		return []string{"/**"}
	case recursive:
		return []string{dir, dir + "/**"}
	case isDir && dir == "":
		return []string{"/*"}
	case isDir:
		return []string{dir, dir + "/*"}
	}
	return []string{p}
}

// maxWatched bounds what all watches of one file name together, paths first of
// all: each stands in some fifteen conditions, and YAML's aliases could repeat
// it for nothing.
const maxWatched = 16_384

// room tells whether a watch may name n things more, and notes it at t where it
// may not.
func (r *reader) room(t text, n int) bool {
	if r.pf.watched += n; r.pf.watched <= maxWatched {
		return true
	}
	r.note(t.node, false, "the watches of a file name more than %d paths, users and conditions", maxWatched)
	return false
}

// watchDef is a watch as a file defines it.
type watchDef struct {
	Watch
	at    Position
	node  *yaml.Node
	allow []allowDef
	// conditions are filled in when the rule is loaded.
	conditions []text
}

// allowDef says who may make a change: whoever fulfils all of it.
type allowDef struct {
	at          Position
	executables []string
	descendants bool
	packaged    bool
	users       []string
	condition   text
}

// The keys of a watch: those of the mapping in a rule's folder, those of a
// member of the list in a policy, where the rule's own keys stand beside them,
// and those of a member of allow.
var (
	watchKeys      = []string{"paths", "recursive", "operations", "attempts", "allow"}
	watchEntryKeys = append([]string{
		"id", "version", "description", "type", "severity", "techniques", "tactics", "recommended", "sees", "misses", "tags",
		"product_tags", "agent_version", "filters", "disabled", "actions", "every", "limiter_token", "silent", "group_id", "priority",
	}, watchKeys...)
	allowKeys = []string{"executable", "descendants", "package", "user", "condition"}
)

// watchEntry reads a member of a policy's list of watches. It becomes a rule
// of the same id.
func (pf *policyFile) watchEntry(n *yaml.Node) {
	d := &ruleDef{watch: &watchDef{at: pf.pos(n), node: n}}
	pf.define(d, n, true, "watch", watchEntryKeys, func(r *reader, key string, v *yaml.Node) {
		if !slices.Contains(watchKeys, key) {
			d.key(r, key, v)
			return
		}
		d.watch.key(r, key, v)
	})
}

// readWatch reads the mapping of a rule in a folder of its own.
func (d *ruleDef) readWatch(r *reader, n *yaml.Node) {
	d.watch = &watchDef{at: r.pf.pos(n), node: n}
	r.keys(n, "watch", watchKeys, func(key string, v *yaml.Node) { d.watch.key(r, key, v) })
}

func (w *watchDef) key(r *reader, key string, v *yaml.Node) {
	switch key {
	case "paths":
		for _, t := range r.texts(v, key) {
			if err := watchable(t.s); err != nil {
				r.note(t.node, false, "path %q %v", t.s, err)
				continue
			}
			if !r.room(t, 1) {
				return
			}
			w.Paths = append(w.Paths, t.s)
		}
	case "recursive":
		w.Recursive = r.bool(v, key)
	case "operations":
		for _, t := range r.texts(v, key) {
			switch {
			case !slices.Contains(Operations, t.s):
				r.closed(t, "operation", Operations)
			case slices.Contains(w.Operations, t.s):
				r.note(t.node, true, "operation %s occurs twice", t.s)
			default:
				w.Operations = append(w.Operations, t.s)
			}
		}
		if len(v.Content) == 0 {
			r.note(v, false, "operations are empty; without the key all are looked for")
		}
	case "attempts":
		w.Attempts = r.bool(v, key)
	case "allow":
		if v.Kind != yaml.SequenceNode {
			r.note(v, false, "allow must be a list")
			return
		}
		for _, n := range v.Content {
			w.readAllow(r, deref(n))
		}
	}
}

func (w *watchDef) readAllow(r *reader, n *yaml.Node) {
	a := allowDef{at: r.pf.pos(n)}
	r.keys(n, "allow", allowKeys, func(key string, v *yaml.Node) {
		switch key {
		case "executable":
			for _, t := range r.texts(v, key) {
				if err := watchable(t.s); err != nil {
					r.note(t.node, false, "path %q %v", t.s, err)
				} else if strings.HasSuffix(t.s, "/") {
					r.note(t.node, false, "path %q is a directory; write /* or /** behind it for what is in it", t.s)
				} else if !r.room(t, 1) {
					return
				} else {
					a.executables = append(a.executables, t.s)
				}
			}
		case "descendants":
			a.descendants = r.bool(v, key)
		case "package":
			a.packaged = r.bool(v, key)
		case "user":
			for _, t := range r.texts(v, key) {
				if t.s == "" || strings.ContainsAny(t.s, "\"\\*") || unprintable(t.s) {
					r.note(t.node, false, "%q is no user's name or number", t.s)
					continue
				}
				if !r.room(t, 1) {
					return
				}
				a.users = append(a.users, t.s)
			}
		case "condition":
			if t := r.text(v, key); r.room(t, 1+len(t.s)/64) {
				a.condition = t
			}
		}
	})
	switch {
	case a.descendants && len(a.executables) == 0:
		r.note(n, false, "descendants needs executable: what they descend from")
	case len(a.executables) == 0 && !a.packaged && len(a.users) == 0 && strings.TrimSpace(a.condition.s) == "":
		r.note(n, false, "allow needs executable, package, user or condition: it would allow everybody")
	}
	w.allow = append(w.allow, a)
}

// watchable says what is wrong with a path of a watch.
func watchable(p string) error {
	dir := strings.TrimSuffix(p, "/")
	switch {
	case !strings.HasPrefix(p, "/"):
		return errors.New("is not absolute: it must begin with /")
	case strings.ContainsAny(p, "\"\\") || strings.Contains(p, "${") || strings.Contains(p, "%{") || unprintable(p):
		return errors.New("has what the rule language cannot write: \", \\, ${, %{ or a character that is not printed")
	case dir != "" && path.Clean(dir) != dir:
		return errors.New(`is not clean: it has ".", ".." or "//"`)
	}
	for seg := range strings.SplitSeq(dir, "/") {
		if len(seg) > 255 {
			return errors.New("is longer than any path the kernel reports")
		}
	}
	if strings.Contains(p, "*") && dir != "" {
		if _, err := match.NewGlob(dir); err != nil {
			return err
		}
	}
	if dir != p && strings.HasSuffix(dir, "/**") {
		return errors.New("has a slash behind **, which is everything below already")
	}
	return nil
}

func unprintable(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd })
}

// validateWatch checks what does not depend on the language.
func (d *ruleDef) validateWatch(r *reader) {
	w := d.watch
	switch {
	case w == nil:
		return
	case d.pattern != nil || strings.TrimSpace(d.expression.s) != "":
		r.note(w.node, false, "a rule with watch has neither an expression nor a sequence, threshold or absence")
	case len(w.Paths) == 0 && !d.failed():
		r.note(w.node, false, "watch has no paths")
	}
	if len(w.Operations) == 0 {
		w.Operations = Operations
	}
}

// change is one way in which a file changes: the kind of event, the fields
// that name the file, and what else must hold.
type change struct {
	operation, kind string
	fields          []string
	// flags are those of the opening, one of which it needs.
	flags string
	cond  string
	// up tells that a change of a directory above is one of the file.
	up bool
	// named tells that only files of a known name are looked for: the kernel
	// could keep back no event of this kind otherwise.
	named bool
}

// watchChanges are all of them, in the order of conditions. An opening stands
// once, with the flags of every operation that asks for it. Data gets into a
// file through a descriptor that was opened for it, or through a shared mapping
// of one, which the opening shows already; splice is here for the one way
// around that, pages of a file that a pipe may write to (CVE-2022-0847).
var watchChanges = []change{
	{operation: "create", kind: "open", fields: []string{"open.file.path"}, flags: "O_CREAT"},
	{operation: "write", kind: "open", fields: []string{"open.file.path"}, flags: "O_WRONLY|O_RDWR|O_APPEND|O_TRUNC"},
	{operation: "create", kind: "mkdir", fields: []string{"mkdir.file.path"}},
	{operation: "rename", kind: "rename", fields: []string{"rename.file.path", "rename.file.destination.path"}, up: true},
	{operation: "delete", kind: "unlink", fields: []string{"unlink.file.path"}},
	{operation: "delete", kind: "rmdir", fields: []string{"rmdir.file.path"}},
	{operation: "link", kind: "link", fields: []string{"link.file.path", "link.file.destination.path"}},
	{operation: "link", kind: "symlink", fields: []string{"symlink.file.path"}},
	{operation: "mode", kind: "chmod", fields: []string{"chmod.file.path"}},
	{operation: "owner", kind: "chown", fields: []string{"chown.file.path"}},
	{operation: "attributes", kind: "setxattr", fields: []string{"setxattr.file.path"}},
	{operation: "attributes", kind: "removexattr", fields: []string{"removexattr.file.path"}},
	{operation: "times", kind: "utimes", fields: []string{"utimes.file.path"}},
	{operation: "mount", kind: "mount", fields: []string{"mount.mountpoint.path"}},
	{operation: "mount", kind: "umount", fields: []string{"umount.mountpoint.path"}},
	{operation: "splice", kind: "splice", fields: []string{"splice.file.path"}, cond: "splice.pipe_exit_flag & PIPE_BUF_FLAG_CAN_MERGE > 0", named: true},
}

// expandWatch writes the conditions of a rule with watch: SECL, one text for
// each kind of event. It tells whether that went well.
func (l *loader) expandWatch(d *ruleDef) bool {
	w := d.watch
	if d.failed() {
		return false
	}
	allowed, ok := l.allowed(d)
	if !ok {
		return false
	}
	all := w.Globs()
	above := parents(w.Paths)
	named := slices.DeleteFunc(slices.Clone(all), func(p string) bool { return strings.Contains(path.Base(p), "*") })
	w.conditions = nil
	flags := ""
	for i, c := range watchChanges {
		if !slices.Contains(w.Operations, c.operation) {
			c.flags = ""
			if flags == "" {
				continue
			}
		}
		if c.flags != "" {
			flags = strings.TrimPrefix(flags+"|"+c.flags, "|")
		}
		if i+1 < len(watchChanges) && watchChanges[i+1].kind == c.kind {
			continue // the next one says the rest
		}
		paths := all
		switch {
		case c.named:
			paths = named
		case c.up:
			paths = slices.Concat(all, above)
		}
		if len(paths) == 0 {
			continue
		}
		rest := allowed
		if !w.Attempts {
			rest = " && " + c.kind + ".retval >= 0" + rest
		}
		if c.cond != "" {
			rest = " && " + c.cond + rest
		}
		if flags != "" {
			rest = " && open.flags & (" + flags + ") > 0" + rest
			flags = ""
		}
		// One text for each end of a rename or link: rules are found by a
		// field that must have some value, not by one of two.
		for _, f := range c.fields {
			w.conditions = append(w.conditions, text{s: f + " in " + literals(paths) + rest, at: w.at})
		}
	}
	d.Rule.conditions = nil
	for _, t := range w.conditions {
		d.Rule.conditions = append(d.Rule.conditions, t.s)
	}
	d.Expression = strings.Join(d.Rule.conditions, "\n")
	d.Watch = &w.Watch
	return true
}

// hard leaves out warnings.
func hard(list []Problem) []Problem {
	return slices.DeleteFunc(list, func(p Problem) bool { return p.Warning })
}

// parents are the directories above the paths whose name is known: who renames
// one of them renames the file.
func parents(paths []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, p := range paths {
		for p = path.Dir(strings.TrimSuffix(p, "/")); p != "/" && p != "."; p = path.Dir(p) {
			if !seen[p] && !strings.Contains(path.Base(p), "*") {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	return out
}

// literals writes paths as a list of the language.
func literals(paths []string) string {
	var b strings.Builder
	for i, p := range paths {
		b.WriteString([...]string{"[ ", ", "}[min(i, 1)])
		if strings.Contains(p, "*") {
			b.WriteByte('~')
		}
		b.WriteString(`"` + p + `"`)
	}
	b.WriteString(" ]")
	return b.String()
}

// allowed writes who may make the change as what is left out, beginning with
// the && before it.
func (l *loader) allowed(d *ruleDef) (string, bool) {
	var alternatives []string
	for i := range d.watch.allow {
		a := &d.watch.allow[i]
		var terms []string
		if len(a.executables) > 0 {
			list := literals(a.executables)
			term := "process.file.path in " + list
			if a.descendants {
				term = "(" + term + " || process.ancestors.file.path in " + list + ")"
			}
			terms = append(terms, term)
		}
		if a.packaged {
			terms = append(terms, `process.file.package.name != ""`)
		}
		if len(a.users) > 0 {
			terms = append(terms, users(a.users))
		}
		if strings.TrimSpace(a.condition.s) != "" {
			cond, ok := l.allowedBy(d, a.condition)
			if !ok {
				return "", false
			}
			terms = append(terms, "("+cond+")")
		}
		alternatives = append(alternatives, "("+strings.Join(terms, " && ")+")")
	}
	if len(alternatives) == 0 {
		return "", true
	}
	if len(alternatives) == 1 {
		return " && !" + alternatives[0], true
	}
	return " && !(" + strings.Join(alternatives, " || ") + ")", true
}

// users asks for the effective user by name, or by number where that is what
// is given.
func users(list []string) string {
	var names, numbers []string
	for _, u := range list {
		if n, err := strconv.ParseUint(u, 10, 32); err == nil {
			numbers = append(numbers, strconv.FormatUint(n, 10))
		} else {
			names = append(names, `"`+u+`"`)
		}
	}
	var terms []string
	if len(names) > 0 {
		terms = append(terms, "process.euser in [ "+strings.Join(names, ", ")+" ]")
	}
	if len(numbers) > 0 {
		terms = append(terms, "process.euid in [ "+strings.Join(numbers, ", ")+" ]")
	}
	return "(" + strings.Join(terms, " || ") + ")"
}

// allowedBy checks a condition of one's own by itself, so that what is wrong
// with it is shown where it stands, and writes it without its comments and
// line breaks.
func (l *loader) allowedBy(d *ruleDef, t text) (string, bool) {
	n, problems := parse.Expression(t.s)
	if n == nil {
		d.problems = append(d.problems, d.file.expressionProblems(d.ID, t, problems)...)
		return "", false
	}
	p, more := secl.CompileNode(l.ruleEnv(d), n, secl.Options{AnyKind: true})
	problems = append(problems, more...)
	d.problems = append(d.problems, d.file.expressionProblems(d.ID, t, problems)...)
	if p == nil || problems.Failed() {
		return "", false
	}
	why := ""
	switch {
	case p.Kind != "":
		why = fmt.Sprintf("asks for a field of %s events; who may make a change is asked of every kind: process.*, container.*, event.*", p.Kind)
	case p.Register != "":
		why = fmt.Sprintf("asks for one element, [%s]; here that would mean any element for which it does not hold", p.Register)
	}
	if why != "" {
		d.problems = append(d.problems, Problem{At: t.at, Rule: d.ID, Msg: "condition " + why})
		return "", false
	}
	return ast.Print(n), true
}

// WatchedPaths returns what the rules of the set watch, as globs of the
// language, sorted: the paths of watches, and those that a rule about any
// change of a file (fim.write.file.path) lists.
func (s *Set) WatchedPaths() []string {
	var out []string
	for _, r := range s.rules {
		if r.Watch != nil {
			out = append(out, r.Watch.Globs()...)
			continue
		}
		for _, t := range s.Text(r) {
			if !strings.Contains(t, fimPrefix) {
				continue
			}
			if n, _ := parse.Expression(t); n != nil {
				out = append(out, listed(s.expanded(n, 0))...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// listed are the paths that a condition asks for.
func listed(n ast.Node) []string {
	b, ok := n.(*ast.Binary)
	if !ok {
		return nil
	}
	switch b.Op {
	case ast.And, ast.Or:
		return append(listed(b.Left), listed(b.Right)...)
	case ast.In, ast.Eq, ast.Match:
	default:
		return nil
	}
	if name, _ := identName(b.Left); name != fimPrefix+"path" {
		return nil
	}
	items := []ast.Node{b.Right}
	if l, isList := b.Right.(*ast.List); isList {
		items = l.Items
	}
	var out []string
	for _, it := range items {
		s, isString := it.(*ast.String)
		if !isString || s.Kind == ast.Regexp || s.Kind == ast.Plain && b.Op != ast.Match && strings.Contains(s.Value, "*") {
			continue
		}
		if p := "/" + strings.TrimPrefix(s.Value, "/"); watchable(p) == nil {
			out = append(out, p)
		}
	}
	return out
}
