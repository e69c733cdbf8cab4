package agent

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/metrics"
	"github.com/clewsec/clew/internal/sensor"
	"github.com/clewsec/clew/internal/wire/wiretest"
)

// A fakeMeter uses as much as the test says.
type fakeMeter struct{ used atomic.Int64 }

func (m *fakeMeter) usage() usage {
	return usage{memory: m.used.Load(), resident: 5, ceiling: Ceilings{Memory: 1000, CPUs: 1.5}, user: 2 * time.Second}
}

// relenting is a fake sensor that counts, and is told of pressure.
type relenting struct {
	*fake
	level atomic.Int64
}

func (r *relenting) SetPressure(p Pressure) { r.level.Store(int64(p)) }

func (r *relenting) Stats() (sensor.Stats, error) {
	return sensor.Stats{
		Kinds: map[event.Kind]sensor.KindStats{
			event.KindOpen: {Seen: 17, Sent: 4, Filtered: 6, Ignored: 2, Lost: map[string]uint64{"ring_full_bulk": 3, "scratch_busy": 2}},
		},
		Decoded: map[event.Kind]uint64{event.KindOpen: 4},
		Rings:   []sensor.RingStats{{Name: "bulk", Size: 100, Used: 1, High: 50}},
	}, nil
}

func (r *relenting) ProgramStats() []sensor.ProgramStats {
	return []sensor.ProgramStats{{Name: "proc/on_exec", Runs: 4, Time: time.Second}, {Name: "proc/idle"}}
}

// TestEngineNumbers holds that what is counted goes out under declared names,
// and that memory pressure reaches sensor, stream and metrics, and ends.
func TestEngineNumbers(t *testing.T) {
	m, src := &fakeMeter{}, &relenting{fake: newFake(1)}
	srv := wiretest.New(t)
	e, end := begin(t, t.TempDir(), src, srv, func(c *engineConfig) { c.meter = m })
	for pid := range uint32(40) {
		src.in <- execed(100+pid, "/usr/bin/xmrig") // a shipped rule matches
	}
	src.in <- &event.StreamRecord{BootNS: 3e9, Lost: &event.Lost{Kind: event.KindOpen, Reason: "ring_full_bulk", Count: 9, Where: "kernel"}}
	srv.Until("a signal and a loss", func(s wiretest.State) bool {
		return len(execs(s.Records)) == 40 && lost(s.Records, "ring_full_bulk") != nil
	})
	await := func(what string, level Pressure) {
		t.Helper()
		for until := time.Now().Add(20 * time.Second); src.level.Load() != int64(level) || e.ledger.pressure.Load() != int64(level); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("%s: the level is %d and %d, want %d", what, src.level.Load(), e.ledger.pressure.Load(), level)
			}
		}
	}
	m.used.Store(950)
	await("memory is nearly used up", PressureAt)
	m.used.Store(100)
	await("memory is free again", PressureNone)

	declared := map[string]metrics.Desc{}
	for _, d := range metrics.All() {
		declared[d.Name] = d
	}
	got := map[string]float64{}
	for _, s := range e.samples() {
		d, ok := declared[s.Name]
		if !ok || d.Side != metrics.Agent || len(d.Labels) != len(s.Labels) {
			t.Errorf("%s with %q is not as declared", s.Name, s.Labels)
		}
		key := s.Name
		for _, l := range s.Labels {
			key += " " + l
		}
		if _, twice := got[key]; twice {
			t.Errorf("%s comes twice", key)
		}
		got[key] = s.Value
	}
	for key, want := range map[string]float64{
		"clew_agent_kernel_events_total open filtered":     6,
		"clew_agent_kernel_events_total open lost":         5,
		"clew_agent_lost_events_total open ring_full_bulk": 9,
		"clew_agent_kept_events_total exec":                40,
		"clew_agent_ring_used_high_bytes bulk":             50,
		"clew_agent_bpf_run_seconds_total proc/on_exec":    1,
		"clew_agent_cpu_seconds_total user":                2,
		"clew_agent_memory_ceiling_bytes":                  1000,
		"clew_agent_rules_loads_total":                     1,
		"clew_agent_rule_evaluations_sampled_total":        1,
		"clew_agent_info v1 tracepoint ":                   1,
		"clew_agent_pressure_level":                        0,
		"clew_agent_resident_bytes":                        5,
		"clew_agent_spool_full_ratio":                      got["clew_agent_spool_full_ratio"],
		"clew_agent_rule_matches_total miner_executed":     got["clew_agent_signals_total"],
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s is %g (%t), want %g", key, v, ok, want)
		}
	}
	if got["clew_agent_signals_total"] == 0 {
		t.Error("no signal is counted")
	}
	if _, ok := got["clew_agent_bpf_runs_total proc/idle"]; ok {
		t.Error("a program that never ran has a series")
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

// TestManyRules holds that the number of series does not grow with the rules.
func TestManyRules(t *testing.T) {
	c := &countedRules{matches: map[string]uint64{}}
	for i := range 3 * metrics.MaxRules {
		c.count(string(rune('a' + i)))
	}
	c.count("a")
	if len(c.matches) != metrics.MaxRules || c.matches["a"] != 2 || c.others != 2*metrics.MaxRules {
		t.Errorf("%d rules, %d others, a %d", len(c.matches), c.others, c.matches["a"])
	}
}
