// Package enrich adds to processes and events what the kernel does not say:
// names of users and groups, the container behind a control group. What has
// to be asked outside comes as Answer records of the stream; the package
// itself looks nothing up.
package enrich

import (
	"strconv"

	"github.com/clewsec/clew/internal/cgroup"
	"github.com/clewsec/clew/internal/event"
)

// maxNames bounds the tables of names; a host with more users than that shows
// numbers for the rest.
const maxNames = 65536

// Questions that Answer records reply to.
const (
	QuestionUser  = "user"  // key: uid, value: name
	QuestionGroup = "group" // key: gid, value: name
)

// Names knows users and groups of the host, and its containers. Inside a
// container the numbers mean other people, so only processes of the host are
// named.
type Names struct {
	users, groups map[uint32]string
	containers    containers
	packages      packages
}

// New returns the names that are the same everywhere.
func New() *Names {
	return &Names{users: map[uint32]string{0: "root"}, groups: map[uint32]string{0: "root"}}
}

// Answer takes a reply of the stream.
func (n *Names) Answer(a *event.Answer) {
	if a.Question == QuestionContainer {
		n.containers.answer(a)
		return
	}
	if a.Question == QuestionPackage {
		n.packages.answer(a)
		return
	}
	id, err := strconv.ParseUint(a.Key, 10, 32)
	if err != nil || len(a.Values) == 0 {
		return
	}
	switch {
	case a.Question == QuestionUser && len(n.users) < maxNames:
		n.users[uint32(id)] = a.Values[0]
	case a.Question == QuestionGroup && len(n.groups) < maxNames:
		n.groups[uint32(id)] = a.Values[0]
	}
}

// Process fills in what can be known of a new image.
func (n *Names) Process(p *event.Process) {
	if p.ContainerID == "" || p.CgroupManager == "" {
		id, manager := Container(p.Cgroup)
		if p.ContainerID == "" {
			p.ContainerID = id
		}
		p.CgroupManager = manager
	}
	if p.ContainerID != "" {
		n.contained(p)
		return
	}
	n.Credentials(p)
	n.File(&p.File)
	if p.Interpreter.Path != "" {
		n.File(&p.Interpreter)
	}
}

// Credentials names the users and groups of a process.
func (n *Names) Credentials(p *event.Process) {
	p.User, p.EUser, p.FSUser = n.users[p.UID], n.users[p.EUID], n.users[p.FSUID]
	p.Group, p.EGroup, p.FSGroup = n.groups[p.GID], n.groups[p.EGID], n.groups[p.FSGID]
}

// File names the owner of a file, and its package. A file of which nothing but a path is known
// has no owner to name.
func (n *Names) File(f *event.File) {
	if f.Inode == 0 {
		return
	}
	f.User, f.Group = n.users[f.UID], n.groups[f.GID]
	n.packages.file(f)
}

// Event names what the event's own objects refer to. The event must have its
// payload and its process: numbers of a container mean other names.
func (n *Names) Event(ev *event.Event) {
	if ev.Proc == nil || ev.Proc.ContainerID != "" || !ev.Complete() {
		return
	}
	for _, file := range filesOf[ev.Kind] {
		n.File(file(ev))
	}
	switch {
	case ev.Chown != nil:
		c := ev.Chown
		if c.DestinationUID >= 0 {
			c.DestinationUser = n.users[uint32(c.DestinationUID)]
		}
		if c.DestinationGID >= 0 {
			c.DestinationGroup = n.groups[uint32(c.DestinationGID)]
		}
	case ev.Setuid != nil:
		s := ev.Setuid
		s.User, s.EUser, s.FSUser = n.users[s.UID], n.users[s.EUID], n.users[s.FSUID]
	case ev.Setgid != nil:
		s := ev.Setgid
		s.Group, s.EGroup, s.FSGroup = n.groups[s.GID], n.groups[s.EGID], n.groups[s.FSGID]
	}
}

// filesOf finds the files of an event, by its kind.
var filesOf = func() (of [event.NumKinds][]func(*event.Event) *event.File) {
	for _, r := range event.FileRefs {
		of[r.Kind] = append(of[r.Kind], r.Get)
	}
	return of
}()

// Container finds a container's id, and who made its control group, in the
// path of the control group.
func Container(path string) (id, manager string) {
	p := cgroup.Parse(path)
	return p.ID, p.Manager
}
