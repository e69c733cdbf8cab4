package pipeline_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/execctx"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/testkit/streamtest"
)

// rules matches executables by name: "evil" ones raise a signal.
type rules struct{}

func (rules) Eval(ev *event.Event, out []event.Signal) []event.Signal {
	if ev.Kind == event.KindExec && strings.HasPrefix(ev.Proc.File.Name(), "evil") {
		return append(out, event.Signal{RuleID: "evil", Severity: "high"})
	}
	return out
}

// layers are three layers in Go, so that the test needs no rule language.
func layers() []execctx.Layer {
	name := func(e *event.Event) string { return e.Proc.File.Path }
	exec := []event.Kind{event.KindExec}
	return []execctx.Layer{
		{Name: "cgroup", Priority: 10, Kinds: exec, Entity: name, Reason: name,
			Opens:      func(e *event.Event) bool { return true },
			Attributes: func(e *event.Event) []string { return []string{e.Proc.Cgroup} }},
		{Name: "spawned_shell", Priority: 60, Episodic: true, Kinds: exec, Entity: name, Reason: name,
			Opens: func(e *event.Event) bool {
				return e.Proc.File.Name() == "sh" && e.Proc.Parent != nil && e.Proc.Parent.File.Name() == "httpd"
			}},
		{Name: "daemonized", Priority: 70, Episodic: true, Nested: true, Kinds: exec, Entity: name, Reason: name,
			Opens: func(e *event.Event) bool { return e.Proc.Parent != nil && e.Proc.SID != e.Proc.Parent.SID }},
		{Name: execctx.Tainted, Priority: 78, Episodic: true},
	}
}

func run(t *testing.T, records []*event.StreamRecord) ([]event.SpoolRecord, *pipeline.Pipeline) {
	t.Helper()
	p, err := pipeline.New(pipeline.Config{Rules: rules{}, Layers: layers()})
	if err != nil {
		t.Fatal(err)
	}
	var out []event.SpoolRecord
	for _, r := range records {
		if err := p.Push(clone(t, r), func(s *event.SpoolRecord) error {
			out = append(out, cloneSpool(t, s))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return out, p
}

func clone(t *testing.T, r *event.StreamRecord) *event.StreamRecord {
	t.Helper()
	var c event.StreamRecord
	if err := event.ConsumeStreamRecord(event.AppendStreamRecord(nil, r), &c); err != nil {
		t.Fatal(err)
	}
	return &c
}

func cloneSpool(t *testing.T, r *event.SpoolRecord) event.SpoolRecord {
	t.Helper()
	var c event.SpoolRecord
	if err := event.ConsumeSpoolRecord(event.AppendSpoolRecord(nil, r), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// attack: a shell below a web server drops a file that a job runs later, in
// another chain of processes.
func attack(job string) *streamtest.Builder {
	b, init := streamtest.New()
	httpd := b.Spawn(init, "/usr/sbin/httpd", nil)
	sh := b.Spawn(httpd, "/bin/sh", []string{"-c", "id"})
	b.Write(sh, "/tmp/upd")
	b.Spawn(sh, "/tmp/evil1", nil)
	cron := b.Spawn(init, "/usr/sbin/cron", nil)
	if job == "daemonized" {
		b.Spawn(cron, "/tmp/upd", nil, streamtest.Setsid)
	} else {
		b.Spawn(cron, "/tmp/upd", nil)
	}
	b.Spawn(init, "/usr/bin/evil2", nil) // elsewhere, and no part of it
	return b
}

func TestFileLinksContexts(t *testing.T) {
	for _, job := range []string{"daemonized", "plain"} {
		out, _ := run(t, attack(job).Records)
		contexts := map[string]event.Context{}
		var links []event.ContextLink
		for _, r := range out {
			if r.Context != nil {
				contexts[r.Context.Key] = *r.Context
			}
			if r.Link != nil {
				links = append(links, *r.Link)
			}
		}
		if len(links) != 1 {
			t.Fatalf("%s: %d links, want 1: %+v", job, len(links), links)
		}
		l := links[0]
		wantTo := map[string]string{"daemonized": "daemonized", "plain": execctx.Tainted}[job]
		if l.Type != "file_executed" || l.Path != "/tmp/upd" || contexts[l.FromContext].Layer != "spawned_shell" || contexts[l.ToContext].Layer != wantTo {
			t.Errorf("%s: link %+v joins %q with %q", job, l, contexts[l.FromContext].Layer, contexts[l.ToContext].Layer)
		}
		if l.Cause.IsZero() || l.Event.IsZero() {
			t.Errorf("%s: link does not say which events show it", job)
		}
	}
}

// A script is known by its inode, whatever name it is run by, and by a name
// that is relative to the working directory.
func TestScriptLinksContexts(t *testing.T) {
	for name, change := range map[string]func(b *streamtest.Builder, p *event.Process){
		"by another name": func(b *streamtest.Builder, p *event.Process) {
			script := b.File("/tmp/upd")
			script.Path = "/opt/linked"
			p.Script = &script
		},
		"by its argument": func(_ *streamtest.Builder, p *event.Process) {
			p.CWD, p.AllArgs = "/tmp", []string{"bash", "-x", "./upd"}
		},
	} {
		b, init := streamtest.New()
		httpd := b.Spawn(init, "/usr/sbin/httpd", nil)
		sh := b.Spawn(httpd, "/bin/sh", []string{"-c", "id"})
		b.Write(sh, "/tmp/upd")
		b.Spawn(sh, "/tmp/evil1", nil)
		cron := b.Spawn(init, "/usr/sbin/cron", nil)
		b.Spawn(cron, "/bin/bash", nil, streamtest.Setsid, func(p *event.Process) { change(b, p) })
		out, _ := run(t, b.Records)
		var links []event.ContextLink
		for _, r := range out {
			if r.Link != nil {
				links = append(links, *r.Link)
			}
		}
		if len(links) != 1 || links[0].Path != "/tmp/upd" || links[0].Type != "file_executed" {
			t.Errorf("%s: links %+v, want one by /tmp/upd", name, links)
		}
	}
}

// A low signal is part of many people's day: it makes no context hot, so what
// opens inside is not joined to it.
func TestLowSignalsDoNotHeat(t *testing.T) {
	for severity, want := range map[string]int{"info": 0, "low": 0, "medium": 1, "critical": 1} {
		b, init := streamtest.New()
		d := b.Spawn(init, "/usr/bin/evil0", nil, streamtest.Setsid)
		b.Spawn(d, "/usr/bin/other", nil, streamtest.Setsid)
		p, err := pipeline.New(pipeline.Config{Rules: graded(severity), Layers: layers()})
		if err != nil {
			t.Fatal(err)
		}
		links := 0
		for _, r := range b.Records {
			if err := p.Push(clone(t, r), func(s *event.SpoolRecord) error {
				if s.Link != nil {
					links++
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if links != want {
			t.Errorf("after a %s signal %d links, want %d", severity, links, want)
		}
	}
}

// graded raises signals of one severity.
type graded string

func (g graded) Eval(ev *event.Event, out []event.Signal) []event.Signal {
	out = rules{}.Eval(ev, out)
	for i := range out {
		out[i].Severity = string(g)
	}
	return out
}

// Whoever reads the spool in order knows every node, context and parent that a
// record names.
func TestNothingIsNamedBeforeItIsSent(t *testing.T) {
	out, _ := run(t, attack("plain").Records)
	nodes := map[event.Ref]bool{}
	contexts := map[string]bool{}
	for i, r := range out {
		if r.Seq != uint64(i+1) {
			t.Fatalf("record %d has number %d", i+1, r.Seq)
		}
		switch {
		case r.ProcessNode != nil:
			if p := r.ProcessNode.ParentID; !p.IsZero() && !nodes[p] {
				t.Errorf("node %v comes before its parent", r.ProcessNode.ID)
			}
			nodes[r.ProcessNode.ID] = true
		case r.Context != nil:
			contexts[r.Context.Key] = true
		case r.Event != nil:
			if !nodes[r.Event.ProcID] {
				t.Errorf("event %d comes before its process", r.Event.Seq)
			}
			for _, k := range r.Event.ContextKeys {
				if !contexts[k] {
					t.Errorf("event %d comes before its context %s", r.Event.Seq, k)
				}
			}
		case r.Link != nil:
			if !contexts[r.Link.FromContext] || !contexts[r.Link.ToContext] {
				t.Errorf("link comes before its contexts")
			}
		}
	}
	if len(nodes) == 0 || len(contexts) == 0 {
		t.Fatal("nothing was sent")
	}
}

func TestSameStreamSameSpool(t *testing.T) {
	enc := func(rs []event.SpoolRecord) []byte {
		var b []byte
		for i := range rs {
			b = event.AppendSpoolRecord(b, &rs[i])
		}
		return b
	}
	recs := attack("plain").Records
	a, _ := run(t, recs)
	b, _ := run(t, recs)
	if !bytes.Equal(enc(a), enc(b)) {
		t.Error("two runs over one stream differ")
	}
}

// A restart in the middle keeps ids, lineage and contexts.
func TestRestart(t *testing.T) {
	b := attack("daemonized")
	// Cut after the dropped file was written and its context was hot.
	cut := 0
	for i, r := range b.Records {
		if r.Event != nil && r.Event.Kind == event.KindExec && r.Event.Exec.Image.File.Name() == "cron" {
			cut = i + 1
		}
	}
	first, p := run(t, b.Records[:cut])
	state := p.Save()

	// The second run finds cron and pid 1 alive.
	var second []*event.StreamRecord
	start := *b.Records[0].RunStart
	start.Run++
	second = append(second, &event.StreamRecord{Seq: 1, RunStart: &start}, &event.StreamRecord{Seq: 2, RestoredState: state})
	for i, n := range state.Processes {
		if n.File.Name() == "cron" || n.PID == 1 {
			snap := n
			snap.ID, snap.ParentID, snap.Source = event.Ref{}, event.Ref{}, ""
			second = append(second, &event.StreamRecord{Seq: uint64(10 + i), Snapshot: &snap})
		}
	}
	second = append(second, &event.StreamRecord{Seq: 100, SnapshotEnd: &event.SnapshotEnd{}})
	for i, r := range b.Records[cut:] {
		c := clone(t, r)
		c.Seq = uint64(101 + i)
		second = append(second, c)
	}
	out, _ := run(t, second)

	var cronID event.Ref
	for _, r := range first {
		if r.ProcessNode != nil && r.ProcessNode.File.Name() == "cron" && r.ProcessNode.IsExec {
			cronID = r.ProcessNode.ID
		}
	}
	found, linked := false, false
	for _, r := range out {
		if r.ProcessNode != nil && r.ProcessNode.ID == cronID {
			found = true
		}
		if r.Link != nil && r.Link.Path == "/tmp/upd" {
			linked = true
		}
	}
	if cronID.IsZero() || !found {
		t.Errorf("cron lost its identity in the restart (%v)", cronID)
	}
	if !linked {
		t.Error("a file written before the restart and executed after it made no link")
	}
}

// TestBaseline keeps what is rare and decides over the rights of others, in a
// context that nothing has happened in.
func TestBaseline(t *testing.T) {
	b, init := streamtest.New()
	p := b.Spawn(init, "/usr/bin/quiet", []string{"quiet"})
	b.Mount(p, "/mnt", "tmpfs")
	b.Umount(p, "/mnt")
	b.Setxattr(p, "/usr/bin/a", "security.capability")
	b.Setxattr(p, "/usr/bin/b", "user.comment")
	out, _ := run(t, b.Records)
	var got []string
	for _, r := range out {
		if e := r.Event; e != nil && e.Kind != event.KindExec {
			got = append(got, e.Kind.String()+" "+e.Reasons[0])
		}
	}
	if want := []string{"mount baseline", "umount baseline", "setxattr baseline"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}

func TestEveryEventIsAccountedFor(t *testing.T) {
	b := attack("plain")
	out, p := run(t, b.Records)
	s := p.Stats()
	var kept, not uint64
	for k := range s.Kept {
		kept += s.Kept[k]
		not += s.NotKept[k]
	}
	forks := uint64(0)
	for _, r := range b.Records {
		if r.Event != nil && r.Event.Kind == event.KindFork {
			forks++
		}
	}
	if s.Events != kept+not+forks {
		t.Errorf("%d events in; %d kept, %d not kept, %d forks in the table", s.Events, kept, not, forks)
	}
	n := uint64(0)
	for _, r := range out {
		if r.Event != nil {
			n++
		}
	}
	if n != kept {
		t.Errorf("%d events sent, %d counted", n, kept)
	}
}

func TestStreamMustBeginWithRunStart(t *testing.T) {
	p, err := pipeline.New(pipeline.Config{})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Push(&event.StreamRecord{Event: &event.Event{Kind: event.KindExit}}, func(*event.SpoolRecord) error { return nil })
	if err != pipeline.ErrNoRunStart {
		t.Errorf("error is %v", err)
	}
}

// Whatever a recording holds, the pipeline neither panics nor hangs.
func FuzzPush(f *testing.F) {
	for _, job := range []string{"daemonized", "plain"} {
		var b []byte
		for _, r := range attack(job).Records {
			b = protowire.AppendBytes(b, event.AppendStreamRecord(nil, r))
		}
		f.Add(b)
	}
	cfg, err := pipeline.Standard(nil)
	if err != nil {
		f.Fatal(err)
	}
	cfg.Rules = rules{}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := pipeline.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			rec, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return
			}
			b = b[n:]
			var r event.StreamRecord
			if !event.Bounded(rec) || event.ConsumeStreamRecord(rec, &r) != nil {
				return
			}
			if p.Push(&r, func(*event.SpoolRecord) error { return nil }) != nil {
				return
			}
		}
		p.Save()
	})
}

func BenchmarkExec(b *testing.B) {
	sb, init := streamtest.New()
	for range 1000 {
		p := sb.Spawn(init, "/bin/true", []string{"-a", "b"})
		sb.Exit(p, 0)
	}
	var enc [][]byte
	for _, r := range sb.Records {
		enc = append(enc, event.AppendStreamRecord(nil, r))
	}
	b.ReportAllocs()
	for b.Loop() {
		p, _ := pipeline.New(pipeline.Config{Rules: rules{}, Layers: layers()})
		var buf []byte
		for _, e := range enc {
			var r event.StreamRecord
			if err := event.ConsumeStreamRecord(e, &r); err != nil {
				b.Fatal(err)
			}
			if err := p.Push(&r, func(s *event.SpoolRecord) error {
				buf = event.AppendSpoolRecord(buf[:0], s)
				return nil
			}); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/process")
}

// Rules read the names of a file's owner and of whom a file is given to.
func TestFilesAreNamed(t *testing.T) {
	b, init := streamtest.New()
	p := b.Spawn(init, "/bin/sh", nil)
	b.Write(p, "/etc/passwd")
	b.Chmod(p, "/etc/shadow", 0o600)
	seen := map[event.Kind]string{}
	pl, err := pipeline.New(pipeline.Config{Rules: watch(func(ev *event.Event) {
		switch {
		case ev.Open != nil:
			seen[ev.Kind] = ev.Open.File.User + " " + ev.Open.File.Group
		case ev.Chmod != nil:
			seen[ev.Kind] = ev.Chmod.File.User + " " + ev.Chmod.File.Group
		}
	}), Layers: layers()})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range b.Records {
		if i == 1 {
			for _, q := range []string{"user", "group"} {
				answer := &event.StreamRecord{Answer: &event.Answer{Question: q, Key: "0", Values: []string{"root"}}}
				if err := pl.Push(answer, func(*event.SpoolRecord) error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := pl.Push(clone(t, r), func(*event.SpoolRecord) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []event.Kind{event.KindOpen, event.KindChmod} {
		if seen[k] != "root root" {
			t.Errorf("%s: the file's owner is %q", k, seen[k])
		}
	}
}

// watch looks at every event that rules see.
type watch func(*event.Event)

func (w watch) Eval(ev *event.Event, out []event.Signal) []event.Signal { w(ev); return out }
