package graph

import (
	"slices"
	"strings"
	"testing"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

// TestContainerLane holds that a container is called what its runtime calls it,
// also where some of its processes were stored before anybody knew, and that
// what a runtime starts a container with is in the container's lane.
func TestContainerLane(t *testing.T) {
	id := strings.Repeat("0d", 32)
	for _, tt := range []struct {
		name, label, sub string
		tags             []string
	}{
		{"nobody answered", id[:12], "docker", nil},
		{"docker", "web", "nginx:1.27", []string{"image_name:nginx", "image_tag:1.27", "container_name:web"}},
		{"pod", "web-1/app", "example.org:5000/web", []string{"image_name:example.org:5000/web", "container_name:app", "kube_container_name:app", "pod_name:web-1"}},
	} {
		r := newRecords()
		shim := r.proc(nil, "/usr/bin/containerd-shim")
		runc := r.proc(shim, "/usr/sbin/runc")
		first := r.proc(runc, "/bin/sh")
		first.PID, first.StartNS = runc.PID, runc.StartNS // the same process
		first.ContainerID, first.CgroupManager = id, "docker"
		second := r.proc(first, "/bin/busybox")
		second.ContainerID, second.CgroupManager, second.ContainerTags = id, "docker", tt.tags
		r.event(runc, exec())
		r.event(first, exec())
		r.event(second, exec())
		res := r.build(0)
		i := slices.IndexFunc(res.Graph.Lanes, func(l *clewv1.Lane) bool { return l.Kind == "container" })
		if i < 0 {
			t.Fatalf("%s: lanes %v", tt.name, res.Graph.Lanes)
		}
		if l := res.Graph.Lanes[i]; l.Label != tt.label || l.Sublabel != tt.sub || l.Ref.Id != id {
			t.Errorf("%s: lane %q (%q) of %s", tt.name, l.Label, l.Sublabel, l.Ref.Id)
		}
		if !slices.Equal(res.Containers, []string{tt.label}) {
			t.Errorf("%s: containers %v", tt.name, res.Containers)
		}
		for _, n := range res.Graph.Nodes {
			if want := ContainerLaneID(res.Items[1].Agent, id); strings.HasPrefix(n.Label, "sh") && n.LaneId != want {
				t.Errorf("%s: %s is in lane %s", tt.name, n.Label, n.LaneId)
			}
		}
	}
}
