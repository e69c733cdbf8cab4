// Package cgroup reads what the path of a control group says: which container
// its processes are in, and who made it. Runtimes agree on nothing here, so
// this is a table of their habits; docs/containers.md shows it.
//
// A path is a claim. Whoever may make control groups, as a user may below a
// delegated one, may choose their names: Place.User tells where that is so.
package cgroup

import "strings"

// Who made a control group.
const (
	Docker     = "docker"
	Containerd = "containerd"
	CRIO       = "cri-o"
	Podman     = "podman"
	LXC        = "lxc"
	Nspawn     = "systemd-nspawn"
	BuildKit   = "buildkit"
	Systemd    = "systemd" // a unit or a session, no container
)

// A Place is what a path says.
type Place struct {
	// ID is the container's: 64 hexadecimal digits from most runtimes, 25 digits
	// and letters from BuildKit, the name from LXC and systemd-nspawn. It is a
	// part of the path. Empty outside of containers.
	ID string
	// Manager is one of the constants, empty when not known.
	Manager string
	// Kube tells that the container is part of a pod.
	Kube bool
	// User tells that the control group lies below one that systemd handed to a
	// user, who could have given it any name.
	User bool
}

// Parse reads a path from the root of the hierarchy, as "/docker/ID". The
// innermost container wins: containers nest. It does not allocate, except for
// machine names with escapes in them.
func Parse(path string) Place {
	rest := strings.TrimRight(path, "/")
	leaf := rest[strings.LastIndexByte(rest, '/')+1:]
	for rest != "" {
		i := strings.LastIndexByte(rest, '/')
		name := rest[i+1:]
		rest = rest[:max(i, 0)]
		if id, manager := part(name, rest); id != "" {
			return Place{
				ID: id, Manager: manager,
				Kube: strings.Contains(rest, "kubepods") || strings.HasPrefix(name, "kubepods"),
				User: OfUser(rest),
			}
		}
	}
	if strings.HasSuffix(leaf, ".service") || strings.HasSuffix(leaf, ".scope") || strings.HasSuffix(leaf, ".slice") {
		return Place{Manager: Systemd, User: OfUser(path)}
	}
	return Place{}
}

// OfUser tells whether a path lies below a control group that systemd handed to
// a user.
func OfUser(path string) bool { return strings.Contains(path, ".slice/user@") }

// part reads one directory's name, below its parents.
func part(name, parents string) (id, manager string) {
	unit := strings.TrimSuffix(name, ".scope")
	// slice:prefix:id is what remains when the systemd driver's form meets a
	// runtime with the other driver.
	if i := strings.LastIndexByte(unit, ':'); i >= 0 {
		if hex64(unit[i+1:]) {
			return unit[i+1:], byPrefix(unit[strings.LastIndexByte(unit[:i], ':')+1:i], parents)
		}
		return "", ""
	}
	if n := len(unit) - 64; n >= 0 && hex64(unit[n:]) {
		switch {
		case n == 0:
			return unit, byParents(parents)
		case unit[n-1] != '-', strings.HasSuffix(unit[:n-1], "conmon"):
			// A container's monitor is a process of the host.
			return "", ""
		}
		return unit[n:], byPrefix(unit[:n-1], parents)
	}
	base := parents[strings.LastIndexByte(parents, '/')+1:]
	switch {
	case buildKitID(unit) && base == "buildkit":
		return unit, BuildKit
	case strings.HasPrefix(unit, "docker-") && name != unit && buildKitID(unit[len("docker-"):]):
		return unit[len("docker-"):], BuildKit
	case strings.HasPrefix(name, "lxc.payload."):
		return name[len("lxc.payload."):], LXC
	case base == "lxc" || base == "lxc.payload":
		return name, LXC
	case strings.HasPrefix(unit, "machine-") && name != unit && base == "machine.slice":
		// libvirt's virtual machines are registered like containers.
		if machine := unescape(unit[len("machine-"):]); !strings.HasPrefix(machine, "qemu-") {
			return machine, Nspawn
		}
	case strings.HasPrefix(name, "systemd-nspawn@") && strings.HasSuffix(name, ".service"):
		return unescape(name[len("systemd-nspawn@") : len(name)-len(".service")]), Nspawn
	}
	return "", ""
}

// byPrefix names the runtime that writes prefix-ID.
func byPrefix(prefix, parents string) string {
	switch prefix {
	case "docker":
		return Docker
	case "cri-containerd", "containerd", "nerdctl":
		return Containerd
	case "crio":
		return CRIO
	case "libpod", "libpod-payload":
		return Podman
	}
	return byParents(parents)
}

// byParents names the runtime that puts control groups with bare ids below
// these.
func byParents(parents string) string {
	base := parents[strings.LastIndexByte(parents, '/')+1:]
	switch {
	case strings.Contains(parents, "kubepods"):
		return Containerd // CRI-O writes a prefix
	case base == "docker", strings.Contains(parents, "/ecs/"):
		return Docker
	case strings.HasPrefix(base, "libpod"):
		return Podman
	case base == "default", base == "k8s.io":
		return Containerd // a control group per namespace of containerd
	}
	return ""
}

func hex64(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// buildKitID tells whether s looks like an id of BuildKit: 25 digits of base 36.
func buildKitID(s string) bool {
	if len(s) != 25 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// unescape undoes systemd-escape(1) as far as names of machines need it:
// \x2d is a dash.
func unescape(s string) string { return strings.ReplaceAll(s, `\x2d`, "-") }
