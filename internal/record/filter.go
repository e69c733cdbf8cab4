// Package record makes a recording out of a sensor's stream: of everything, or
// of one command and its descendants. What leaves the host in a recording is
// what happened, not where: the host's name, its ids and the control group of
// whoever recorded are replaced.
package record

import (
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/enrich"
	"github.com/clewsec/clew/internal/event"
)

// Hostname is the name that the host has in a recording.
const Hostname = "recorded-host"

// A process is known by its id and its start.
type process struct {
	pid   uint32
	start uint64
}

// A Filter decides which records of a stream belong into a recording. It is
// for one stream.
type Filter struct {
	command bool   // only the descendants of one command
	self    uint32 // who starts it

	children map[process]struct{} // of self, which have not executed anything
	tree     map[process]struct{} // the command and its living descendants
	root     process
	rooted   bool
	ended    bool
	ready    bool
	seq      uint64

	// The control group that the command starts in: the recorder's.
	cgroup   string
	cgroupID uint64

	names Names
	named map[name]struct{}

	env      map[string]struct{} // the recorder's, NAME=value
	envNames map[string]struct{}
}

// Names knows users and groups of the host.
type Names interface {
	// Name is the answer to a question of package enrich about an id, nil
	// when there is none.
	Name(question string, id uint32) *event.Answer
}

type name struct {
	question string
	id       uint32
}

// NewFilter returns a filter that lets everything through, or, when self is
// not 0, what the first program that a child of process self executes and its
// descendants do. Their lineage ends there. The names of users and groups are
// told when they first occur. What the command has of the recorder's
// environment, env, is left out: that is the host's, not the command's.
func NewFilter(self uint32, names Names, env []string) *Filter {
	f := &Filter{
		names: names, named: map[name]struct{}{},
		command: self != 0, self: self,
		children: map[process]struct{}{}, tree: map[process]struct{}{},
		env: map[string]struct{}{}, envNames: map[string]struct{}{},
	}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		f.env[e], f.envNames[name] = struct{}{}, struct{}{}
	}
	return f
}

// Ready tells that the snapshot of the host is complete: what is started from
// now on is seen from its beginning.
func (f *Filter) Ready() bool { return f.ready }

// Ended tells that the command has ended.
func (f *Filter) Ended() bool { return f.ended }

// Begun tells that the command has been seen.
func (f *Filter) Begun() bool { return f.rooted }

// Push gives the records that are to be written for rec, which it may change,
// to write.
func (f *Filter) Push(rec *event.StreamRecord, write func(*event.StreamRecord) error) error {
	switch {
	case rec.RunStart != nil:
		rec.RunStart.HostID, rec.RunStart.BootID = "", ""
		rec.RunStart.Hostname, rec.RunStart.Recording = Hostname, true
		rec.RunStart.AgentFiles = nil // paths of this host
	case rec.Canary != nil, rec.RestoredState != nil:
		return nil
	case rec.SnapshotEnd != nil:
		f.ready = true
		if f.command {
			return nil // comes after the command itself
		}
	case rec.Snapshot != nil, rec.Answer != nil:
		if f.command {
			return nil
		}
	case rec.Event != nil && f.command:
		return f.event(rec, write)
	}
	return f.write(rec, write)
}

func (f *Filter) write(rec *event.StreamRecord, write func(*event.StreamRecord) error) error {
	if err := f.nameAll(rec, write); err != nil {
		return err
	}
	f.seq++
	rec.Seq = f.seq
	if rec.Event != nil {
		rec.Event.Seq = f.seq
	}
	return write(rec)
}

// event decides about an event when only a command is recorded.
func (f *Filter) event(rec *event.StreamRecord, write func(*event.StreamRecord) error) error {
	ev := rec.Event
	actor := process{ev.PID, ev.StartNS}
	_, inside := f.tree[actor]
	switch {
	case ev.Fork != nil && ev.Fork.Child != nil:
		child := process{ev.Fork.Child.PID, ev.Fork.Child.StartNS}
		if inside {
			f.tree[child] = struct{}{}
		} else if !f.rooted && ev.PID == f.self {
			f.children[child] = struct{}{}
		}
	case ev.Exec != nil && ev.Exec.Image != nil && !f.rooted:
		if _, ok := f.children[actor]; ok {
			inside = true
			if err := f.begin(rec, write); err != nil {
				return err
			}
		}
	case ev.Kind == event.KindExit:
		delete(f.tree, actor)
		delete(f.children, actor)
		if f.rooted && actor == f.root {
			f.ended = true
		}
	}
	if !inside {
		return nil
	}
	f.hide(ev)
	return f.write(rec, write)
}

// nameAll tells the names of the users and groups that a record shows.
func (f *Filter) nameAll(rec *event.StreamRecord, write func(*event.StreamRecord) error) error {
	var err error
	tell := func(question string, ids ...uint32) {
		for _, id := range ids {
			n := name{question, id}
			if _, ok := f.named[n]; ok || err != nil {
				continue
			}
			f.named[n] = struct{}{}
			if a := f.names.Name(question, id); a != nil {
				err = f.write(&event.StreamRecord{Answer: a}, write)
			}
		}
	}
	process := func(p *event.Process) {
		if p != nil {
			tell(enrich.QuestionUser, p.UID, p.EUID, p.FSUID)
			tell(enrich.QuestionGroup, p.GID, p.EGID, p.FSGID)
		}
	}
	process(rec.Snapshot)
	ev := rec.Event
	if ev == nil || !ev.Complete() {
		return err
	}
	process(image(ev))
	process(child(ev))
	if s := ev.Setuid; s != nil {
		tell(enrich.QuestionUser, s.UID, s.EUID, s.FSUID)
	}
	if s := ev.Setgid; s != nil {
		tell(enrich.QuestionGroup, s.GID, s.EGID, s.FSGID)
	}
	for _, r := range event.FileRefs {
		if r.Kind != 0 && r.Kind != ev.Kind {
			continue
		}
		if file := r.Get(ev); file != nil && file.Inode != 0 {
			tell(enrich.QuestionUser, file.UID)
			tell(enrich.QuestionGroup, file.GID)
		}
	}
	if c := ev.Chown; c != nil {
		if c.DestinationUID >= 0 {
			tell(enrich.QuestionUser, uint32(c.DestinationUID))
		}
		if c.DestinationGID >= 0 {
			tell(enrich.QuestionGroup, uint32(c.DestinationGID))
		}
	}
	return err
}

// begin makes the process that executes the command the first one there is. Of
// what it was before nothing is told: that was a copy of the recorder.
func (f *Filter) begin(rec *event.StreamRecord, write func(*event.StreamRecord) error) error {
	ev, image := rec.Event, rec.Event.Exec.Image
	f.rooted, f.root = true, process{ev.PID, ev.StartNS}
	f.tree[f.root] = struct{}{}
	f.children = nil
	f.cgroup, f.cgroupID = image.Cgroup, ev.CgroupID
	if f.cgroupID == 0 {
		f.cgroupID = image.CgroupID
	}
	image.PPID = 0
	first := &event.Process{
		PID: image.PID, TID: image.PID, NSPID: image.NSPID, StartNS: ev.StartNS,
		UID: image.UID, GID: image.GID, EUID: image.EUID, EGID: image.EGID, FSUID: image.FSUID, FSGID: image.FSGID,
		AUID: image.AUID, AuditSession: image.AuditSession, SID: image.SID,
		NetNS: image.NetNS, MntNS: image.MntNS, PIDNS: image.PIDNS,
		CgroupVersion: image.CgroupVersion, Comm: "init", Source: "snapshot",
	}
	first.Cgroup, first.CgroupID = image.Cgroup, image.CgroupID
	f.hideGroup(&first.Cgroup, &first.CgroupID)
	if first.PID == 0 {
		first.PID, first.TID = ev.PID, ev.PID
	}
	for _, r := range []*event.StreamRecord{
		{BootNS: rec.BootNS, Snapshot: first},
		{BootNS: rec.BootNS, SnapshotEnd: &event.SnapshotEnd{Processes: 1}},
	} {
		if err := f.write(r, write); err != nil {
			return err
		}
	}
	return nil
}

// hide replaces what names the place of the recording.
func (f *Filter) hide(ev *event.Event) {
	if ev.CgroupID == f.cgroupID {
		ev.CgroupID = hiddenGroup
	}
	for _, p := range []*event.Process{image(ev), child(ev)} {
		if p != nil {
			f.hideGroup(&p.Cgroup, &p.CgroupID)
			f.hideEnv(p)
			if p.PPID == f.self {
				p.PPID = 0
			}
		}
	}
	if w := ev.CgroupWrite; w != nil {
		f.hideGroup(&w.Cgroup, &w.CgroupID)
	}
}

// hiddenGroup is the id that the recorder's control group has in a recording.
const hiddenGroup = 1

func (f *Filter) hideGroup(path *string, id *uint64) {
	if *path == f.cgroup {
		*path = "/"
	}
	if *id == f.cgroupID {
		*id = hiddenGroup
	}
}

// hideEnv takes out the variables that came from the recorder. Of one that was
// given another value on the way, name and value stay.
func (f *Filter) hideEnv(p *event.Process) {
	changed := map[string]struct{}{}
	p.Envp = slices.DeleteFunc(slices.Clone(p.Envp), func(e string) bool {
		if _, same := f.env[e]; same {
			return true
		}
		name, _, _ := strings.Cut(e, "=")
		changed[name] = struct{}{}
		return false
	})
	p.Envs = slices.DeleteFunc(slices.Clone(p.Envs), func(name string) bool {
		_, inherited := f.envNames[name]
		_, other := changed[name]
		return inherited && !other
	})
}

func image(ev *event.Event) *event.Process {
	if ev.Exec == nil {
		return nil
	}
	return ev.Exec.Image
}

func child(ev *event.Event) *event.Process {
	if ev.Fork == nil {
		return nil
	}
	return ev.Fork.Child
}
