package ruleset

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/secl"
	"github.com/clewsec/clew/internal/secl/ast"
)

// Config says what a set is loaded for.
type Config struct {
	Schema *Schema
	Facts  Facts
	// Macros are policies of which the macros alone are known to the rules, as
	// those that are shipped are to rules that are checked by themselves. A
	// macro of the same name in the policies that are loaded takes its place.
	Macros []File
	// AgentVersion is the level that agent_version constraints are judged
	// by; empty means DefaultAgentVersion.
	AgentVersion string
	// OwnRatesOnly leaves out the rate of rules that state none, for those who
	// want every verdict.
	OwnRatesOnly bool
}

// Status is what became of a rule.
type Status string

// What can become of a rule.
const (
	Loaded   Status = "loaded"
	Filtered Status = "filtered"
	Failed   Status = "error"
)

// RuleStatus is one rule in a report.
type RuleStatus struct {
	ID     string
	Status Status
	// Reason says why a rule is not loaded; empty for one that is.
	Reason  string
	Version string
	Policy  string
	At      Position
}

// Report says what became of every rule that was found, in the order of the
// files, and what else there is to say.
type Report struct {
	Rules    []RuleStatus
	Problems []Problem
}

// Failed tells whether anything could not be loaded.
func (r *Report) Failed() bool {
	for _, s := range r.Rules {
		if s.Status == Failed {
			return true
		}
	}
	for _, p := range r.Problems {
		if !p.Warning {
			return true
		}
	}
	return false
}

// Unreadable returns the problems of files that could not be read as policies:
// nobody knows which rules are missing then.
func (r *Report) Unreadable() []Problem {
	var out []Problem
	for _, p := range r.Problems {
		if p.Unreadable {
			out = append(out, p)
		}
	}
	return out
}

// Count returns how many rules have a status.
func (r *Report) Count(s Status) int {
	n := 0
	for _, x := range r.Rules {
		if x.Status == s {
			n++
		}
	}
	return n
}

type loader struct {
	cfg     Config
	agent   version
	env     *env
	filters *filterEnv
	files   []*policyFile
	report  *Report
	store   *store
	vars    map[string]*variable
	macroAt map[string]Position
	// given are the macros of the configuration.
	given map[string]ast.Node
}

// Load reads policies and compiles their rules as one set. The files are taken
// in the order given: where two define the same thing, the first one counts,
// unless the later one says that it overrides. Macros of all files are known
// to all rules. A rule that cannot be loaded takes no other with it; the
// report says why. The error is for a configuration that cannot work.
func Load(cfg Config, files []File) (*Set, *Report, error) {
	if cfg.Schema == nil {
		return nil, nil, fmt.Errorf("load rules: no schema")
	}
	if cfg.AgentVersion == "" {
		cfg.AgentVersion = DefaultAgentVersion
	}
	l := &loader{cfg: cfg, report: &Report{}, store: newStore(), vars: map[string]*variable{}, macroAt: map[string]Position{}}
	var err error
	if l.agent, _, err = parseVersion(cfg.AgentVersion); err != nil {
		return nil, nil, fmt.Errorf("load rules: agent version: %w", err)
	}
	if l.filters, err = newFilterEnv(); err != nil {
		return nil, nil, err
	}
	l.env = &env{Schema: cfg.Schema, Macros: map[string]ast.Node{}, Variables: map[string]secl.Variable[eventT]{}}
	if f, ok := cfg.Schema.Field("process.pid"); ok {
		l.env.Variables["process.pid"] = secl.Variable[eventT]{Type: secl.Int, Get: f.Get}
	}
	l.env.Variables["builtins.uuid4"] = l.store.uuids()
	for _, f := range cfg.Macros {
		for _, m := range parseFile(f).macros {
			l.macro(m)
		}
	}
	l.env.Macros[ownMapsName] = ownMaps()
	maps.Copy(l.env.Macros, agentLists(&cfg.Facts))
	l.given, l.report.Problems = maps.Clone(l.env.Macros), nil
	for _, f := range files {
		l.files = append(l.files, parseFile(f))
	}
	for _, pf := range l.files {
		l.report.Problems = append(l.report.Problems, pf.problems...)
	}
	for _, pf := range l.files {
		for _, m := range pf.macros {
			l.macro(m)
		}
	}
	defs := l.merge()
	l.variables(defs)
	set := newSet(l)
	for _, d := range defs {
		l.rule(set, d)
	}
	set.build()
	at := make(map[string]int, len(l.files))
	for i, f := range l.files {
		if _, dup := at[f.name]; !dup {
			at[f.name] = i
		}
	}
	slices.SortStableFunc(l.report.Rules, func(a, b RuleStatus) int {
		return cmp.Or(cmp.Compare(at[a.At.File], at[b.At.File]), cmp.Compare(a.At.Line, b.At.Line))
	})
	return set, l.report, nil
}

func (l *loader) problem(p Problem) { l.report.Problems = append(l.report.Problems, p) }

func (l *loader) macro(m *macroDef) {
	fail := func(t text, format string, args ...any) {
		l.problem(Problem{At: t.at, Macro: m.id.s, Msg: fmt.Sprintf(format, args...)})
	}
	reason, problems := l.judge("", m.file, m.agentVersion, m.filters)
	for _, p := range problems {
		p.Macro = m.id.s
		l.problem(p)
	}
	if len(problems) > 0 || reason != "" {
		return
	}
	name := m.id.s
	if !variableName(strings.ReplaceAll(name, ".", "_")) {
		fail(m.id, "the name may have letters, digits and _ only")
		return
	}
	if _, taken := l.cfg.Schema.Field(name); taken || secl.IsConstant(name) || predefined(name) {
		fail(m.id, "the name is taken by a field or a constant")
		return
	}
	old, dup := l.env.Macros[name]
	if dup && l.given[name] == old {
		dup = m.combine.s != ""
	}
	var n ast.Node
	switch {
	case m.hasValues == (m.expression.s != ""):
		fail(m.id, "needs either an expression or values")
		return
	case m.hasValues:
		list := valueList(m.values)
		if len(list.Items) == 0 {
			fail(m.id, "has no values")
			return
		}
		n = list
	default:
		var ps ast.Problems
		n, ps = secl.ParseMacro(m.expression.s)
		if n != nil {
			if strings.Contains(m.expression.s, fimPrefix) {
				fail(m.expression, "%s* cannot be used in macros", fimPrefix)
				return
			}
			if _, missing := l.unobserved(n, 0); !missing {
				ps = append(ps, secl.CheckMacro(l.env, n)...)
			}
		}
		for _, p := range m.file.expressionProblems("", m.expression, ps) {
			p.Macro = name
			l.problem(p)
		}
		if ps.Failed() {
			return
		}
	}
	switch {
	case m.combine.s != "" && m.combine.s != "merge" && m.combine.s != "override":
		fail(m.combine, "combine is merge or override, not %q", m.combine.s)
	case !dup:
		l.env.Macros[name] = n
		l.macroAt[name] = m.id.at
	case m.combine.s == "override":
		l.env.Macros[name] = n
	case m.combine.s == "merge":
		a, okA := old.(*ast.List)
		b, okB := n.(*ast.List)
		if !okA || !okB {
			fail(m.combine, "only lists can be merged")
			return
		}
		l.env.Macros[name] = &ast.List{At: a.At, Items: append(slices.Clip(a.Items), b.Items...)}
	default:
		fail(m.id, "is defined twice: first at %s", l.macroAt[name])
	}
}

// valueList makes a list of the values of a macro: strings, where ~"…" and
// r"…" are patterns and regular expressions.
func valueList(values []text) *ast.List {
	l := &ast.List{}
	for _, v := range values {
		s := v.s
		item := &ast.String{Value: s}
		for _, p := range [...]struct {
			prefix string
			kind   ast.StringKind
		}{{`~"`, ast.Pattern}, {`r"`, ast.Regexp}} {
			if strings.HasPrefix(s, p.prefix) && strings.HasSuffix(s, `"`) && len(s) > len(p.prefix) {
				item = &ast.String{Kind: p.kind, Value: s[len(p.prefix) : len(s)-1]}
			}
		}
		l.Items = append(l.Items, item)
	}
	return l
}

// status notes what became of a rule.
func (l *loader) status(d *ruleDef, s Status, reason string) {
	l.report.Rules = append(l.report.Rules, RuleStatus{
		ID: d.ID, Status: s, Reason: reason, Version: d.Version, Policy: d.Policy, At: d.At,
	})
}

// fail notes that a rule is not loaded for its own problems.
func (l *loader) fail(d *ruleDef, problems ...Problem) {
	d.problems = append(d.problems, problems...)
	reason := ""
	for _, p := range d.problems {
		if !p.Warning && reason == "" {
			reason = p.Msg
		}
	}
	l.report.Problems = append(l.report.Problems, d.problems...)
	l.status(d, Failed, reason)
}

func (d *ruleDef) failed() bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool { return !p.Warning })
}

// merge applies filters, overrides and toggles, and returns the rules that are
// to be compiled, in load order.
func (l *loader) merge() []*ruleDef {
	var defs []*ruleDef
	byID := map[string]*ruleDef{}
	for _, pf := range l.files {
		for _, d := range pf.rules {
			if d.ID == "" {
				l.fail(d)
				continue
			}
			reason, problems := l.judge(d.ID, pf, d.agentVersion, d.filters)
			if len(problems) > 0 {
				l.fail(d, problems...)
				continue
			}
			if reason != "" {
				l.status(d, Filtered, reason)
				continue
			}
			first := byID[d.ID]
			switch {
			case d.combine.s != "" && d.combine.s != "override":
				l.fail(d, Problem{At: d.combine.at, Rule: d.ID, Msg: fmt.Sprintf("combine is override, not %q", d.combine.s)})
			case d.combine.s == "override" && first == nil:
				l.fail(d, Problem{At: d.combine.at, Rule: d.ID, Msg: "overrides a rule that is not there"})
			case d.combine.s == "override":
				if p := first.override(d); p != nil {
					l.fail(d, *p)
				}
			case first != nil && d.hasDisabled && d.expression.s == "" && d.watch == nil:
				// A toggle: it has nothing but the id and the switch.
				first.disabled = d.disabled
			case first != nil && d.hasDisabled && d.file != first.file:
				first.disabled = d.disabled
			case first != nil:
				l.fail(d, Problem{At: d.id.at, Rule: d.ID, Msg: fmt.Sprintf("is defined twice: first at %s", first.At)})
			default:
				byID[d.ID] = d
				defs = append(defs, d)
			}
		}
	}
	return defs
}

var overridable = []string{"all", "expression", "actions", "every", "tags", "product_tags"}

// override takes over what a later definition of the rule says.
func (d *ruleDef) override(o *ruleDef) *Problem {
	fields := make([]string, 0, len(o.overrides))
	for _, f := range o.overrides {
		if !slices.Contains(overridable, f.s) {
			return &Problem{At: f.at, Rule: o.ID, Msg: fmt.Sprintf("cannot override %q; there are %s", f.s, strings.Join(overridable, ", "))}
		}
		fields = append(fields, f.s)
	}
	all := len(fields) == 0 || slices.Contains(fields, "all")
	takes := func(key string) bool { return o.set[key] && (all || slices.Contains(fields, key)) }
	if takes("expression") {
		d.expression, d.Expression = o.expression, o.Expression
		d.watch = o.watch
		d.file = o.file
	}
	if takes("actions") {
		d.Actions = append(d.Actions, o.Actions...)
	}
	if takes("every") {
		d.Every = o.Every
	}
	if takes("tags") {
		d.Tags = o.Tags
	}
	if takes("product_tags") {
		d.ProductTags, d.Tactics, d.Techniques = o.ProductTags, nil, nil
	}
	if o.hasDisabled {
		d.disabled = o.disabled
	}
	if all {
		if o.set["silent"] {
			d.Silent = o.Silent
		}
		if o.set["description"] {
			d.Title = o.Title
		}
		if o.set["priority"] {
			d.Priority = o.Priority
		}
	}
	return nil
}

// variables declares what the rules' set actions write.
func (l *loader) variables(defs []*ruleDef) {
	for _, d := range defs {
		if d.disabled {
			continue
		}
		for i := range d.Actions {
			a := d.Actions[i].Set
			if a == nil || !a.valid {
				continue
			}
			at := d.Actions[i].At
			v, err := l.declare(a, at)
			if err != nil {
				d.problems = append(d.problems, Problem{At: at, Rule: d.ID, Msg: err.Error()})
				continue
			}
			if old := l.vars[v.name]; old != nil {
				if old.typ != v.typ || old.list != v.list || old.private != v.private {
					d.problems = append(d.problems, Problem{
						At: at, Rule: d.ID,
						Msg: fmt.Sprintf("set: variable %s has another type, or is private or not, at %s", v.name, old.declared),
					})
					continue
				}
				v = old
			} else {
				l.vars[v.name] = v
				l.env.Variables[v.name] = l.store.getters(v)
			}
			a.variable = v
		}
	}
}

// rule compiles a rule into the set.
func (l *loader) rule(set *Set, d *ruleDef) {
	if d.disabled {
		l.status(d, Filtered, "disabled")
		return
	}
	if d.pattern != nil && d.failed() {
		l.fail(d) // the bounds of a pattern are relied on below
		return
	}
	if d.watch != nil && !l.expandWatch(d) {
		l.fail(d)
		return
	}
	texts, p := d.conditions()
	if p != nil {
		l.fail(d, *p)
		return
	}
	var steps []stepPrograms
	for i, t := range texts {
		said := len(d.problems)
		st, why, ok := l.compile(d, t, i)
		if d.watch != nil {
			// They are alternatives, not steps, and what is to be said about
			// them has been said about the watch.
			st.step = 0
			d.problems = append(d.problems[:said], hard(d.problems[said:])...)
		}
		if why != "" {
			l.status(d, Filtered, why)
			return
		}
		if ok {
			steps = append(steps, st)
		}
	}
	if len(steps) < len(texts) {
		l.fail(d)
		return
	}
	if p := d.pattern; p != nil && p.kind == sequenceOf {
		// The event that carries the signal is the one of the last step.
		d.Expression = p.steps[len(p.steps)-1].s
	}
	l.actions(d)
	d.notCarriedOut()
	d.finish()
	if d.failed() {
		l.fail(d)
		return
	}
	l.report.Problems = append(l.report.Problems, d.problems...)
	l.status(d, Loaded, "")
	set.add(d, steps)
}

// actions compiles the filters and sources of a rule's actions, and what its
// rate is counted by.
func (l *loader) actions(d *ruleDef) {
	note := func(t text, problems ast.Problems) {
		d.problems = append(d.problems, d.file.expressionProblems(d.ID, t, problems)...)
	}
	env, opt := l.ruleEnv(d), secl.Options{AnyKind: true}
	if len(d.Kinds) == 1 {
		opt.Kind = d.Kinds[0].String()
	}
	for _, t := range d.limiterToken {
		v, ps := secl.CompileValue(env, t.s, opt)
		note(t, ps)
		if v != nil {
			d.token = append(d.token, v)
		}
	}
	if p := d.pattern; p != nil && p.distinct.s != "" {
		v, ps := secl.CompileValue(env, p.distinct.s, opt)
		note(p.distinct, ps)
		d.distinct = v
	}
	for i := range d.Actions {
		a := &d.Actions[i]
		if a.Filter != "" {
			var ps ast.Problems
			a.program, ps = secl.Compile(env, a.Filter, opt)
			note(a.filter, ps)
		}
		if a.Hash != nil {
			l.hash(d, a.Hash, a.At)
		}
		if a.Log != nil {
			l.log(d, env, a.Log, opt)
		}
		if a.Set != nil && a.Set.valid && a.Set.ScopeField != "" {
			v, ps := secl.CompileValue(env, a.Set.ScopeField, opt)
			note(a.Set.scopeField, ps)
			if v != nil && v.Int == nil {
				d.problems = append(d.problems, Problem{At: a.Set.scopeField.at, Rule: d.ID, Msg: "scope_field must be the id of a process, such as signal.pid"})
			}
			a.Set.scope = v
		}
		if a.Set == nil || !a.Set.valid || a.Set.value != nil {
			continue
		}
		t := a.Set.expression
		if a.Set.Field != "" {
			t = a.Set.field
		}
		v, ps := secl.CompileValue(env, t.s, opt)
		note(t, ps)
		if v == nil || a.Set.variable == nil {
			continue
		}
		if v.Type != a.Set.variable.typ || v.List && !a.Set.variable.list {
			d.problems = append(d.problems, Problem{At: t.at, Rule: d.ID, Msg: "set: the source has another type than the variable"})
			continue
		}
		a.Set.source = v
	}
}

// ruleEnv is what a rule can name: what all can, and what is known of itself.
func (l *loader) ruleEnv(d *ruleDef) *env {
	if len(d.ProductTags) == 0 {
		return l.env
	}
	e := *l.env
	f, ok := l.cfg.Schema.Field(ruleTags)
	if !ok {
		return l.env
	}
	own, tags := *f, d.ProductTags
	own.Get.Strs = func(*event.Event) []string { return tags }
	e.Own = map[string]*field{ruleTags: &own}
	return &e
}
