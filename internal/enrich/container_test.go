package enrich

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
)

var cid = strings.Repeat("0a", 32)

func answer(id string, values ...string) *event.Answer {
	return &event.Answer{Question: QuestionContainer, Key: id, Values: values}
}

func process(cgroup string, at int64) *event.Process {
	return &event.Process{Cgroup: cgroup, CreatedAt: at, UID: 7}
}

func TestContainer(t *testing.T) {
	n := New()
	first := process("/docker/"+cid, 1000)
	n.Process(first)
	if first.ContainerID != cid || first.ContainerRuntime != "docker" || first.ContainerCreatedAt != 1000 || first.ContainerTags != nil {
		t.Errorf("before the answer: %+v", first)
	}
	n.Answer(answer(cid, "docker", "900", "image_name:nginx", "container_name:web"))
	if !n.Contained(first) || n.Contained(first) {
		t.Error("the answer changes a process once")
	}
	if !slices.Equal(first.ContainerTags, []string{"image_name:nginx", "container_name:web"}) || first.ContainerCreatedAt != 900 {
		t.Errorf("after the answer: %+v", first)
	}
	second := process("/docker/"+cid, 2000)
	n.Process(second)
	if second.ContainerCreatedAt != 900 || !slices.Equal(second.ContainerTags, first.ContainerTags) {
		t.Errorf("a later process: %+v", second)
	}

	// Out of the container again.
	second.ContainerID, second.CgroupManager, second.Cgroup = "", "", "/"
	if !n.Contained(second) || second.ContainerTags != nil || second.ContainerRuntime != "" || second.ContainerCreatedAt != 0 {
		t.Errorf("moved out: %+v", second)
	}

	// A machine's id is its name.
	m := process("/lxc.payload.web/init.scope", 5)
	n.Process(m)
	if m.ContainerRuntime != "lxc" || !slices.Equal(m.ContainerTags, []string{"container_name:web"}) {
		t.Errorf("LXC: %+v", m)
	}

	// Of a snapshot the oldest process counts, in whichever order it comes.
	for _, at := range []int64{70, 50, 60} {
		p := process("/docker/"+strings.Repeat("0b", 32), at)
		p.Source = "snapshot"
		n.Process(p)
		if want := min(at, 70); at != 60 && p.ContainerCreatedAt != want || at == 60 && p.ContainerCreatedAt != 50 {
			t.Errorf("snapshot of %d: created at %d", at, p.ContainerCreatedAt)
		}
	}
}

// TestContainerOfUser holds that a user who calls a control group as a
// container of root's is called does not get that container's name.
func TestContainerOfUser(t *testing.T) {
	n := New()
	n.Answer(answer(cid, "docker", "900", "image_name:trusted"))
	forged := process("/user.slice/user-7.slice/user@7.service/docker-"+cid+".scope", 1000)
	n.Process(forged)
	if forged.ContainerTags != nil || forged.ContainerID != cid || forged.ContainerCreatedAt != 1000 {
		t.Errorf("forged: %+v", forged)
	}
	child := process(forged.Cgroup, 2000)
	child.Parent = forged
	n.Process(child)
	if child.ContainerTags != nil || child.ContainerCreatedAt != 1000 {
		t.Errorf("its child: %+v", child)
	}
	// Nor does one who left the real one for it.
	real := process("/docker/"+cid, 1500)
	n.Process(real)
	child.Parent = real
	n.Contained(child)
	if child.ContainerTags != nil {
		t.Errorf("left the real one: %+v", child)
	}
}

func TestContainerLimits(t *testing.T) {
	n := New()
	for i := range maxContainers + 10 {
		n.Answer(answer(fmt.Sprint("c", i), "docker", "1", "a:b"))
	}
	if len(n.containers.byID) != maxContainers || len(n.containers.order) != maxContainers || n.containers.byID["c9"] != nil || n.containers.byID["c10"] == nil {
		t.Errorf("%d containers are known", len(n.containers.byID))
	}
	// What has been forgotten lives on in the processes.
	old := &event.Process{ContainerID: cid, Cgroup: "/docker/" + cid, ContainerTags: []string{"a:b"}, ContainerCreatedAt: 3, ContainerRuntime: "docker"}
	p := process("/docker/"+cid, 9)
	p.Parent = old
	n.Process(p)
	if p.ContainerCreatedAt != 3 || !slices.Equal(p.ContainerTags, old.ContainerTags) {
		t.Errorf("child of a forgotten container: %+v", p)
	}
	many := []string{"docker", "x"}
	for range 2 * maxTags {
		many = append(many, "a:b")
	}
	n.Answer(answer("many", append(many, "long:"+strings.Repeat("x", maxTag))...))
	n.Answer(answer("odd", "docker", "-5", "no colon", ":no key", "ok:"))
	n.Answer(answer("", "docker", "1"))
	n.Answer(answer("short", "docker"))
	if c := n.containers.byID; len(c["many"].tags) != maxTags || c["many"].created != 0 || !slices.Equal(c["odd"].tags, []string{"ok:"}) || c["odd"].created != 0 || c["short"] != nil {
		t.Errorf("limits: %d tags, odd %+v, short %+v", len(c["many"].tags), c["odd"], c["short"])
	}
}
