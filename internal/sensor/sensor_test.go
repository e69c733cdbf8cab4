//go:build linux && (amd64 || arm64)

package sensor

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
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// TestOverfill floods a bulk ring of one page from this process, while process
// life goes on beside it, and holds that everything is accounted for.
func TestOverfill(t *testing.T) {
	// Wanted by no rule, so that it does not go on the other ring, and not shaped.
	plan := kfilter.Compose(everything(), kfilter.Plan{})
	none := Rate{PerSecond: -1}
	w := startWatch(t, Config{Plan: plan, NotSelf: true, BulkBytes: 4096, Shape: Shape{Session: none, Cgroup: none}})
	dir := realTemp(t)
	path := mkfile(t, dir+"/flood")
	const opens, execs = 20000, 20
	flooded := make(chan error, 1)
	go func() {
		for range opens {
			fd, err := unix.Open(path, unix.O_WRONLY, 0)
			if err != nil {
				flooded <- err
				return
			}
			unix.Close(fd)
		}
		flooded <- nil
	}()
	var pids []int
	for range execs {
		cmd := exec.Command(self(t), "0")
		cmd.Env = []string{"CLEW_SENSOR_HELPER=exit"}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, cmd.Process.Pid)
	}
	if err := <-flooded; err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids { // the critical ring lost none of them
		w.eventOf(event.KindExit, func(e *event.Event) bool { return e.PID == uint32(pid) })
	}
	w.stop()
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
	k := st.Kinds[event.KindOpen]
	if k.Seen < opens {
		t.Errorf("saw %d opens of %d", k.Seen, opens)
	}
	full := k.Lost["ring_full_bulk"]
	if full == 0 {
		t.Error("the ring was never full")
	}
	if got := uint64(len(w.events(func(e *event.Event) bool { return e.Open != nil }))); got != st.Decoded[event.KindOpen] || got+full+k.Ignored+k.Filtered != k.Seen {
		t.Errorf("%d events, %d decoded, %d lost, %d ignored, %d filtered, of %d", got, st.Decoded[event.KindOpen], full, k.Ignored, k.Filtered, k.Seen)
	}
	for _, kind := range []event.Kind{event.KindFork, event.KindExec, event.KindExit} {
		if lost := st.Kinds[kind].Lost; len(lost) > 0 {
			t.Errorf("%s: lost %v", kind, lost)
		}
	}
	// The stream says so, too: its lost records add up to the counter.
	var told uint64
	for _, r := range w.recs {
		if l := r.Lost; l != nil && l.Kind == event.KindOpen && l.Reason == "ring_full_bulk" {
			told += l.Count
			if l.Where != "kernel" || l.From >= l.To {
				t.Errorf("%+v", l)
			}
		}
	}
	if told != full {
		t.Errorf("the stream tells of %d lost, the kernel of %d", told, full)
	}
}

// TestFilter holds the kernel's half of a plan against kfilter's.
func TestFilter(t *testing.T) {
	var p kfilter.Plan
	long := strings.Repeat("n", 63)
	p.Kinds[event.KindOpen] = kfilter.Kind{Mode: kfilter.Filtered, FlagsAny: unix.O_TRUNC, Names: []string{long, "shadow", "s"}}
	p.Kinds[event.KindUnlink] = kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"shadow"}}
	p.Kinds[event.KindRename] = kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"shadow"}}
	w := startWatch(t, Config{Plan: p, NotSelf: true})
	dir := realTemp(t)
	open := func(name string, flags int) {
		t.Helper()
		fd, err := unix.Open(dir+"/"+name, flags|unix.O_CREAT, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	names := []string{"shadow", "shadows", "shado", "s", "ss", "ordinary", "a-rather-long-name-like-shadow", long, long + "n"}
	for _, n := range names {
		open(n, unix.O_RDONLY)
	}
	open("truncated", unix.O_WRONLY|unix.O_TRUNC)
	if err := os.Rename(dir+"/ordinary", dir+"/other"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/shadows", dir+"/x-shadow"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/shado", dir+"/sub-shadow"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/ss", dir+"/shadow"); err != nil { // by its new name
		t.Fatal(err)
	}
	for _, n := range []string{"/other", "/./shadow"} {
		if err := unix.Unlink(dir + n); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir+"/s", 0o700); err != nil { // off
		t.Fatal(err)
	}
	w.settle()
	var got []string
	for _, e := range w.events(func(e *event.Event) bool { return e.PID == uint32(os.Getpid()) }) {
		switch {
		case e.Open != nil && e.Open.Retval >= 0 && e.Open.Flags&unix.O_PATH == 0: // O_PATH: our own look-ups
			got = append(got, "open "+e.Open.File.Name())
		case e.Unlink != nil:
			got = append(got, "unlink "+e.Unlink.File.Name())
		case e.Rename != nil:
			got = append(got, "rename "+e.Rename.File.Name()+" "+e.Rename.Destination.Name())
		case e.Chmod != nil:
			got = append(got, "chmod")
		}
	}
	// A name one longer than what the kernel compares passes as its beginning
	// does: more than asked for, never less.
	want := []string{"open shadow", "open s", "open " + long, "open truncated", "rename ss shadow", "unlink shadow"}
	got = slices.DeleteFunc(got, func(s string) bool { return s == "open "+long+"n" })
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}

	// Changed at run time, both ways; the stream says when.
	p.Kinds[event.KindChmod].Mode = kfilter.All
	p.Kinds[event.KindOpen].Names = []string{"ordinary"}
	if err := w.s.SetPlan(p); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"/s", 0o711); err != nil {
		t.Fatal(err)
	}
	e := w.event(event.KindChmod, func(*event.Event) bool { return true })
	open("shadow", unix.O_RDONLY)
	open("ordinary", unix.O_RDONLY)
	w.settle()
	got = nil
	for _, x := range w.events(func(x *event.Event) bool {
		return x.Open != nil && x.PID == uint32(os.Getpid()) && x.Seq > e.Seq && x.Open.Flags&unix.O_PATH == 0
	}) {
		got = append(got, x.Open.File.Name())
	}
	if want := []string{"ordinary"}; !slices.Equal(got, want) {
		t.Errorf("after the change %q, want %q", got, want)
	}
	plans := 0
	for _, r := range w.recs {
		if r.FilterPlan != nil {
			plans++
			if len(r.FilterPlan.Kinds) < 6 || r.FilterPlan.At == 0 {
				t.Errorf("%+v", r.FilterPlan)
			}
		}
	}
	if plans != 2 {
		t.Errorf("%d plans in the stream, want 2", plans)
	}
	p.Kinds[event.KindChmod].Mode = kfilter.Off
	if err := w.s.SetPlan(p); err != nil {
		t.Fatal(err)
	}
	w.settle()
	before := len(w.events(func(e *event.Event) bool { return e.Chmod != nil }))
	if err := os.Chmod(dir+"/s", 0o700); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if after := len(w.events(func(e *event.Event) bool { return e.Chmod != nil })); after != before {
		t.Error("a kind that is off was reported")
	}
	w.stop()
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
}

// TestSelf holds that our own bulk events are left out, and our execs are not.
func TestSelf(t *testing.T) {
	w := startWatch(t, Config{Plan: everything()})
	path := mkfile(t, realTemp(t)+"/own")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self(t), "0")
	cmd.Env = []string{"CLEW_SENSOR_HELPER=exit"}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	w.event(event.KindFork, func(e *event.Event) bool { return e.Fork.Child.PID == uint32(cmd.Process.Pid) })
	// Nor those of our program that this process starts, once their exec was seen.
	mate := exec.Command(self(t), path)
	mate.Env = []string{"CLEW_SENSOR_HELPER=touch"}
	in, err := mate.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := mate.Start(); err != nil {
		t.Fatal(err)
	}
	pid := uint32(mate.Process.Pid)
	w.eventOf(event.KindExec, func(e *event.Event) bool { return e.PID == pid })
	seen := w.events(func(e *event.Event) bool { return e.PID == pid && e.Open != nil })
	in.Close()
	if err := mate.Wait(); err != nil {
		t.Fatal(err)
	}
	w.eventOf(event.KindExit, func(e *event.Event) bool { return e.PID == pid })
	if got := w.events(func(e *event.Event) bool { return e.PID == pid && e.Chmod != nil }); len(got) > 0 {
		t.Errorf("reported %s of the same program after %d opens", got[0].Kind, len(seen))
	}
	w.settle()
	if got := w.events(func(e *event.Event) bool {
		return e.PID == uint32(os.Getpid()) && (e.Open != nil || e.Chmod != nil)
	}); len(got) > 0 {
		t.Errorf("reported %s of our own", got[0].Kind)
	}
}

// TestStream checks what a stream begins with, its numbers and its order.
func TestStream(t *testing.T) {
	before := exec.Command(self(t))
	before.Env = []string{"CLEW_SENSOR_HELPER=wait", "DD_SERVICE=old", "API_TOKEN=x"}
	before.Args = append(before.Args, "--token=abc")
	in, err := before.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		before.Wait()
	}()
	// It has become the helper when its executable is ours.
	for deadline := time.Now().Add(patience); ; {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", before.Process.Pid))
		if strings.Contains(string(b), "DD_SERVICE=old") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the helper does not start")
		}
	}
	w := startWatch(t, Config{Plan: everything()})
	for range 50 {
		cmd := exec.Command(self(t), "0")
		cmd.Env = []string{"CLEW_SENSOR_HELPER=exit"}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	}
	w.settle()
	w.stop()
	rs := w.recs[0].RunStart
	if rs == nil || rs.Run != 42 || rs.BootID == "" || rs.Kernel == "" || rs.Arch == "" || rs.Mode != string(testMode()) || rs.Schema == 0 || rs.OffsetNS == 0 || rs.At == 0 || rs.Hostname == "" {
		t.Fatalf("%+v", rs)
	}
	if w.recs[1].Clock == nil || w.recs[1].Clock.OffsetNS != rs.OffsetNS || w.recs[2].FilterPlan == nil {
		t.Errorf("%+v %+v", w.recs[1], w.recs[2])
	}
	snaps := map[uint32]*event.Process{}
	var end *event.SnapshotEnd
	var last uint64
	forked := map[procKey]bool{}
	for i, r := range w.recs {
		if r.Seq != uint64(i+1) {
			t.Fatalf("record %d has number %d", i+1, r.Seq)
		}
		switch {
		case r.Snapshot != nil:
			if end != nil || snaps[r.Snapshot.PID] != nil {
				t.Errorf("process %d after the end or twice", r.Snapshot.PID)
			}
			snaps[r.Snapshot.PID] = r.Snapshot
		case r.SnapshotEnd != nil:
			end = r.SnapshotEnd
		case r.Event != nil:
			e := r.Event
			if e.BootNS < last && e.Flags&event.FlagLate == 0 {
				t.Errorf("record %d goes back in time", r.Seq)
			}
			last = max(last, e.BootNS)
			if e.Fork != nil {
				k := procKey{e.Fork.Child.PID, e.Fork.Child.StartNS}
				if forked[k] {
					t.Errorf("process %d was forked twice", k.pid)
				}
				forked[k] = true
				if p := snaps[k.pid]; p != nil && p.StartNS == k.start {
					t.Errorf("process %d is in the snapshot and forked", k.pid)
				}
			}
		}
	}
	if end == nil || end.Processes != uint64(len(snaps)) {
		t.Errorf("%+v, want %d processes", end, len(snaps))
	}

	if snaps[1] == nil || snaps[1].PPID != 0 || snaps[1].NSPID != 1 {
		t.Errorf("pid 1: %+v", snaps[1])
	}
	me := snaps[uint32(os.Getpid())]
	if me == nil {
		t.Fatal("this process is not in the snapshot")
	}
	if me.StartNS/1e7 != startOf(t, os.Getpid()) || me.PPID != uint32(os.Getppid()) || me.Source != "snapshot" || me.File.Path != self(t) {
		t.Errorf("%+v", me)
	}
	old := snaps[uint32(before.Process.Pid)]
	if old == nil {
		t.Fatal("the helper is not in the snapshot")
	}
	checkFile(t, &old.File, self(t))
	if want := []string{self(t), "--token=[redacted]"}; !slices.Equal(old.AllArgs, want) {
		t.Errorf("arguments %q", old.AllArgs)
	}
	if !slices.Equal(old.Envs, []string{"CLEW_SENSOR_HELPER", "DD_SERVICE", "API_TOKEN"}) || !slices.Equal(old.Envp, []string{"DD_SERVICE=old"}) {
		t.Errorf("environment %q %q", old.Envs, old.Envp)
	}
	for _, p := range snaps {
		if p.IsKworker != (p.PPID == 2 || p.PID == 2) {
			t.Errorf("kernel thread %v: %d %s", p.IsKworker, p.PID, p.Comm)
		}
	}
}

// TestNothingLeft holds that a sensor that ends leaves no program, map, link,
// descriptor or goroutine behind, and ends soon.
func TestNothingLeft(t *testing.T) {
	needKernel(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	fds := len(ours(t))
	p0, m0, l0 := census(t)
	s, err := New(Config{Mode: testMode(), Plan: everything()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	began := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, func(r *event.StreamRecord) error {
			if r.SnapshotEnd != nil {
				close(began)
			}
			return nil
		})
	}()
	select {
	case <-began:
	case err := <-done:
		t.Fatal("ended: ", err)
	}
	p1, m1, l1 := census(t)
	for what, sets := range map[string][2]map[uint32]bool{"programs": {p0, p1}, "maps": {m0, m1}, "links": {l0, l1}} {
		fresh := 0
		for id := range sets[1] {
			if !sets[0][id] {
				fresh++
			}
		}
		if fresh == 0 {
			t.Errorf("the census sees no new %s", what)
		}
	}
	at := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Logf("ended in %s", time.Since(at).Round(time.Millisecond))
	if n := len(ours(t)); n != fds {
		t.Errorf("%d descriptors before, %d after: %q", fds, n, ours(t))
	}
	// The kernel frees after a grace period.
	mine := func(before, during map[uint32]bool, exists func(uint32) bool) (left int) {
		for id := range during {
			if !before[id] && exists(id) {
				left++
			}
		}
		return left
	}
	for deadline := time.Now().Add(patience); ; {
		left := mine(p0, p1, func(id uint32) bool {
			p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
			if err == nil {
				p.Close()
			}
			return err == nil
		}) + mine(m0, m1, func(id uint32) bool {
			m, err := ebpf.NewMapFromID(ebpf.MapID(id))
			if err == nil {
				m.Close()
			}
			return err == nil
		})
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d programs and maps are still there", left)
		}
	}
}

// TestSinkFails holds that an error of the sink ends the run and is returned.
func TestSinkFails(t *testing.T) {
	needKernel(t)
	s, err := New(Config{Mode: testMode()})
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	if err := s.Run(t.Context(), func(*event.StreamRecord) error { return full }); !errors.Is(err, full) {
		t.Errorf("Run: %v", err)
	}
	if err := s.Canary(1); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Canary: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Config{Mode: "magic"}); err == nil {
		t.Error("no error")
	}
	if _, err := New(Config{DNSPorts: make([]uint16, MaxDNSPorts+1)}); err == nil {
		t.Error("no error of too many ports")
	}
}

// TestChanged rewrites a path while the call that names it runs: what comes out
// is flagged, if not in every try then in one of many.
func TestChanged(t *testing.T) {
	if resolved() {
		t.Skip("the kernel resolves the path itself in trampoline mode")
	}
	w := startWatch(t, Config{Plan: everything(), NotSelf: true})
	dir := realTemp(t)
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	copy(page, filepath.Join(dir, "a")+"\x00")
	last := len(filepath.Join(dir, "a")) - 1
	stop := make(chan struct{})
	turned := make(chan struct{})
	go func() {
		defer close(turned)
		for c := byte('a'); ; c ^= 'a' ^ 'b' {
			select {
			case <-stop:
				return
			default:
				page[last] = c
			}
		}
	}()
	flagged := func() bool {
		return len(w.events(func(e *event.Event) bool { return e.Mkdir != nil && e.Flags&event.FlagPathChanged != 0 })) > 0
	}
	for deadline := time.Now().Add(patience); !flagged(); {
		if time.Now().After(deadline) {
			t.Fatal("no change was noticed")
		}
		for range 200 {
			rawPath(unix.SYS_MKDIRAT, page, 0o700)
			os.Remove(dir + "/a")
			os.Remove(dir + "/b")
		}
		w.settle()
	}
	close(stop)
	<-turned
}

// TestPlanSaysWhatIsCollected holds that the stream's plan names no kind that
// no program reports: a back-test would take its silence for peace.
func TestPlanSaysWhatIsCollected(t *testing.T) {
	plan := kfilter.Baseline()
	plan.Kinds[event.KindOndemand] = kfilter.Kind{Mode: kfilter.All}
	w := startWatch(t, Config{Plan: plan, NotSelf: true})
	w.settle()
	for _, r := range w.recs {
		if r.FilterPlan == nil {
			continue
		}
		var kinds []string
		for _, k := range r.FilterPlan.Kinds {
			kinds = append(kinds, k.Kind.String())
		}
		if !slices.Contains(kinds, "open") || !slices.Contains(kinds, "exec") || slices.Contains(kinds, "ondemand") {
			t.Errorf("collected: %v", kinds)
		}
		return
	}
	t.Error("no plan in the stream")
}
