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
		Start:  []string{"/bin/sh", "-c", script},
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
	cfg.Ready = []string{"/bin/sh", "-c", "until [ -s " + pidFile + " ]; do :; done"}
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
			c.Start = []string{"/bin/sh", "-c", "echo port taken; exit 1"}
			c.Ready = []string{"/bin/sleep", "0.2"}
		}, "port taken"},
		{"command that is not there", func(c *Config) { c.Start = []string{"/nonexistent"} }, "start /nonexistent"},
		{"never ready", func(c *Config) { c.Ready = []string{"/bin/sh", "-c", "echo no canary; exit 1"} }, "no canary"},
		{"unknown work", func(c *Config) { c.Names = []string{"knit"} }, `"knit"`},
		{"worker that fails", func(c *Config) { c.Worker = []string{"/bin/sh", "-c", "echo broken >&2; exit 3"} }, "broken"},
		{"worker that says nothing", func(c *Config) { c.Worker = []string{"/bin/true"} }, "parse result"},
		{"worker that took no time", func(c *Config) { c.Worker = []string{"/bin/echo", `{"ops":1,"ns":0}`, "#"} }, "parse result"},
		{"nothing to start", func(c *Config) { c.Start = nil }, "nothing to start"},
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
	s := &samples{name: "open", before: []float64{100, 100, 200}, with: []float64{150, 120, 220}, after: []float64{100, 140, 240}, cpu: []float64{1, 9, 2}}
	it, c := s.item(), s.control()
	if it.Ratio != 1 || it.Low != 1 || it.High != 1.5 || it.BaseNS != 120 || it.WithNS != 150 || it.AgentCPUNS != 2 || it.Pairs != 3 {
		t.Errorf("item %+v", it)
	}
	if c.Ratio != 1.2 || c.Low != 1 || c.High != 1.4 || !c.Control {
		t.Errorf("control %+v", c)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median of four: %g", m)
	}
}

func TestReport(t *testing.T) {
	rep := Report{
		Items: []Item{
			{Name: "open", BaseNS: 410, WithNS: 480, Ratio: 1.17, Low: 0.97, High: 1.34, Pairs: 9},
			{Name: "exec", BaseNS: 170e3, WithNS: 172e3, Ratio: 1.01, Low: 1, High: 1.03, Pairs: 9, AgentCPUNS: 25e3},
			{Name: "open", Ratio: 1.01, Low: 0.97, High: 1.2, Control: true},
			{Name: "exec", Ratio: 1, Low: 0.97, High: 1.02, Control: true},
		},
		Skipped:    []Skip{{"build", "no Go toolchain"}},
		ResidentKB: 51200,
	}
	var text, doc bytes.Buffer
	if err := errors.Join(rep.WriteText(&text), rep.WriteJSON(&doc)); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"| Work                       | without | with   | ratio (range)    | A/A control      | agent CPU |\n" +
		"| ---                        | ---     | ---    | ---              | ---              | ---       |\n" +
		"| open and close of one file | 410 ns  | 480 ns | 1.17 (0.97–1.34) | 1.01 (0.97–1.20) | 0 ns      |\n" +
		"| spawn of `true`            | 170 µs  | 172 µs | 1.01 (1.00–1.03) | 1.00 (0.97–1.02) | 25 µs     |\n" +
		"\nPer operation, medians of 9 interleaved pairs. Agent resident: 50 MB.\n" +
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
