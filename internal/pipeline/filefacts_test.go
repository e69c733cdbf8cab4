package pipeline

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
)

// A touchy rule matches every event but exits; it asks for the executable of
// each.
type touchy struct{ effects []ruleset.Effect }

func (r *touchy) Eval(ev *event.Event, out []event.Signal) []event.Signal {
	r.effects = r.effects[:0]
	if ev.Kind == event.KindExit {
		return out
	}
	r.effects = append(r.effects, ruleset.Effect{Event: ev, Hash: &ruleset.HashEffect{Field: "process.file", File: &ev.Proc.File}})
	return append(out, event.Signal{RuleID: "touchy", Severity: "low"})
}

func (r *touchy) Effects() []ruleset.Effect { return r.effects }

// TestFileFacts: an event with a signal asks for the file it changed, and what a
// rule asks for beside; each answer joins what asked, once, in any order, and an
// answer that nobody asked for joins nothing.
func TestFileFacts(t *testing.T) {
	var asked []string
	p, err := New(Config{Rules: &touchy{}, Effect: func(x ruleset.Effect) {
		asked = append(asked, fmt.Sprintf("%d %s %s %d", x.Event.Seq, x.Hash.Field, x.Hash.File.Path, x.Hash.File.Inode))
	}})
	if err != nil {
		t.Fatal(err)
	}
	var out []*event.SpoolRecord
	seq := uint64(0)
	push := func(rec event.StreamRecord) uint64 {
		t.Helper()
		seq++
		rec.Seq, rec.BootNS = seq, 1000+seq
		if err := p.Push(&rec, func(r *event.SpoolRecord) error {
			kept := new(event.SpoolRecord)
			if err := event.ConsumeSpoolRecord(event.AppendSpoolRecord(nil, r), kept); err != nil {
				return err
			}
			out = append(out, kept)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return seq
	}
	change := func(ev event.Event) uint64 {
		ev.PID, ev.TID, ev.StartNS = 7, 7, 70
		return push(event.StreamRecord{Event: &ev})
	}
	answer := func(seq uint64, facts event.FileFacts) {
		push(event.StreamRecord{Answer: &event.Answer{Question: QuestionHash, Key: strconv.FormatUint(seq, 10), File: &facts}})
	}
	push(event.StreamRecord{RunStart: &event.RunStart{Run: 5, Seed: make([]byte, 32), HostID: "h"}})
	push(event.StreamRecord{Snapshot: &event.Process{PID: 7, TID: 7, StartNS: 70, File: event.File{Path: "/bin/vi", Inode: 3}}})
	push(event.StreamRecord{SnapshotEnd: &event.SnapshotEnd{Processes: 1}})

	opened := change(event.Event{Kind: event.KindOpen, Open: &event.Open{Flags: 1, File: event.File{Path: "/etc/a", Inode: 11}}})
	read := change(event.Event{Kind: event.KindOpen, Open: &event.Open{File: event.File{Path: "/etc/b", Inode: 12}}})
	failed := change(event.Event{Kind: event.KindChmod, Chmod: &event.Chmod{Retval: -13, File: event.File{Path: "/etc/a", Inode: 11}}})
	renamed := change(event.Event{Kind: event.KindRename, Rename: &event.Rename{
		File: event.File{Path: "/etc/a", Inode: 11, Dev: 8, Filesystem: "ext4"}, Destination: event.File{Path: "/etc/c"},
	}})
	want := []string{
		fmt.Sprintf("%d process.file /bin/vi 3", opened), fmt.Sprintf("%d open.file /etc/a 11", opened), fmt.Sprintf("%d process.file /bin/vi 3", read),
		fmt.Sprintf("%d process.file /bin/vi 3", failed), fmt.Sprintf("%d process.file /bin/vi 3", renamed), fmt.Sprintf("%d rename.file.destination /etc/c 11", renamed),
	}
	if fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("asked\n%q\nwant\n%q", asked, want)
	}

	out = nil
	answer(renamed, event.FileFacts{Field: "rename.file.destination", Hashes: []string{"sha256:cc"}})
	answer(opened, event.FileFacts{Field: "open.file", Reason: "vanished", Before: &event.FileState{Size: 9}})
	answer(opened, event.FileFacts{Field: "open.file", Reason: "twice"})
	answer(opened, event.FileFacts{Field: "nobody.asked"})
	answer(read, event.FileFacts{Field: "open.file", Hashes: []string{"sha256:bb"}})
	if len(out) != 2 {
		t.Fatalf("%d records", len(out))
	}
	if f := out[0].FileFacts; f == nil || f.Event != (event.Ref{Run: 5, Seq: renamed}) || f.Hashes[0] != "sha256:cc" {
		t.Errorf("first answer %+v", out[0])
	}
	if f := out[1].FileFacts; f == nil || f.Event != (event.Ref{Run: 5, Seq: opened}) || f.Reason != "vanished" || f.Before == nil || f.Before.Size != 9 {
		t.Errorf("second answer %+v", out[1])
	}

	// A process is sent again with what is known of its executable now.
	out = nil
	answer(opened, event.FileFacts{Field: "process.file", Hashes: []string{"sha256:ee"}, Metadata: &event.FileMetadata{Type: event.FileELF}})
	if len(out) != 1 || out[0].ProcessNode == nil || out[0].ProcessNode.File.Hashes[0] != "sha256:ee" || out[0].ProcessNode.File.Metadata.Type != event.FileELF {
		t.Errorf("records %+v", out)
	}
	// What is no answer is counted.
	push(event.StreamRecord{Answer: &event.Answer{Question: QuestionHash, Key: "x", File: &event.FileFacts{}}})
	push(event.StreamRecord{Answer: &event.Answer{Question: QuestionHash, Key: "5"}})
	if s := p.Stats(); s.Hashes != 6 || s.Facts != 3 || s.NoFacts != 3 || s.BadRecord != 2 {
		t.Errorf("hashes %d, facts %d, no facts %d, bad %d", s.Hashes, s.Facts, s.NoFacts, s.BadRecord)
	}
}

// TestAskedIsBounded: questions that are never answered do not add up.
func TestAskedIsBounded(t *testing.T) {
	var a asked
	for i := range uint64(5 * maxAsked) {
		a.begin()
		if !a.add(askKey{i, "open.file"}, &awaited{}) || a.add(askKey{i, "open.file"}, &awaited{}) {
			t.Fatal("a question is new once")
		}
	}
	if len(a.open) > 2*maxAsked || len(a.order) > 2*maxAsked {
		t.Errorf("%d questions, %d in order", len(a.open), len(a.order))
	}
	if a.open[askKey{5*maxAsked - 1, "open.file"}] == nil || a.open[askKey{0, "open.file"}] != nil {
		t.Error("not the oldest were given up")
	}
}
