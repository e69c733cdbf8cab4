package assist

import (
	"cmp"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/source"
	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/parse"
)

// Location is a part of a document.
type Location struct {
	Name  string
	Range Range
}

// symbolKind tells what a name is that can be looked up.
type symbolKind uint8

const (
	macroSymbol symbolKind = iota + 1
	variableSymbol
	ruleSymbol
)

// symbol finds the name of a macro, a variable or a rule at a position.
func (w *Workspace) symbol(d *document, at Position) (symbolKind, string) {
	p := d.at(d.text.Offset(at))
	if p.site != nil {
		t, ok := p.site.token(p.site.index(p.off))
		switch {
		case !ok:
		case t.Kind == parse.Variable:
			return variableSymbol, t.Text
		case t.Kind == parse.Name:
			return macroSymbol, t.Text
		case t.Kind == parse.String:
			// ${name} within a text.
			i := p.site.index(p.off) - t.At.Start
			s := p.site.text[t.At.Start:t.At.End]
			if open := strings.LastIndex(s[:min(i+1, len(s))], "${"); open >= 0 {
				if end := strings.IndexByte(s[open:], '}'); end > 0 && i <= open+end {
					return variableSymbol, s[open+2 : open+end]
				}
			}
		}
		return 0, ""
	}
	if p.value == nil || p.key == nil || p.off > p.value.End {
		return 0, ""
	}
	d.index()
	for _, list := range [...]struct {
		kind symbolKind
		defs []def
	}{{macroSymbol, d.macros}, {ruleSymbol, d.rules}, {variableSymbol, d.vars}} {
		for _, x := range list.defs {
			if x.id == p.value {
				return list.kind, x.name
			}
		}
	}
	return 0, ""
}

// Definition returns where the name at a position is defined: of a rule that
// several files speak of, all places.
func (w *Workspace) Definition(name string, at Position) []Location {
	d := w.docs[name]
	if d == nil {
		return nil
	}
	kind, word := w.symbol(d, at)
	if kind == macroSymbol {
		if m, ok := w.macro(d.root, word); ok && w.docs[m.doc.name] == m.doc {
			return []Location{m.location()}
		}
		// One that is given may be open under another name.
	}
	var out []Location
	for _, o := range w.all(d.root) {
		if kind == variableSymbol && o.root != d.root {
			continue
		}
		for _, x := range o.defs(kind) {
			if x.name == word {
				out = append(out, x.location())
			}
		}
	}
	return out
}

func (d *document) defs(kind symbolKind) []def {
	d.index()
	switch kind {
	case macroSymbol:
		return d.macros
	case variableSymbol:
		return d.vars
	case ruleSymbol:
		return d.rules
	}
	return nil
}

func (x def) location() Location {
	return Location{Name: x.doc.name, Range: x.doc.text.Range(x.id.Start, x.id.End)}
}

// References returns where the name at a position is used, and with
// definitions also where it is defined.
func (w *Workspace) References(name string, at Position, definitions bool) []Location {
	d := w.docs[name]
	if d == nil {
		return nil
	}
	kind, word := w.symbol(d, at)
	if kind == 0 {
		return nil
	}
	if kind == macroSymbol {
		// A field is no name of ours.
		if _, ok := w.macro(d.root, word); !ok {
			return nil
		}
	}
	docs := make([]*document, 0, len(w.docs))
	for _, o := range w.docs {
		docs = append(docs, o)
	}
	slices.SortFunc(docs, func(a, b *document) int { return cmp.Compare(a.name, b.name) })
	var out []Location
	for _, o := range docs {
		if kind == variableSymbol && o.root != d.root {
			continue
		}
		for _, x := range o.defs(kind) {
			if x.name == word && definitions {
				out = append(out, x.location())
			}
		}
		if kind == ruleSymbol || !strings.Contains(o.text.src, word) {
			continue
		}
		o.sites(func(s *site) {
			if !strings.Contains(s.text, word) {
				return
			}
			for _, t := range parse.Tokens(s.text) {
				if kind == macroSymbol && t.Kind == parse.Name && t.Text == word || kind == variableSymbol && t.Kind == parse.Variable && t.Text == word {
					out = append(out, Location{Name: o.name, Range: o.rangeOf(s, t.At.Start, t.At.End)})
				}
			}
		})
	}
	return out
}

// Symbol is a rule or macro of a document.
type Symbol struct {
	Name, Detail string
	Macro        bool
	// Range is the whole of it, Name of it what it is called by.
	Range, Selection Range
}

// Symbols returns what a document defines, in its order.
func (w *Workspace) Symbols(name string) []Symbol {
	d := w.docs[name]
	if d == nil {
		return nil
	}
	d.index()
	var out []Symbol
	for i, list := range [...][]def{d.macros, d.rules} {
		for _, x := range list {
			out = append(out, Symbol{
				Name: x.name, Detail: strings.TrimSpace(entry(x.body, "description").Value()), Macro: i == 0,
				Range: d.text.Range(min(x.body.Start, x.id.Start), max(x.body.End, x.id.End)), Selection: d.text.Range(x.id.Start, x.id.End),
			})
		}
	}
	slices.SortStableFunc(out, func(a, b Symbol) int { return cmp.Compare(a.Range.Start.Line, b.Range.Start.Line) })
	return out
}

// Action is a change that mends something.
type Action struct {
	Title string
	Edits []Edit
	// Mends is the diagnostic that goes away; nil where there is none.
	Mends *Diagnostic
}

// Actions returns the changes that are offered for a part of a document.
func (w *Workspace) Actions(name string, r Range) []Action {
	d := w.docs[name]
	if d == nil {
		return nil
	}
	from, to := d.text.Offset(r.Start), d.text.Offset(r.End)
	if to < from {
		from, to = to, from
	}
	touches := func(x Range) bool { return d.text.Offset(x.Start) <= to && from <= d.text.Offset(x.End) }
	var out []Action
	diagnostics := w.Diagnostics(name)
	for i := range diagnostics {
		x := &diagnostics[i]
		if x.nearest != "" && touches(x.Range) && x.Range.Start.Line == x.Range.End.Line {
			out = append(out, Action{Title: "Replace by " + x.nearest, Edits: []Edit{{x.Range, x.nearest}}, Mends: x})
		}
	}
	out = append(out, d.nearestKeys(from, to)...)
	d.sites(func(s *site) {
		if s.offset(0) > to || s.end(len(s.text)) < from {
			return
		}
		out = append(out, d.parentheses(s, touches, diagnostics)...)
		out = append(out, d.patterns(s, touches)...)
	})
	return out
}

// nearestKeys offers the right name for a key or value that is not known.
func (d *document) nearestKeys(from, to int) []Action {
	if d.kind == SECL {
		return nil
	}
	p := d.at(from)
	replace := func(n *source.Node, known []string) []Action {
		if n == nil || n.Kind != source.Scalar || n.Start > to || n.End < from || slices.Contains(known, n.Value()) {
			return nil
		}
		near := ast.Nearest(n.Value(), known)
		if near == "" {
			return nil
		}
		return []Action{{Title: "Replace by " + near, Edits: []Edit{{d.text.Range(n.Start, n.End), near}}}}
	}
	switch {
	case p.atKey:
		return replace(p.word, keyNames(ruleset.Keys(p.object)))
	case p.inValue && p.key != nil && p.key.Closed != nil:
		return replace(p.value, p.key.Closed)
	}
	return nil
}

func keyNames(keys []ruleset.Key) []string {
	out := make([]string, 0, len(keys))
	for _, k := range keys {
		out = append(out, k.Name)
	}
	return out
}

// parentheses offers to write those that a chain of && and || is read with.
func (d *document) parentheses(s *site, touches func(Range) bool, diagnostics []Diagnostic) []Action {
	n, _ := parse.Expression(s.text)
	var out []Action
	ast.Walk(n, func(n ast.Node) bool {
		b, ok := n.(*ast.Binary)
		if !ok || !b.Mixed || !touches(d.rangeOf(s, b.OpAt.Start, b.OpAt.End)) {
			return true
		}
		right := b.Right.Span()
		at := d.rangeOf(s, right.Start, right.End)
		other := b.Right.(*ast.Binary).Op
		a := Action{
			Title: "Add parentheses: … " + b.Op.String() + " (… " + other.String() + " …)",
			Edits: []Edit{{Range{at.Start, at.Start}, "("}, {Range{at.End, at.End}, ")"}},
		}
		op := d.rangeOf(s, b.OpAt.Start, b.OpAt.End)
		for i := range diagnostics {
			if diagnostics[i].Range == op {
				a.Mends = &diagnostics[i]
			}
		}
		out = append(out, a)
		return true
	})
	return out
}

// patterns offers to make a text with a wildcard a pattern.
func (d *document) patterns(s *site, touches func(Range) bool) []Action {
	n, _ := parse.Expression(s.text)
	var out []Action
	offer := func(n ast.Node) {
		x, ok := n.(*ast.String)
		if !ok || x.Kind != ast.Plain || !strings.Contains(x.Value, "*") {
			return
		}
		// The span of what is in parentheses includes them.
		start := x.At.Start + strings.IndexByte(s.text[x.At.Start:x.At.End], '"')
		at := d.rangeOf(s, start, x.At.End)
		if touches(at) {
			out = append(out, Action{Title: `Make it a pattern: ~"` + x.Value + `"`, Edits: []Edit{{Range{at.Start, at.Start}, "~"}}})
		}
	}
	ast.Walk(n, func(n ast.Node) bool {
		b, ok := n.(*ast.Binary)
		if !ok {
			return true
		}
		switch b.Op {
		case ast.Eq, ast.NotEq:
			offer(b.Left)
			offer(b.Right)
		case ast.In, ast.NotIn:
			if l, isList := b.Right.(*ast.List); isList {
				for _, it := range l.Items {
					offer(it)
				}
			}
		}
		return true
	})
	return out
}
