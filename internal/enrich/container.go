package enrich

import (
	"strconv"
	"strings"

	"github.com/clewsec/clew/internal/cgroup"
	"github.com/clewsec/clew/internal/event"
)

// QuestionContainer asks what a container is. The key is its id, as it stands
// in the path of its control group; the values are its runtime, when it was
// made (ns since the epoch, 0 when not known), and then its tags, key:value.
const QuestionContainer = "container"

// A recording's answers are as unbounded as its author likes.
const (
	maxContainers = 4096 // beyond it the oldest is forgotten
	maxTags       = 128  // of one container
	maxTag        = 512  // bytes
)

// A container is what is known of one. Its tags are shared by all processes in
// it and never changed.
type container struct {
	created int64 // ns since the epoch
	runtime string
	tags    []string
}

// containers are those that were seen or answered for.
type containers struct {
	byID  map[string]*container
	order []string // of the first sight; a ring once it is full
	next  int
}

func (cs *containers) get(id string) *container {
	c := cs.byID[id]
	if c != nil {
		return c
	}
	c = &container{}
	if cs.byID == nil {
		cs.byID = map[string]*container{}
	}
	if len(cs.order) < maxContainers {
		cs.order = append(cs.order, id)
	} else {
		delete(cs.byID, cs.order[cs.next])
		cs.order[cs.next] = id
		cs.next = (cs.next + 1) % maxContainers
	}
	cs.byID[id] = c
	return c
}

// answer takes a runtime's description. One without values says nothing.
func (cs *containers) answer(a *event.Answer) {
	if a.Key == "" || len(a.Values) < 2 {
		return
	}
	c := cs.get(a.Key)
	c.runtime = a.Values[0]
	if at, err := strconv.ParseInt(a.Values[1], 10, 64); err == nil && at > 0 && (c.created == 0 || at < c.created) {
		c.created = at // never later than the first of its processes
	}
	c.tags = nil
	for _, tag := range a.Values[2:] {
		if len(tag) <= maxTag && strings.IndexByte(tag, ':') > 0 && len(c.tags) < maxTags {
			c.tags = append(c.tags, tag)
		}
	}
}

// Contained gives a process what is known of its container, or takes from it
// what it had of another one. It tells whether that changed anything.
func (n *Names) Contained(p *event.Process) bool {
	before := [3]string{p.ContainerRuntime, strconv.FormatInt(p.ContainerCreatedAt, 10), strings.Join(p.ContainerTags, "\n")}
	n.contained(p)
	return before != [3]string{p.ContainerRuntime, strconv.FormatInt(p.ContainerCreatedAt, 10), strings.Join(p.ContainerTags, "\n")}
}

func (n *Names) contained(p *event.Process) {
	if p.ContainerID == "" {
		p.ContainerRuntime, p.ContainerCreatedAt, p.ContainerTags = "", 0, nil
		return
	}
	// A user who may make control groups could have copied the id of another
	// container, and shall not have its name as well.
	own := cgroup.OfUser(p.Cgroup)
	c := n.containers.byID[p.ContainerID]
	if c == nil || own {
		c = &container{}
		if q := p.Parent; q != nil && q.ContainerID == p.ContainerID && cgroup.OfUser(q.Cgroup) == own {
			// It has been forgotten here, or was never asked for.
			*c = container{q.ContainerCreatedAt, q.ContainerRuntime, q.ContainerTags}
		}
		if !own {
			known := n.containers.get(p.ContainerID)
			*known = *c
			c = known
		}
	}
	if c.created == 0 || p.Source == "snapshot" && p.CreatedAt != 0 && p.CreatedAt < c.created {
		c.created = p.CreatedAt // a snapshot comes in no order
	}
	if c.runtime == "" {
		c.runtime = p.CgroupManager
	}
	if len(c.tags) == 0 && (c.runtime == cgroup.LXC || c.runtime == cgroup.Nspawn) {
		c.tags = []string{"container_name:" + p.ContainerID} // their id is a name
	}
	p.ContainerRuntime, p.ContainerCreatedAt, p.ContainerTags = c.runtime, c.created, c.tags
}
