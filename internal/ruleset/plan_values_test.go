package ruleset_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/ruletest"
)

func deriveOne(t *testing.T, expr string, kind event.Kind) kfilter.Kind {
	t.Helper()
	plan := ruleset.DerivePlan(loadRules(t, "rules:\n  - id: r\n    expression: |-\n      "+expr+"\n"))
	return plan.Kinds[kind]
}

// TestDeriveValues derives filters of kinds that the kernel knows by values or
// by protection bits.
func TestDeriveValues(t *testing.T) {
	for _, tc := range []struct {
		kind event.Kind
		expr string
		want uint64 // 0: everything passes
	}{
		{event.KindPtrace, `ptrace.request == PTRACE_ATTACH`, 1 << 16},
		{event.KindPtrace, `ptrace.request in [PTRACE_SEIZE, PTRACE_TRACEME]`, 1<<38 | 1},
		{event.KindPtrace, `(ptrace.request == PTRACE_ATTACH && process.uid == 0) || ptrace.request == 99999`, 1<<16 | 1<<63},
		{event.KindPtrace, `ptrace.request != PTRACE_ATTACH`, 0},
		{event.KindPtrace, `not (ptrace.request != PTRACE_ATTACH)`, 1 << 16},
		{event.KindPtrace, `ptrace.request > 3`, 0},
		{event.KindPtrace, `ptrace.request & 16 > 0`, 0},
		{event.KindPrctl, `prctl.option in [15, 62, 63, 65]`, 1<<15 | 1<<62 | 1<<63},
		{event.KindBPF, `bpf.cmd == BPF_PROG_LOAD && bpf.prog.type == 2`, 1 << 5},
		{event.KindSignal, `signal.type == SIGKILL && signal.target.ancestors.pid == 1`, 1 << 9},
		{event.KindSysctl, `sysctl.action == SYSCTL_WRITE`, 1 << 2},
		{event.KindSetrlimit, `setrlimit.resource == 4`, 1 << 4},
		{event.KindMmap, `mmap.protection & (PROT_WRITE|PROT_EXEC) == (PROT_WRITE|PROT_EXEC)`, 6},
		{event.KindMmap, `mmap.protection == 0`, 0},
		{event.KindMmap, `mmap.flags & 1 > 0`, 0},
		{event.KindMprotect, `mprotect.req_protection & PROT_EXEC > 0 && mprotect.vm_protection & 4 == 0`, 4},
		{event.KindMprotect, `mprotect.vm_protection & 2 > 0`, 0},
		{event.KindUnshare, `unshare.flags & CLONE_NEWUSER > 0`, 0x10000000},
	} {
		want := kfilter.Kind{Mode: kfilter.Filtered, FlagsAny: tc.want}
		if tc.want == 0 {
			want.Mode = kfilter.All
		}
		got := deriveOne(t, tc.expr, tc.kind)
		if got.Mode != want.Mode || got.FlagsAny != want.FlagsAny || len(got.Names) > 0 {
			t.Errorf("%s: got %+v, want %+v", tc.expr, got, want)
		}
	}
}

// TestValuesAreSound holds that what a rule on values matches passes the plan,
// for random rules and events.
func TestValuesAreSound(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	values := []int64{-1, 0, 1, 4, 15, 16, 31, 32, 62, 63, 64, 0x4200, 0x4206, 0x421e, 0x421f, 1 << 40}
	value := func() int64 { return values[r.IntN(len(values))] }
	kinds := []struct {
		field string
		make  func(v int64) *event.Event
		bits  func(v int64) uint64
	}{
		{"ptrace.request", func(v int64) *event.Event {
			return &event.Event{Kind: event.KindPtrace, Ptrace: &event.Ptrace{Request: v}}
		}, func(v int64) uint64 { return kfilter.ValueBit(event.KindPtrace, v) }},
		{"prctl.option", func(v int64) *event.Event {
			return &event.Event{Kind: event.KindPrctl, Prctl: &event.Prctl{Option: v}}
		}, func(v int64) uint64 { return kfilter.ValueBit(event.KindPrctl, v) }},
		{"mprotect.req_protection", func(v int64) *event.Event {
			return &event.Event{Kind: event.KindMprotect, Mprotect: &event.Mprotect{ReqProtection: v}}
		}, func(v int64) uint64 { return uint64(v) }},
	}
	var leaf func(field string, depth int) string
	leaf = func(field string, depth int) string {
		if depth > 0 && r.IntN(3) > 0 {
			a, b := leaf(field, depth-1), leaf(field, depth-1)
			return fmt.Sprintf([]string{"(%s) && (%s)", "(%s) || (%s)", "not ((%s) && (%s))", "not ((%s) || (%s))"}[r.IntN(4)], a, b)
		}
		op := []string{"==", "!=", "<", ">", "<=", ">="}[r.IntN(6)]
		switch r.IntN(4) {
		case 0:
			return fmt.Sprintf("%s in [%d, %d]", field, value(), value())
		case 1:
			return fmt.Sprintf("%s & %d %s 0", field, max(value(), 1), op)
		case 2:
			return fmt.Sprintf("process.uid %s 0", op)
		}
		return fmt.Sprintf("%s %s %d", field, op, value())
	}
	filtered, matches := 0, 0
	for range 400 {
		k := kinds[r.IntN(len(kinds))]
		expr := leaf(k.field, 2)
		if !strings.Contains(expr, k.field) {
			continue
		}
		set := loadRules(t, "rules:\n  - id: r\n    expression: |-\n      "+expr+"\n")
		plan := ruleset.DerivePlan(set)
		for _, v := range values {
			e := k.make(v)
			e.TimeNS, e.Proc = ruletest.Time, &event.Process{UID: uint32(r.IntN(2))}
			if plan.Kinds[e.Kind].Mode == kfilter.Filtered {
				filtered++
			}
			if len(set.Eval(e, nil)) == 0 {
				continue
			}
			matches++
			if !plan.Lets(e.Kind, k.bits(v)) {
				t.Fatalf("%s matches %d, but the plan %+v drops it", expr, v, plan.Kinds[e.Kind])
			}
		}
	}
	if filtered < 100 || matches < 100 {
		t.Errorf("%d filtered, %d matched: the test says little", filtered, matches)
	}
}
