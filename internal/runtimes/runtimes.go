// Package runtimes asks container runtimes what they know of a container: its
// name, its image, its labels, its pod. The kernel says which container an
// event came from at once, and nobody waits for the rest; what a runtime says
// becomes an Answer of the stream, later.
//
// A runtime's reply is input from outside: it is bounded in size and time, and
// stripped of what is not text. Only runtimes of root are asked. Names of
// images and containers are as good as whoever may start containers; labels
// are the workload's own words.
package runtimes

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/clewsec/clew/internal/cgroup"
	"github.com/clewsec/clew/internal/enrich"
	"github.com/clewsec/clew/internal/event"
)

// ErrUnknown means that a runtime answered, and does not have the container.
var ErrUnknown = errors.New("no such container")

const (
	maxReply  = 1 << 20 // bytes of one reply
	maxLabels = 64      // of a container, in order of their names
	maxText   = 200     // bytes of a name or a value; what is longer is cut
	callTime  = 2 * time.Second
)

// A Query asks for one container.
type Query struct {
	ID    string
	Place cgroup.Place // what its control group says
}

// A Source is one runtime, or one place where runtimes leave traces.
type Source interface {
	// String names it in logs: docker at /run/docker.sock.
	String() string
	// Knows tells whether such a container could be one of its own.
	Knows(cgroup.Place) bool
	// Lookup describes a container. The error is around ErrUnknown when the
	// runtime has none of that id, and around another one when there is no
	// telling. It returns soon after ctx ends.
	Lookup(context.Context, Query) (*Container, error)
}

// A Watcher is a source that tells of containers before they start, so that
// one that lives for milliseconds has a name, too.
type Watcher interface {
	Source
	// Watch calls tell until ctx ends or the runtime does. What it tells may
	// lack what only a look-up finds.
	Watch(ctx context.Context, tell func(*Container)) error
}

// A Container is what a runtime says of one. Whatever it does not say is zero.
type Container struct {
	ID      string
	Runtime string // one of cgroup's managers
	Name    string
	Image   string // as it was asked for, docker.io/library/nginx:1.27@sha256:…
	ImageID string // of the configuration, sha256:…
	Digest  string // of the manifest, sha256:…
	Created time.Time
	Labels  map[string]string

	// Of the pod that it is part of.
	Namespace, Pod, KubeName string
	PodLabels                map[string]string
}

// Labels that name the service, the best first.
var serviceLabels = []string{"tags.datadoghq.com/service", "com.docker.compose.service", "app.kubernetes.io/name"}

// Other labels that have a tag of their own.
var knownLabels = []struct{ label, tag string }{
	{"tags.datadoghq.com/env", "env"},
	{"tags.datadoghq.com/version", "version"},
	{"com.docker.compose.project", "docker_compose_project"},
	{"org.opencontainers.image.source", "git.repository_url"},
	{"org.opencontainers.image.revision", "git.commit.sha"},
}

// Answer is the record of the stream that says it.
func (c *Container) Answer() *event.Answer {
	created := int64(0)
	if c.Created.Unix() > 0 && c.Created.Year() < 2200 {
		created = c.Created.UnixNano()
	}
	values := append([]string{c.Runtime, strconv.FormatInt(created, 10)}, c.Tags()...)
	return &event.Answer{Question: enrich.QuestionContainer, Key: c.ID, Values: values}
}

// Tags are what rules see as container.tags: the trade's names for what the
// runtime says, then labels as label.KEY:VALUE, so that no label can pass for
// something else.
func (c *Container) Tags() []string {
	var out []string
	put := func(key, value string) {
		if value = clean(value); value != "" {
			out = append(out, key+":"+value)
		}
	}
	name, tag, digest := splitImage(c.Image)
	put("image_name", name)
	put("short_image", name[strings.LastIndexByte(name, '/')+1:])
	put("image_tag", tag)
	put("image_id", c.ImageID)
	if c.Digest != "" {
		digest = c.Digest
	}
	put("image_digest", digest)
	put("container_name", c.Name)
	put("kube_namespace", c.Namespace)
	put("pod_name", c.Pod)
	put("kube_container_name", c.KubeName)

	label := func(key string) string {
		if v := c.Labels[key]; v != "" {
			return v
		}
		return c.PodLabels[key]
	}
	for _, key := range serviceLabels {
		if v := label(key); v != "" {
			put("service", v)
			break
		}
	}
	for _, k := range knownLabels {
		put(k.tag, label(k.label))
	}
	labels := make([]string, 0, len(c.Labels))
	for key := range c.Labels {
		labels = append(labels, key)
	}
	slices.Sort(labels)
	for _, key := range labels[:min(len(labels), maxLabels)] {
		put("label."+clean(strings.ReplaceAll(key, ":", "_")), c.Labels[key])
	}
	return out
}

// clean makes a runtime's text one that may go anywhere.
func clean(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") // perhaps half a character
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}

// splitImage takes a reference apart: registry.example.org:5000/team/web:1.2@sha256:….
func splitImage(ref string) (name, tag, digest string) {
	if strings.HasPrefix(ref, "sha256:") {
		return "", "", "" // an id, not a name
	}
	name, digest, _ = strings.Cut(ref, "@")
	slash := strings.LastIndexByte(name, '/')
	if i := strings.LastIndexByte(name, ':'); i > slash {
		name, tag = name[:i], name[i+1:]
	}
	return name, tag, digest
}
