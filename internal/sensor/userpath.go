//go:build linux && (amd64 || arm64)

package sensor

import (
	"strconv"
	"strings"
)

// Paths as callers write them, where the kernel's own object is not at hand.

// A userPath is what a caller wrote and where it begins.
type userPath struct {
	dir   string // root, working directory or descriptor
	given string
	own   bool // given begins with a link that procfs shows of what dir is
	pid   uint32
}

// String is the path as far as texts go: without dots and doubled slashes, and
// with the caller's own root and links followed.
func (p userPath) String() string { return join(p.dir, p.rest()) }

// raw is the path with its dots: ".." behind a symbolic link is another
// directory than the text says.
func (p userPath) raw() string { return p.dir + "/" + p.rest() }

// rest is what was given without the beginnings that lead back to where dir is.
func (p userPath) rest() string {
	if p.own {
		if rest, ok := ownLink(p.given, p.pid); ok {
			return rest
		}
	}
	given := p.given
	for {
		rest, ok := ownRoot(given, p.pid)
		if !ok {
			return given
		}
		given = rest
	}
}

// ownProc takes "/proc/self/", or another name of the caller, off a path.
func ownProc(path string, pid uint32) (string, bool) {
	rest, ok := strings.CutPrefix(path, "/proc/")
	if !ok {
		return "", false
	}
	who, rest, ok := strings.Cut(rest, "/")
	return rest, ok && (who == "self" || who == "thread-self" || who == strconv.FormatUint(uint64(pid), 10))
}

// ownRoot takes a link to the caller's root off a path that begins there.
func ownRoot(path string, pid uint32) (string, bool) {
	rest, ok := ownProc(path, pid)
	if !ok {
		return "", false
	}
	rest, ok = strings.CutPrefix(rest, "root")
	return rest, ok && (rest == "" || rest[0] == '/')
}

// ownLink takes a link to the caller's working directory or to a descriptor off
// a path. It must agree with own_link in bpf/call.h.
func ownLink(path string, pid uint32) (string, bool) {
	rest, ok := ownProc(path, pid)
	if !ok {
		return "", false
	}
	if fd, ok := strings.CutPrefix(rest, "fd/"); ok {
		rest = strings.TrimLeft(fd, "0123456789")
		return rest, rest != fd && (rest == "" || rest[0] == '/')
	}
	rest, ok = strings.CutPrefix(rest, "cwd")
	return rest, ok && (rest == "" || rest[0] == '/')
}

// elsewhere tells whether a path leads through a link of procfs to a place that
// its text does not name.
func elsewhere(path string) bool {
	rest, ok := strings.CutPrefix(path, "/proc/")
	if !ok {
		return false
	}
	parts := strings.Split(rest, "/")
	parts = parts[1:]
	if len(parts) > 1 && parts[0] == "task" {
		parts = parts[2:]
	}
	if len(parts) == 0 {
		return false
	}
	switch parts[0] {
	case "root", "cwd", "exe":
		return true
	case "fd", "map_files":
		return len(parts) > 1
	}
	return false
}
