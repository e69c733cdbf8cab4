package graph

import "github.com/clewsec/clew/internal/event"

// ContainerLaneID is the lane of a container.
func ContainerLaneID(agent, container string) string {
	return hashID("l_", "container", agent, container)
}

// ContainerName is what a container is called, as far as a process in it knows:
// pod and container, the name that the runtime has for it, or the beginning of
// its id.
func ContainerName(p *event.Process) string {
	name := p.ContainerTag("container_name")
	if pod := p.ContainerTag("pod_name"); pod != "" {
		name = pod
		if c := p.ContainerTag("kube_container_name"); c != "" {
			name += "/" + c
		}
	}
	if name == "" {
		name = p.ContainerID
		if len(name) == 64 {
			name = name[:12]
		}
	}
	return Short(name, 40)
}

// ContainerImage is the image of a process's container, with its tag; empty
// when nobody said.
func ContainerImage(p *event.Process) string {
	image := p.ContainerTag("image_name")
	if tag := p.ContainerTag("image_tag"); tag != "" && image != "" {
		image += ":" + tag
	}
	return image
}
