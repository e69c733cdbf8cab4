package ruleset_test

import (
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/ruleset"
)

// TestOtherPaths holds that a rule on the path or name of what a process runs
// accepts the links it was reached by and its path inside of an overlay, and
// that a negated one accepts none of them, whether it is found by an index or
// not.
func TestOtherPaths(t *testing.T) {
	e := build(t, `{kind: exec, lineage: [{exec: /usr/bin/python3.11, interpreter: /usr/bin/env}, {exec: /usr/bin/dash}]}`)
	e.Proc.File.OtherPaths = []string{"/usr/bin/python3", "/opt/tools/snake", "/merged/usr/bin/python3.11"}
	e.Proc.Parent.File.OtherPaths = []string{"/bin/sh"}
	for _, tc := range []struct {
		expr string
		want bool
	}{
		{`exec.file.path == "/usr/bin/python3.11"`, true},
		{`exec.file.path == "/opt/tools/snake"`, true},
		{`exec.file.path == "/opt/tools/other"`, false},
		{`exec.file.path != "/opt/tools/snake"`, false},
		{`exec.file.path != "/opt/tools/other"`, true},
		{`exec.file.path in ["/x", ~"/opt/**"]`, true},
		{`exec.file.path in [~"/opt/tools/*"] && exec.file.path in [~"/usr/bin/*"]`, true},
		{`exec.file.path not in ["/x", ~"/opt/**"]`, false},
		{`exec.file.path =~ "/opt/*/snake"`, true},
		{`exec.file.path !~ "/opt/*/snake"`, false},
		{`exec.file.path !~ "/opt/*/worm"`, true},
		{`exec.file.path == ""`, false},
		{`exec.file.name == "snake"`, true},
		{`exec.file.name == "python3"`, true},
		{`exec.file.name != "snake"`, false},
		{`exec.file.name in ["worm", r"^sn"]`, true},
		{`exec.file.name not in ["worm", r"^sn"]`, false},
		{`exec.file.name =~ "sna*"`, true},
		{`"snake" == exec.file.name`, true},
		{`process.file.path == "/merged/usr/bin/python3.11" && exec.uid == 0`, true},
		{`process.parent.file.name == "sh" && exec.uid == 0`, true},
		{`process.parent.file.path == "/bin/sh" && exec.uid == 0`, true},
		{`process.ancestors.file.path in ["/bin/sh"] && exec.uid == 0`, true},
		{`process.ancestors.file.name not in ["sh"] && exec.uid == 0`, false},
		{`process.ancestors[A].file.name == "sh" && process.ancestors[A].file.path == "/usr/bin/dash" && exec.uid == 0`, true},
		{`process.ancestors[A].file.name == "sh" && process.ancestors[A].file.path == "/usr/bin/python3" && exec.uid == 0`, false},
		{`exec.file.name == process.parent.file.name`, false},
		{`exec.file.name == process.file.name`, true},
		{`exec.file.name == "${process.pid}"`, false},
		{`exec.interpreter.file.name == "env"`, true},
		// Everything but comparisons is about the file's own path.
		{`exec.file.path.length == 19`, true},
		{`exec.file.name.length == 10`, true},
		{`exec.file.extension == ".11"`, true},
	} {
		set := loadRules(t, "rules:\n  - id: r\n    expression: |-\n      "+tc.expr+"\n")
		if got := len(set.Eval(e, nil)) > 0; got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.expr, got, tc.want)
		}
	}
	// Nothing but the process's own names is compared.
	f := build(t, `{kind: open, file: {path: /etc/a}, lineage: [{exec: /bin/x}]}`)
	f.Open.File.OtherPaths = []string{"/etc/b"}
	if set := loadRules(t, `rules: [{id: r, expression: 'open.file.name == "b"'}]`); len(set.Eval(f, nil)) > 0 {
		t.Error("a file that is opened has another name: the kernel's filter would have to know it")
	}
}

// TestOtherPathsAllocate holds that looking through the other paths costs no
// memory.
func TestOtherPathsAllocate(t *testing.T) {
	set := loadRules(t, `
rules:
  - {id: a, expression: 'exec.file.path in ["/a", "/b", ~"/c/*"] && exec.uid == 7'}
  - {id: b, expression: 'exec.file.path in [~"/*/snake"] && exec.uid == 7'}
  - {id: c, expression: 'exec.file.name == "snake" && process.ancestors.file.name == "snake"'}
  - {id: d, expression: 'exec.file.name != "snake"'}
`)
	e := build(t, `{kind: exec, lineage: [{exec: /usr/bin/python3}, {exec: /usr/bin/dash}]}`)
	e.Proc.File.OtherPaths = []string{"/a", "/c/snake"}
	e.Proc.Parent.File.OtherPaths = []string{"/bin/sh"}
	out := make([]ruleset.Match, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		if out = set.Eval(e, out[:0]); len(out) > 0 {
			t.Fatalf("matches %s", ids(out))
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestPlanOfProcessNames holds that names of what a process runs never become
// a filter in the kernel, which knows one of them only.
func TestPlanOfProcessNames(t *testing.T) {
	for _, expr := range []string{
		`exec.file.name == "x"`, `exec.file.path == "/bin/x"`, `exit.file.path in ["/bin/x"]`,
		`signal.target.file.name == "x"`, `open.retval == 0 && process.file.name == "x"`,
	} {
		set := loadRules(t, "rules:\n  - id: r\n    expression: |-\n      "+expr+"\n")
		plan := ruleset.DerivePlan(set)
		k := set.Rules()[0].Kinds[0]
		if got := plan.Kinds[k]; got.Mode != kfilter.All {
			t.Errorf("%s: got %+v", expr, got)
		}
	}
	plan := ruleset.DerivePlan(loadRules(t, `rules: [{id: r, expression: 'exec.file.name == "x"'}]`))
	if !plan.Lets(event.KindExec, 0, "y") {
		t.Error("an exec through a link is left out")
	}
}
