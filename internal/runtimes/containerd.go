package runtimes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/clewsec/clew/internal/cgroup"
)

// Containerd speaks containerd's own API: containers of nerdctl, ctr and of
// programs that embed it. Containers of pods are asked of CRI, those of docker
// of docker, which know more.
type Containerd struct {
	path string
	grpc *grpcClient
}

// NewContainerd asks the containerd at a socket.
func NewContainerd(path string) *Containerd { return &Containerd{path, newGRPC(path)} }

// String implements Source.
func (c *Containerd) String() string { return "containerd at " + c.path }

// Knows implements Source.
func (c *Containerd) Knows(p cgroup.Place) bool {
	return p.Manager == cgroup.Containerd || p.Manager == ""
}

const (
	maxNamespaces   = 32
	namespaceHeader = "containerd-namespace"
	dockerNamespace = "moby"   // where docker keeps its own, without names
	kubeNamespace   = "k8s.io" // where the CRI plugin keeps pods
)

// Lookup implements Source.
func (c *Containerd) Lookup(ctx context.Context, q Query) (*Container, error) {
	spaces := []string{kubeNamespace}
	if !q.Place.Kube {
		var err error
		if spaces, err = c.namespaces(ctx); err != nil {
			return nil, fmt.Errorf("%v: namespaces: %w", c, err)
		}
	}
	for _, space := range spaces {
		out, err := c.in(ctx, space, q)
		if !errors.Is(err, ErrUnknown) {
			return out, err
		}
	}
	return nil, fmt.Errorf("%v: container %s: %w", c, q.ID, ErrUnknown)
}

func (c *Containerd) namespaces(ctx context.Context) ([]string, error) {
	reply, err := c.grpc.call(ctx, "/containerd.services.namespaces.v1.Namespaces/List", nil)
	if err != nil {
		return nil, err
	}
	var out []string
	err = reply.fields(func(n protowire.Number, b message, _ uint64) error {
		if n != 1 {
			return nil
		}
		return b.fields(func(n protowire.Number, b message, _ uint64) error {
			if n == 1 && len(out) < maxNamespaces && string(b) != dockerNamespace {
				out = append(out, string(b))
			}
			return nil
		})
	})
	slices.Sort(out)
	return out, err
}

// in looks a container up in one namespace.
func (c *Containerd) in(ctx context.Context, space string, q Query) (*Container, error) {
	reply, err := c.grpc.call(ctx, "/containerd.services.containers.v1.Containers/Get", message(nil).str(1, q.ID), namespaceHeader, space)
	if err != nil {
		return nil, fmt.Errorf("%v: container %s: %w", c, q.ID, err)
	}
	out := &Container{ID: q.ID, Runtime: cgroup.Containerd}
	err = reply.fields(func(n protowire.Number, b message, _ uint64) error {
		if n != 1 {
			return nil
		}
		return b.fields(func(n protowire.Number, b message, _ uint64) error {
			switch n {
			case 2:
				return b.entry(&out.Labels)
			case 3:
				out.Image = string(b)
			case 8:
				return b.time(&out.Created)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("%v: container %s: %w", c, q.ID, err)
	}
	out.Name = out.Labels["nerdctl/name"]
	if q.Place.Kube {
		out.Namespace, out.Pod = out.Labels["io.kubernetes.pod.namespace"], out.Labels["io.kubernetes.pod.name"]
		out.KubeName = out.Labels["io.kubernetes.container.name"]
		out.Name = out.KubeName
	}
	if out.Image != "" {
		out.Digest = c.digest(ctx, space, out.Image)
	}
	return out, nil
}

// digest is what an image's name stands for; empty when containerd does not
// have it any more.
func (c *Containerd) digest(ctx context.Context, space, image string) (digest string) {
	reply, err := c.grpc.call(ctx, "/containerd.services.images.v1.Images/Get", message(nil).str(1, image), namespaceHeader, space)
	if err != nil {
		return ""
	}
	// image 1 { target 3 { digest 2 } }
	err = reply.path(func(b message) { digest = string(b) }, 1, 3, 2)
	if err != nil {
		return ""
	}
	return digest
}

// path calls f with what lies at the end of a path of field numbers.
func (m message) path(f func(message), at ...protowire.Number) error {
	if len(at) == 0 {
		f(m)
		return nil
	}
	return m.fields(func(n protowire.Number, b message, _ uint64) error {
		if n != at[0] {
			return nil
		}
		return b.path(f, at[1:]...)
	})
}

// time reads a google.protobuf.Timestamp.
func (m message) time(into *time.Time) error {
	var s, ns int64
	err := m.fields(func(n protowire.Number, _ message, v uint64) error {
		switch n {
		case 1:
			s = int64(v)
		case 2:
			ns = int64(v)
		}
		return nil
	})
	*into = time.Unix(s, ns)
	return err
}

// Watch implements Watcher: each container is looked up when it is made.
func (c *Containerd) Watch(ctx context.Context, tell func(*Container)) error {
	// Each filter is one of containerd's; any may hold.
	req := message(nil).str(1, `topic=="/containers/create"`)
	stream, err := c.grpc.method("/containerd.services.events.v1.Events/Subscribe").CallServerStream(ctx, connect.NewRequest(&req))
	if err != nil {
		return fmt.Errorf("%v: watch: %w", c, err)
	}
	defer stream.Close()
	for stream.Receive() {
		// envelope { namespace 2, event 4 { value 2 { id 1 } } }
		var space, id string
		m := *stream.Msg()
		err := errors.Join(m.path(func(b message) { space = string(b) }, 2), m.path(func(b message) { id = string(b) }, 4, 2, 1))
		if err != nil {
			return fmt.Errorf("%v: watch: %w", c, err)
		}
		if space == dockerNamespace || id == "" {
			continue
		}
		q := Query{ID: id, Place: cgroup.Place{ID: id, Manager: cgroup.Containerd, Kube: space == kubeNamespace}}
		if found, err := c.in(ctx, space, q); err == nil {
			tell(found)
		}
	}
	if err := stream.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%v: watch: %w", c, err)
	}
	return nil
}
