//go:build linux && (amd64 || arm64)

package sensor

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// byName wants opens for writing, and reads of files of one name.
func byName(name string) kfilter.Plan {
	var base, rules kfilter.Plan
	base.Kinds[event.KindOpen] = kfilter.Kind{Mode: kfilter.Filtered, FlagsAny: kfilter.OpenWrite}
	rules.Kinds[event.KindOpen] = kfilter.Kind{Mode: kfilter.Filtered, Names: []string{name}}
	return kfilter.Compose(base, rules)
}

// task describes a process as a pipeline would.
func task(t *testing.T, w *watch, pid int) kfilter.Task {
	t.Helper()
	sid, err := unix.Getsid(pid)
	if err != nil {
		t.Fatal(err)
	}
	r := w.record(fmt.Sprintf("process %d", pid), func(r *event.StreamRecord) bool {
		switch {
		case r.Snapshot != nil:
			return r.Snapshot.PID == uint32(pid)
		case r.Event != nil && r.Event.Fork != nil:
			return r.Event.Fork.Child.PID == uint32(pid)
		}
		return false
	})
	start := uint64(0)
	if r.Snapshot != nil {
		start = r.Snapshot.StartNS
	} else {
		start = r.Event.Fork.Child.StartNS
	}
	return kfilter.Task{PID: uint32(pid), StartNS: start, Session: uint32(sid)}
}

// A shell reads files that it is told to, line by line: one that a depth hint
// is for, or its child.
type shell struct {
	t   *testing.T
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Reader
}

func newShell(t *testing.T) *shell {
	t.Helper()
	s := &shell{t: t, cmd: exec.Command("/bin/sh")}
	s.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdin, s.in = r, in
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	s.out = bufio.NewReader(out)
	t.Cleanup(func() {
		in.Close()
		if err := s.cmd.Wait(); err != nil {
			t.Errorf("shell: %v", err)
		}
	})
	return s
}

// do runs a line and waits until it has run.
func (s *shell) do(line string) {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.in, "%s\necho done\n", line); err != nil {
		s.t.Fatal(err)
	}
	got, err := s.out.ReadString('\n')
	if err != nil || got != "done\n" {
		s.t.Fatalf("%q: %q, %v", line, got, err)
	}
}

// depths waits for a Depth record that says what is wanted.
func (w *watch) depth(what string, match func(*event.Depth) bool) *event.Depth {
	w.t.Helper()
	return w.record(what, func(r *event.StreamRecord) bool { return r.Depth != nil && match(r.Depth) }).Depth
}

// opened returns the names of the files of dir that were opened, in order, of
// events with and without the mark of the flight recorder.
func (w *watch) opened(dir string) (live, recorded []string) {
	for _, e := range w.events(func(e *event.Event) bool { return e.Open != nil }) {
		switch {
		case e.Flags&event.FlagRecorded != 0:
			recorded = append(recorded, e.Open.File.Path)
		case filepath.Dir(e.Open.File.Path) == dir:
			live = append(live, e.Open.File.Name())
		}
	}
	return live, recorded
}

// TestDepth makes a process hot and cold again: what its plan leaves in the
// kernel comes out meanwhile, of it and of the children that it has then, and
// what it did before comes from the flight recorder.
func TestDepth(t *testing.T) {
	dir := realTemp(t)
	for _, n := range []string{"before", "again", "hot", "child", "cold", "wanted"} {
		mkfile(t, filepath.Join(dir, n))
	}
	w := startWatch(t, Config{Plan: byName("wanted")})
	sh, other := newShell(t), newShell(t)
	me, stranger := task(t, w, sh.cmd.Process.Pid), task(t, w, other.cmd.Process.Pid)
	sh.do(": <" + dir + "/before; : <" + dir + "/again; : <" + dir + "/again")
	other.do(": <" + dir + "/before")
	w.settle()
	if live, recorded := w.opened(dir); len(live)+len(recorded) > 0 {
		t.Fatalf("%q and %q came out of the kernel before anything was hot", live, recorded)
	}

	w.s.SetDepth([]kfilter.Task{me})
	d := w.depth("hint", func(d *event.Depth) bool { return d.Set > 0 })
	if d.Processes != 1 || d.Set != 1 || d.Recorded < 2 || d.Missed+d.Torn > 0 {
		t.Errorf("%+v", d)
	}
	sh.do(": <" + dir + "/hot; (: <" + dir + "/child); : <" + dir + "/wanted")
	other.do(": <" + dir + "/hot; : <" + dir + "/wanted")
	w.settle()
	live, recorded := w.opened(dir)
	if want := []string{"hot", "child", "wanted", "wanted"}; !slices.Equal(live, want) {
		t.Errorf("opened %q, want %q", live, want)
	}
	// The shell read more before: its libraries, the locale.
	if at := slices.Index(recorded, "before"); at < 0 || !slices.Equal(recorded[at:], []string{"before", "again"}) {
		t.Errorf("the flight recorder gave %q", recorded)
	}
	for _, e := range w.events(func(e *event.Event) bool { return e.Flags&event.FlagRecorded != 0 }) {
		if e.PID != me.PID || e.StartNS != me.StartNS || e.BootNS < me.StartNS || e.BootNS > bootNS() || e.TimeNS == 0 || e.Open.File.PathSource != "recorder" {
			t.Errorf("%+v", e)
		}
	}
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Depth.Hinted != 1 || st.Depth.Recorded != d.Recorded {
		t.Errorf("%+v", st.Depth)
	}

	// The same again changes nothing; then another one instead.
	w.s.SetDepth([]kfilter.Task{me})
	w.s.SetDepth([]kfilter.Task{stranger})
	w.depth("other hint", func(d *event.Depth) bool { return d.Set == 1 && d.Cleared == 1 && d.Processes == 1 })
	sh.do(": <" + dir + "/cold")
	other.do(": <" + dir + "/cold")
	w.s.SetDepth(nil)
	w.depth("end of hints", func(d *event.Depth) bool { return d.Cleared == 1 && d.Processes == 0 })
	sh.do(": <" + dir + "/cold")
	other.do(": <" + dir + "/cold")
	w.settle()
	n := 0
	for _, e := range w.events(func(e *event.Event) bool {
		return e.Open != nil && e.Flags&event.FlagRecorded == 0 && e.Open.File.Path == dir+"/cold"
	}) {
		n++
		if e.PID != stranger.PID {
			t.Errorf("%d opened %s", e.PID, e.Open.File.Path)
		}
	}
	if n != 1 {
		t.Errorf("%d opens of a file that was opened once by the process that was hot then", n)
	}
}

// TestDepthReachesDescendants makes a process hot as a pipeline does, while the
// stream is at one of its forks. What it and its children have begotten since is
// not known then, and what they do must come out all the same.
func TestDepthReachesDescendants(t *testing.T) {
	needKernel(t)
	dir := realTemp(t)
	mkfile(t, filepath.Join(dir, "leaf"))
	s, err := New(Config{Mode: testMode(), Plan: byName("wanted"), Start: event.RunStart{Run: 42, Seed: make([]byte, 32)}})
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{t: t, s: s}
	w.cond = sync.NewCond(&w.mu)
	var shell uint32
	var hot []kfilter.Task
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.Run(ctx, func(r *event.StreamRecord) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.recs = append(w.recs, r)
			w.cond.Broadcast()
			if e := r.Event; e != nil && e.Fork != nil && e.PID == shell && shell != 0 && hot == nil {
				c := e.Fork.Child
				hot = []kfilter.Task{{PID: e.PID, StartNS: e.StartNS}, {PID: c.PID, StartNS: c.StartNS}}
				s.SetDepth(hot)
			}
			return nil
		})
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	w.record("end of the snapshot", func(r *event.StreamRecord) bool { return r.SnapshotEnd != nil })
	sh := newShell(t)
	w.mu.Lock()
	shell = uint32(sh.cmd.Process.Pid)
	w.mu.Unlock()
	// A child, and its children, of which the last has lost its parent: each
	// waits for a line before it reads the file.
	var fifos []string
	for i := range 3 {
		fifos = append(fifos, filepath.Join(dir, fmt.Sprint("fifo", i)))
		if err := unix.Mkfifo(fifos[i], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(i int) string { return "read x <" + fifos[i] + "; : <" + dir + "/leaf; echo ok >" + fifos[i] }
	sh.do("( ( ( " + read(2) + " ) & exit 0 ); ( " + read(1) + " ); " + read(0) + " ) &")
	w.depth("hint", func(d *event.Depth) bool { return d.Set > 0 })
	w.settle() // every fork so far has passed
	for _, f := range []string{fifos[2], fifos[1], fifos[0]} {
		if err := os.WriteFile(f, []byte("go\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(f); err != nil || string(b) != "ok\n" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	const more = 50
	sh.do(strings.Repeat("( ( : <"+dir+"/leaf ) )\n", more))
	w.settle()
	live, _ := w.opened(dir)
	n := 0
	for _, name := range live {
		if name == "leaf" {
			n++
		}
	}
	if n != more+3 {
		t.Errorf("%d opens by descendants came out, want %d", n, more+3)
	}
}

// TestShape floods with what no rule wants, among it what a rule wants: the one
// is held back and counted, the other is kept.
func TestShape(t *testing.T) {
	dir := realTemp(t)
	mkfile(t, filepath.Join(dir, "flood"))
	mkfile(t, filepath.Join(dir, "wanted"))
	const opens, wanted = 20000, 200
	w := startWatch(t, Config{
		Plan: byName("wanted"), NotSelf: true,
		Shape: Shape{Session: Rate{PerSecond: 100, Burst: 50}, Cgroup: Rate{PerSecond: -1}},
	})
	for i := range opens {
		name, flags := "/flood", unix.O_WRONLY
		if i%(opens/wanted) == 0 {
			name, flags = "/wanted", unix.O_RDONLY
		}
		fd, err := unix.Open(dir+name, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	w.stop()
	live, _ := w.opened(dir)
	got := map[string]int{}
	for _, n := range live {
		got[n]++
	}
	if got["wanted"] != wanted {
		t.Errorf("%d of %d opens that a rule wants were kept", got["wanted"], wanted)
	}
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
	k := st.Kinds[event.KindOpen]
	if k.Lost["shaped"] == 0 || got["flood"] == 0 || got["flood"]+int(k.Lost["shaped"]) < opens-wanted {
		t.Errorf("%d of the flood came out and %d were held back, of %d", got["flood"], k.Lost["shaped"], opens-wanted)
	}
	var told uint64
	for _, r := range w.recs {
		if r.Lost != nil && r.Lost.Kind == event.KindOpen && r.Lost.Reason == "shaped" {
			told += r.Lost.Count
		}
	}
	if told != k.Lost["shaped"] {
		t.Errorf("the stream tells of %d held back, the kernel of %d", told, k.Lost["shaped"])
	}
}
