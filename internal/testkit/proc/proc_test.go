package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

func TestTinyBurst(t *testing.T) {
	tiny := filepath.Join(t.TempDir(), "tiny")
	if err := WriteTiny(tiny); err != nil {
		t.Fatal(err)
	}
	var calls []int
	if err := Burst(t.Context(), tiny, "mark", 50, func(done int) { calls = append(calls, done) }); err != nil {
		t.Fatal(err)
	}
	if len(calls) != 50 || !slices.IsSorted(calls) || calls[49] != 50 {
		t.Errorf("called with %v", calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Burst(ctx, tiny, "mark", 50, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if err := Burst(t.Context(), "/bin/false", "mark", 3, nil); err == nil {
		t.Error("executions that fail are not noticed")
	}
}

func TestCount(t *testing.T) {
	event := func(args ...any) Event { return Event{Fields: map[string]any{"exec.argv": args}} }
	events := []Event{event("m-000000"), event("m-000002"), event("x", "m-000002"), event("m-000009"), event("other-000001"), {}}
	got := Count(events, "m", 3)
	if got.Stored != 2 || !slices.Equal(got.Missing, []string{"m-000001"}) || !slices.Equal(got.Twice, []string{"m-000002"}) || got.Exact() {
		t.Errorf("%+v", got)
	}
	if got := Count(events[:1], "m", 1); !got.Exact() {
		t.Errorf("%+v", got)
	}
}

// TestHeld holds a map and a child, finds both, lets go of them, finds
// neither.
func TestHeld(t *testing.T) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "held", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if errors.Is(err, os.ErrPermission) {
		t.Skip("creating a map needs CAP_BPF")
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	child := exec.Command("/bin/sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	h := Held{}
	if err := h.Add(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	start, err := startTime(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	wantMap, wantChild := fmt.Sprintf("map %d", id), fmt.Sprintf("process %d at %d", child.Process.Pid, start)
	left, err := h.Remaining()
	if err != nil || !slices.Contains(left, wantMap) || !slices.Contains(left, wantChild) {
		t.Errorf("held %v, %v; want %s and %s", left, err, wantMap, wantChild)
	}
	if n := h.Kinds(); n["map"] == 0 || n["process"] < 2 {
		t.Errorf("kinds %v", n)
	}
	if err := errors.Join(m.Close(), child.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, errors.New("map or child stayed"))
	defer cancel()
	if err := Until(ctx, func() (bool, error) {
		left, err = h.Remaining()
		return !slices.Contains(left, wantMap) && !slices.Contains(left, wantChild), err
	}); err != nil {
		t.Errorf("%v: %v", err, left)
	}
}

func TestPlaces(t *testing.T) {
	p, err := ReadPlaces()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(p.Mounts, func(m string) bool { return strings.HasPrefix(m, "proc / /proc") }) {
		t.Errorf("no /proc among %v", p.Mounts)
	}
	q := Places{Mounts: append(slices.Clone(p.Mounts), "tmpfs / /x"), Cgroups: append(slices.Clone(p.Cgroups), "/sys/fs/cgroup/x")}
	if got := q.Since(p); !slices.Equal(got, []string{"mount tmpfs / /x", "cgroup /sys/fs/cgroup/x"}) {
		t.Errorf("more: %v", got)
	}
}

// standIn is a shell script in place of clew.
func standIn(t *testing.T, script string) *Clew {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "clew")
	if err := os.WriteFile(bin, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return New(t, bin)
}

func TestClew(t *testing.T) {
	c := standIn(t, `
case $1 in
up) echo "listening $*"; exec sleep 1000 ;;
status) echo '{"ok":true,"server":{"pid":12,"uid":64000,"listen":"127.0.0.1:1"},"agents":[{"pid":11,"mode":"tracepoint","status":"ok"}]}' ;;
events) echo '{"id":"ev_1","kind":"exec","fields":{"exec.argv":["m-000000"]}}'; echo "{\"id\":\"ev_2\",\"kind\":\"$CLEW_DATA\"}" ;;
stories) echo '{"items":[{"id":"st_1"}]}' ;;
story) echo "{\"id\":\"$2\",\"gaps\":[{\"reason\":\"agent_down\",\"lost\":\"3\"},{\"lost\":4}]}" ;;
esac`)
	if err := c.Start("--sensor", "none"); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err == nil {
		t.Error("started twice")
	}
	s, err := c.WaitOK(t.Context())
	if err != nil || !s.OK || s.Server.Pid != 12 || len(s.Agents) != 1 || s.Agents[0].Mode != "tracepoint" {
		t.Errorf("status %+v, %v", s, err)
	}
	if some, err := c.Events(t.Context(), "", "ev_2"); err != nil || len(some) != 1 || some[0].ID != "ev_2" {
		t.Errorf("events with a text: %+v, %v", some, err)
	}
	events, err := c.Events(t.Context(), "exec", "")
	if err != nil || len(events) != 2 || events[0].Args()[0] != "m-000000" || events[1].Kind != c.Data {
		t.Errorf("events %+v, %v", events, err)
	}
	stories, err := c.Stories(t.Context())
	if err != nil || len(stories) != 1 || len(stories[0].Gaps) != 2 || stories[0].Gaps[0].Lost != "3" || stories[0].Gaps[1].Lost != "4" {
		t.Errorf("stories %+v, %v", stories, err)
	}
	if err := Until(t.Context(), func() (bool, error) { return c.Log() != "", nil }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(c.Log(), "--data "+c.Data) || !strings.Contains(c.Log(), "--sensor none") {
		t.Errorf("arguments: %s", c.Log())
	}
	if err := c.KillAgent(); err != nil || c.Running() {
		t.Errorf("after kill: running %v, %v", c.Running(), err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	// A stand-in does not end with status 0 on an interrupt, as clew has to.
	if _, err := c.Stop(); err == nil || c.Running() {
		t.Errorf("stop: %v", err)
	}
}

func TestClewEndsEarly(t *testing.T) {
	c := standIn(t, `case $1 in up) exit 1 ;; status) exec sleep 1000 ;; esac`)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitOK(t.Context()); err == nil || !strings.Contains(err.Error(), "before it was ready") {
		t.Errorf("error %v", err)
	}
}
