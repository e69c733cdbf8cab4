package runtimes

import (
	"os"
	"strings"

	"github.com/clewsec/clew/internal/cgroup"
)

// Host are the places where runtimes of this host are found. Whoever moved a
// socket says so by the variable that the runtime's own tools read, in getenv
// (os.Getenv): DOCKER_HOST, CONTAINER_HOST, CONTAINERD_ADDRESS,
// CONTAINER_RUNTIME_ENDPOINT. A socket that is not there costs nothing.
func Host(getenv func(string) string) []Source {
	socket := func(name string, usual ...string) []string {
		v := strings.TrimPrefix(getenv(name), "unix://")
		if strings.HasPrefix(v, "/") {
			return []string{v}
		}
		return usual
	}
	containerd := socket("CONTAINERD_ADDRESS", "/run/containerd/containerd.sock",
		"/run/k3s/containerd/containerd.sock", "/run/k0s/containerd.sock", "/var/snap/microk8s/common/run/containerd.sock")
	var out []Source
	for _, path := range socket("DOCKER_HOST", "/run/docker.sock") {
		out = append(out, NewDocker(path))
	}
	endpoint := socket("CONTAINER_RUNTIME_ENDPOINT", "/run/crio/crio.sock")
	for _, path := range endpoint {
		runtime := cgroup.CRIO
		if strings.Contains(path, "containerd") {
			runtime = cgroup.Containerd
		}
		out = append(out, NewCRI(path, runtime))
	}
	for _, path := range containerd {
		out = append(out, NewCRI(path, cgroup.Containerd), NewContainerd(path))
	}
	for _, path := range socket("CONTAINER_HOST", "/run/podman/podman.sock") {
		out = append(out, NewPodman(path))
	}
	return append(out, NewFiles(os.DirFS("/")))
}
