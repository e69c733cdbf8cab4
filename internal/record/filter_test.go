package record_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/enrich"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/record"
)

const (
	self  = 100
	group = "/docker/0123456789abcdef"
)

func fork(parent, child uint32) *event.StreamRecord {
	return &event.StreamRecord{Event: &event.Event{
		Kind: event.KindFork, PID: parent, StartNS: uint64(parent), CgroupID: 77,
		Fork: &event.Fork{Child: &event.Process{PID: child, PPID: parent, StartNS: uint64(child), Cgroup: group, CgroupID: 77}},
	}}
}

func exec(pid uint32, path string) *event.StreamRecord {
	return &event.StreamRecord{Event: &event.Event{
		Kind: event.KindExec, PID: pid, StartNS: uint64(pid), CgroupID: 77,
		Exec: &event.Exec{Image: &event.Process{
			PID: pid, PPID: self, UID: 5, Cgroup: group, CgroupID: 77, File: event.File{Path: path},
			Envs: []string{"SECRET_NAME", "PATH", "LANG", "OWN"}, Envp: []string{"PATH=/secret", "LANG=C"},
		}},
	}}
}

func exit(pid uint32) *event.StreamRecord {
	return &event.StreamRecord{Event: &event.Event{Kind: event.KindExit, PID: pid, StartNS: uint64(pid), CgroupID: 77, Exit: &event.Exit{}}}
}

func start() *event.StreamRecord {
	return &event.StreamRecord{RunStart: &event.RunStart{
		Run: 1, HostID: "secret-host-id", BootID: "secret-boot-id", Hostname: "secret-name",
	}}
}

// names knows two users, of whom one occurs.
type names struct{}

func (names) Name(question string, id uint32) *event.Answer {
	if question != enrich.QuestionUser || id != 5 && id != 6 {
		return nil
	}
	return &event.Answer{Question: question, Key: strconv.Itoa(int(id)), Values: []string{"user"}}
}

// input is what a sensor gives while the command /bin/cmd runs as 200.
func input() []*event.StreamRecord {
	return []*event.StreamRecord{
		start(),
		{Clock: &event.Clock{OffsetNS: 9}},
		{Snapshot: &event.Process{PID: self, StartNS: self, File: event.File{Path: "/secret/clew"}}},
		{Snapshot: &event.Process{PID: 7, StartNS: 7, File: event.File{Path: "/secret/other"}}},
		{SnapshotEnd: &event.SnapshotEnd{Processes: 2}},
		{Canary: &event.Canary{Nonce: 1}},
		fork(7, 8),
		exec(8, "/secret/other-child"),
		fork(self, 200),
		exec(200, "/bin/cmd"),
		fork(200, 201),
		exec(201, "/bin/child"),
		fork(self, 300),
		exec(300, "/secret/later-child"),
		{Lost: &event.Lost{Reason: "ring_full_bulk", Count: 2}},
		exit(201),
		exec(201, "/secret/number-taken-again"),
		exit(8),
		exit(200),
	}
}

func run(t *testing.T, f *record.Filter, in []*event.StreamRecord) []*event.StreamRecord {
	t.Helper()
	var out []*event.StreamRecord
	for _, r := range in {
		err := f.Push(r, func(r *event.StreamRecord) error { out = append(out, r); return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestCommandOnly(t *testing.T) {
	f := record.NewFilter(self, names{}, []string{"SECRET_NAME=x", "PATH=/secret", "LANG=secret"})
	out := run(t, f, input())
	var got []string
	var all []byte
	for i, r := range out {
		if r.Seq != uint64(i+1) {
			t.Errorf("record %d has number %d", i+1, r.Seq)
		}
		all = event.AppendStreamRecord(all, r)
		switch {
		case r.RunStart != nil:
			got = append(got, "start "+r.RunStart.Hostname)
		case r.Clock != nil:
			got = append(got, "clock")
		case r.Snapshot != nil:
			got = append(got, "snapshot")
			if p := r.Snapshot; p.PID != 200 || p.StartNS != 200 || p.PPID != 0 || p.UID != 5 || p.Cgroup != "/" || p.CgroupID != 1 {
				t.Errorf("first process %+v", p)
			}
		case r.SnapshotEnd != nil:
			got = append(got, "snapshot end")
		case r.Answer != nil:
			got = append(got, "user "+r.Answer.Key)
		case r.Lost != nil:
			got = append(got, "lost")
		case r.Event.Exec != nil:
			got = append(got, "exec "+r.Event.Exec.Image.File.Path)
			if p := r.Event.Exec.Image; p.PPID == self || p.Cgroup != "/" || r.Event.CgroupID != 1 ||
				strings.Join(p.Envs, ",") != "LANG,OWN" || strings.Join(p.Envp, ",") != "LANG=C" {
				t.Errorf("image %+v", p)
			}
		default:
			got = append(got, r.Event.Kind.String())
		}
	}
	want := "start recorded-host,clock,user 5,snapshot,snapshot end,exec /bin/cmd,fork,exec /bin/child,lost,exit,exit"
	if strings.Join(got, ",") != want {
		t.Errorf("recorded %s\nwant %s", strings.Join(got, ","), want)
	}
	for _, secret := range []string{"secret", "SECRET", "docker"} {
		if bytes.Contains(all, []byte(secret)) {
			t.Errorf("the recording tells %q", secret)
		}
	}
	if !f.Ready() || !f.Begun() || !f.Ended() {
		t.Errorf("ready %v, begun %v, ended %v", f.Ready(), f.Begun(), f.Ended())
	}
}

func TestEverything(t *testing.T) {
	f := record.NewFilter(0, names{}, nil)
	in := input()
	out := run(t, f, in)
	if len(out) != len(in) { // no canary, but the name of a user
		t.Errorf("%d records of %d", len(out), len(in))
	}
	if r := out[0].RunStart; r.HostID != "" || r.BootID != "" || r.Hostname != record.Hostname || !r.Recording {
		t.Errorf("run start %+v", r)
	}
	if f.Ended() {
		t.Error("there is no command that could end")
	}
}
