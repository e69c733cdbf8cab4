package ruleset_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/ruletest"
)

// TestDeriveFunctions finds the functions that rules name.
func TestDeriveFunctions(t *testing.T) {
	for _, tc := range []struct {
		expr string
		want []string
	}{
		{`ondemand.name == "vfs_rmdir"`, []string{"vfs_rmdir"}},
		{`ondemand.name in ["vfs_rmdir", "syscall:chroot"] && ondemand.arg1.uint > 0`, []string{"syscall:chroot", "vfs_rmdir"}},
		{`ondemand.name == "a" || ondemand.name == "b"`, []string{"a", "b"}},
		{`not (ondemand.name != "a" || process.uid == 0)`, []string{"a"}},
		{`ondemand.name != "a"`, nil},
		{`ondemand.name =~ "vfs_*"`, nil},
		{`ondemand.arg1.str == "/etc"`, nil},
	} {
		got := deriveOne(t, tc.expr, event.KindOndemand)
		if got.Mode != kfilter.Filtered || !slices.Equal(got.Names, tc.want) {
			t.Errorf("%s: got %+v, want %v", tc.expr, got, tc.want)
		}
	}
	// Another rule's want of everything is no want of a function, and many
	// long names of functions are no reason to let all files through.
	var p kfilter.Plan
	p.Wants(event.KindOndemand, kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"vfs_rmdir"}})
	p.Wants(event.KindOndemand, kfilter.Kind{Mode: kfilter.All})
	for i := range kfilter.MaxNames + 1 {
		p.Wants(event.KindOndemand, kfilter.Kind{Mode: kfilter.Filtered, Names: []string{fmt.Sprintf("function_%070d", i)}})
		if i > 8 {
			break
		}
	}
	p.Wants(event.KindOpen, kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"shadow"}})
	p.Fit()
	if !slices.Contains(p.Kinds[event.KindOndemand].Names, "vfs_rmdir") || p.Kinds[event.KindOpen].Mode != kfilter.Filtered {
		t.Errorf("%+v", p.Kinds[event.KindOndemand])
	}
}

// TestDeriveCapabilities holds that what a rule reads of processes is
// collected.
func TestDeriveCapabilities(t *testing.T) {
	for expr, want := range map[string]kfilter.Mode{
		`exec.file.name == "x" && process.caps_used & CAP_SYS_ADMIN > 0`: kfilter.All,
		`open.file.name == "x" && process.parent.caps_attempted > 0`:     kfilter.All,
		`open.file.name == "x" && process.ancestors.caps_used > 0`:       kfilter.All,
		`capabilities.used & CAP_SYS_ADMIN > 0`:                          kfilter.All,
		`exec.file.name == "x" && process.cap_effective > 0`:             kfilter.Off,
	} {
		if got := deriveOne(t, expr, event.KindCapabilities); got.Mode != want {
			t.Errorf("%s: capabilities are %s, want %s", expr, got.Mode, want)
		}
	}
}

// TestFunctionsAreSound holds that a call of a function that is watched for
// some rule, and matches, passes the plan, for random rules.
func TestFunctionsAreSound(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 2))
	names := []string{"vfs_rmdir", "syscall:chroot", "do_exit", "A"}
	var leaf func(depth int) string
	leaf = func(depth int) string {
		if depth > 0 && r.IntN(3) > 0 {
			a, b := leaf(depth-1), leaf(depth-1)
			return fmt.Sprintf([]string{"(%s) && (%s)", "(%s) || (%s)", "not ((%s) && (%s))", "not ((%s) || (%s))"}[r.IntN(4)], a, b)
		}
		switch r.IntN(4) {
		case 0:
			return fmt.Sprintf("ondemand.arg1.uint %s %d", []string{"==", "!=", ">"}[r.IntN(3)], r.IntN(2))
		case 1:
			return fmt.Sprintf("ondemand.name in [%q, %q]", names[r.IntN(4)], names[r.IntN(4)])
		}
		return fmt.Sprintf("ondemand.name %s %q", []string{"==", "!="}[r.IntN(2)], names[r.IntN(4)])
	}
	named, matches := 0, 0
	for range 400 {
		expr := leaf(2)
		set := loadRules(t, "rules:\n  - id: r\n    expression: |-\n      "+expr+"\n")
		plan := ruleset.DerivePlan(set)
		have := plan.Kinds[event.KindOndemand].Names
		if len(have) > 0 {
			named++
		}
		for _, name := range names {
			e := &event.Event{Kind: event.KindOndemand, TimeNS: ruletest.Time, Proc: &event.Process{},
				Ondemand: &event.Ondemand{Name: name, Arg1Uint: uint64(r.IntN(2))}}
			if len(set.Eval(e, nil)) == 0 {
				continue
			}
			matches++
			// Where the rule says which function, it is watched.
			if len(have) > 0 && !plan.Lets(event.KindOndemand, 0, name) {
				t.Fatalf("%s matches a call of %s, but watches %v", expr, name, have)
			}
		}
	}
	if named < 50 || matches < 100 {
		t.Errorf("%d rules name functions, %d matches: the test says little", named, matches)
	}
}
