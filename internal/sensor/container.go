//go:build linux && (amd64 || arm64)

package sensor

import "strings"

// container reads a container's id and who made the cgroup out of a cgroup's
// path. The id is the last run of 64 hexadecimal digits that stands for
// itself; a host process has none. Runtimes differ in what stands around it:
// docker-ID.scope, cri-containerd-ID.scope, /docker/ID, /kubepods/podUID/ID.
func container(path string) (id, manager string) {
	leaf := ""
	for rest := path; rest != ""; {
		i := strings.LastIndexByte(rest, '/')
		part := rest[i+1:]
		rest = rest[:max(i, 0)]
		if part == "" {
			continue
		}
		if leaf == "" {
			leaf = part
		}
		name := strings.TrimSuffix(part, ".scope")
		prefix := ""
		if j := strings.LastIndexByte(name, '-'); j >= 0 {
			prefix, name = name[:j], name[j+1:]
		}
		if !hex64(name) || strings.HasSuffix(prefix, "conmon") {
			continue
		}
		switch {
		case prefix == "docker":
			return name, "docker"
		case strings.HasSuffix(prefix, "containerd"):
			return name, "containerd"
		case prefix == "crio":
			return name, "cri-o"
		case prefix == "libpod":
			return name, "podman"
		case strings.HasSuffix(rest, "/docker"):
			return name, "docker"
		case strings.Contains(rest, "/libpod"):
			return name, "podman"
		case strings.Contains(rest, "kubepods"):
			return name, "containerd"
		}
		return name, ""
	}
	switch {
	case strings.HasSuffix(leaf, ".service"), strings.HasSuffix(leaf, ".scope"), strings.HasSuffix(leaf, ".slice"):
		return "", "systemd"
	}
	return "", ""
}

func hex64(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}
