//go:build linux && (amd64 || arm64)

package sensor

import "github.com/clewsec/clew/internal/cgroup"

// container reads a container's id and who made the control group out of its
// path. It is done at decode so that a record of the stream says by itself
// where its process was.
func container(path string) (id, manager string) {
	p := cgroup.Parse(path)
	return p.ID, p.Manager
}
