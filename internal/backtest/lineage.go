package backtest

import (
	"context"
	"strconv"

	"github.com/clewsec/clew/internal/enrich"
	"github.com/clewsec/clew/internal/event"
)

// Bounds of what is held of a host.
const (
	maxNodes   = 1 << 15 // process images, about a kilobyte each
	maxChanges = 1 << 16
	maxDepth   = 512 // ancestors of a process
)

// onPath marks an image on the way from a process to its ancestors. Depth is
// not stored, so that it is free here: 0 stands for an image not joined yet.
const onPath = ^uint32(0)

type process struct {
	pid   uint32
	start uint64
}

// A lineage gives stored events their processes back, as those were when the
// event happened. The store has an image as it was sent, which is when the
// first event of it was kept; what happened to it later is taken from the
// stored events that say so.
type lineage struct {
	nodesOf func(context.Context, []event.Ref) (map[event.Ref]*event.Process, error)

	nodes    map[event.Ref]*event.Process
	absent   map[event.Ref]bool
	contexts map[string]*event.Context
	names    *enrich.Names
	path     []*event.Process

	// Changes of images, oldest first in order, so that the oldest can go.
	uids  changes[event.Ref, *event.Event]
	gids  changes[event.Ref, *event.Event]
	caps  changes[event.Ref, *event.Event]
	moves changes[process, *event.Event]
}

// changes is a map that holds the youngest entries.
type changes[K comparable, V any] struct {
	m     map[K]V
	order []K
}

func (c *changes[K, V]) put(k K, v V) {
	if c.m == nil {
		c.m = map[K]V{}
	}
	if _, ok := c.m[k]; !ok {
		if len(c.order) >= maxChanges {
			delete(c.m, c.order[0])
			c.order = c.order[1:]
		}
		c.order = append(c.order, k)
	}
	c.m[k] = v
}

func newLineage(nodesOf func(context.Context, []event.Ref) (map[event.Ref]*event.Process, error)) *lineage {
	l := &lineage{nodesOf: nodesOf, names: enrich.New()}
	l.forget()
	return l
}

// forget gives up what can be read again.
func (l *lineage) forget() {
	l.nodes, l.absent = map[event.Ref]*event.Process{}, map[event.Ref]bool{}
	l.contexts = map[string]*event.Context{}
}

// prepare reads the images that the events need, with their ancestors.
func (l *lineage) prepare(ctx context.Context, events []*event.Event) error {
	if len(l.nodes)+len(l.absent) > maxNodes || len(l.contexts) > maxNodes {
		l.forget()
	}
	var level []event.Ref
	asked := map[event.Ref]bool{}
	want := func(r event.Ref) {
		if !r.IsZero() && l.nodes[r] == nil && !l.absent[r] && !asked[r] {
			asked[r] = true
			level = append(level, r)
		}
	}
	for _, e := range events {
		want(e.ProcID)
		if t := e.Target(); t != nil {
			want(t.Node)
		}
	}
	for range maxDepth {
		if len(level) == 0 {
			return nil
		}
		got, err := l.nodesOf(ctx, level)
		if err != nil {
			return err
		}
		now := level
		level = nil
		for _, r := range now {
			n := got[r]
			if n == nil {
				l.absent[r] = true
				continue
			}
			l.nodes[r] = n
			l.learn(n)
			want(n.ParentID)
		}
	}
	return nil
}

// learn takes names of users and groups from an image. Inside a container the
// numbers mean other people.
func (l *lineage) learn(n *event.Process) {
	if n.ContainerID != "" {
		return
	}
	for _, a := range [...]struct {
		question string
		id       uint32
		name     string
	}{
		{enrich.QuestionUser, n.UID, n.User}, {enrich.QuestionUser, n.EUID, n.EUser}, {enrich.QuestionUser, n.FSUID, n.FSUser},
		{enrich.QuestionGroup, n.GID, n.Group}, {enrich.QuestionGroup, n.EGID, n.EGroup}, {enrich.QuestionGroup, n.FSGID, n.FSGroup},
	} {
		if a.name != "" && a.id != 0 {
			l.names.Answer(&event.Answer{Question: a.question, Key: strconv.FormatUint(uint64(a.id), 10), Values: []string{a.name}})
		}
	}
}

// attach gives an event its process and contexts, and remembers what it does
// to processes. Events come in the order of time.
func (l *lineage) attach(e *event.Event) {
	e.Proc = l.image(e.ProcID)
	if t := e.Target(); t != nil {
		t.Proc = l.image(t.Node)
	}
	e.Contexts = nil
	for _, key := range e.ContextKeys {
		c := l.contexts[key]
		if c == nil {
			c = &event.Context{Key: key}
			l.contexts[key] = c
		}
		e.Contexts = append(e.Contexts, c)
	}
	l.track(e)
}

// track remembers what an event does to processes.
func (l *lineage) track(e *event.Event) {
	switch {
	case e.Kind == event.KindSetuid && e.Setuid != nil:
		l.uids.put(e.ProcID, e)
		l.apply(l.nodes[e.ProcID], e)
	case e.Kind == event.KindSetgid && e.Setgid != nil:
		l.gids.put(e.ProcID, e)
		l.apply(l.nodes[e.ProcID], e)
	case e.Kind == event.KindCapset && e.Capset != nil:
		l.caps.put(e.ProcID, e)
		l.apply(l.nodes[e.ProcID], e)
	case e.Kind == event.KindCgroupWrite && e.CgroupWrite != nil:
		// It names a process: what moves is the image of that moment.
		k := process{e.CgroupWrite.PID, e.CgroupWrite.MovedStartNS}
		l.moves.put(k, e)
		var moved *event.Process
		for _, n := range l.nodes {
			if n.PID == k.pid && n.StartNS == k.start && n.CreatedAt <= e.TimeNS && (moved == nil || n.CreatedAt > moved.CreatedAt) {
				moved = n
			}
		}
		l.apply(moved, e)
	}
}

// apply does to an image what an event says.
func (l *lineage) apply(n *event.Process, e *event.Event) {
	if n == nil {
		return
	}
	switch {
	case e.Setuid != nil:
		s := e.Setuid
		n.UID, n.EUID, n.FSUID = s.UID, s.EUID, s.FSUID
		n.CapEffective, n.CapPermitted = s.CapEffective, s.CapPermitted
		n.User, n.EUser, n.FSUser = s.User, s.EUser, s.FSUser
	case e.Setgid != nil:
		s := e.Setgid
		n.GID, n.EGID, n.FSGID = s.GID, s.EGID, s.FSGID
		n.Group, n.EGroup, n.FSGroup = s.Group, s.EGroup, s.FSGroup
	case e.Capset != nil:
		n.CapEffective, n.CapPermitted = e.Capset.CapEffective, e.Capset.CapPermitted
		return
	case e.CgroupWrite != nil:
		n.Cgroup, n.CgroupID = e.CgroupWrite.Cgroup, e.CgroupWrite.CgroupID
		n.ContainerID, n.CgroupManager = enrich.Container(n.Cgroup)
		return
	}
	if n.ContainerID == "" {
		l.names.Credentials(n)
	}
}

// image finds an image and joins it with its ancestors.
func (l *lineage) image(r event.Ref) *event.Process {
	found := l.nodes[r]
	if r.IsZero() || found == nil {
		return nil
	}
	l.path = l.path[:0]
	n := found
	for n != nil && n.Depth == 0 && len(l.path) < maxDepth {
		n.Depth = onPath
		l.path = append(l.path, n)
		n = l.nodes[n.ParentID]
	}
	if n != nil && (n.Depth == 0 || n.Depth >= maxDepth) {
		n = nil // a circle, or deeper than any lineage
	}
	for i := len(l.path) - 1; i >= 0; i-- {
		p := l.path[i]
		p.Parent, p.Depth = n, 1
		if n != nil {
			p.Depth = n.Depth + 1
		}
		l.renew(p)
		n = p
	}
	return found
}

// renew does to an image that was read what has happened to it meanwhile.
func (l *lineage) renew(n *event.Process) {
	if e := l.moves.m[process{n.PID, n.StartNS}]; e != nil && n.CreatedAt <= e.TimeNS {
		l.apply(n, e)
	}
	uid := l.uids.m[n.ID]
	if uid != nil {
		l.apply(n, uid)
	}
	// Another user has other capabilities, too.
	if e := l.caps.m[n.ID]; e != nil && (uid == nil || e.TimeNS >= uid.TimeNS) {
		l.apply(n, e)
	}
	if e := l.gids.m[n.ID]; e != nil {
		l.apply(n, e)
	}
}
