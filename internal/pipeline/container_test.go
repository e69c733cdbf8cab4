package pipeline_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/testkit/streamtest"
)

// TestContainerAnswer holds that events of a container do not wait for its
// name: the processes that were sent without it are sent again with it, those
// that come later have it at once.
func TestContainerAnswer(t *testing.T) {
	id := strings.Repeat("0c", 32)
	in := func(p *event.Process) { p.Cgroup, p.ContainerID, p.CgroupManager = "/docker/"+id, id, "docker" }
	b, init := streamtest.New()
	host := b.Spawn(init, "/usr/bin/containerd-shim", nil)
	first := b.Spawn(host, "/bin/sh", nil, in)
	b.Exec(first, "/usr/bin/evil1", nil, in)
	short := b.Spawn(first, "/bin/true", nil, in)
	b.Exit(short, 0)
	b.Say(&event.Answer{Question: "container", Key: id, Values: []string{"docker", "5", "image_name:nginx"}})
	b.Say(&event.Answer{Question: "container", Key: id, Values: []string{"docker", "5", "image_name:nginx"}}) // once more, and no news
	b.Spawn(first, "/bin/date", nil, in)
	out, _ := run(t, b.Records)

	sent := map[string]int{}
	last := map[event.Ref]*event.Process{}
	for _, r := range out {
		if n := r.ProcessNode; n != nil {
			if n.IsExec {
				sent[n.File.Path]++ // not what it was forked as
			}
			last[n.ID] = n
		}
	}
	for path, want := range map[string]int{"/usr/bin/containerd-shim": 1, "/usr/bin/evil1": 2, "/bin/true": 2, "/bin/date": 1} {
		if sent[path] != want {
			t.Errorf("%s was sent %d times, want %d", path, sent[path], want)
		}
	}
	for _, n := range last {
		inside := n.ContainerID != ""
		if want := map[bool][]string{true: {"image_name:nginx"}}[inside]; !slices.Equal(n.ContainerTags, want) {
			t.Errorf("%s: tags %v, want %v", n.File.Path, n.ContainerTags, want)
		}
		if inside && (n.ContainerRuntime != "docker" || n.ContainerCreatedAt != 5) {
			t.Errorf("%s: runtime %q, created %d", n.File.Path, n.ContainerRuntime, n.ContainerCreatedAt)
		}
	}
	again, _ := run(t, b.Records)
	if !slices.EqualFunc(out, again, func(a, b event.SpoolRecord) bool {
		return string(event.AppendSpoolRecord(nil, &a)) == string(event.AppendSpoolRecord(nil, &b))
	}) {
		t.Error("the same stream gives other records")
	}
}

// TestContainerContexts holds that what a runtime starts in a container has the
// container's context and that of its service, though the runtime's own program
// was moved into the control group first.
func TestContainerContexts(t *testing.T) {
	cfg, err := pipeline.Standard(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Rules = rules{}
	p, err := pipeline.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("0c", 32)
	in := func(p *event.Process) { p.Cgroup, p.ContainerID, p.CgroupManager = "/docker/"+id, id, "docker" }
	b, init := streamtest.New()
	shim := b.Spawn(init, "/usr/bin/containerd-shim", nil, func(p *event.Process) { p.Cgroup = "/system.slice/containerd.service" })
	b.Say(&event.Answer{Question: "container", Key: id, Values: []string{"docker", "5", "image_name:nginx", "service:shop"}})
	runc := b.Spawn(shim, "/usr/sbin/runc", []string{"init"})
	b.Move(shim, runc, "/docker/"+id)
	b.Exec(runc, "/usr/sbin/nginx", nil, in)
	b.Spawn(runc, "/bin/ls", nil, in)
	contexts := map[string]map[string]string{}
	for _, r := range b.Records {
		if err := p.Push(clone(t, r), func(s *event.SpoolRecord) error {
			if e := s.Event; e != nil && e.Kind == event.KindExec {
				of := map[string]string{}
				for _, c := range e.Contexts {
					of[c.Layer] = c.Entity
				}
				contexts[e.Proc.File.Name()] = of
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if got := contexts["runc"]; got["service"] != "containerd" || got["cgroup"] != "/system.slice/containerd.service" {
		t.Errorf("runc carries %v", got)
	}
	for _, name := range []string{"nginx", "ls"} {
		if got := contexts[name]; got["service"] != "shop" || got["cgroup"] != "/docker/"+id {
			t.Errorf("%s carries %v", name, got)
		}
	}
}
