package ruleset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/ruleset/source"
	"github.com/clewsec/clew/internal/secl"
	"github.com/clewsec/clew/internal/secl/ast"
	"go.yaml.in/yaml/v3"
)

// A File is one policy file: its name, as it is shown to people, and its text.
type File struct {
	Name string
	Data []byte
}

// MaxFileBytes is the size of the largest policy file that is read.
const MaxFileBytes = 8 << 20

// maxFiles bounds how many policy files one directory may hold.
const maxFiles = 100_000

// ReadFiles collects the policy files of fsys below root, in the order of
// their names: *.policy, and rule.yaml in folders of single rules. root may
// itself be a file of any name. prefix is put before each name.
func ReadFiles(fsys fs.FS, root, prefix string) ([]File, error) {
	var files []File
	err := fs.WalkDir(fsys, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() || name != root && !isPolicy(name) {
			return nil
		}
		if len(files) == maxFiles {
			return fmt.Errorf("more than %d policy files", maxFiles)
		}
		data, err := readFile(fsys, name)
		if err != nil {
			return fmt.Errorf("read policy %s: %w", path.Join(prefix, name), err)
		}
		files = append(files, File{Name: path.Join(prefix, name), Data: data})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	return files, nil
}

func isPolicy(name string) bool {
	return strings.HasSuffix(name, ".policy") || path.Base(name) == "rule.yaml"
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && len(data) > MaxFileBytes {
		err = fmt.Errorf("larger than %d bytes", MaxFileBytes)
	}
	return data, err
}

// Position is a place in a policy file; line and column count from 1.
type Position struct {
	File   string
	Line   int
	Column int
}

func (p Position) String() string {
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

// Problem is something wrong, or worth a warning, in a policy.
type Problem struct {
	At Position
	// End is where it ends, the zero Position where that is not known.
	End Position
	// Rule or Macro is the id of what it is about; both are empty where it is
	// about a file as a whole.
	Rule, Macro string
	Msg         string
	// Source and Carets are the line of the text and what to look at, where
	// the problem is inside of an expression.
	Source, Carets string
	// Span is where that is in the text of the expression, Code the class of
	// the problem there, and Nearest the right name that is closest to a
	// wrong one.
	Span    ast.Span
	Code    ast.Code
	Nearest string
	Warning bool
	// Unreadable tells that the file, or a part of it with rules nobody knows
	// of, could not be read at all.
	Unreadable bool
}

func (p Problem) Error() string { return p.At.String() + ": " + p.Msg }

// text is a scalar with the place it stands at.
type text struct {
	s  string
	at Position
	// node is kept to find places inside of it.
	node *yaml.Node
}

// macroDef is a macro as a file defines it.
type macroDef struct {
	id           text
	expression   text
	values       []text
	hasValues    bool
	combine      text
	agentVersion text
	filters      []text
	file         *policyFile
}

// ruleDef is a rule as a file defines it.
type ruleDef struct {
	Rule
	id           text
	expression   text
	combine      text
	agentVersion text
	filters      []text
	overrides    []text
	limiterToken []text
	disabled     bool
	hasDisabled  bool
	severity     text
	typ          text
	pattern      *patternDef
	distinct     *secl.Value[eventT, Element]
	// watch is set where a shorthand stands in place of the expression.
	watch    *watchDef
	set      map[string]bool
	problems []Problem
	file     *policyFile
}

// policyFile is a file that was read.
type policyFile struct {
	name    string
	version string
	policy  string
	lines   []string
	// src, tree and starts are the file as a text and where its lines begin;
	// read when a problem needs its place.
	src    string
	tree   *source.Node
	starts []int
	macros []*macroDef
	rules  []*ruleDef
	// watched counts the paths of all watches.
	watched int
	// problems are those of the file, not of single rules.
	problems []Problem
}

// parseFile reads one file. What is wrong with it as a whole is noted in its
// problems; a rule that is wrong has them itself.
func parseFile(f File) *policyFile {
	pf := &policyFile{
		name:   f.Name,
		policy: strings.TrimSuffix(path.Base(f.Name), ".policy"),
		lines:  strings.Split(string(f.Data), "\n"),
	}
	if len(f.Data) > MaxFileBytes {
		pf.fail(nil, "file is larger than %d bytes", MaxFileBytes)
		return pf
	}
	var doc yaml.Node
	err := yaml.NewDecoder(bytes.NewReader(f.Data)).Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		pf.fail(nil, "file is empty")
		return pf
	case err != nil:
		pf.problems = append(pf.problems, yamlProblem(f.Name, err))
		return pf
	}
	if len(doc.Content) != 1 {
		pf.fail(&doc, "want one YAML document")
		return pf
	}
	root := doc.Content[0]
	if path.Base(f.Name) == "rule.yaml" {
		pf.policy = "clew"
		pf.folder(root)
		return pf
	}
	pf.document(root)
	return pf
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

func yamlProblem(name string, err error) Problem {
	p := Problem{At: Position{File: name, Line: 1, Column: 1}, Unreadable: true, Msg: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		if n, convErr := strconv.Atoi(m[1]); convErr == nil {
			p.At.Line = n
			p.Msg = "not YAML: " + strings.TrimPrefix(err.Error(), m[0])
		}
	}
	return p
}

func (pf *policyFile) pos(n *yaml.Node) Position {
	p := Position{File: pf.name, Line: 1, Column: 1}
	if n != nil && n.Line > 0 {
		p.Line, p.Column = n.Line, n.Column
	}
	return p
}

func (pf *policyFile) fail(n *yaml.Node, format string, args ...any) {
	pf.problems = append(pf.problems, Problem{At: pf.pos(n), Msg: fmt.Sprintf(format, args...), Unreadable: true})
}

func (pf *policyFile) warn(n *yaml.Node, format string, args ...any) {
	pf.problems = append(pf.problems, Problem{At: pf.pos(n), Msg: fmt.Sprintf(format, args...), Warning: true})
}

// reader reads the values of one mapping and notes what is wrong with them.
type reader struct {
	pf *policyFile
	// rule is set while the keys of a rule are read, macro while those of a
	// macro are.
	rule  *ruleDef
	macro *macroDef
}

func (r *reader) note(n *yaml.Node, warning bool, format string, args ...any) {
	p := Problem{At: r.pf.pos(n), Msg: fmt.Sprintf(format, args...), Warning: warning}
	switch {
	case r.rule != nil:
		p.Rule = r.rule.ID
		r.rule.problems = append(r.rule.problems, p)
		return
	case r.macro != nil:
		p.Macro = r.macro.id.s
	default:
		p.Unreadable = !warning
	}
	r.pf.problems = append(r.pf.problems, p)
}

// keys calls f for each key of a mapping. Keys that are not known are warned
// about; one that occurs twice is an error.
func (r *reader) keys(n *yaml.Node, what string, known []string, f func(key string, v *yaml.Node)) {
	n = deref(n)
	if n.Kind != yaml.MappingNode {
		r.note(n, false, "%s must be a mapping", what)
		return
	}
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], deref(n.Content[i+1])
		if seen[k.Value] {
			r.note(k, false, "key %q occurs twice", k.Value)
			continue
		}
		seen[k.Value] = true
		if known != nil && !contains(known, k.Value) {
			msg := fmt.Sprintf("unknown key %q in %s", k.Value, what)
			if near := ast.Nearest(k.Value, known); near != "" {
				msg += fmt.Sprintf(", did you mean %q?", near)
			}
			r.note(k, true, "%s", msg)
			continue
		}
		f(k.Value, v)
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// deref follows an alias. Nothing here descends without bound, so that an
// alias that contains itself does no harm.
func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func (r *reader) text(n *yaml.Node, what string) text {
	if n.Kind != yaml.ScalarNode {
		r.note(n, false, "%s must be a text", what)
		return text{at: r.pf.pos(n), node: n}
	}
	if n.Tag == "!!null" {
		return text{at: r.pf.pos(n), node: n}
	}
	return text{s: n.Value, at: r.pf.pos(n), node: n}
}

func (r *reader) texts(n *yaml.Node, what string) []text {
	if n.Kind != yaml.SequenceNode {
		r.note(n, false, "%s must be a list", what)
		return nil
	}
	out := make([]text, 0, len(n.Content))
	for _, c := range n.Content {
		out = append(out, r.text(deref(c), "member of "+what))
	}
	return out
}

func (r *reader) strings(n *yaml.Node, what string) []string {
	var out []string
	for _, t := range r.texts(n, what) {
		out = append(out, t.s)
	}
	return out
}

func (r *reader) bool(n *yaml.Node, what string) bool {
	var b bool
	if n.Kind != yaml.ScalarNode || n.Decode(&b) != nil {
		r.note(n, false, "%s must be true or false", what)
	}
	return b
}

func (r *reader) int(n *yaml.Node, what string) int64 {
	var v int64
	if n.Kind != yaml.ScalarNode || n.Decode(&v) != nil {
		r.note(n, false, "%s must be an integer", what)
	}
	return v
}

// duration reads 5s, or an integer in nanoseconds.
func (r *reader) duration(n *yaml.Node, what string) time.Duration {
	if n.Kind == yaml.ScalarNode {
		if v, err := strconv.ParseInt(n.Value, 10, 64); err == nil && v >= 0 {
			return time.Duration(v)
		}
		if d, err := time.ParseDuration(n.Value); err == nil && d >= 0 {
			return d
		}
	}
	r.note(n, false, "%s must be a duration such as 10s, or nanoseconds", what)
	return 0
}

var documentKeys = []string{"version", "type", "replace_policy_id", "macros", "rules", "watch"}

func (pf *policyFile) document(root *yaml.Node) {
	r := &reader{pf: pf}
	hasRules := false
	r.keys(root, "policy", documentKeys, func(key string, v *yaml.Node) {
		switch key {
		case "version":
			pf.version = r.text(v, key).s
		case "macros":
			if v.Kind != yaml.SequenceNode {
				r.note(v, v.Tag == "!!null", "macros must be a list")
				return
			}
			for _, n := range v.Content {
				pf.macro(deref(n))
			}
		case "rules":
			hasRules = true
			if v.Kind != yaml.SequenceNode {
				r.note(v, v.Tag == "!!null", "rules must be a list")
				return
			}
			for _, n := range v.Content {
				pf.rule(deref(n), ruleKeys, false)
			}
		case "watch":
			hasRules = true
			if v.Kind != yaml.SequenceNode {
				r.note(v, v.Tag == "!!null", "watch must be a list")
				return
			}
			for _, n := range v.Content {
				pf.watchEntry(deref(n))
			}
		}
	})
	for _, d := range pf.rules {
		d.PolicyVersion = pf.version
	}
	if !hasRules && len(pf.macros) == 0 && len(pf.problems) == 0 {
		pf.warn(root, "policy has no rules")
	}
}

var macroKeys = []string{"id", "description", "expression", "values", "combine", "agent_version", "filters"}

func (pf *policyFile) macro(n *yaml.Node) {
	m := &macroDef{file: pf}
	r := &reader{pf: pf, macro: m}
	r.keys(n, "macro", macroKeys, func(key string, v *yaml.Node) {
		switch key {
		case "id":
			m.id = r.text(v, key)
		case "expression":
			m.expression = r.text(v, key)
		case "values":
			m.hasValues = true
			m.values = r.texts(v, key)
		case "combine":
			m.combine = r.text(v, key)
		case "agent_version":
			m.agentVersion = r.text(v, key)
		case "filters":
			m.filters = r.texts(v, key)
		}
	})
	if m.id.s == "" {
		r.note(n, false, "macro has no id")
		return
	}
	pf.macros = append(pf.macros, m)
}

var ruleKeys = []string{
	"id", "version", "expression", "description", "tags", "product_tags", "agent_version", "filters", "disabled",
	"combine", "override_options", "actions", "every", "limiter_token", "silent", "group_id", "priority",
	"sequence", "threshold", "absence",
}

// folderKeys are the keys of a rule in a folder of its own.
var folderKeys = append([]string{
	"type", "severity", "techniques", "tactics", "recommended", "sees", "misses", "watch",
}, ruleKeys...)

var ruleID = regexp.MustCompile(`^[a-zA-Z0-9_]*$`)

// folder reads a rule.yaml, which is one rule.
func (pf *policyFile) folder(root *yaml.Node) {
	pf.rule(root, folderKeys, true)
	for _, d := range pf.rules {
		if dir := path.Base(path.Dir(pf.name)); dir != "." && dir != "/" && dir != d.ID {
			d.problems = append(d.problems, Problem{
				At: d.id.at, Rule: d.ID, Warning: true,
				Msg: fmt.Sprintf("stands in a folder named %s", dir),
			})
		}
	}
}

func (pf *policyFile) rule(n *yaml.Node, known []string, own bool) {
	d := &ruleDef{}
	pf.define(d, n, own, "rule", known, d.key)
}

// define reads a mapping that is a rule; key is called for each of its keys.
func (pf *policyFile) define(d *ruleDef, n *yaml.Node, own bool, what string, known []string, key func(*reader, string, *yaml.Node)) {
	d.file, d.set = pf, map[string]bool{}
	d.At = pf.pos(n)
	d.Policy = pf.policy
	if n.Kind == yaml.MappingNode {
		// The id comes first, so that every problem can name it.
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == "id" {
				d.ID = n.Content[i+1].Value
			}
		}
	}
	r := &reader{pf: pf, rule: d}
	r.keys(n, what, known, func(name string, v *yaml.Node) {
		d.set[name] = true
		key(r, name, v)
	})
	switch {
	case d.ID == "":
		r.note(n, false, "%s has no id", what)
	case !ruleID.MatchString(d.ID):
		r.note(n, false, "%s id %q may have letters, digits and _ only", what, d.ID)
	}
	d.own = own
	d.validate(r)
	d.validateWatch(r)
	pf.rules = append(pf.rules, d)
}

func (d *ruleDef) key(r *reader, key string, v *yaml.Node) {
	switch key {
	case "id":
		d.id = r.text(v, key)
	case "version":
		d.Version = r.text(v, key).s
	case "expression":
		d.expression = r.text(v, key)
		d.Expression = d.expression.s
	case "description":
		d.Title = strings.TrimSpace(r.text(v, key).s)
	case "tags":
		r.keys(v, "tags", nil, func(k string, v *yaml.Node) {
			d.Tags = append(d.Tags, Tag{k, r.text(v, "tag").s})
		})
	case "product_tags":
		d.ProductTags = r.strings(v, key)
	case "agent_version":
		d.agentVersion = r.text(v, key)
	case "filters":
		d.filters = r.texts(v, key)
	case "disabled":
		d.disabled, d.hasDisabled = r.bool(v, key), true
	case "combine":
		d.combine = r.text(v, key)
	case "override_options":
		r.keys(v, key, []string{"fields"}, func(_ string, v *yaml.Node) { d.overrides = r.texts(v, "fields") })
	case "actions":
		if v.Kind != yaml.SequenceNode {
			r.note(v, v.Tag == "!!null", "actions must be a list")
			return
		}
		for _, a := range v.Content {
			d.Actions = append(d.Actions, r.action(deref(a)))
		}
	case "every":
		d.Every = r.duration(v, key)
	case "limiter_token":
		d.limiterToken = r.texts(v, key)
		for _, t := range d.limiterToken {
			d.LimiterToken = append(d.LimiterToken, t.s)
		}
	case "silent":
		d.Silent = r.bool(v, key)
	case "group_id":
		d.GroupID = r.text(v, key).s
	case "priority":
		d.Priority = int(r.int(v, key))
	case "type":
		d.typ = r.text(v, key)
	case "severity":
		d.severity = r.text(v, key)
	case "techniques":
		d.Techniques = r.strings(v, key)
	case "tactics":
		d.Tactics = r.strings(v, key)
	case "recommended":
		if v.Kind != yaml.SequenceNode {
			r.note(v, false, "recommended must be a list")
			return
		}
		for _, n := range v.Content {
			d.Recommended = append(d.Recommended, r.recommendation(deref(n)))
		}
	case "sequence", "threshold", "absence":
		d.readPattern(r, key, v)
	case "watch":
		d.readWatch(r, v)
	case "sees":
		d.Sees = strings.TrimSpace(r.text(v, key).s)
	case "misses":
		d.Misses = strings.TrimSpace(r.text(v, key).s)
	}
}

// expressionProblems turns the problems of a text into those of a file.
func (pf *policyFile) expressionProblems(rule string, t text, problems ast.Problems) []Problem {
	out := make([]Problem, 0, len(problems))
	for _, p := range problems {
		src, carets := ast.Snippet(t.s, p.Span)
		at, end := pf.place(t, p.Span)
		out = append(out, Problem{
			At: at, End: end, Rule: rule, Msg: p.Error(), Source: src, Carets: carets,
			Span: p.Span, Code: p.Code, Nearest: p.Nearest, Warning: p.Warning,
		})
	}
	return out
}
