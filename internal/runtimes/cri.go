package runtimes

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/clewsec/clew/internal/cgroup"
)

// CRI speaks the Container Runtime Interface, version v1, which kubelets speak
// with CRI-O and containerd. It knows containers and, under ids of the same
// form, the sandboxes of pods.
type CRI struct {
	path    string
	runtime string
	grpc    *grpcClient
}

// NewCRI asks the runtime at a socket, which is called so (cgroup.CRIO,
// cgroup.Containerd).
func NewCRI(path, runtime string) *CRI { return &CRI{path, runtime, newGRPC(path)} }

// String implements Source.
func (c *CRI) String() string { return c.runtime + "'s CRI at " + c.path }

// Knows implements Source.
func (c *CRI) Knows(p cgroup.Place) bool {
	return p.Manager == c.runtime && (p.Kube || c.runtime == cgroup.CRIO)
}

const criService = "/runtime.v1.RuntimeService/"

// Lookup implements Source.
func (c *CRI) Lookup(ctx context.Context, q Query) (*Container, error) {
	out := &Container{ID: q.ID, Runtime: c.runtime}
	// filter 1 { id 1 }
	reply, err := c.grpc.call(ctx, criService+"ListContainers", message(nil).sub(1, message(nil).str(1, q.ID)))
	if err != nil {
		return nil, fmt.Errorf("%v: container %s: %w", c, q.ID, err)
	}
	found, sandbox := false, ""
	err = reply.fields(func(n protowire.Number, b message, _ uint64) error {
		if n != 1 || found {
			return nil
		}
		one := Container{ID: q.ID, Runtime: c.runtime}
		var id string
		err := b.fields(func(n protowire.Number, b message, v uint64) error {
			switch n {
			case 1:
				id = string(b)
			case 2:
				sandbox = string(b)
			case 3:
				return b.path(func(b message) { one.KubeName = string(b) }, 1)
			case 4:
				return b.fields(func(n protowire.Number, b message, _ uint64) error {
					// 18 is what a person wrote, since Kubernetes 1.28; 1 may be
					// an id.
					if n == 1 && one.Image == "" || n == 18 && len(b) > 0 {
						one.Image = string(b)
					}
					return nil
				})
			case 5:
				one.setRef(string(b))
			case 7:
				one.Created = time.Unix(0, int64(v))
			case 8:
				return b.entry(&one.Labels)
			case 10:
				one.ImageID = string(b)
			}
			return nil
		})
		// The filter also finds the beginnings of ids.
		if found = id == q.ID; found {
			*out = one
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%v: container %s: %w", c, q.ID, err)
	}
	if !found {
		sandbox = q.ID // perhaps the id of a pod's own container
	}
	out.Name = out.KubeName
	if err := c.pod(ctx, sandbox, out); err != nil && !found {
		return nil, fmt.Errorf("%v: container %s: %w", c, q.ID, err)
	}
	return out, nil
}

// setRef takes the runtime's reference to the image: a digest with a name, or
// an id.
func (c *Container) setRef(ref string) {
	name, _, digest := splitImage(ref)
	if digest == "" {
		if c.ImageID == "" {
			c.ImageID = ref
		}
		return
	}
	c.Digest = digest
	if shown, _, _ := splitImage(c.Image); shown == "" {
		c.Image = name
	}
}

// pod adds what the sandbox says.
func (c *CRI) pod(ctx context.Context, sandbox string, out *Container) error {
	reply, err := c.grpc.call(ctx, criService+"PodSandboxStatus", message(nil).str(1, sandbox))
	if err != nil {
		return err
	}
	return reply.path(func(status message) {
		err = status.fields(func(n protowire.Number, b message, v uint64) error {
			switch n {
			case 1:
				if string(b) != sandbox {
					return ErrUnknown
				}
			case 2:
				return b.fields(func(n protowire.Number, b message, _ uint64) error {
					switch n {
					case 1:
						out.Pod = string(b)
					case 3:
						out.Namespace = string(b)
					}
					return nil
				})
			case 4:
				if out.Created.IsZero() {
					out.Created = time.Unix(0, int64(v))
				}
			case 7:
				return b.entry(&out.PodLabels)
			}
			return nil
		})
	}, 1)
}
