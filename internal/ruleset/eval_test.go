package ruleset_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/ruletest"
)

func loadRules(t testing.TB, policy string) *ruleset.Set {
	t.Helper()
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	set, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "test.policy", Data: []byte(policy)}})
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed() {
		var b strings.Builder
		if err := report.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		t.Fatal(b.String())
	}
	return set
}

func build(t testing.TB, yaml string) *event.Event {
	t.Helper()
	cases, err := ruletest.Parse([]byte("- event: " + yaml + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := cases[0].Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func ids(ms []ruleset.Match) string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Rule.ID)
	}
	return strings.Join(out, " ")
}

const shellBelowHTTPD = `{kind: exec, lineage: [{exec: /usr/bin/sh, args: [sh, -c, id], uid: 33}, {exec: /opt/httpd, fork: true, uid: 33}, {exec: /opt/httpd}, {exec: /sbin/init}]}`

func TestEval(t *testing.T) {
	set := loadRules(t, `
macros:
  - {id: SHELLS, values: [sh, bash]}
rules:
  - {id: last, expression: 'exec.file.name == "sh"'}
  - {id: first, priority: 5, expression: 'exec.file.path =~ "/usr/bin/*"'}
  - {id: below, expression: 'exec.file.name in SHELLS && process.ancestors.file.name == "httpd"'}
  - {id: parent, expression: 'exec.file.name == "sh" && process.parent.file.path == "/opt/httpd"'}
  - {id: flags, expression: 'exec.args_flags == "c" && exec.args == "-c id" && exec.argv0 == "sh"'}
  - {id: option, expression: 'exec.args_options == "c=id"'}
  - {id: length, expression: 'exec.file.name.length == 2 && exec.argv.length == 2'}
  - {id: quiet, silent: true, expression: 'exec.file.name == "sh"'}
  - {id: other, expression: 'exec.file.name == "bash"'}
  - {id: opened, expression: 'open.file.name == "sh"'}
  - {id: alias, expression: 'exec.basename == "sh" && process.uid == 33 && process.auid == AUDIT_AUID_UNSET'}
  - {id: host, expression: 'event.hostname == "host" && event.os == "linux" && exec.uid == 33'}
`)
	e := build(t, shellBelowHTTPD)
	want := "first last below parent flags option length alias host"
	for range 3 {
		if got := ids(set.Eval(e, nil)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	// An event without its payload or its process is no trouble.
	if got := set.Eval(&event.Event{Kind: event.KindExec}, nil); len(got) != 0 {
		t.Errorf("got %s", ids(got))
	}
	if got := set.Eval(&event.Event{Kind: event.KindExec, Exec: &event.Exec{}}, nil); len(got) != 0 {
		t.Errorf("got %s", ids(got))
	}
	if got := set.Eval(&event.Event{Kind: 250}, nil); len(got) != 0 {
		t.Errorf("got %s", ids(got))
	}
	if set.Panics() != 0 {
		t.Errorf("%d panics", set.Panics())
	}
}

// TestPayloads holds that every kind that rules can name survives an event
// that lacks its payload, and matches one that has it.
func TestPayloads(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	for k := event.Kind(1); int(k) < event.NumKinds; k++ {
		if k.Info().Hidden || k.Info().Name == "" {
			continue
		}
		var cond string
		for _, name := range schema.Names() {
			f, _ := schema.Field(name)
			if f.Kind != k.String() && !slices.Contains(f.Kinds, k.String()) {
				continue
			}
			switch {
			case f.Get.Int != nil:
				cond = name + " >= 0 || " + name + " < 0"
			case f.Get.Str != nil && cond == "":
				cond = name + ` == "" || ` + name + ` != ""`
			}
		}
		if cond == "" {
			t.Errorf("%s has no field", k)
			continue
		}
		p, err := ruleset.CompilePredicate(schema, k, cond)
		if err != nil {
			t.Fatal(err)
		}
		if p(&event.Event{Kind: k}) {
			t.Errorf("%s without its payload matches", k)
		}
		e := &event.Event{Kind: k}
		e.Allocate()
		if !p(e) {
			t.Errorf("%s with its payload does not match", k)
		}
	}
}

func TestFileIntegrity(t *testing.T) {
	set := loadRules(t, `
rules:
  - {id: passwd, expression: 'fim.write.file.path == "/etc/passwd"'}
`)
	const by = `lineage: [{exec: /usr/bin/vi}]`
	for _, tc := range []struct {
		event string
		want  string
	}{
		{`{kind: open, file: {path: /etc/passwd}, flags: [O_WRONLY], ` + by + `}`, "passwd"},
		{`{kind: open, file: {path: /etc/passwd}, flags: [O_RDONLY], ` + by + `}`, ""},
		{`{kind: rename, file: {path: /etc/passwd}, destination: {path: /tmp/x}, ` + by + `}`, "passwd"},
		{`{kind: rename, file: {path: /tmp/x}, destination: {path: /etc/passwd}, ` + by + `}`, "passwd"},
		{`{kind: rename, file: {path: /etc/passwd}, destination: {path: /etc/passwd}, ` + by + `}`, "passwd"},
		{`{kind: chmod, file: {path: /etc/passwd}, ` + by + `}`, "passwd"},
		{`{kind: unlink, file: {path: /etc/passwd}, ` + by + `}`, "passwd"},
		{`{kind: unlink, file: {path: /etc/shadow}, ` + by + `}`, ""},
	} {
		if got := ids(set.Eval(build(t, tc.event), nil)); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.event, got, tc.want)
		}
	}
}

func TestExplain(t *testing.T) {
	set := loadRules(t, `
rules:
  - {id: r, expression: 'exec.file.name in ["sh", "bash"] && process.ancestors.file.name == "httpd"'}
  - {id: passwd, expression: 'fim.write.file.path == "/etc/passwd"'}
`)
	e := build(t, shellBelowHTTPD)
	r := set.Eval(e, nil)[0].Rule
	var got []string
	for _, p := range set.Explain(e, r) {
		got = append(got, r.Expression[p.Span.Start:p.Span.End]+" = "+p.Value)
	}
	want := `exec.file.name in ["sh", "bash"] = sh; process.ancestors.file.name == "httpd" = httpd,httpd,init`
	if s := strings.Join(got, "; "); s != want {
		t.Errorf("got %s\nwant %s", s, want)
	}
	e.Proc.Parent = nil
	if p := set.Explain(e, r); p != nil {
		t.Errorf("got %v for an event that does not match", p)
	}
	e = build(t, `{kind: rename, file: {path: /tmp/x}, destination: {path: /etc/passwd}, lineage: [{exec: /bin/mv}]}`)
	r = set.Eval(e, nil)[0].Rule
	if p := set.Explain(e, r); len(p) != 1 || p[0].Field != "rename.file.destination.path" || p[0].Value != "/etc/passwd" {
		t.Errorf("got %v", p)
	}
}

func TestRate(t *testing.T) {
	set := loadRules(t, `
rules:
  - {id: often, expression: 'exec.file.name == "sh"'}
  - {id: seldom, every: 10s, expression: 'exec.file.name == "sh"'}
`)
	e := build(t, shellBelowHTTPD)
	count := map[string]int{}
	var suppressed uint64
	run := func() {
		for _, m := range set.Eval(e, nil) {
			count[m.Rule.ID]++
			if m.Rule.ID == "seldom" {
				suppressed += m.Suppressed
			}
		}
	}
	for range 100 {
		run()
	}
	if count["often"] != 40 || count["seldom"] != 1 {
		t.Errorf("got %v, want a burst of 40 and one", count)
	}
	e.TimeNS += int64(10 * time.Second)
	run()
	if count["seldom"] != 2 || suppressed != 99 {
		t.Errorf("got %v and %d suppressed, want 2 and 99", count, suppressed)
	}
	// Time that goes backwards earns nothing.
	e.TimeNS -= int64(time.Hour)
	run()
	if count["seldom"] != 2 {
		t.Errorf("got %v, want 2", count)
	}
}

func TestLimiterToken(t *testing.T) {
	set := loadRules(t, `
rules:
  - {id: r, every: 1h, limiter_token: [exec.file.path, exec.uid], expression: 'exec.file.name == "sh"'}
`)
	a := build(t, `{kind: exec, lineage: [{exec: /bin/sh}]}`)
	b := build(t, `{kind: exec, lineage: [{exec: /usr/bin/sh}]}`)
	c := build(t, `{kind: exec, lineage: [{exec: /usr/bin/sh, uid: 1}]}`)
	n := 0
	for range 3 {
		for _, e := range []*event.Event{a, b, c} {
			n += len(set.Eval(e, nil))
		}
	}
	if n != 3 {
		t.Errorf("got %d signals, want one for each of three", n)
	}
	// More combinations than are remembered cost no memory.
	for i := range 2000 {
		c.Proc.UID = uint32(i)
		set.Eval(c, nil)
	}
	if n := len(set.Eval(a, nil)); n != 1 {
		t.Errorf("the oldest combination is not forgotten")
	}
}

func TestVariables(t *testing.T) {
	set := loadRules(t, `
rules:
  - id: note
    silent: true
    expression: exec.file.name == "sh"
    actions:
      - set: {name: shell, scope: process, inherited: true, value: true}
      - set: {name: seen, field: exec.file.name, append: true, size: 2}
      - set: {name: count, expression: "${count} + 1", default_value: 0}
      - filter: exec.uid == 0
        set: {name: root, value: "yes"}
  - id: below
    expression: exec.file.name == "id" && ${process.shell}
  - id: list
    expression: exec.file.name == "id" && "sh" in ${seen} && ${seen.length} == 1
  - id: two
    expression: exec.file.name == "id" && ${count} == 2
  - id: text
    expression: exec.comm == "n${count}"
  - id: asRoot
    expression: exec.file.name == "id" && ${root} == "yes"
`)
	sh := build(t, shellBelowHTTPD)
	id := build(t, `{kind: exec, lineage: [{exec: /usr/bin/id}]}`)
	id.Proc.ID = event.Ref{Run: 1, Seq: 77}
	if got := ids(set.Eval(id, nil)); got != "" {
		t.Errorf("before: got %q", got)
	}
	set.Eval(sh, nil)
	if got := ids(set.Eval(id, nil)); got != "list" {
		t.Errorf("unrelated: got %q", got)
	}
	id.Proc.Parent = sh.Proc
	set.Eval(sh, nil)
	if got := ids(set.Eval(id, nil)); got != "below list two" {
		t.Errorf("descendant: got %q", got)
	}
	id.Proc.Comm = "n2"
	if got := ids(set.Eval(id, nil)); got != "below list two text" {
		t.Errorf("interpolated: got %q", got)
	}
}

// TestScopeField holds that a variable can be that of another process which
// the event knows, and that a value can be one element of a list.
func TestScopeField(t *testing.T) {
	set := loadRules(t, `
rules:
  - id: mark
    silent: true
    expression: signal.type == SIGKILL
    actions:
      - set: {name: killed, scope: process, scope_field: signal.pid, value: true}
      - set: {name: first, field: "signal.target.file.hashes[0]"}
      - set: {name: all, field: signal.target.file.hashes}
  - {id: marked, expression: 'exit.code == 9 && ${process.killed}'}
  - {id: first, expression: 'exit.code == 9 && ${first} == "sha256:a" && ${all.length} == 2'}
`)
	kill := build(t, `{kind: signal, lineage: [{exec: /bin/kill, pid: 7}], fields: {signal.type: 9, signal.target.pid: 8, signal.target.file.hashes: ["sha256:a", "md5:b"]}}`)
	set.Eval(kill, nil)
	exit := build(t, `{kind: exit, lineage: [{exec: /bin/x}], fields: {exit.code: 9}}`)
	exit.Proc = kill.Target().Proc
	if got := ids(set.Eval(exit, nil)); got != "marked first" {
		t.Errorf("got %q", got)
	}
	exit.Proc = kill.Proc
	if got := ids(set.Eval(exit, nil)); got != "first" {
		t.Errorf("the sender: got %q", got)
	}
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	_, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "t.policy", Data: []byte(`
rules:
  - {id: a, expression: exec.uid == 0, actions: [{set: {name: x, scope: process, scope_field: exec.comm, value: 1}}]}
  - {id: b, expression: exec.uid == 0, actions: [{set: {name: y, scope: process, scope_field: open.flags, value: 1}}]}
  - {id: c, expression: exec.uid == 0, actions: [{set: {name: z, field: "exec.uid[0]"}}]}
`)}})
	if err != nil || report.Count(ruleset.Failed) != 3 {
		t.Errorf("%v %v", err, report.Problems)
	}
}

func TestNoAllocations(t *testing.T) {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := range 200 {
		fmt.Fprintf(&b, "  - {id: name%d, expression: 'exec.file.name in [\"a%d\", \"b%d\"] && process.uid == 0'}\n", i, i, i)
		fmt.Fprintf(&b, "  - {id: glob%d, expression: 'exec.file.path =~ \"/x%d/*/y\"'}\n", i, i)
		fmt.Fprintf(&b, "  - {id: anc%d, expression: 'process.ancestors.file.name == \"x%d\" && exec.uid == 5'}\n", i, i)
		fmt.Fprintf(&b, "  - {id: flag%d, expression: 'exec.args_flags == \"x%d\" && exec.uid == 33'}\n", i, i)
	}
	set := loadRules(t, b.String())
	e := build(t, shellBelowHTTPD)
	out := make([]ruleset.Match, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		if out = set.Eval(e, out[:0]); len(out) > 0 {
			t.Fatalf("matches %s", ids(out))
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPredicate(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	p, err := ruleset.CompilePredicate(schema, event.KindExec, `process.ancestors.file.name == "httpd"`)
	if err != nil {
		t.Fatal(err)
	}
	if !p(build(t, shellBelowHTTPD)) {
		t.Error("does not match")
	}
	if p(build(t, `{kind: exit, lineage: [{exec: /a}, {exec: /httpd}]}`)) {
		t.Error("an event of another kind matches")
	}
	if _, err := ruleset.CompilePredicate(schema, event.KindExec, `open.flags == 1`); err == nil {
		t.Error("a condition on another kind compiles")
	}
}

func TestDerivePlan(t *testing.T) {
	for _, tc := range []struct {
		expr string
		want kfilter.Kind
	}{
		{`open.file.path == "/etc/shadow"`, kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"shadow"}}},
		{`open.file.path in [~"/*/.aws/credentials", ~"/home/*/.ssh/id_rsa"]`, kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"credentials", "id_rsa"}}},
		{`open.file.name == "x" || open.flags & (O_CREAT|O_TRUNC) > 0`, kfilter.Kind{Mode: kfilter.Filtered, FlagsAny: 0o1100, Names: []string{"x"}}},
		{`open.file.name == "x" && open.flags & O_CREAT != 0`, kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"x"}}},
		{`open.flags & O_CREAT == O_CREAT && process.uid == 0`, kfilter.Kind{Mode: kfilter.Filtered, FlagsAny: 0o100}},
		{`not (open.file.name != "shadow" && process.uid == 0)`, kfilter.Kind{Mode: kfilter.All}},
		{`not (open.file.name != "shadow" || process.uid == 0)`, kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"shadow"}}},
		{`open.file.path =~ "/etc/**"`, kfilter.Kind{Mode: kfilter.All}},
		{`open.file.path == ""`, kfilter.Kind{Mode: kfilter.All}},
		{`open.file.name =~ "x*"`, kfilter.Kind{Mode: kfilter.All}},
		{`open.flags == 0`, kfilter.Kind{Mode: kfilter.All}},
		{`open.flags & O_CREAT == 0`, kfilter.Kind{Mode: kfilter.All}},
		{`open.file.name == "x" && process.file.name == "y"`, kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"x"}}},
		{`process.file.name == "y" && open.retval == 0`, kfilter.Kind{Mode: kfilter.All}},
	} {
		set := loadRules(t, "rules:\n  - id: r\n    expression: |-\n      "+tc.expr+"\n")
		plan := ruleset.DerivePlan(set)
		got := plan.Kinds[event.KindOpen]
		if got.Mode != tc.want.Mode || got.FlagsAny != tc.want.FlagsAny || !slices.Equal(got.Names, tc.want.Names) {
			t.Errorf("%s: got %+v, want %+v", tc.expr, got, tc.want)
		}
	}
}

// generator makes random conditions on opens and chmods, and random events
// that often meet them.
type generator struct{ r *rand.Rand }

var genNames = []string{"shadow", "passwd", "x", "id_rsa", ""}

func (g generator) pick(list ...string) string { return list[g.r.IntN(len(list))] }

func (g generator) leaf(kind string) string {
	name := g.pick(genNames...)
	flags := kind + ".flags"
	if kind == "chmod" {
		flags = g.pick("chmod.file.destination.mode", "chmod.file.destination.rights")
	}
	mask := 1 << g.r.IntN(4)
	switch g.r.IntN(16) {
	case 14:
		return fmt.Sprintf(`process.file.path %s ["/bin/x", ~"/opt/%s"]`, g.pick("in", "not in"), g.pick("**", "*/sh", "x"))
	case 15:
		return fmt.Sprintf(`process.file.name %s "%s"`, g.pick("==", "!="), g.pick("x", "sh", "busybox"))
	case 0:
		return fmt.Sprintf(`%s.file.name %s "%s"`, kind, g.pick("==", "!=", "=~", "!~"), name)
	case 1:
		return fmt.Sprintf(`%s.file.name %s ["%s", "%s"]`, kind, g.pick("in", "not in"), name, g.pick(genNames...))
	case 2:
		return fmt.Sprintf(`%s.file.path %s "/etc/%s"`, kind, g.pick("==", "!="), g.pick(genNames[:4]...))
	case 3:
		return fmt.Sprintf(`%s.file.path %s ["/etc/%s", ~"/*/%s"]`, kind, g.pick("in", "not in"), g.pick(genNames[:4]...), g.pick("x", "pass*", "**"))
	case 4:
		return fmt.Sprintf(`%s & %d %s 0`, flags, mask, g.pick("==", "!=", ">", "<", ">=", "<="))
	case 5:
		return fmt.Sprintf(`%s %s %d`, flags, g.pick("==", "!=", ">", "<", ">=", "<="), g.r.IntN(5)-1)
	case 6:
		return fmt.Sprintf(`%d %s %s & %d`, g.r.IntN(3)-1, g.pick("==", "!=", ">", "<", ">=", "<="), flags, mask)
	case 7:
		return fmt.Sprintf(`%s %s [0, 1, %d]`, flags, g.pick("in", "not in"), mask)
	case 8:
		return fmt.Sprintf(`%s & 3 %s [%d, 6]`, flags, g.pick("in", "not in"), mask)
	case 9:
		return fmt.Sprintf(`process.uid %s 0`, g.pick("==", "!="))
	case 10:
		return fmt.Sprintf(`process.ancestors.file.name == "sh" && %s.file.name == "%s"`, kind, name)
	case 11:
		return fmt.Sprintf(`process.file.name == %s.file.name`, kind)
	case 12:
		return g.pick("true", "false")
	default:
		return fmt.Sprintf(`%s.file.change_time < 5s`, kind)
	}
}

func (g generator) condition(kind string, depth int) string {
	if depth == 0 || g.r.IntN(4) == 0 {
		return g.leaf(kind)
	}
	a, b := g.condition(kind, depth-1), g.condition(kind, depth-1)
	switch g.r.IntN(5) {
	case 0:
		return "not (" + a + ")"
	case 1:
		return "(" + a + ") || (" + b + ")"
	case 2:
		return "not ((" + a + ") && (" + b + "))"
	default:
		return "(" + a + ") && (" + b + ")"
	}
}

// links are other paths of what a process runs.
func (g generator) links() []string {
	var out []string
	for range g.r.IntN(3) {
		out = append(out, g.pick("/bin/", "/opt/bin/")+g.pick("x", "sh", "busybox"))
	}
	return out
}

func (g generator) event() *event.Event {
	e := &event.Event{TimeNS: ruletest.Time, Proc: &event.Process{
		UID: uint32(g.r.IntN(2)), File: event.File{Path: "/bin/" + g.pick("x", "sh", "vi"), OtherPaths: g.links()},
		Parent: &event.Process{File: event.File{Path: "/bin/" + g.pick("sh", "init")}},
	}}
	f := event.File{Path: g.pick("/etc/", "/tmp/") + g.pick(genNames[:4]...), ChangeTime: ruletest.Time - int64(g.r.IntN(10))*1e9}
	if g.r.IntN(8) == 0 {
		f.Path = ""
	}
	flags := int64(g.r.IntN(16))
	if g.r.IntN(2) == 0 {
		e.Kind, e.Open = event.KindOpen, &event.Open{File: f, Flags: flags}
	} else {
		e.Kind, e.Chmod = event.KindChmod, &event.Chmod{File: f, DestinationMode: flags}
	}
	return e
}

// sound holds that what a rule matches passes the plan. It tells whether the
// plan filters at all, and how many events matched nevertheless.
func sound(t *testing.T, g generator) (filtered bool, matches int) {
	kind := g.pick("open", "chmod")
	expr := g.condition(kind, 3)
	if !strings.Contains(expr, kind+".") {
		return false, 0
	}
	set := loadRules(t, "rules:\n  - id: r\n    expression: |-\n      "+expr+"\n")
	plan := ruleset.DerivePlan(set)
	for range 60 {
		e := g.event()
		var flags uint64
		var name string
		if e.Open != nil {
			flags, name = uint64(e.Open.Flags), e.Open.File.Name()
		} else {
			flags, name = uint64(e.Chmod.DestinationMode), e.Chmod.File.Name()
		}
		matched := len(set.Eval(e, nil)) > 0
		if matched {
			matches++
		}
		if matched && !plan.Lets(e.Kind, flags, name) {
			t.Fatalf("%s matches flags %d, name %q, but the plan %+v drops it", expr, flags, name, plan.Kinds[e.Kind])
		}
	}
	k, _ := event.KindByName(kind)
	return plan.Kinds[k].Mode == kfilter.Filtered, matches
}

// TestIndex holds that a set finds exactly the rules that match one by one, in
// their order, however they are indexed.
func TestIndex(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(5, 6))}
	matched := 0
	for range 30 {
		var policy strings.Builder
		policy.WriteString("rules:\n")
		var alone []ruleset.Predicate
		schema, err := ruleset.NewSchema()
		if err != nil {
			t.Fatal(err)
		}
		for len(alone) < 40 {
			expr := g.condition("open", 2)
			switch g.r.IntN(6) {
			case 2:
				expr = fmt.Sprintf(`process.file.path in ["/bin/%s", ~"/opt/%s"] && (%s)`, g.pick("x", "sh", "busybox"), g.pick("**", "bin/*", "bin/x"), expr)
			case 3:
				expr = fmt.Sprintf(`process.file.name in ["%s"] && (%s)`, g.pick("x", "sh", "busybox"), expr)
			case 0:
				expr = fmt.Sprintf(`open.file.path in ["/etc/%s", ~"/%s/*", ~"/tmp/x/**"] && (%s)`, g.pick(genNames[:4]...), g.pick("etc", "tmp"), expr)
			case 1:
				expr = fmt.Sprintf(`open.file.name in ["%s", "%s"] && (%s)`, g.pick(genNames...), g.pick(genNames...), expr)
			}
			if !strings.Contains(expr, "open.") {
				continue
			}
			p, err := ruleset.CompilePredicate(schema, event.KindOpen, expr)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&policy, "  - id: r%d\n    every: 1ns\n    expression: |-\n      %s\n", len(alone), expr)
			alone = append(alone, p)
		}
		set := loadRules(t, policy.String())
		for i := range 50 {
			e := g.event()
			if e.Kind != event.KindOpen {
				continue
			}
			e.TimeNS += int64(i)
			var want []string
			for j, p := range alone {
				if p(e) {
					want = append(want, fmt.Sprintf("r%d", j))
				}
			}
			matched += len(want)
			if got := ids(set.Eval(e, nil)); got != strings.Join(want, " ") {
				t.Fatalf("got %s, want %v\n%s", got, want, policy.String())
			}
		}
	}
	if matched == 0 {
		t.Error("nothing ever matched")
	}
}

func TestPlanSound(t *testing.T) {
	plans := 0
	soak(t, 400, func(seed uint64) {
		if filtered, matches := sound(t, generator{rand.New(rand.NewPCG(seed, 1))}); filtered && matches > 0 {
			plans++
		}
	})
	if plans < 40 {
		t.Fatalf("only %d plans filtered anything and let a match through", plans)
	}
}

func FuzzPlan(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, seed*7)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) { sound(t, generator{rand.New(rand.NewPCG(a, b))}) })
}

func BenchmarkEval(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		var p strings.Builder
		p.WriteString("rules:\n")
		for i := range n {
			switch i % 4 {
			case 0:
				fmt.Fprintf(&p, "  - {id: r%d, expression: 'open.file.name == \"name%d\" && process.uid == 0'}\n", i, i)
			case 1:
				fmt.Fprintf(&p, "  - {id: r%d, expression: 'open.file.path in [\"/etc/a%d\", \"/etc/b%d\"] && open.flags & O_CREAT > 0'}\n", i, i, i)
			case 2:
				fmt.Fprintf(&p, "  - {id: r%d, expression: 'open.file.path in [~\"/srv/app%d/*\", ~\"/opt/app%d/**\"] && process.uid > 0'}\n", i, i, i)
			default:
				fmt.Fprintf(&p, "  - {id: r%d, expression: 'process.file.name == \"prog%d\" && open.file.path =~ \"/etc/*\"'}\n", i, i)
			}
		}
		set := loadRules(b, p.String())
		e := build(b, `{kind: open, file: {path: /usr/lib/x86_64-linux-gnu/libc.so.6}, flags: [O_CLOEXEC], lineage: [{exec: /usr/bin/cc1}, {exec: /usr/bin/make}, {exec: /usr/bin/bash}]}`)
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			var out []ruleset.Match
			b.ReportAllocs()
			for b.Loop() {
				out = set.Eval(e, out[:0])
			}
			if len(out) > 0 {
				b.Fatal("matches")
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	var p strings.Builder
	p.WriteString("rules:\n")
	for i := range 1000 {
		fmt.Fprintf(&p, "  - {id: r%d, expression: 'open.file.path in [\"/etc/a%d\", ~\"/etc/b%d/*\"] && open.flags & O_CREAT > 0'}\n", i, i, i)
	}
	schema, err := ruleset.NewSchema()
	if err != nil {
		b.Fatal(err)
	}
	files := []ruleset.File{{Name: "x.policy", Data: []byte(p.String())}}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ruleset.Load(ruleset.Config{Schema: schema}, files); err != nil {
			b.Fatal(err)
		}
	}
}
