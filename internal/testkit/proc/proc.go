// Package proc runs a whole clew, as processes of its own, for tests: starts
// it, asks it through its commands as a person would, kills parts of it, and
// looks at what is left afterwards.
//
// It knows clew by its commands alone and imports none of its packages.
package proc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Build compiles clew into dir, as a user would get it, and returns the
// program's path.
func Build(dir string) (string, error) {
	bin := filepath.Join(dir, "clew")
	cmd := exec.Command("go", "build", "-o", bin, "github.com/clewsec/clew/cmd/clew")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build clew: %w\n%s", err, out)
	}
	return bin, nil
}

// Clew is one data directory and, while it runs, the processes of `clew up`.
type Clew struct {
	Bin  string
	Data string

	cmd   *exec.Cmd
	ended chan struct{} // closed when the agent has ended
	err   error         // of Wait, valid after ended
	log   *lockedBuffer
}

// New prepares a clew with an empty data directory; nothing runs yet. At the
// end of the test it is stopped if it runs, and its log is printed if the
// test failed.
func New(t testing.TB, bin string) *Clew {
	t.Helper()
	// Not t.TempDir: its name has the test's in it, and a socket below it
	// may get a path longer than the kernel takes.
	dir, err := os.MkdirTemp("", "clew-sys-")
	if err != nil {
		t.Fatal(err)
	}
	// The unprivileged server has to get through to its own part.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := &Clew{Bin: bin, Data: filepath.Join(dir, "data"), log: &lockedBuffer{}}
	t.Cleanup(func() {
		if c.Running() {
			if _, err := c.Stop(); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Logf("clew up printed:\n%s", c.log)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Start runs `clew up` with the data directory, an address of its own choice,
// and args, and returns at once.
func (c *Clew) Start(args ...string) error {
	if c.Running() {
		return errors.New("clew runs already")
	}
	cmd := exec.Command(c.Bin, append([]string{"up", "--data", c.Data, "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Stdout, cmd.Stderr = c.log, c.log
	// A group of its own: an interrupt meant for the test is not its own.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A server that was killed with its agent may hold the pipe a little.
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start clew up: %w", err)
	}
	ended := make(chan struct{})
	c.cmd, c.ended = cmd, ended
	go func() {
		c.err = cmd.Wait()
		close(ended)
	}()
	return nil
}

// Running reports whether the agent that Start started has not ended.
func (c *Clew) Running() bool {
	if c.cmd == nil {
		return false
	}
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// Pid is the agent's process id.
func (c *Clew) Pid() int { return c.cmd.Process.Pid }

// Log returns what clew up has printed so far, of all starts.
func (c *Clew) Log() string { return c.log.String() }

// KillAgent ends the agent without a chance to say anything, and waits until
// it is gone.
func (c *Clew) KillAgent() error {
	if err := c.cmd.Process.Kill(); err != nil {
		return err
	}
	<-c.ended
	return nil
}

// stopDeadline is when Stop gives up on an interrupt.
const stopDeadline = 30 * time.Second

// Stop interrupts the agent as Ctrl-C does and returns how long it took to
// end. An end with another status than 0 is an error.
func (c *Clew) Stop() (time.Duration, error) {
	start := time.Now()
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		return 0, fmt.Errorf("interrupt clew up: %w", err)
	}
	select {
	case <-c.ended:
	case <-time.After(stopDeadline):
		err := fmt.Errorf("clew up still runs %s after an interrupt", stopDeadline)
		return stopDeadline, errors.Join(err, c.KillAgent())
	}
	if c.err != nil {
		return time.Since(start), fmt.Errorf("clew up after an interrupt: %w", c.err)
	}
	return time.Since(start), nil
}

// Run runs a command of clew with this data directory and returns what it
// printed. The error has its standard error output.
func (c *Clew) Run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.Bin, args...)
	cmd.Env = append(os.Environ(), "CLEW_DATA="+c.Data)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("clew %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// Status is what tests need of `clew status --json`.
type Status struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason"`
	Server struct {
		Pid    int    `json:"pid"`
		UID    int    `json:"uid"`
		Listen string `json:"listen"`
	} `json:"server"`
	Agents []struct {
		Pid    int    `json:"pid"`
		Mode   string `json:"mode"`
		Status string `json:"status"`
		Reason string `json:"reason"`
	} `json:"agents"`
}

// WaitOK waits until an event has gone from kernel to store, and returns the
// status then.
func (c *Clew) WaitOK(ctx context.Context) (Status, error) {
	type answer struct {
		out []byte
		err error
	}
	got := make(chan answer, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		out, err := c.Run(ctx, "status", "--wait", "60s", "--json")
		got <- answer{out, err}
	}()
	select {
	case <-c.ended:
		cancel()
		<-got
		return Status{}, fmt.Errorf("clew up ended (%v) before it was ready", c.err)
	case a := <-got:
		if a.err != nil {
			return Status{}, fmt.Errorf("%w: %s", a.err, bytes.TrimSpace(a.out))
		}
		var s Status
		if err := json.Unmarshal(a.out, &s); err != nil {
			return s, fmt.Errorf("parse status: %w", err)
		}
		return s, nil
	}
}

// Event is one line of `clew events --json`.
type Event struct {
	ID     string         `json:"id"`
	At     time.Time      `json:"at"`
	Kind   string         `json:"kind"`
	Fields map[string]any `json:"fields"`
}

// Events returns the stored events of a kind (empty: all) of the last hour
// that have text (empty: any) somewhere.
func (c *Clew) Events(ctx context.Context, kind, text string) ([]Event, error) {
	args := []string{"events", "--json", "--since", "1h"}
	if kind != "" {
		args = append(args, "--kind", kind)
	}
	out, err := c.Run(ctx, args...)
	if err != nil {
		return nil, err
	}
	var events []Event
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		if !bytes.Contains(lines.Bytes(), []byte(text)) {
			continue
		}
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("parse event: %w: %.200s", err, lines.Text())
		}
		events = append(events, e)
	}
	return events, lines.Err()
}

// Args are an event's arguments without the first.
func (e Event) Args() []string {
	for _, field := range []string{"exec.argv", "process.argv"} {
		if v, ok := e.Fields[field].([]any); ok {
			var args []string
			for _, a := range v {
				s, _ := a.(string)
				args = append(args, s)
			}
			return args
		}
	}
	return nil
}

// Gap is a time in which events are missing, as stories show it.
type Gap struct {
	Reason string      `json:"reason"`
	Text   string      `json:"text"`
	From   time.Time   `json:"from"`
	To     time.Time   `json:"to"`
	Lost   json.Number `json:"lost"`
	Kinds  []string    `json:"kinds"`
}

// Story is what tests need of a story.
type Story struct {
	ID   string `json:"id"`
	Gaps []Gap  `json:"gaps"`
	// Raw is the whole document.
	Raw json.RawMessage `json:"-"`
}

// Stories returns every story with all that belongs to it.
func (c *Clew) Stories(ctx context.Context) ([]Story, error) {
	out, err := c.Run(ctx, "stories", "--json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []Story `json:"items"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("parse stories: %w", err)
	}
	for i, s := range list.Items {
		if out, err = c.Run(ctx, "story", s.ID, "--json"); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(out, &list.Items[i]); err != nil {
			return nil, fmt.Errorf("parse story %s: %w", s.ID, err)
		}
		list.Items[i].Raw = out
	}
	return list.Items, nil
}

// Tally says how a burst arrived.
type Tally struct {
	Stored  int      // distinct executions
	Missing []string // markers that no event has
	Twice   []string // markers that more than one event has
}

// Exact reports whether every execution is stored once.
func (t Tally) Exact() bool { return len(t.Missing) == 0 && len(t.Twice) == 0 }

func (t Tally) String() string {
	return fmt.Sprintf("%d stored, %d missing %.5q, %d more than once %.5q", t.Stored, len(t.Missing), first(t.Missing), len(t.Twice), first(t.Twice))
}

func first(v []string) []string { return v[:min(len(v), 5)] }

// Count compares exec events with the n markers of a burst.
func Count(events []Event, prefix string, n int) Tally {
	seen := map[string]int{}
	for _, e := range events {
		for _, a := range e.Args() {
			if strings.HasPrefix(a, prefix+"-") {
				seen[a]++
			}
		}
	}
	var t Tally
	for i := range n {
		switch m := Marker(prefix, i); seen[m] {
		case 0:
			t.Missing = append(t.Missing, m)
		case 1:
			t.Stored++
		default:
			t.Stored++
			t.Twice = append(t.Twice, m)
		}
	}
	return t
}

// Until calls check until it returns true or an error, or ctx ends; then it
// returns the context's cause.
func Until(ctx context.Context, check func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := check()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// lockedBuffer keeps the last of what two pipes write.
type lockedBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	const most = 1 << 20
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if len(l.b) > most {
		l.b = append(l.b[:0], l.b[len(l.b)-most/2:]...)
	}
	return len(p), nil
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}
