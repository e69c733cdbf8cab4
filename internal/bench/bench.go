// Package bench measures what clew costs the host it watches.
//
// What it measures: how much longer the same work takes while clew runs, as a
// ratio of wall time and of the work's own processor time, for work that touches the sensor in different ways, and how much
// processor time the agent itself spent meanwhile. Times with and without
// clew are taken alternately in one run, since two runs minutes apart differ
// by more than clew costs. Every row has a control: the same work twice
// without clew. A ratio inside the control's range is noise.
//
// What it cannot measure: a host busier or larger than this one, and the cost
// of rules that somebody else loads.
package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// Config says what to start and how often to measure.
type Config struct {
	// Setups are what is compared with nothing, one after the other.
	Setups []Setup
	// Worker is the command that does the work, a re-execution of this
	// program: it is called with the arguments that Work takes.
	Worker []string
	// Pairs is how often each work is done without, with, and again
	// without. At least 1; DefaultPairs if 0.
	Pairs int
	// Names are the works to measure, all of Names() if empty.
	Names []string
	// Scale multiplies how long an operation is repeated in one measure;
	// 1 if 0. Tests use a small one.
	Scale float64
	// Log gets one line per measure, for somebody who waits. Nil: nobody.
	Log io.Writer
}

// A Setup is one way to watch the host.
type Setup struct {
	Name string
	// Start is the command that is measured, as in {"clew", "up", "--data",
	// DIR}. It runs in the foreground, and ends on an interrupt.
	Start []string
	// Ready is a command that waits until what Start started works, and
	// ends with status 0 then. Empty means: at once.
	Ready []string
	// Up is called when what was started is ready, as to load rules; Down
	// before it is stopped. Both may be nil.
	Up, Down func(context.Context) error
	// Metrics is the address of its /metrics, from which is told what became
	// of events; empty: it has none.
	Metrics string
}

// DefaultPairs is enough for a median that holds to about 2 % on a quiet
// machine.
const DefaultPairs = 7

// Item is one row. Times are nanoseconds of one operation, medians over all
// pairs; ratio is the median of the pairs' ratios, low and high their range.
type Item struct {
	Name   string  `json:"name"`
	Setup  string  `json:"setup"`
	BaseNS float64 `json:"baseNs"`
	WithNS float64 `json:"withNs"`
	Ratio  float64 `json:"ratio"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Pairs  int     `json:"pairs"`
	// CPURatio is the same of the processor time, user and system, that the
	// work itself took; with its range.
	CPURatio float64 `json:"cpuRatio"`
	CPULow   float64 `json:"cpuLow"`
	CPUHigh  float64 `json:"cpuHigh"`
	// AgentCPUNS is the processor time of the started process (without
	// its children) per operation, 0 in a control.
	AgentCPUNS float64 `json:"agentCpuNs"`
	// Control marks a row that compares no clew with no clew.
	Control bool `json:"control"`
}

// Skip is a work that could not be done here.
type Skip struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Report is the result of Sensor.
type Report struct {
	Items []Item `json:"items"`
	// Counts say what became of the events of one round of each work, for
	// setups with metrics. They are taken apart from the times.
	Counts  []Count `json:"counts"`
	Skipped []Skip  `json:"skipped"`
	// ResidentKB is the largest resident size of the started process that
	// was seen after a measure.
	ResidentKB int64 `json:"residentKb"`
}

// Sensor measures the host's cost of what cfg.Setups start. It takes some
// minutes, writes only below a temporary directory that it removes, and
// leaves no process behind. An error means that there is no result: the
// command did not start, did not last, or work failed.
func Sensor(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Pairs == 0 {
		cfg.Pairs = DefaultPairs
	}
	if cfg.Scale == 0 {
		cfg.Scale = 1
	}
	if len(cfg.Names) == 0 {
		cfg.Names = Names()
	}
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	switch {
	case len(cfg.Setups) == 0 || len(cfg.Worker) == 0 || slices.ContainsFunc(cfg.Setups, func(s Setup) bool { return len(s.Start) == 0 }):
		return Report{}, errors.New("bench sensor: nothing to start, or nothing that works")
	case cfg.Pairs < 1 || cfg.Scale < 0:
		return Report{}, fmt.Errorf("bench sensor: %d pairs, scale %g: want positive numbers", cfg.Pairs, cfg.Scale)
	}
	dir, err := os.MkdirTemp("", "clew-bench-")
	if err != nil {
		return Report{}, err
	}
	defer os.RemoveAll(dir)

	rep := Report{Items: []Item{}, Counts: []Count{}, Skipped: []Skip{}}
	var series []*samples
	for _, name := range cfg.Names {
		w, ok := works[name]
		if !ok {
			return Report{}, fmt.Errorf("bench sensor: no work named %q; there are %s", name, strings.Join(Names(), ", "))
		}
		work := filepath.Join(dir, name)
		if err := os.Mkdir(work, 0o755); err != nil {
			return Report{}, err
		}
		if err := w.prepare(work); errors.Is(err, errSkip) {
			rep.Skipped = append(rep.Skipped, Skip{name, strings.TrimSuffix(err.Error(), ": "+errSkip.Error())})
			continue
		} else if err != nil {
			return Report{}, fmt.Errorf("prepare %s: %w", name, err)
		}
		series = append(series, &samples{name: name, dir: work})
	}
	for pair := range cfg.Pairs {
		if err := onePair(ctx, cfg, series, &rep); err != nil {
			return Report{}, fmt.Errorf("pair %d: %w", pair+1, err)
		}
		fmt.Fprintf(cfg.Log, "pair %d of %d\n", pair+1, cfg.Pairs)
	}
	for i, setup := range cfg.Setups {
		for _, s := range series {
			rep.Items = append(rep.Items, s.item(i, setup.Name))
		}
	}
	for _, s := range series {
		rep.Items = append(rep.Items, s.control())
	}
	for _, setup := range cfg.Setups {
		if setup.Metrics == "" {
			continue
		}
		counts, err := count(ctx, cfg, setup, series)
		if err != nil {
			return Report{}, fmt.Errorf("count %s: %w", setup.Name, err)
		}
		rep.Counts = append(rep.Counts, counts...)
	}
	return rep, nil
}

// samples are the measures of one work. A pair is: without, the first setup,
// without, the second setup, and so on, without.
type samples struct {
	name, dir string
	base      [][]Result // by pair, one more than there are setups
	with      [][]Result // by pair
	cpu       [][]float64
}

// onePair does all works without, with, without. With that order a machine
// that slows down or speeds up steadily changes no ratio.
func onePair(ctx context.Context, cfg Config, series []*samples, rep *Report) error {
	for _, s := range series {
		s.base, s.with, s.cpu = append(s.base, nil), append(s.with, nil), append(s.cpu, nil)
	}
	last := len(series[0].base) - 1
	without := func() error {
		for _, s := range series {
			r, err := runWorker(ctx, cfg, s)
			if err != nil {
				return err
			}
			s.base[last] = append(s.base[last], r)
		}
		return nil
	}
	if err := without(); err != nil {
		return err
	}
	for _, setup := range cfg.Setups {
		if err := withStarted(ctx, setup, func(pid int) error {
			for _, s := range series {
				start, err := cpuTime(pid)
				if err != nil {
					return err
				}
				r, err := runWorker(ctx, cfg, s)
				if err != nil {
					return err
				}
				end, err := cpuTime(pid)
				if err != nil {
					return err
				}
				s.with[last] = append(s.with[last], r)
				s.cpu[last] = append(s.cpu[last], float64(end-start)/float64(max(1, r.Ops)))
				rep.ResidentKB = max(rep.ResidentKB, residentKB(pid))
			}
			return nil
		}); err != nil {
			return fmt.Errorf("%s: %w", setup.Name, err)
		}
		if err := without(); err != nil {
			return err
		}
	}
	return nil
}

// stopGrace is how long the started command has to end after an interrupt.
const stopGrace = 10 * time.Second

// withStarted starts the measured command, calls f with its pid once it is
// ready, and stops it. A command that ends by itself before f does is an
// error: what was measured then is not the command.
func withStarted(ctx context.Context, cfg Setup, f func(pid int) error) (err error) {
	var out bytes.Buffer
	cmd := exec.Command(cfg.Start[0], cfg.Start[1:]...)
	cmd.Stdout, cmd.Stderr = &limitedBuffer{b: &out}, &limitedBuffer{b: &out}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", cfg.Start[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	gone := false
	defer func() {
		if gone {
			return
		}
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(stopGrace):
			err = errors.Join(err, fmt.Errorf("%s still runs %s after an interrupt", cfg.Start[0], stopGrace), cmd.Process.Kill())
			<-ended
		}
	}()
	exited := func() error {
		select {
		case werr := <-ended:
			gone = true
			return fmt.Errorf("%s ended by itself (%v): %s", cfg.Start[0], werr, strings.TrimSpace(out.String()))
		default:
			return nil
		}
	}
	if len(cfg.Ready) > 0 {
		text, err := exec.CommandContext(ctx, cfg.Ready[0], cfg.Ready[1:]...).CombinedOutput()
		if err != nil {
			if eerr := exited(); eerr != nil {
				return eerr
			}
			return fmt.Errorf("%s is not ready: %w: %s", cfg.Start[0], err, strings.TrimSpace(string(text)))
		}
	}
	if cfg.Down != nil {
		// Also when it came up only halfway.
		defer func() { err = errors.Join(err, cfg.Down(context.WithoutCancel(ctx))) }()
	}
	if cfg.Up != nil {
		if err := cfg.Up(ctx); err != nil {
			return err
		}
	}
	ferr := f(cmd.Process.Pid)
	if err := exited(); err != nil {
		return err
	}
	return ferr
}

// limitedBuffer keeps the first bytes that a command writes, for an error.
type limitedBuffer struct{ b *bytes.Buffer }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	const most = 4096
	l.b.Write(p[:min(len(p), max(0, most-l.b.Len()))])
	return len(p), nil
}

// runWorker has one work done in a process of its own, so that nothing of
// this one (its heap, its threads) is measured.
func runWorker(ctx context.Context, cfg Config, s *samples) (Result, error) {
	args := append(slices.Clone(cfg.Worker[1:]), s.name, s.dir, strconv.FormatFloat(cfg.Scale, 'g', -1, 64))
	cmd := exec.CommandContext(ctx, cfg.Worker[0], args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return Result{}, fmt.Errorf("work %s: %w: %s", s.name, err, strings.TrimSpace(stderr.String()))
	}
	var r Result
	if err := json.Unmarshal(out, &r); err != nil {
		return Result{}, fmt.Errorf("work %s: parse result: %w", s.name, err)
	}
	if r.NS <= 0 {
		return Result{}, fmt.Errorf("work %s took %g ns", s.name, r.NS)
	}
	return r, nil
}

// item is the row of a setup, by its number.
func (s *samples) item(setup int, name string) Item {
	var base, with, ratios, cpu, agent []float64
	for pair := range s.with {
		before, after, w := s.base[pair][setup], s.base[pair][setup+1], s.with[pair][setup]
		b := (before.NS + after.NS) / 2
		base, with, ratios = append(base, b), append(with, w.NS), append(ratios, w.NS/b)
		cpu = append(cpu, w.CPUNS/max(1, (before.CPUNS+after.CPUNS)/2))
		agent = append(agent, s.cpu[pair][setup])
	}
	it := row(s.name, base, with, ratios, cpu)
	it.Setup, it.AgentCPUNS = name, median(agent)
	return it
}

// control compares the times without of each pair with one another.
func (s *samples) control() Item {
	var base, with, ratios, cpu []float64
	for _, b := range s.base {
		for i := range b[1:] {
			base, with, ratios = append(base, b[i].NS), append(with, b[i+1].NS), append(ratios, b[i+1].NS/b[i].NS)
			cpu = append(cpu, b[i+1].CPUNS/max(1, b[i].CPUNS))
		}
	}
	it := row(s.name, base, with, ratios, cpu)
	it.Control = true
	return it
}

func row(name string, base, with, ratios, cpu []float64) Item {
	return Item{
		Name: name, BaseNS: median(base), WithNS: median(with),
		Ratio: median(ratios), Low: slices.Min(ratios), High: slices.Max(ratios), Pairs: len(ratios),
		CPURatio: median(cpu), CPULow: slices.Min(cpu), CPUHigh: slices.Max(cpu),
	}
}

// median of a copy of v, which is not empty.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	mid := len(v) / 2
	if len(v)%2 == 1 {
		return v[mid]
	}
	return (v[mid-1] + v[mid]) / 2
}

// WriteText prints the report as tables that fit in Markdown.
func (r Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 1, ' ', 0)
	fmt.Fprintln(t, "| Work\t| with\t| base\t| wall (range)\t| user+sys (range)\t| A/A control, wall\t| its CPU per operation\t|")
	fmt.Fprintln(t, "| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|")
	control := map[string]Item{}
	for _, it := range r.Items {
		if it.Control {
			control[it.Name] = it
		}
	}
	pairs := 0
	for _, it := range r.Items {
		if it.Control {
			continue
		}
		c := control[it.Name]
		pairs = it.Pairs
		fmt.Fprintf(t, "| %s\t| %s\t| %s\t| %.2f (%.2f–%.2f)\t| %.2f (%.2f–%.2f)\t| %.2f (%.2f–%.2f)\t| %s\t|\n", works[it.Name].title, it.Setup,
			duration(it.BaseNS), it.Ratio, it.Low, it.High, it.CPURatio, it.CPULow, it.CPUHigh, c.Ratio, c.Low, c.High, duration(it.AgentCPUNS))
	}
	if len(r.Counts) > 0 {
		fmt.Fprintln(t, "\n| Work\t| with\t| operations\t| seen\t| sent\t| filtered\t| ignored\t| lost\t| kept\t| BPF per operation\t|")
		fmt.Fprintln(t, "| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|")
	}
	for _, c := range r.Counts {
		fmt.Fprintf(t, "| %s\t| %s\t| %d\t| %.0f\t| %.0f\t| %.0f\t| %.0f\t| %s\t| %.0f\t| %s\t|\n", works[c.Name].title, c.Setup, c.Ops,
			c.Sent+c.Filtered+c.Ignored+c.lost(), c.Sent, c.Filtered, c.Ignored, c.lostText(), c.Kept, duration(c.BPFNS))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nMedians of %d interleaved pairs. Resident at most: %d MB.\n", pairs, r.ResidentKB/1024)
	for _, s := range r.Skipped {
		fmt.Fprintf(w, "Not measured: %s: %s.\n", works[s.Name].title, s.Reason)
	}
	return nil
}

// WriteJSON prints the report as one document.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// duration prints nanoseconds with three digits.
func duration(ns float64) string {
	switch {
	case ns >= 1e9:
		return fmt.Sprintf("%.2f s", ns/1e9)
	case ns >= 1e6:
		return fmt.Sprintf("%.3g ms", ns/1e6)
	case ns >= 1e3:
		return fmt.Sprintf("%.3g µs", ns/1e3)
	default:
		return fmt.Sprintf("%.3g ns", ns)
	}
}

// cpuTime is the processor time of a process and all its threads so far. The
// kernel counts in ticks of 10 ms.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything; fields 14 and 15 of
	// proc(5) are the 12th and 13th behind it.
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f)+2)
	}
	var ticks int64
	for _, v := range f[11:13] {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("parse /proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// residentKB is 0 for a process that is gone.
func residentKB(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			if f := strings.Fields(v); len(f) > 0 {
				n, _ := strconv.ParseInt(f[0], 10, 64)
				return n
			}
		}
	}
	return 0
}
