//go:build linux && (amd64 || arm64)

package sensor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// long is a number for `make test` and one for `make soak`.
func long(short, soak int) int {
	if os.Getenv("CLEW_SOAK") != "" {
		return soak
	}
	return short
}

// attackSteps are what an attack does, each wanted by a rule by its name.
const attackSteps = 30

func stepName(i int) string { return fmt.Sprintf("attack-step-%02d", i) }

// attackPlan has a rule for each step, and a baseline that a flood of opens for
// writing meets.
func attackPlan() kfilter.Plan {
	var base, rules kfilter.Plan
	base.Kinds[event.KindOpen] = kfilter.Kind{Mode: kfilter.Filtered, FlagsAny: kfilter.OpenWrite}
	base.Kinds[event.KindRename].Mode, base.Kinds[event.KindUnlink].Mode = kfilter.All, kfilter.All
	for i := range attackSteps {
		k := kfilter.Kind{Mode: kfilter.Filtered, Names: []string{stepName(i)}}
		rules.Wants(event.KindOpen, k)
		rules.Wants(event.KindRename, k)
		rules.Wants(event.KindUnlink, k)
	}
	return kfilter.Compose(base, rules)
}

// attack does each step once: files are made, read, renamed and removed.
func attack(t *testing.T, dir string) {
	t.Helper()
	open := func(name string, flags int) {
		fd, err := unix.Open(filepath.Join(dir, name), flags|unix.O_CLOEXEC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	for i := range attackSteps {
		switch name := stepName(i); i % 5 {
		case 0:
			open(name, unix.O_WRONLY|unix.O_CREAT)
		case 1, 2:
			open(name, unix.O_RDONLY|unix.O_CREAT)
		case 3:
			if err := os.Rename(filepath.Join(dir, stepName(i-1)), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		case 4:
			if err := unix.Unlink(filepath.Join(dir, stepName(i-1))); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// attackEvents is how many events of an attack's steps one process made.
func attackEvents(w *watch, pid uint32) int {
	return len(w.events(func(e *event.Event) bool {
		if e.PID != pid {
			return false
		}
		is := func(f *event.File) bool { return strings.HasPrefix(f.Name(), "attack-step-") }
		switch {
		case e.Open != nil:
			return is(&e.Open.File)
		case e.Rename != nil:
			return is(&e.Rename.File)
		case e.Unlink != nil:
			return is(&e.Unlink.File)
		}
		return false
	}))
}

// TestFlood lets a process open files as fast as it can, while another one and
// then it itself attack in thirty steps. No step is lost, and what the flood
// lost is counted to the last event.
func TestFlood(t *testing.T) {
	times := long(3, 20)
	dir := realTemp(t)
	w := startWatch(t, Config{
		Plan: attackPlan(), NotSelf: true, BulkBytes: 256 << 10,
		Shape: Shape{Session: Rate{PerSecond: 1000, Burst: 1000}},
	})
	// In turns, until it is told to stop: a thousand opens, then all steps by
	// itself as often as there are files that say so.
	var script strings.Builder
	fmt.Fprintf(&script, "cd %s\nn=0\nwhile [ ! -e stop ]; do\n", dir)
	for range 100 {
		script.WriteString(": >>flood\n")
	}
	fmt.Fprintf(&script, "if [ -e go ] && [ $n -lt %d ]; then n=$((n+1))\n", times)
	for i := range attackSteps {
		fmt.Fprintf(&script, ": >>own/%s\n", stepName(i))
	}
	fmt.Fprintf(&script, "[ $n -lt %d ] || : >finished\nfi\ndone\n", times)
	if err := os.Mkdir(filepath.Join(dir, "own"), 0o700); err != nil {
		t.Fatal(err)
	}
	flooder := exec.Command("/bin/sh", "-c", script.String())
	flooder.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := flooder.Start(); err != nil {
		t.Fatal(err)
	}
	shaped := func() uint64 {
		st, err := w.s.Stats()
		if err != nil {
			t.Fatal(err)
		}
		return st.Kinds[event.KindOpen].Lost["shaped"]
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !done(); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not within %s", what, patience)
			}
			w.settle()
		}
	}
	until("the flood is held back", func() bool { return shaped() > 0 })
	for range times {
		attack(t, dir)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until("the flooder attacks", func() bool {
		_, err := os.Stat(filepath.Join(dir, "finished"))
		return err == nil
	})
	if err := os.WriteFile(filepath.Join(dir, "stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := flooder.Wait(); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if got := attackEvents(w, uint32(os.Getpid())); got != times*attackSteps {
		t.Errorf("%d events of %d attacks beside the flood, want %d", got, times, times*attackSteps)
	}
	if got := attackEvents(w, uint32(flooder.Process.Pid)); got != times*attackSteps {
		t.Errorf("%d events of %d attacks by the flooder, want %d", got, times, times*attackSteps)
	}
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
	k := st.Kinds[event.KindOpen]
	t.Logf("opens: %+v", k)
	var told uint64
	for _, r := range w.recs {
		if r.Lost != nil && r.Lost.Kind == event.KindOpen {
			told += r.Lost.Count
		}
	}
	var lost uint64
	for _, n := range k.Lost {
		lost += n
	}
	if told != lost {
		t.Errorf("the stream tells of %d lost opens, the kernel of %d", told, lost)
	}
}

// TestManyWantedOpens opens a file that a rule wants, as fast as it can: each
// open is kept, or counted as lost. How much slower that is than nobody watching
// is printed.
func TestManyWantedOpens(t *testing.T) {
	n := long(50_000, 1_000_000)
	dir := realTemp(t)
	path := mkfile(t, filepath.Join(dir, "wanted"))
	run := func() time.Duration {
		start := time.Now()
		for range n {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
		}
		return time.Since(start)
	}
	before := run()
	w := startWatch(t, Config{Plan: byName("wanted"), NotSelf: true})
	watched := run()
	w.stop()
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
	k := st.Kinds[event.KindOpen]
	got := len(w.events(func(e *event.Event) bool { return e.Open != nil && e.Open.File.Path == path }))
	t.Logf("%d opens in %s, watched %s: %.2f times; %d kept, lost %v", n, before, watched, float64(watched)/float64(before), got, k.Lost)
	if k.Lost["shaped"]+k.Lost["shaped_cgroup"] > 0 {
		t.Errorf("what a rule wants was held back: %v", k.Lost)
	}
	if lost := k.Lost["ring_full_bulk"] + k.Lost["ring_full_critical"] + k.Lost["scratch_busy"]; uint64(got)+lost < uint64(n) {
		t.Errorf("%d opens, %d kept, %d lost: the rest is not accounted for", n, got, lost)
	}
}
