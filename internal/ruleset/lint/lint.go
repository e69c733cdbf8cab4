// Package lint finds what is most likely not meant in rules that load: rules
// that cannot match, that say nothing beyond another one, that can be evaded
// by a name, or that nobody has tried.
package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/ruletest"
	"github.com/clewsec/clew/internal/secl/ast"
	"github.com/clewsec/clew/internal/secl/check"
	"github.com/clewsec/clew/internal/secl/match"
	"github.com/clewsec/clew/internal/secl/parse"
)

// A Finding is one thing to look at.
type Finding struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Rule   string `json:"rule"`
	// Check names the class of the finding.
	Check   string `json:"check"`
	Message string `json:"message"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d:%d: rule %s: %s (%s)", f.File, f.Line, f.Column, f.Rule, f.Message, f.Check)
}

// The classes of findings.
const (
	Warning    = "warning"
	Plain      = "plain-pattern"
	Impossible = "impossible"
	Always     = "always"
	Duplicate  = "duplicate"
	Shadowed   = "shadowed"
	Exclusion  = "exclusion"
	NoCase     = "no-case"
)

// Cases finds the cases of a rule. Nil means that there are none.
type Cases func(r *ruleset.Rule) ([]ruletest.Case, error)

// Run looks at the rules of a set and at what was said when it was loaded.
// Findings are in the order of the files.
func Run(set *ruleset.Set, report *ruleset.Report, cases Cases) ([]Finding, error) {
	l := &linter{set: set}
	for _, p := range report.Problems {
		if p.Warning {
			l.add(p.At, p.Rule, Warning, "%s", p.Msg)
		}
	}
	for _, r := range set.Rules() {
		l.literals(r)
		l.possible(r)
		l.exclusions(r)
		if err := l.cases(r, cases); err != nil {
			return nil, err
		}
	}
	l.shadows()
	slices.SortStableFunc(l.out, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(l.out), nil
}

type linter struct {
	set *ruleset.Set
	out []Finding
}

func (l *linter) add(at ruleset.Position, rule, class, format string, args ...any) {
	l.out = append(l.out, Finding{
		File: at.File, Line: at.Line, Column: at.Column, Rule: rule, Check: class, Message: fmt.Sprintf(format, args...),
	})
}

// literals looks for patterns that are written as plain strings.
func (l *linter) literals(r *ruleset.Rule) {
	for _, text := range l.set.Text(r) {
		n, _ := parse.Expression(text)
		ast.Walk(n, func(n ast.Node) bool {
			b, ok := n.(*ast.Binary)
			if !ok {
				return true
			}
			var plain []ast.Node
			switch b.Op {
			case ast.Eq, ast.NotEq:
				plain = []ast.Node{b.Left, b.Right}
			case ast.In, ast.NotIn:
				if list, isList := b.Right.(*ast.List); isList {
					plain = list.Items
				}
			}
			for _, x := range plain {
				s, isString := x.(*ast.String)
				if !isString || s.Kind != ast.Plain || !strings.Contains(s.Value, "*") {
					continue
				}
				msg := fmt.Sprintf(`"%s" has a wildcard but is compared letter by letter; write ~"%s"`, s.Value, s.Value)
				// The check of the rule may have said so already, with the place.
				if !slices.ContainsFunc(l.out, func(f Finding) bool { return f.Rule == r.ID && f.Message == msg }) {
					l.add(r.At, r.ID, Plain, "%s", msg)
				}
			}
			return true
		})
	}
}

// possible looks for conditions that can never or must always hold.
func (l *linter) possible(r *ruleset.Rule) {
	conditions := l.set.Conditions(r)
	never, steps := map[int]int{}, map[int]int{}
	for _, c := range conditions {
		steps[c.Step]++
		if why := impossible(c.Expr); why != "" {
			never[c.Step]++
			if never[c.Step] == steps[c.Step] && never[c.Step] == count(conditions, c.Step) {
				l.add(r.At, r.ID, Impossible, "can never match: %s", why)
			}
		}
		if c.Expr.IsConst(true) {
			l.add(r.At, r.ID, Always, "matches every %s event", c.Kind)
		}
	}
}

func count(cs []ruleset.Condition, step int) int {
	n := 0
	for _, c := range cs {
		if c.Step == step {
			n++
		}
	}
	return n
}

// impossible says why a condition can never hold; empty where it may.
func impossible(e *check.Expr) string {
	switch e.Op {
	case check.Const:
		if e.IsConst(false) {
			return "the condition is always false"
		}
	case check.Or:
		why := ""
		for _, a := range e.Args {
			if why = impossible(a); why == "" {
				return ""
			}
		}
		return why
	case check.And:
		for _, a := range e.Args {
			if why := impossible(a); why != "" {
				return why
			}
		}
		return conflict(e.Args)
	}
	return ""
}

// conflict looks for two operands of && that exclude each other: lists of
// values of one field without a common one, or a value that is both asked for
// and excluded.
func conflict(args []*check.Expr) string {
	type domain struct {
		strs []string
		ints []int64
		set  bool
	}
	fields := map[string]*domain{}
	for _, negated := range [...]bool{false, true} {
		for _, a := range args {
			if (a.Op == check.Not) != negated {
				continue
			}
			if negated {
				a = a.Args[0]
			}
			name, ok := single(a)
			if !ok {
				continue
			}
			d := fields[name]
			if d == nil {
				d = &domain{}
				fields[name] = d
			}
			switch {
			case !negated && !d.set:
				d.set = true
				if a.Op == check.InInts {
					d.ints = slices.Clone(a.Ints)
				} else {
					d.strs = slices.Clone(a.Set.Values)
				}
			case !d.set:
				continue
			case a.Op == check.InInts:
				d.ints = slices.DeleteFunc(d.ints, func(v int64) bool { return slices.Contains(a.Ints, v) == negated })
			default:
				d.strs = slices.DeleteFunc(d.strs, func(v string) bool { return slices.Contains(a.Set.Values, v) == negated })
			}
			if len(d.ints)+len(d.strs) == 0 {
				return fmt.Sprintf("no value of %s fulfils all that is asked of it", name)
			}
		}
	}
	return ""
}

// single names the field of a comparison with listed values, where the field
// has one value.
func single(e *check.Expr) (string, bool) {
	switch e.Op {
	case check.InInts:
	case check.InSet:
		if len(e.Set.Matchers) > 0 || e.Set.Fold() {
			return "", false
		}
	default:
		return "", false
	}
	x := e.Args[0]
	if x.Op != check.FieldOp || x.List || x.Length || x.Index >= 0 || x.Register != "" {
		return "", false
	}
	return x.Field.Name, true
}

// openDirs are directories that everybody may write to.
var openDirs = []string{"/tmp", "/var/tmp", "/dev/shm", "/run/user", "/run/lock"}

// exclusions looks for exceptions that whoever runs a program can meet.
func (l *linter) exclusions(r *ruleset.Rule) {
	said := map[string]bool{}
	for _, c := range l.set.Conditions(r) {
		var walk func(e *check.Expr, negated bool)
		walk = func(e *check.Expr, negated bool) {
			switch e.Op {
			case check.Not:
				walk(e.Args[0], !negated)
				return
			case check.And, check.Or:
				for _, a := range e.Args {
					walk(a, negated)
				}
				return
			}
			if !negated || e.Op != check.InSet && e.Op != check.Eq {
				return
			}
			x := e.Args[0]
			if x.Op != check.FieldOp {
				return
			}
			if why := abusable(x.Field.Name, e); why != "" && !said[why] {
				said[why] = true
				l.add(r.At, r.ID, Exclusion, "%s", why)
			}
		}
		walk(c.Expr, false)
	}
}

// processes are the objects whose attributes the process itself decides.
var processes = []string{"process.parent.", "process.ancestors.", "process.", "exec.", "exit."}

func abusable(field string, e *check.Expr) string {
	rest, ok := "", false
	for _, p := range processes {
		if rest, ok = strings.CutPrefix(field, p); ok {
			break
		}
	}
	if !ok {
		return ""
	}
	switch rest {
	case "file.name", "comm", "argv0", "args", "argv", "args_flags", "args_options", "envp", "envs", "tty_name":
		return fmt.Sprintf("excludes by %s, which whoever starts a program chooses; compare the path or the owner of the file", field)
	case "file.path":
		for _, v := range e.Set.Values {
			if d := below(v); d != "" {
				return fmt.Sprintf("excludes %s by %s, but everybody may write to %s", v, field, d)
			}
		}
		for _, m := range e.Set.Matchers {
			if g, isGlob := m.(*match.Glob); isGlob && g.Dir() != "" {
				if d := below(g.Dir() + "/"); d != "" {
					return fmt.Sprintf("excludes paths in %s by %s, but everybody may write to %s", g.Dir(), field, d)
				}
			}
			for _, d := range openDirs {
				if m.Match(d + "/x") {
					return fmt.Sprintf("excludes paths in %s by %s, and everybody may write there", d, field)
				}
			}
		}
	}
	return ""
}

func below(path string) string {
	for _, d := range openDirs {
		if strings.HasPrefix(path, d+"/") {
			return d
		}
	}
	return ""
}

// cases looks for rules that nobody has tried.
func (l *linter) cases(r *ruleset.Rule, find Cases) error {
	list, err := find(r)
	if err != nil {
		return err
	}
	fires := 0
	for _, c := range list {
		if c.Fires {
			fires++
		}
	}
	switch {
	case len(list) == 0:
		l.add(r.At, r.ID, NoCase, "has no cases")
	case fires == 0:
		l.add(r.At, r.ID, NoCase, "has no case in which it fires")
	case fires == len(list):
		l.add(r.At, r.ID, NoCase, "has no case in which it does not fire")
	}
	return nil
}

// shadows looks for rules about single events whose matches are all matches of
// another rule that is at least as severe.
func (l *linter) shadows() {
	type shape struct {
		rule *ruleset.Rule
		text string
		ands []string
	}
	// Rules with a common operand are compared only, lest every pair is.
	by := map[string][]*shape{}
	for _, r := range l.set.Rules() {
		if l.set.Pattern(r) != "" || r.Silent {
			continue
		}
		n, _ := parse.Expression(r.Expression)
		if n == nil {
			continue
		}
		s := &shape{rule: r, text: canonical(n), ands: operands(n, ast.And)}
		seen := map[*shape]bool{}
		for _, a := range s.ands {
			for _, o := range by[a] {
				if seen[o] {
					continue
				}
				seen[o] = true
				switch {
				case o.text == s.text:
					l.add(r.At, r.ID, Duplicate, "has the same condition as rule %s", o.rule.ID)
				case subset(o.ands, s.ands) && !graver(r, o.rule):
					l.add(r.At, r.ID, Shadowed, "matches only where rule %s does, which is no less severe", o.rule.ID)
				case subset(s.ands, o.ands) && !graver(o.rule, r):
					l.add(o.rule.At, o.rule.ID, Shadowed, "matches only where rule %s does, which is no less severe", r.ID)
				}
			}
		}
		for _, a := range s.ands {
			if len(by[a]) < maxAlike {
				by[a] = append(by[a], s)
			}
		}
	}
}

// maxAlike bounds how many rules with one operand are compared with another.
const maxAlike = 64

func graver(a, b *ruleset.Rule) bool {
	return slices.Index(ruleset.Severities, a.Severity) > slices.Index(ruleset.Severities, b.Severity)
}

// subset tells whether every member of a is one of b; both are sorted.
func subset(a, b []string) bool {
	for _, x := range a {
		if _, ok := slices.BinarySearch(b, x); !ok {
			return false
		}
	}
	return true
}

// operands are the texts of what a chain joins, sorted.
func operands(n ast.Node, op ast.Op) []string {
	var out []string
	var walk func(n ast.Node)
	walk = func(n ast.Node) {
		if b, ok := n.(*ast.Binary); ok && b.Op == op {
			walk(b.Left)
			walk(b.Right)
			return
		}
		out = append(out, canonical(n))
	}
	walk(n)
	slices.Sort(out)
	return slices.Compact(out)
}

// canonical writes a condition so that the order of operands does not matter.
func canonical(n ast.Node) string {
	switch b := n.(type) {
	case *ast.Binary:
		if b.Op == ast.And || b.Op == ast.Or {
			return "(" + strings.Join(operands(n, b.Op), " "+b.Op.String()+" ") + ")"
		}
	case *ast.Unary:
		if b.Op == ast.Not {
			return "!" + canonical(b.X)
		}
	}
	return ast.Print(n)
}
