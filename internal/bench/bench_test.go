package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The test binary is its own worker, as clew is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "bench-worker" {
		if err := Work(os.Args[2:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func config(t *testing.T, script string) Config {
	t.Helper()
	return Config{
		Setups: []Setup{{Name: "first", Start: []string{"/bin/sh", "-c", script}}},
		Worker: []string{os.Args[0], "bench-worker"},
		Pairs:  3,
		Names:  []string{"exec", "open", "pipe"},
		Scale:  0.01,
	}
}

func TestSensor(t *testing.T) {
	dir := t.TempDir()
	started, pidFile := filepath.Join(dir, "started"), filepath.Join(dir, "pid")
	cfg := config(t, fmt.Sprintf(`echo x >>%s; echo $$ >%s; exec sleep 1000`, started, pidFile))
	cfg.Setups[0].Ready = []string{"/bin/sh", "-c", "until [ -s " + pidFile + " ]; do :; done"}
	rep, err := Sensor(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(started); err != nil || len(b) != 2*cfg.Pairs {
		t.Errorf("started %d times, want once a pair: %v", len(b)/2, err)
	}
	if len(rep.Items) != 2*len(cfg.Names) {
		t.Fatalf("%d rows, want a row and a control for each of %v", len(rep.Items), cfg.Names)
	}
	for i, it := range rep.Items {
		if it.Name != cfg.Names[i%len(cfg.Names)] || it.Control != (i >= len(cfg.Names)) {
			t.Errorf("row %d is %s, control %v", i, it.Name, it.Control)
		}
		if it.BaseNS <= 0 || it.WithNS <= 0 || it.Low <= 0 || it.Low > it.Ratio || it.Ratio > it.High || it.Pairs != cfg.Pairs {
			t.Errorf("impossible row %+v", it)
		}
	}
	if rep.ResidentKB <= 0 {
		t.Errorf("resident size %d", rep.ResidentKB)
	}
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the started process is still there: %v", err)
	}
}

func TestSensorRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"command that ends", func(c *Config) {
			c.Setups[0].Start = []string{"/bin/sh", "-c", "echo port taken; exit 1"}
			c.Setups[0].Ready = []string{"/bin/sleep", "0.2"}
		}, "port taken"},
		{"command that is not there", func(c *Config) { c.Setups[0].Start = []string{"/nonexistent"} }, "start /nonexistent"},
		{"never ready", func(c *Config) { c.Setups[0].Ready = []string{"/bin/sh", "-c", "echo no canary; exit 1"} }, "no canary"},
		{"unknown work", func(c *Config) { c.Names = []string{"knit"} }, `"knit"`},
		{"worker that fails", func(c *Config) { c.Worker = []string{"/bin/sh", "-c", "echo broken >&2; exit 3"} }, "broken"},
		{"worker that says nothing", func(c *Config) { c.Worker = []string{"/bin/true"} }, "parse result"},
		{"worker that took no time", func(c *Config) { c.Worker = []string{"/bin/echo", `{"ops":1,"ns":0}`, "#"} }, "parse result"},
		{"nothing to start", func(c *Config) { c.Setups[0].Start = nil }, "nothing to start"},
		{"negative pairs", func(c *Config) { c.Pairs = -1 }, "-1 pairs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(t, "exec sleep 1000")
			cfg.Pairs, cfg.Names = 1, []string{"open"}
			tt.change(&cfg)
			_, err := Sensor(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %q in it", err, tt.says)
			}
		})
	}
}

func TestSensorCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Sensor(ctx, config(t, "exec sleep 1000")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestRatios(t *testing.T) {
	of := func(ns ...float64) (out []Result) {
		for _, v := range ns {
			out = append(out, Result{NS: v, CPUNS: 2 * v})
		}
		return out
	}
	s := &samples{
		name: "open", base: [][]Result{of(100, 100, 100), of(100, 140, 140), of(200, 240, 240)},
		with: [][]Result{of(150, 300), of(120, 280), of(220, 480)}, cpu: [][]float64{{1, 7}, {9, 7}, {2, 7}},
	}
	it, second, c := s.item(0, "attached"), s.item(1, "full"), s.control()
	if it.Ratio != 1 || it.Low != 1 || it.High != 1.5 || it.BaseNS != 120 || it.WithNS != 150 || it.AgentCPUNS != 2 || it.Pairs != 3 || it.Setup != "attached" {
		t.Errorf("item %+v", it)
	}
	if it.CPURatio != 1 || it.CPUHigh != 1.5 {
		t.Errorf("processor time %+v", it)
	}
	if second.Ratio != 2 || second.High != 3 || second.AgentCPUNS != 7 || second.Setup != "full" {
		t.Errorf("second setup %+v", second)
	}
	if c.Ratio != 1 || c.Low != 1 || c.High != 1.4 || !c.Control || c.Pairs != 6 {
		t.Errorf("control %+v", c)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median of four: %g", m)
	}
}

func TestReport(t *testing.T) {
	rep := Report{
		Items: []Item{
			{Name: "open", Setup: "full", BaseNS: 410, WithNS: 480, Ratio: 1.17, Low: 0.97, High: 1.34, CPURatio: 1.1, CPULow: 1, CPUHigh: 1.2, Pairs: 9},
			{Name: "exec", Setup: "auditd", BaseNS: 170e3, WithNS: 172e3, Ratio: 1.01, Low: 1, High: 1.03, CPURatio: 1, CPULow: 1, CPUHigh: 1, Pairs: 9, AgentCPUNS: 25e3},
			{Name: "open", Ratio: 1.01, Low: 0.97, High: 1.2, Control: true},
			{Name: "exec", Ratio: 1, Low: 0.97, High: 1.02, Control: true},
		},
		Counts:     []Count{{Name: "open", Setup: "full", Ops: 10, Sent: 8, Filtered: 2, Lost: map[string]float64{"ring_full_bulk": 3}, Kept: 5, BPFNS: 150}},
		Skipped:    []Skip{{"build", "no Go toolchain"}},
		ResidentKB: 51200,
	}
	var text, doc bytes.Buffer
	if err := errors.Join(rep.WriteText(&text), rep.WriteJSON(&doc)); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"| Work                       | with   | base   | wall (range)     | user+sys (range) | A/A control, wall | its CPU per operation |\n" +
		"| ---                        | ---    | ---    | ---              | ---              | ---               | ---                   |\n" +
		"| open and close of one file | full   | 410 ns | 1.17 (0.97–1.34) | 1.10 (1.00–1.20) | 1.01 (0.97–1.20)  | 0 ns                  |\n" +
		"| spawn of `true`            | auditd | 170 µs | 1.01 (1.00–1.03) | 1.00 (1.00–1.00) | 1.00 (0.97–1.02)  | 25 µs                 |\n" +
		"\n" +
		"| Work                       | with | operations | seen | sent | filtered | ignored | lost             | kept | BPF per operation |\n" +
		"| ---                        | ---  | ---        | ---  | ---  | ---      | ---     | ---              | ---  | ---               |\n" +
		"| open and close of one file | full | 10         | 13   | 8    | 2        | 0       | 3 ring_full_bulk | 5    | 150 ns            |\n" +
		"\n" +
		"Medians of 9 interleaved pairs. Resident at most: 50 MB.\n" +
		"Not measured: Go build, cold cache: no Go toolchain.\n"
	if text.String() != want {
		t.Errorf("text\n%s\nwant\n%s", text.String(), want)
	}
	var back struct {
		Items []map[string]any `json:"items"`
	}
	if err := json.Unmarshal(doc.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"name", "baseNs", "withNs", "ratio", "low", "high", "pairs", "control"} {
		if _, ok := back.Items[0][key]; !ok {
			t.Errorf("JSON has no %s:\n%s", key, doc.String())
		}
	}
}

func TestWorkRefuses(t *testing.T) {
	for _, args := range [][]string{nil, {"open", "/"}, {"knit", "/", "1"}, {"open", "/", "-1"}, {"open", "/", "x"}, {"open", "/nonexistent", "1"}} {
		if err := Work(args, &bytes.Buffer{}); err == nil {
			t.Errorf("arguments %q were taken", args)
		}
	}
}

// TestBuild finds the prepared module sound, with the user's cache: a cold one
// takes ten seconds.
func TestBuild(t *testing.T) {
	dir := t.TempDir()
	if err := prepareBuild(dir); err != nil {
		t.Fatal(err)
	}
	if err := goBuild(dir); err != nil {
		t.Fatal(err)
	}
}

func TestProcess(t *testing.T) {
	if d, err := cpuTime(os.Getpid()); err != nil || d < 0 {
		t.Errorf("processor time %v, %v", d, err)
	}
	if kb := residentKB(os.Getpid()); kb <= 0 {
		t.Errorf("resident %d", kb)
	}
	if _, err := cpuTime(-1); err == nil {
		t.Error("no error for a process that is not there")
	}
}
