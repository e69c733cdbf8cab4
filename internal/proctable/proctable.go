// Package proctable keeps the processes of one host with their whole lineage.
//
// Every process image is a node. A fork makes a node that copies its parent's
// image; an execve makes a new node whose parent is the image before it, of
// the same process. So process.parent of an executed program is what called
// fork, and the ancestors end at pid 1. The table is driven by the stream
// alone and answers from it alone: the same records give the same nodes.
package proctable

import (
	"cmp"
	"slices"

	"github.com/clewsec/clew/internal/event"
)

const (
	// maxDepth bounds the ancestors of a node. A process that executes itself
	// for ever would otherwise hold every image it ever had.
	maxDepth = 512
	// graceNS is how long an ended process can still be named by events that
	// were under way when it ended.
	graceNS = 5e9
)

// Where a node was learnt from.
const (
	SourceRuntime     = "runtime"     // its fork or exec was seen
	SourceSnapshot    = "snapshot"    // it was there when the stream began
	SourceInferred    = "inferred"    // there, its lineage is a guess: the nearest living ancestor
	SourcePlaceholder = "placeholder" // only named by an event, nothing is known of it
)

type key struct {
	pid   uint32
	start uint64
}

type ended struct {
	key
	at uint64
}

// Stats counts what the table had to guess or leave out.
type Stats struct {
	Processes    int    // living processes
	Placeholders uint64 // events of processes that nothing is known of
	Merged       uint64 // images left out of a lineage that grew too deep
	Unpaired     uint64 // execs of processes whose fork was not seen
}

// A Table holds processes. It is not safe for concurrent use.
type Table struct {
	run      uint64
	procs    map[key]*event.Process // current image of each process
	pids     map[uint32]key         // newest process of each pid
	dead     []ended                // in order of their end, from gone on
	gone     int
	snapshot []*event.Process       // waiting for the end of the snapshot
	restored map[key]*event.Process // images that the last run knew
	offset   int64
	stats    Stats
}

// New returns an empty table.
func New() *Table {
	return &Table{procs: map[key]*event.Process{}, pids: map[uint32]key{}, restored: map[key]*event.Process{}}
}

// Start begins a run: references are made with its id, times with its clock.
func (t *Table) Start(run uint64, offsetNS int64) { t.run, t.offset = run, offsetNS }

// SetOffset changes the distance between boot clock and wall clock.
func (t *Table) SetOffset(ns int64) { t.offset = ns }

// Stats returns the counters.
func (t *Table) Stats() Stats {
	s := t.stats
	s.Processes = len(t.procs) - (len(t.dead) - t.gone)
	return s
}

// Restore takes the images that lived when the last run saved its state,
// ancestors first. They count only for processes that the snapshot finds
// again.
func (t *Table) Restore(nodes []event.Process) {
	byRef := make(map[event.Ref]*event.Process, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		// A parent comes before its children, so no lineage is a circle.
		if p := byRef[n.ParentID]; p != nil {
			n.Parent = p
			n.Depth = p.Depth + 1
		}
		byRef[n.ID] = n
		t.restored[key{n.PID, n.StartNS}] = n
	}
}

// Snapshot adds a process that lived before the stream began. Nodes are
// joined when the snapshot ends.
func (t *Table) Snapshot(seq uint64, p *event.Process) {
	p.ID = event.Ref{Run: t.run, Seq: seq}
	if p.Source == "" {
		p.Source = SourceSnapshot
	}
	t.snapshot = append(t.snapshot, p)
}

// EndSnapshot joins the snapshot's processes to a tree and returns them,
// parents before their children.
func (t *Table) EndSnapshot() []*event.Process {
	nodes := t.snapshot
	t.snapshot = nil
	slices.SortStableFunc(nodes, func(a, b *event.Process) int {
		switch {
		case a.StartNS != b.StartNS && a.StartNS < b.StartNS:
			return -1
		case a.StartNS != b.StartNS:
			return 1
		}
		return int(a.PID) - int(b.PID)
	})
	out := nodes[:0:0]
	for _, p := range nodes {
		k := key{p.PID, p.StartNS}
		if _, ok := t.procs[k]; ok {
			continue // its exec was seen meanwhile and says more
		}
		if old := t.restored[k]; old != nil && old.File.Path == p.File.Path {
			// The last run knew this image: it keeps its id and its lineage.
			old.Comm, old.CgroupID, old.Cgroup, old.CgroupManager = p.Comm, p.CgroupID, p.Cgroup, p.CgroupManager
			if p.ContainerID != old.ContainerID || len(p.ContainerTags) > 0 {
				old.ContainerID, old.ContainerRuntime = p.ContainerID, p.ContainerRuntime
				old.ContainerCreatedAt, old.ContainerTags = p.ContainerCreatedAt, p.ContainerTags
			}
			old.UID, old.GID, old.EUID, old.EGID, old.FSUID, old.FSGID = p.UID, p.GID, p.EUID, p.EGID, p.FSUID, p.FSGID
			p = old
		}
		t.put(p)
		out = append(out, p)
	}
	for _, p := range out {
		if p.Parent != nil || p.PID == 1 {
			continue
		}
		if parent := t.byPID(p.PPID); parent != nil && parent != p && parent.StartNS <= p.StartNS {
			t.attach(p, parent)
			continue
		}
		// Its parent is gone: pid 1 has taken it in, or nobody has.
		if init := t.byPID(1); init != nil && init != p {
			t.attach(p, init)
			p.Source = SourceInferred
		}
	}
	clear(t.restored)
	slices.SortStableFunc(out, func(a, b *event.Process) int { return int(a.Depth) - int(b.Depth) })
	return out
}

// Apply takes an event into the table and sets its Proc.
func (t *Table) Apply(ev *event.Event) {
	t.forget(ev.BootNS)
	switch ev.Kind {
	case event.KindFork:
		t.fork(ev)
	case event.KindExec:
		t.exec(ev)
	default:
		ev.Proc = t.actor(ev)
	}
	switch ev.Kind {
	case event.KindExit:
		t.exit(ev)
	case event.KindSetuid:
		if s := ev.Setuid; s != nil {
			ev.Proc.UID, ev.Proc.EUID, ev.Proc.FSUID = s.UID, s.EUID, s.FSUID
			ev.Proc.CapEffective, ev.Proc.CapPermitted = s.CapEffective, s.CapPermitted
			ev.Proc.User, ev.Proc.EUser, ev.Proc.FSUser = s.User, s.EUser, s.FSUser
		}
	case event.KindSetgid:
		if s := ev.Setgid; s != nil {
			ev.Proc.GID, ev.Proc.EGID, ev.Proc.FSGID = s.GID, s.EGID, s.FSGID
			ev.Proc.Group, ev.Proc.EGroup, ev.Proc.FSGroup = s.Group, s.EGroup, s.FSGroup
		}
	case event.KindCgroupWrite:
		if c := ev.CgroupWrite; c != nil {
			if p := t.procs[key{c.PID, c.MovedStartNS}]; p != nil {
				p.Cgroup, p.CgroupID = c.Cgroup, c.CgroupID
			}
		}
	case event.KindCapset:
		if c := ev.Capset; c != nil {
			ev.Proc.CapEffective, ev.Proc.CapPermitted = c.CapEffective, c.CapPermitted
		}
	case event.KindCapabilities:
		if c := ev.Capabilities; c != nil {
			ev.Proc.CapsAttempted |= c.Attempted
			ev.Proc.CapsUsed |= c.Used
		}
	}
	ev.ProcID = ev.Proc.ID
	if target := ev.Target(); target != nil {
		t.find(target)
	}
}

// find finds the other process an event is about. One that ended before the
// event came stays unknown.
func (t *Table) find(target *event.Target) {
	target.Proc = t.procs[key{target.PID, target.StartNS}]
	if target.StartNS == 0 && target.PID != 0 {
		target.Proc = t.byPID(target.PID)
	}
	if target.Proc != nil {
		target.Node = target.Proc.ID
	}
}

// Moved returns the process that a cgroup_write event moved, nil when it is
// not known.
func (t *Table) Moved(c *event.CgroupWrite) *event.Process {
	return t.procs[key{c.PID, c.MovedStartNS}]
}

// actor finds the process of an event, or makes a placeholder for it.
func (t *Table) actor(ev *event.Event) *event.Process {
	k := key{ev.PID, ev.StartNS}
	if p := t.procs[k]; p != nil {
		return p
	}
	ev.Flags |= event.FlagNoProcess
	t.stats.Placeholders++
	p := &event.Process{
		ID: ev.Ref(), PID: ev.PID, TID: ev.TID, StartNS: ev.StartNS, CreatedAt: int64(ev.StartNS) + t.offset,
		UID: ev.UID, GID: ev.GID, EUID: ev.EUID, EGID: ev.GID, FSUID: ev.EUID, FSGID: ev.GID,
		AUID: unset, AuditSession: unset, Source: SourcePlaceholder, CgroupID: ev.CgroupID,
	}
	if init := t.byPID(1); init != nil {
		t.attach(p, init)
	}
	t.put(p)
	return p
}

// unset is the value of a login uid that was never set.
const unset = ^uint32(0)

func (t *Table) fork(ev *event.Event) {
	parent := t.actor(ev)
	ev.Proc = parent
	if ev.Fork == nil || ev.Fork.Child == nil {
		return
	}
	c := ev.Fork.Child
	k := key{c.PID, c.StartNS}
	if t.procs[k] != nil {
		return // the snapshot was faster
	}
	// The record's own process becomes the node: all of the parent's but what
	// the record says.
	said := *c
	*c = *parent
	c.ID, c.Parent, c.ParentID, c.Depth, c.Sent, c.ExitNS = ev.Ref(), nil, event.Ref{}, 0, 0, 0
	c.PID, c.TID, c.PPID, c.StartNS, c.NSPID = said.PID, said.TID, parent.PID, said.StartNS, said.NSPID
	c.CreatedAt = t.created(&said, ev)
	c.ExecTime = 0
	c.CapsAttempted, c.CapsUsed = 0, 0
	c.IsExec, c.IsThread, c.Source = false, true, SourceRuntime
	if said.Comm != "" {
		c.Comm = said.Comm
	}
	if said.CgroupID != 0 && said.CgroupID != c.CgroupID {
		c.CgroupID = said.CgroupID
		if said.Cgroup != "" {
			c.Cgroup, c.ContainerID, c.CgroupManager = said.Cgroup, said.ContainerID, said.CgroupManager
		}
	}
	if said.PIDNS != 0 {
		c.PIDNS = said.PIDNS
	}
	if said.NetNS != 0 {
		c.NetNS = said.NetNS
	}
	if said.MntNS != 0 {
		c.MntNS = said.MntNS
	}
	t.attach(c, parent)
	t.put(c)
}

func (t *Table) created(p *event.Process, ev *event.Event) int64 {
	if p.CreatedAt != 0 {
		return p.CreatedAt
	}
	return int64(ev.BootNS) + t.offset
}

func (t *Table) exec(ev *event.Event) {
	if ev.Exec == nil {
		ev.Exec = &event.Exec{}
	}
	n := ev.Exec.Image
	if n == nil {
		n = &event.Process{}
	}
	ev.Exec.Image = nil
	k := key{ev.PID, ev.StartNS}
	before := t.procs[k]
	if before == nil {
		t.stats.Unpaired++
		if n.PPID != 0 {
			before = t.byPID(n.PPID)
		}
		if before == nil {
			before = t.byPID(1)
		}
		n.Source = SourceInferred
	} else {
		n.Source = SourceRuntime
		if n.PPID == 0 {
			n.PPID = before.PPID
		}
		// What the record could not tell, the image before it had.
		if n.Cgroup == "" && n.CgroupID == before.CgroupID {
			n.Cgroup = before.Cgroup
		}
		if n.ContainerID == "" {
			n.ContainerID = before.ContainerID
		}
		if n.NSPID == 0 {
			n.NSPID = before.NSPID
		}
	}
	n.ID = ev.Ref()
	n.PID, n.TID, n.StartNS = ev.PID, ev.TID, ev.StartNS
	n.IsExec, n.IsThread = true, false
	n.ExecTime = ev.TimeNS
	n.CreatedAt = ev.TimeNS
	if before != nil {
		n.Contexts = before.Contexts
		if before.Depth >= maxDepth && before.PID == n.PID && before.Parent != nil {
			before = before.Parent
			t.stats.Merged++
		}
		t.attach(n, before)
	}
	t.put(n)
	ev.Proc = n
}

func (t *Table) exit(ev *event.Event) {
	p := ev.Proc
	if p.ExitNS != 0 {
		return
	}
	p.ExitNS = max(ev.BootNS, 1)
	t.dead = append(t.dead, ended{key{p.PID, p.StartNS}, ev.BootNS})
}

// forget drops processes that ended long enough ago.
func (t *Table) forget(now uint64) {
	for t.gone < len(t.dead) && t.dead[t.gone].at+graceNS < now {
		k := t.dead[t.gone].key
		delete(t.procs, k)
		if t.pids[k.pid] == k {
			delete(t.pids, k.pid)
		}
		t.gone++
	}
	// They move up once most of the list is gone, not with every event.
	if t.gone > len(t.dead)/2 {
		t.dead = append(t.dead[:0], t.dead[t.gone:]...)
		t.gone = 0
	}
}

func (t *Table) put(p *event.Process) {
	k := key{p.PID, p.StartNS}
	t.procs[k] = p
	if old, ok := t.pids[p.PID]; !ok || old.start <= k.start {
		t.pids[p.PID] = k
	}
}

func (t *Table) attach(p, parent *event.Process) {
	p.Parent, p.ParentID, p.Depth = parent, parent.ID, parent.Depth+1
	if p.Contexts == nil {
		p.Contexts = parent.Contexts
	}
}

func (t *Table) byPID(pid uint32) *event.Process {
	if k, ok := t.pids[pid]; ok {
		return t.procs[k]
	}
	return nil
}

// Process returns the current image of a process, also of one that ended a
// moment ago; nil if it is not known.
func (t *Table) Process(pid uint32, startNS uint64) *event.Process { return t.procs[key{pid, startNS}] }

// Known returns the processes that have not ended, or a moment ago, oldest
// first.
func (t *Table) Known() []*event.Process {
	out := make([]*event.Process, 0, len(t.procs))
	for _, p := range t.procs {
		out = append(out, p)
	}
	sortByStart(out)
	return out
}

// Living returns the processes that have not ended, oldest first.
func (t *Table) Living() []*event.Process {
	out := make([]*event.Process, 0, len(t.procs))
	for _, p := range t.procs {
		if p.ExitNS == 0 {
			out = append(out, p)
		}
	}
	sortByStart(out)
	return out
}

func sortByStart(out []*event.Process) {
	slices.SortFunc(out, func(a, b *event.Process) int {
		switch {
		case a.StartNS < b.StartNS:
			return -1
		case a.StartNS > b.StartNS:
			return 1
		}
		return int(a.PID) - int(b.PID)
	})
}

// InContainer returns the images that are in a container, with those that they
// came from, oldest first: of processes that live, or ended a moment ago.
func (t *Table) InContainer(id string) []*event.Process {
	seen := map[*event.Process]bool{}
	var out []*event.Process
	take := func(p *event.Process) {
		for ; p != nil && p.ContainerID == id && !seen[p]; p = p.Parent {
			seen[p] = true
			out = append(out, p)
		}
	}
	for _, p := range t.snapshot {
		take(p)
	}
	for _, p := range t.procs {
		take(p)
	}
	slices.SortFunc(out, func(a, b *event.Process) int {
		return cmp.Or(cmp.Compare(a.ID.Run, b.ID.Run), cmp.Compare(a.ID.Seq, b.ID.Seq))
	})
	return out
}
