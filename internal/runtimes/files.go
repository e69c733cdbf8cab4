package runtimes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/cgroup"
)

// Files finds what runtimes leave on the disk: the only way where none
// listens, as with podman, and the last where one does not answer.
type Files struct{ root fs.FS }

// NewFiles looks below a root directory, which for a host is /. Links are
// followed as root's own: all of it is written by root alone.
func NewFiles(root fs.FS) *Files { return &Files{root: root} }

// String implements Source.
func (f *Files) String() string { return "files of runtimes" }

// Knows implements Source.
func (f *Files) Knows(p cgroup.Place) bool {
	switch p.Manager {
	case cgroup.Docker, cgroup.Containerd, cgroup.CRIO, cgroup.Podman, "":
		return true
	}
	return false
}

const (
	maxFile  = 1 << 20
	maxStore = 16 << 20 // the list of all of podman's or CRI-O's containers
)

// read reads a file that must not be longer than limit.
func (f *Files) read(path string, limit int64) ([]byte, error) {
	file, err := f.root.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s: not a file of at most %d bytes", path, limit)
	}
	return io.ReadAll(io.LimitReader(file, limit))
}

// Lookup implements Source.
func (f *Files) Lookup(ctx context.Context, q Query) (*Container, error) {
	// The id becomes a part of paths.
	if q.ID == "" || strings.ContainsAny(q.ID, `/*?[\`) || strings.HasPrefix(q.ID, ".") {
		return nil, fmt.Errorf("%v: container %q: %w", f, q.ID, ErrUnknown)
	}
	var errs []error
	for _, look := range []func(Query) (*Container, error){f.docker, f.storage, f.bundle} {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c, err := look(q)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrUnknown) {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("%v: container %s: %w", f, q.ID, errors.Join(errs...))
	}
	return nil, fmt.Errorf("%v: container %s: %w", f, q.ID, ErrUnknown)
}

// docker reads the configuration that docker's engine keeps of a container.
func (f *Files) docker(q Query) (*Container, error) {
	if q.Place.Manager != cgroup.Docker && q.Place.Manager != "" {
		return nil, ErrUnknown
	}
	b, err := f.read(filepath.Join("var/lib/docker/containers", q.ID, "config.v2.json"), maxFile)
	if err != nil {
		return nil, err
	}
	var c struct {
		dockerConfig
		ID string
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if c.ID != q.ID {
		return nil, ErrUnknown
	}
	return c.container(q.ID, cgroup.Docker, q.Place.Kube), nil
}

// storage reads the list of containers/storage, which podman and CRI-O share:
// it has names and images, and for podman nothing else has, short of its
// database.
func (f *Files) storage(q Query) (*Container, error) {
	if m := q.Place.Manager; m != cgroup.Podman && m != cgroup.CRIO && m != "" {
		return nil, ErrUnknown
	}
	var out *Container
	for _, list := range []string{"containers.json", "volatile-containers.json"} {
		b, err := f.read(filepath.Join("var/lib/containers/storage/overlay-containers", list), maxStore)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var entries []struct {
			ID       string    `json:"id"`
			Names    []string  `json:"names"`
			Image    string    `json:"image"`
			Metadata string    `json:"metadata"`
			Created  time.Time `json:"created"`
		}
		if err := json.Unmarshal(b, &entries); err != nil {
			return nil, fmt.Errorf("%s: %w", list, err)
		}
		for _, e := range entries {
			if e.ID != q.ID {
				continue
			}
			out = &Container{ID: q.ID, Runtime: q.Place.Manager, ImageID: e.Image, Created: e.Created}
			if len(e.Names) > 0 {
				out.Name = e.Names[0]
			}
			var m struct {
				ImageName string `json:"image-name"`
				Name      string `json:"metadata-name"`
				Namespace string `json:"namespace"`
				PodName   string `json:"pod-name"`
			}
			if json.Unmarshal([]byte(e.Metadata), &m) == nil {
				out.Image = m.ImageName
				if q.Place.Kube {
					out.KubeName = m.Name
				}
			}
		}
	}
	if out == nil {
		return nil, ErrUnknown
	}
	// The bundle has the rest, while the container runs.
	if b, err := f.bundle(q); err == nil {
		out.Labels, out.Namespace, out.Pod, out.KubeName = b.Labels, b.Namespace, b.Pod, b.KubeName
		if out.Runtime == "" {
			out.Runtime = b.Runtime
		}
		if out.KubeName != "" {
			out.Name = out.KubeName
		}
	}
	return out, nil
}

// bundles are where runtimes put the configuration that runc or crun starts a
// container from, and who does.
var bundles = []struct{ pattern, runtime string }{
	{"run/containerd/io.containerd.runtime.v2.task/*/ID/config.json", cgroup.Containerd},
	{"run/k3s/containerd/io.containerd.runtime.v2.task/*/ID/config.json", cgroup.Containerd},
	{"run/k0s/containerd/io.containerd.runtime.v2.task/*/ID/config.json", cgroup.Containerd},
	{"run/docker/containerd/daemon/io.containerd.runtime.v2.task/*/ID/config.json", cgroup.Docker},
	{"run/containers/storage/overlay-containers/ID/userdata/config.json", ""},
	{"var/lib/containers/storage/overlay-containers/ID/userdata/config.json", ""},
}

// bundle reads an OCI bundle's annotations. What was left of the labels is all
// there is of them.
func (f *Files) bundle(q Query) (*Container, error) {
	for _, at := range bundles {
		paths, err := fs.Glob(f.root, strings.Replace(at.pattern, "ID", q.ID, 1))
		if err != nil || len(paths) == 0 {
			continue
		}
		b, err := f.read(paths[0], maxFile)
		if err != nil {
			return nil, err
		}
		var spec struct {
			Annotations map[string]string `json:"annotations"`
		}
		if err := json.Unmarshal(b, &spec); err != nil {
			return nil, fmt.Errorf("%s: %w", paths[0], err)
		}
		out := annotated(spec.Annotations, q)
		if out.Runtime == "" {
			out.Runtime = at.runtime
		}
		if out.Runtime == cgroup.Containerd && strings.Contains(paths[0], "/"+dockerNamespace+"/") {
			out.Runtime = cgroup.Docker
		}
		return out, nil
	}
	return nil, ErrUnknown
}

// annotated describes a container by the annotations that CRI-O, podman and
// containerd's CRI plugin write.
func annotated(a map[string]string, q Query) *Container {
	out := &Container{ID: q.ID, Runtime: q.Place.Manager}
	first := func(keys ...string) string {
		for _, k := range keys {
			if a[k] != "" {
				return a[k]
			}
		}
		return ""
	}
	switch {
	case a["io.container.manager"] == "cri-o":
		out.Runtime = cgroup.CRIO
		var labels map[string]string
		if json.Unmarshal([]byte(a["io.kubernetes.cri-o.Labels"]), &labels) == nil {
			out.Labels = labels
		}
		out.Created, _ = time.Parse(time.RFC3339Nano, a["io.kubernetes.cri-o.Created"])
	case a["io.container.manager"] == "libpod":
		out.Runtime = cgroup.Podman
	}
	out.Image = first("io.kubernetes.cri-o.UserRequestedImage", "io.kubernetes.cri-o.ImageName", "io.kubernetes.cri.image-name")
	out.Namespace = first("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace", "io.kubernetes.cri-o.Namespace")
	out.Pod = first("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name", "io.kubernetes.cri-o.KubeName")
	out.KubeName = first("io.kubernetes.cri.container-name", "io.kubernetes.container.name")
	out.Name = out.KubeName
	return out
}
