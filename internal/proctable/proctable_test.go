package proctable_test

import (
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/proctable"
	"github.com/clewsec/clew/internal/testkit/streamtest"
)

// play feeds a built stream to a table and returns the events.
func play(t *testing.T, tab *proctable.Table, b *streamtest.Builder) []*event.Event {
	t.Helper()
	var evs []*event.Event
	for _, r := range b.Records {
		switch {
		case r.RunStart != nil:
			tab.Start(r.RunStart.Run, r.RunStart.OffsetNS)
		case r.Snapshot != nil:
			tab.Snapshot(r.Seq, r.Snapshot)
		case r.SnapshotEnd != nil:
			tab.EndSnapshot()
		case r.Event != nil:
			r.Event.Seq = r.Seq
			tab.Apply(r.Event)
			evs = append(evs, r.Event)
		}
	}
	return evs
}

func lineage(p *event.Process) []string {
	var out []string
	for ; p != nil; p = p.Parent {
		out = append(out, p.File.Name())
	}
	return out
}

func TestLineage(t *testing.T) {
	b, init := streamtest.New()
	sshd := b.Spawn(init, "/usr/sbin/sshd", nil)
	bash := b.Spawn(sshd, "/bin/bash", []string{"-l"})
	sub := b.Fork(bash) // a subshell
	ls := b.Spawn(sub, "/bin/ls", []string{"-la"})
	b.Exit(ls, 0)
	b.Connect(sub, "10.0.0.1:80")
	evs := play(t, proctable.New(), b)

	exec := find(evs, func(e *event.Event) bool { return e.Kind == event.KindExec && e.Proc.File.Name() == "ls" })
	// The pre-exec image, the subshell, bash, its pre-exec image, …
	want := []string{"ls", "bash", "bash", "bash", "sshd", "sshd", "init", "init"}
	got := lineage(exec.Proc)
	if len(got) != len(want) {
		t.Fatalf("lineage of ls is %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("lineage of ls is %v, want %v", got, want)
		}
	}
	if p := exec.Proc.Parent; p.PID != exec.Proc.PID || !p.IsThread || p.IsExec {
		t.Errorf("parent of an executed image is pid %d (thread %v), want the pre-exec image of %d", p.PID, p.IsThread, exec.Proc.PID)
	}
	conn := evs[len(evs)-1]
	if conn.Proc.File.Name() != "bash" || !conn.Proc.IsThread || conn.Proc.PID != sub.PID {
		t.Errorf("connect of the subshell belongs to %s %d", conn.Proc.File.Name(), conn.Proc.PID)
	}
}

func find(evs []*event.Event, ok func(*event.Event) bool) *event.Event {
	for _, e := range evs {
		if ok(e) {
			return e
		}
	}
	return nil
}

// A pid that comes again within seconds must not be taken for the old process.
func TestPidReuse(t *testing.T) {
	b, init := streamtest.New()
	a := b.Spawn(init, "/bin/a", nil)
	b.Exit(a, 0)
	c := b.Fork(init)
	c.PID = a.PID
	last := b.Records[len(b.Records)-1].Event.Fork.Child
	last.PID, last.TID = a.PID, a.PID
	b.Exec(c, "/bin/c", nil)
	b.Read(c, "/etc/hosts")
	evs := play(t, proctable.New(), b)
	if got := evs[len(evs)-1].Proc.File.Path; got != "/bin/c" {
		t.Errorf("event after pid reuse belongs to %s, want /bin/c", got)
	}
}

// An event of a process that nothing is known of still has a process, counted
// and flagged.
func TestPlaceholder(t *testing.T) {
	b, _ := streamtest.New()
	b.Read(&streamtest.Proc{PID: 4242, Start: 77}, "/etc/hosts")
	tab := proctable.New()
	evs := play(t, tab, b)
	ev := evs[0]
	if ev.Proc == nil || ev.Proc.Source != proctable.SourcePlaceholder || ev.Flags&event.FlagNoProcess == 0 {
		t.Fatalf("process of an unknown actor is %+v, flags %b", ev.Proc, ev.Flags)
	}
	if ev.Proc.Parent == nil || ev.Proc.Parent.PID != 1 {
		t.Errorf("placeholder has parent %+v, want pid 1", ev.Proc.Parent)
	}
	if n := tab.Stats().Placeholders; n != 1 {
		t.Errorf("%d placeholders counted, want 1", n)
	}
}

// A process that executes itself for ever holds a bounded lineage.
func TestEndlessExec(t *testing.T) {
	b, init := streamtest.New()
	p := b.Fork(init)
	for range 2000 {
		b.Exec(p, "/bin/loop", nil)
	}
	tab := proctable.New()
	evs := play(t, tab, b)
	if n := len(lineage(evs[len(evs)-1].Proc)); n > 600 {
		t.Errorf("lineage has %d nodes", n)
	}
	if tab.Stats().Merged == 0 {
		t.Error("images left out of the lineage were not counted")
	}
}

func TestEndedProcessesGo(t *testing.T) {
	b, init := streamtest.New()
	for range 1000 {
		p := b.Spawn(init, "/bin/true", nil)
		b.Exit(p, 0)
		b.Sleep(1e7)
	}
	b.Sleep(10e9)
	b.Read(init, "/etc/hosts")
	tab := proctable.New()
	play(t, tab, b)
	if n := tab.Stats().Processes; n != 1 {
		t.Errorf("%d processes live, want 1", n)
	}
}
