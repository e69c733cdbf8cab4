// Package assist answers what an editor asks about rules: what is wrong, what
// could stand here, what a name means and where it is defined. Texts and
// positions go in, values come out; who asks, and how, is not its business. It
// takes every text, however broken.
package assist

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/format"
	"github.com/clewsec/clew/internal/ruleset/lint"
	"github.com/clewsec/clew/internal/ruleset/ruletest"
	"github.com/clewsec/clew/internal/ruleset/source"
)

// Term is a name from a catalogue, with its meaning.
type Term struct{ ID, Name string }

// Config says what documents are looked at with.
type Config struct {
	// Rules is what rules are loaded with: fields, facts, and the macros that
	// they know beside those of the documents.
	Rules ruleset.Config
	// Cases finds the cases of a rule, for findings about rules without; nil
	// leaves those out.
	Cases lint.Cases
	// Produces tells which kinds of event there are, for warnings about rules
	// on others; nil leaves those out.
	Produces func(event.Kind) bool
	// Tactics and Techniques are those of ATT&CK that are known by name.
	Tactics, Techniques []Term
}

// Kind says what a document is.
type Kind uint8

// The kinds of documents.
const (
	// None is a document that is none of ours.
	None Kind = iota
	// Policy is a file with rules and macros.
	Policy
	// RuleFile is a rule in a folder of its own.
	RuleFile
	// SECL is nothing but a condition.
	SECL
)

// KindOf tells what a document is by its name, and by the language an editor
// takes it for: secl, or clew-policy for a policy of any name.
func KindOf(name, language string) Kind {
	switch {
	case path.Base(name) == "rule.yaml":
		return RuleFile
	case strings.HasSuffix(name, ".policy"), language == "clew-policy":
		return Policy
	case strings.HasSuffix(name, ".secl"), language == "secl":
		return SECL
	}
	return None
}

// Workspace holds documents and answers about them. It belongs to one
// goroutine.
type Workspace struct {
	cfg   Config
	names *names
	docs  map[string]*document
	sets  map[string]*loaded
	given []*document
}

// New makes a workspace without documents.
func New(cfg Config) (*Workspace, error) {
	if cfg.Rules.Schema == nil {
		return nil, errors.New("assist with rules: no fields are given")
	}
	if cfg.Cases == nil {
		cfg.Cases = func(*ruleset.Rule) ([]ruletest.Case, error) { return nil, nil }
	}
	n, err := newNames(cfg)
	if err != nil {
		return nil, fmt.Errorf("assist with rules: %w", err)
	}
	w := &Workspace{cfg: cfg, names: n, docs: map[string]*document{}, sets: map[string]*loaded{}}
	for _, f := range cfg.Rules.Macros {
		w.given = append(w.given, newDocument(f.Name, Policy, string(f.Data)))
	}
	return w, nil
}

// Fresh makes a workspace without documents that knows what this one does. It
// costs next to nothing and belongs to the same goroutine.
func (w *Workspace) Fresh() *Workspace {
	return &Workspace{cfg: w.cfg, names: w.names, given: w.given, docs: map[string]*document{}, sets: map[string]*loaded{}}
}

// Put adds a document, or replaces its text. A kind of None takes it away.
func (w *Workspace) Put(name string, kind Kind, text string) {
	w.Drop(name)
	if kind == None {
		return
	}
	d := newDocument(name, kind, text)
	w.docs[name] = d
	delete(w.sets, d.root)
}

// Drop takes a document away.
func (w *Workspace) Drop(name string) {
	if d := w.docs[name]; d != nil {
		delete(w.docs, name)
		delete(w.sets, d.root)
	}
}

// Text returns the text of a document.
func (w *Workspace) Text(name string) (string, bool) {
	d := w.docs[name]
	if d == nil {
		return "", false
	}
	return d.text.src, true
}

// Related returns the documents whose answers depend on one, itself among
// them, sorted.
func (w *Workspace) Related(name string) []string {
	d := w.docs[name]
	if d == nil {
		return nil
	}
	var out []string
	for n, o := range w.docs {
		if o.root == d.root {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// set returns the documents that are loaded together with one, in the order of
// their names: the policies of its directory and the rules in folders there.
func (w *Workspace) set(root string) []*document {
	var out []*document
	for _, d := range w.docs {
		if d.root == root && d.kind != SECL {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b *document) int { return strings.Compare(a.name, b.name) })
	return out
}

// all returns every document, those of a set first.
func (w *Workspace) all(root string) []*document {
	out := w.set(root)
	var rest []*document
	for _, d := range w.docs {
		if d.root != root && d.kind != SECL {
			rest = append(rest, d)
		}
	}
	slices.SortFunc(rest, func(a, b *document) int { return strings.Compare(a.name, b.name) })
	return append(out, rest...)
}

// Format returns the edits that write the expressions of a document in one
// way. The error says why that cannot be done.
func (w *Workspace) Format(name string) ([]Edit, error) {
	d := w.docs[name]
	if d == nil {
		return nil, fmt.Errorf("format %s: no such document", name)
	}
	var text string
	if d.kind == SECL {
		s, err := format.Expression(d.text.src)
		if err != nil {
			return nil, fmt.Errorf("format %s: %w", name, err)
		}
		text = s
		if strings.HasSuffix(d.text.src, "\n") {
			text += "\n"
		}
	} else {
		data, err := format.File(ruleset.File{Name: name, Data: []byte(d.text.src)})
		if err != nil {
			return nil, fmt.Errorf("format: %w", err)
		}
		text = string(data)
	}
	return d.text.difference(text), nil
}

// difference is the one edit of whole lines that makes another text.
func (t *Text) difference(to string) []Edit {
	if t.src == to {
		return nil
	}
	n := NewText(to)
	a := 0
	for a < len(t.starts)-1 && a < len(n.starts)-1 && t.src[t.starts[a]:t.starts[a+1]] == to[n.starts[a]:n.starts[a+1]] {
		a++
	}
	i, j := len(t.src), len(to)
	for b := 1; b < len(t.starts)-a && b < len(n.starts)-a; b++ {
		x, y := t.starts[len(t.starts)-b], n.starts[len(n.starts)-b]
		if t.src[x:] != to[y:] {
			break
		}
		i, j = x, y
	}
	return []Edit{{Range: t.Range(t.starts[a], i), NewText: to[n.starts[a]:j]}}
}

// document is a text and what was found in it.
type document struct {
	name string
	kind Kind
	text Text
	// root is the directory that its set is in.
	root string
	tree *source.Node

	indexed bool
	macros  []def
	rules   []def
	vars    []def
}

// def is where something is defined.
type def struct {
	// name is as it is written in conditions.
	name string
	id   *source.Node
	body *source.Node
	doc  *document
}

func newDocument(name string, kind Kind, text string) *document {
	d := &document{name: name, kind: kind, text: NewText(text), root: path.Dir(name)}
	if kind == RuleFile {
		d.root = path.Dir(d.root)
	}
	if kind != SECL && len(text) <= ruleset.MaxFileBytes {
		d.tree = source.Parse(text)
	}
	return d
}

// object names the mapping at the top of the document.
func (d *document) object() string {
	if d.kind == RuleFile {
		return ruleset.RuleFile
	}
	return ruleset.PolicyFile
}

// entry finds the value of a key.
func entry(n *source.Node, key string) *source.Node {
	if n != nil && n.Kind == source.Mapping {
		for _, e := range n.Entries {
			if e.Key.Value() == key {
				return e.Value
			}
		}
	}
	return nil
}

func items(n *source.Node) []*source.Node {
	if n == nil {
		return nil
	}
	return n.Items
}

// index finds what the document defines.
func (d *document) index() {
	if d.indexed {
		return
	}
	d.indexed = true
	add := func(to *[]def, n *source.Node) {
		if id := entry(n, "id"); id.Value() != "" {
			*to = append(*to, def{name: id.Value(), id: id, body: n, doc: d})
		}
	}
	rules := items(entry(d.tree, "rules"))
	switch d.kind {
	case Policy:
		for _, n := range items(entry(d.tree, "macros")) {
			add(&d.macros, n)
		}
		rules = slices.Concat(rules, items(entry(d.tree, "watch")))
	case RuleFile:
		rules = []*source.Node{d.tree}
	default:
		return
	}
	for _, n := range rules {
		add(&d.rules, n)
		for _, a := range items(entry(n, "actions")) {
			set := entry(a, "set")
			name := entry(set, "name")
			if name.Value() == "" {
				continue
			}
			v := def{name: name.Value(), id: name, body: set, doc: d}
			if s := entry(set, "scope").Value(); s != "" {
				v.name = s + "." + v.name
			}
			d.vars = append(d.vars, v)
		}
	}
}

// macro finds a macro as the rules of a set see it: their own one first, then
// one that is given, then one of any other document.
func (w *Workspace) macro(root, name string) (def, bool) {
	find := func(docs []*document) (def, bool) {
		for _, d := range docs {
			d.index()
			for _, m := range d.macros {
				if m.name == name {
					return m, true
				}
			}
		}
		return def{}, false
	}
	if m, ok := find(w.set(root)); ok {
		return m, true
	}
	if m, ok := find(w.given); ok {
		return m, true
	}
	return find(w.all(root))
}

// macros returns all that the rules of a set can name, sorted, each once.
func (w *Workspace) macros(root string) []def {
	var out []def
	for _, d := range slices.Concat(w.set(root), w.given) {
		d.index()
		out = append(out, d.macros...)
	}
	slices.SortStableFunc(out, func(a, b def) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(out, func(a, b def) bool { return a.name == b.name })
}

// variables returns all that rules of a set write, sorted, each once.
func (w *Workspace) variables(root string) []def {
	var out []def
	for _, d := range w.set(root) {
		d.index()
		out = append(out, d.vars...)
	}
	slices.SortStableFunc(out, func(a, b def) int { return strings.Compare(a.name, b.name) })
	return slices.CompactFunc(out, func(a, b def) bool { return a.name == b.name })
}

// list tells whether a macro is a list rather than a condition.
func (m def) list() bool {
	return entry(m.body, "values") != nil || strings.HasPrefix(strings.TrimSpace(entry(m.body, "expression").Value()), "[")
}
