package assist

import (
	"cmp"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/lint"
	"github.com/clewsec/clew/internal/ruleset/source"
	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/parse"
)

// Severity says how bad a diagnostic is, in the numbers of the language server
// protocol.
type Severity int

// The severities.
const (
	Error Severity = iota + 1
	Warning
	Information
	Hint
)

// Diagnostic is something wrong, or worth a look, in a document.
type Diagnostic struct {
	Range    Range
	Severity Severity
	// Code is the class of the problem, where it has one.
	Code    string
	Message string

	nearest string
}

// maxDiagnostics bounds how many a document has. Nobody reads more.
const maxDiagnostics = 1000

// loaded is what became of a set of documents.
type loaded struct {
	report   *ruleset.Report
	findings []lint.Finding
	failed   error
}

// load loads the documents of a set, once until one of them changes.
func (w *Workspace) load(root string) *loaded {
	if l := w.sets[root]; l != nil {
		return l
	}
	l := &loaded{}
	w.sets[root] = l
	var files []ruleset.File
	for _, d := range w.set(root) {
		files = append(files, ruleset.File{Name: d.name, Data: []byte(d.text.src)})
	}
	set, report, err := ruleset.Load(w.cfg.Rules, files)
	if err != nil {
		l.failed = err
		return l
	}
	l.report = report
	if w.cfg.Produces != nil {
		report.Unproduced(set, w.cfg.Produces)
	}
	// Cases that cannot be read are not what the rule is about.
	l.findings, _ = lint.Run(set, report, w.cfg.Cases)
	return l
}

// Diagnostics returns what is to be said about a document, in its order.
func (w *Workspace) Diagnostics(name string) []Diagnostic {
	d := w.docs[name]
	if d == nil {
		return nil
	}
	var out []Diagnostic
	if d.kind == SECL {
		out = w.condition(d)
	} else {
		out = w.policy(d)
	}
	slices.SortStableFunc(out, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.Range.Start.Line, b.Range.Start.Line), cmp.Compare(a.Range.Start.Character, b.Range.Start.Character),
			cmp.Compare(a.Severity, b.Severity), strings.Compare(a.Message, b.Message))
	})
	return out[:min(len(out), maxDiagnostics)]
}

func (w *Workspace) policy(d *document) []Diagnostic {
	l := w.load(d.root)
	if l.failed != nil {
		return []Diagnostic{{Severity: Error, Message: l.failed.Error()}}
	}
	var out []Diagnostic
	for _, p := range l.report.Problems {
		if p.At.File != d.name {
			continue
		}
		x := Diagnostic{Range: d.problemRange(p.At, p.End), Severity: Error, Code: string(p.Code), Message: p.Msg, nearest: p.Nearest}
		if p.Warning {
			x.Severity = Warning
		}
		out = append(out, x)
	}
	for _, s := range l.report.Rules {
		if s.At.File == d.name && s.Status == ruleset.Filtered {
			out = append(out, Diagnostic{Range: d.problemRange(s.At, ruleset.Position{}), Severity: Hint, Code: "filtered", Message: "is not loaded: " + s.Reason})
		}
	}
	for _, f := range l.findings {
		// Warnings are in the report already, with their end.
		if f.File != d.name || f.Check == lint.Warning {
			continue
		}
		x := Diagnostic{
			Range:    d.problemRange(ruleset.Position{File: f.File, Line: f.Line, Column: f.Column}, ruleset.Position{}),
			Severity: Warning, Code: f.Check, Message: f.Message,
		}
		if f.Check == lint.NoCase {
			x.Severity = Information
		}
		out = append(out, x)
	}
	return out
}

// problemRange is the range of a problem: to its end where that is known, else
// of what begins there, else to the end of the line.
func (d *document) problemRange(at, end ruleset.Position) Range {
	start := d.text.column(at.Line, at.Column)
	if end.Line > 0 {
		return d.text.Range(start, max(start, d.text.column(end.Line, end.Column)))
	}
	_, stop := d.text.line(d.text.lineOf(start))
	if n := d.tree.ScalarAt(start); n != nil && n.Style != source.Literal && n.Style != source.Folded && n.End > start {
		stop = min(stop, n.End)
	}
	return d.text.Range(start, max(start, stop))
}

// condition checks a document that is nothing but one.
func (w *Workspace) condition(d *document) []Diagnostic {
	if strings.TrimSpace(d.text.src) == "" {
		return nil
	}
	n, problems := parse.Expression(d.text.src)
	if n != nil {
		problems = append(problems, check.Check(n, w.env(d.root), check.Options{}).Problems...)
	}
	out := make([]Diagnostic, 0, len(problems))
	for _, p := range problems {
		x := Diagnostic{
			Range: d.text.Range(p.Span.Start, p.Span.End), Severity: Error, Code: string(p.Code), Message: p.Error(), nearest: p.Nearest,
		}
		if p.Warning {
			x.Severity = Warning
		}
		out = append(out, x)
	}
	return out
}

// env is what a condition by itself can name: the fields, and the macros and
// variables of the policies beside it.
type env struct {
	w      *Workspace
	root   string
	macros map[string]ast.Node
	sorted []string
}

func (w *Workspace) env(root string) *env {
	e := &env{w: w, root: root, macros: map[string]ast.Node{}}
	for _, m := range w.macros(root) {
		e.sorted = append(e.sorted, m.name)
		if v := entry(m.body, "values"); v != nil {
			var values []string
			for _, it := range items(v) {
				values = append(values, it.Value())
			}
			e.macros[m.name] = ruleset.MacroList(values)
		} else if n, _ := parse.Macro(entry(m.body, "expression").Value()); n != nil {
			e.macros[m.name] = n
		}
	}
	return e
}

// anyChange is the object that stands for any change of a file. What it has,
// each of the kinds it stands for has.
const anyChange = "fim.write.file."

func (e *env) Field(path string) (*check.Field, bool) {
	if rest, ok := strings.CutPrefix(path, anyChange); ok {
		path = "open.file." + rest
	}
	f, ok := e.w.names.fields.Field(path)
	if !ok {
		return nil, false
	}
	return &f.Field, true
}

func (e *env) Root(path string) (string, bool) {
	r, ok := e.w.names.fields.Root(path)
	if !ok {
		return "", false
	}
	return r.Kind, true
}

func (e *env) FieldNames() []string { return e.w.names.fields.Names() }
func (e *env) MacroNames() []string { return e.sorted }

func (e *env) Macro(name string) (ast.Node, bool) {
	n, ok := e.macros[name]
	return n, ok
}

func (e *env) Variable(name string) (check.Variable, bool) { return e.w.variable(e.root, name) }

// variable tells the type of a variable as far as its declaration shows it.
func (w *Workspace) variable(root, name string) (check.Variable, bool) {
	switch name {
	case "process.pid":
		return check.Variable{Type: check.Int}, true
	case "builtins.uuid4":
		return check.Variable{Type: check.String}, true
	}
	for _, v := range w.variables(root) {
		if v.name == name {
			return w.typeOf(v), true
		}
	}
	return check.Variable{}, false
}

// typeOf reads the type of a variable off its declaration.
func (w *Workspace) typeOf(v def) check.Variable {
	out := check.Variable{Type: check.String, List: entry(v.body, "append").Value() == "true"}
	value := entry(v.body, "value")
	if value == nil {
		value = entry(v.body, "default_value")
	}
	if value != nil && value.Kind == source.Sequence {
		out.List = true
		if value = nil; len(items(entry(v.body, "value"))) > 0 {
			value = entry(v.body, "value").Items[0]
		}
	}
	if name := entry(v.body, "field").Value(); name != "" {
		if f, ok := w.names.field(name); ok {
			out.Type, out.List = f.Type, out.List || f.List
		}
		return out
	}
	if value != nil && value.Kind == source.Scalar && value.Style == source.Plain {
		switch s := value.Value(); {
		case s == "true" || s == "false":
			out.Type = check.Bool
		case strings.Trim(s, "-0123456789") == "":
			out.Type = check.Int
		}
	}
	return out
}
