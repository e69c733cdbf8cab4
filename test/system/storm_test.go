package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/testkit/proc"
)

// stormTime is how long the fork storm lasts.
func stormTime() time.Duration {
	switch {
	case testing.Short():
		return 5 * time.Second
	case os.Getenv("CLEW_SOAK") != "":
		return time.Hour
	default:
		return 20 * time.Second
	}
}

// stormCeiling is the agent's memory ceiling during the storm: the default one.
const stormCeiling = 256 << 20

// TestForkStorm lets processes fork as fast as they can, some of which execute
// something, for a while. The agent stays the same process below its memory
// ceiling, knows the lineage of what comes after the storm, and what it lost is
// counted: what was executed is what it read and what it lost.
func TestForkStorm(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c, _ := watching(t, "--metrics-listen", addr, "--agent-memory", strconv.Itoa(stormCeiling))
	before := awaitMetrics(t, addr, "clew_agent_start_timestamp_seconds")
	program := tiny(t)

	ctx, cancel := context.WithTimeout(t.Context(), stormTime())
	defer cancel()
	var storm sync.WaitGroup
	var mu sync.Mutex
	executed, forked := 0, 0
	var failed error
	for worker := range 2 {
		storm.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				var err error
				if worker == 0 {
					err = proc.Burst(t.Context(), program, prefix(t, "storm"), 200, nil)
				} else {
					// Forks that execute nothing; each child has a child, and
					// half of them outlive their parents.
					err = exec.CommandContext(t.Context(), "/bin/sh", "-c",
						`i=0; while [ $i -lt 100 ]; do ( ( : ) & : ) & i=$((i+1)); done; wait`).Run()
				}
				mu.Lock()
				if failed = errors.Join(failed, err); worker == 0 {
					executed += 200
				} else {
					executed, forked = executed+1, forked+200
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	// The agent's memory is looked at while it goes on.
	var most int64
	pid := c.Pid()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if n := resident(pid); n > most {
				most = n
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	storm.Wait()
	cancel()
	<-watched
	if failed != nil {
		t.Fatal(failed)
	}
	t.Logf("%d executions and %d more forks in %s; resident at most %d MiB of %d", executed, forked, stormTime(), most>>20, int64(stormCeiling)>>20)
	if most == 0 || most >= stormCeiling {
		t.Errorf("resident memory of the agent: %d bytes, the ceiling is %d", most, int64(stormCeiling))
	}
	if !c.Running() || c.Pid() != pid {
		t.Fatal("the agent did not live through it")
	}

	// The lineage of what comes now is right, three generations up.
	mark := prefix(t, "lineage")
	script := filepath.Join(t.TempDir(), "parent.sh")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\n%s %s\ntrue\n", program, proc.Marker(mark, 0)), 0o755); err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(t.Context(), "/bin/sh", "-c", script+"; true")
	if out, err := parent.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	came := time.Now()
	lineage, leave := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("the execution is not stored"))
	defer leave()
	var last proc.Event
	if err := proc.Until(lineage, func() (bool, error) {
		since := time.Since(came) + 5*time.Second
		out, err := c.Run(lineage, "events", "--json", "--kind", "exec", "--text", mark, "--since", since.Round(time.Second).String())
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, mark) && json.Unmarshal([]byte(line), &last) == nil && last.Fields["process.file.path"] == program {
				return true, nil
			}
		}
		return false, nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(last.Fields["process.parent.args"]); !strings.Contains(got, script) {
		t.Errorf("the parent of the execution is %v %q, want %s", last.Fields["process.parent.file.path"], got, script)
	}
	if got := number(last, "process.parent.ppid"); got != parent.Process.Pid {
		t.Errorf("the parent's parent is %d, want %d", got, parent.Process.Pid)
	}

	// What was executed is what was read and what was lost: other processes of
	// the host execute something, too, so there may be more.
	waited, stop := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("the numbers do not add up"))
	defer stop()
	var got, missing float64
	if err := proc.Until(waited, func() (bool, error) {
		after := readMetrics(t, addr)
		got = sum(after, "clew_agent_decoded_events_total", `kind="exec"`) - sum(before, "clew_agent_decoded_events_total", `kind="exec"`)
		missing = sum(after, "clew_agent_lost_events_total", `kind="exec"`) - sum(before, "clew_agent_lost_events_total", `kind="exec"`)
		// Seen is sent and filtered and ignored and lost, by construction; what
		// was sent must have been read.
		sent := sum(after, "clew_agent_kernel_events_total", `kind="exec"`, `outcome="sent"`)
		read := sum(after, "clew_agent_decoded_events_total", `kind="exec"`)
		return got+missing >= float64(executed) && read >= sent-50 && read <= sent+50, nil
	}); err != nil {
		t.Errorf("%v: %d executed, %g read, %g lost", err, executed, got, missing)
	}
	after := readMetrics(t, addr)
	t.Logf("%g executions read, %g lost; the agent took %.1f s of processor time and was held for %.1f s", got, missing,
		sum(after, "clew_agent_cpu_seconds_total"), sum(after, "clew_agent_cpu_throttled_seconds_total"))
}

// resident is the resident memory of a process, bytes; 0 when it is gone.
func resident(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.ParseInt(f[1], 10, 64)
	return n * int64(syscall.Getpagesize())
}

// readMetrics scrapes a clew: lines of name and labels with their number.
func readMetrics(t *testing.T, addr string) map[string]float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil // the server may be on its way back
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			out[line[:i]] = v
		}
	}
	return out
}

// awaitMetrics waits until the agent's numbers are there.
func awaitMetrics(t *testing.T, addr, name string) map[string]float64 {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("no metrics"))
	defer cancel()
	var m map[string]float64
	if err := proc.Until(ctx, func() (bool, error) {
		m = readMetrics(t, addr)
		return sum(m, name) > 0, nil
	}); err != nil {
		t.Fatalf("%v: %d numbers", err, len(m))
	}
	return m
}

// sum adds up the series of a metric that have all the labels.
func sum(m map[string]float64, name string, labels ...string) (n float64) {
	for series, v := range m {
		if !strings.HasPrefix(series, name+"{") {
			continue
		}
		if !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(series, l) }) {
			n += v
		}
	}
	return n
}
