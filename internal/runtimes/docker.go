package runtimes

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/cgroup"
)

// Docker speaks the Docker Engine API, version 1.24 or later, which podman's
// service offers, too.
type Docker struct {
	path    string
	runtime string
	client  *http.Client
	watched bool
}

// NewDocker asks the engine at a socket.
func NewDocker(path string) *Docker {
	return &Docker{path: path, runtime: cgroup.Docker, client: &http.Client{Transport: transport(path, false)}, watched: true}
}

// NewPodman asks podman's service at a socket. It ends by itself when nobody
// talks to it, and being watched would keep it alive, so it is only asked.
func NewPodman(path string) *Docker {
	return &Docker{path: path, runtime: cgroup.Podman, client: &http.Client{Transport: transport(path, false)}}
}

// String implements Source.
func (d *Docker) String() string { return d.runtime + " at " + d.path }

// Knows implements Source.
func (d *Docker) Knows(p cgroup.Place) bool { return p.Manager == d.runtime || p.Manager == "" }

// get reads one reply.
func (d *Docker) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	resp, err := d.do(ctx, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return err
	}
	if len(b) > maxReply {
		return fmt.Errorf("reply is longer than %d bytes", maxReply)
	}
	return json.Unmarshal(b, into)
}

func (d *Docker) do(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusNotFound:
		resp.Body.Close()
		return nil, ErrUnknown
	case resp.StatusCode != http.StatusOK:
		resp.Body.Close()
		return nil, fmt.Errorf("answers %s", resp.Status)
	}
	return resp, nil
}

// dockerConfig is the part of a container's configuration that says what it
// is; the engine keeps it in its files in the same form.
type dockerConfig struct {
	ID      string `json:"Id"`
	Name    string
	Created string
	Image   string
	Config  struct {
		Image  string
		Labels map[string]string
	}
}

func (c *dockerConfig) container(id, runtime string, kube bool) *Container {
	out := &Container{
		ID: id, Runtime: runtime, Name: strings.TrimPrefix(c.Name, "/"), Image: c.Config.Image, ImageID: c.Image, Labels: c.Config.Labels,
	}
	out.Created, _ = time.Parse(time.RFC3339Nano, c.Created)
	if kube {
		// Elsewhere anybody could have written these labels; of a pod the
		// kubelet did.
		out.Namespace, out.Pod = out.Labels["io.kubernetes.pod.namespace"], out.Labels["io.kubernetes.pod.name"]
		out.KubeName = out.Labels["io.kubernetes.container.name"]
	}
	return out
}

// Lookup implements Source.
func (d *Docker) Lookup(ctx context.Context, q Query) (*Container, error) {
	var c dockerConfig
	if err := d.get(ctx, "/containers/"+url.PathEscape(q.ID)+"/json", &c); err != nil {
		return nil, fmt.Errorf("%v: container %s: %w", d, q.ID, err)
	}
	if c.ID != q.ID {
		// The engine also finds names and the beginnings of ids.
		return nil, fmt.Errorf("%v: container %s: %w", d, q.ID, ErrUnknown)
	}
	out := c.container(q.ID, d.runtime, q.Place.Kube)
	var image struct{ RepoTags, RepoDigests []string }
	if err := d.get(ctx, "/images/"+url.PathEscape(c.Image)+"/json", &image); err == nil {
		name, _, _ := splitImage(out.Image)
		if name == "" && len(image.RepoTags) > 0 {
			out.Image = image.RepoTags[0] // it was started by its id
		}
		for _, ref := range image.RepoDigests {
			repo, digest, _ := strings.Cut(ref, "@")
			if out.Digest == "" || repo == name {
				out.Digest = digest
			}
		}
	}
	return out, nil
}

// Watch implements Watcher.
func (d *Docker) Watch(ctx context.Context, tell func(*Container)) error {
	if !d.watched {
		<-ctx.Done()
		return nil
	}
	const filters = `{"type":["container"],"event":["create","rename"]}`
	resp, err := d.do(ctx, "/events?filters="+url.QueryEscape(filters))
	if err != nil {
		return fmt.Errorf("%v: watch: %w", d, err)
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, maxReply)
	for sc.Scan() {
		var e struct {
			Action   string
			TimeNano int64 `json:"timeNano"`
			Actor    struct {
				ID         string
				Attributes map[string]string
			}
		}
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			return fmt.Errorf("%v: watch: %w", d, err)
		}
		if e.Actor.ID == "" {
			return fmt.Errorf("%v: watch: an event is of no container", d)
		}
		a := e.Actor.Attributes
		c := &Container{ID: e.Actor.ID, Runtime: d.runtime, Name: strings.TrimPrefix(a["name"], "/"), Image: a["image"], Labels: a}
		if e.Action == "create" {
			c.Created = time.Unix(0, e.TimeNano)
		}
		// The engine writes these over labels of the same name.
		for _, key := range []string{"name", "image", "oldName"} {
			delete(a, key)
		}
		tell(c)
	}
	if err := sc.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%v: watch: %w", d, err)
	}
	return nil
}
