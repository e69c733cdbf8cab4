package runtimes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/clewsec/clew/internal/cgroup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	id      = "8a6b041676d7b8b98f36d53ad797b42b43059987203f660807fe8e189478c6b7"
	other   = "50b2ce9c5851ab182d074b226745306bbb30e6ba197785a1583062684754ecd4"
	digest  = "sha256:0b970013351304af46f322da1263516b188318682b2ab1091862497591189ff1"
	imageID = "sha256:bb774c635d9e62fe8672511347bd1520210b268f52ffe4ec6ddf413bde910e78"
)

func query(manager string, kube bool) Query {
	return Query{ID: id, Place: cgroup.Place{ID: id, Manager: manager, Kube: kube}}
}

func TestTags(t *testing.T) {
	many := map[string]string{}
	for i := range 200 {
		many[fmt.Sprintf("l%03d", i)] = "x"
	}
	for _, tt := range []struct {
		name string
		c    Container
		want []string
	}{
		{"nothing", Container{}, nil},
		{"docker", Container{Name: "web", Image: "nginx:1.27", ImageID: imageID, Digest: digest, Labels: map[string]string{"com.docker.compose.service": "shop", "com.docker.compose.project": "p"}},
			[]string{"image_name:nginx", "short_image:nginx", "image_tag:1.27", "image_id:" + imageID, "image_digest:" + digest, "container_name:web", "service:shop",
				"docker_compose_project:p", "label.com.docker.compose.project:p", "label.com.docker.compose.service:shop"}},
		{"registry with a port", Container{Image: "localhost:5000/team/web"}, []string{"image_name:localhost:5000/team/web", "short_image:web"}},
		{"tag and digest", Container{Image: "docker.io/library/redis:7@" + digest},
			[]string{"image_name:docker.io/library/redis", "short_image:redis", "image_tag:7", "image_digest:" + digest}},
		{"started by id", Container{Image: imageID}, nil},
		{"pod", Container{Image: "r/a:1", Namespace: "shop", Pod: "web-1", KubeName: "app", PodLabels: map[string]string{"app.kubernetes.io/name": "web"}},
			[]string{"image_name:r/a", "short_image:a", "image_tag:1", "kube_namespace:shop", "pod_name:web-1", "kube_container_name:app", "service:web"}},
		{"best label", Container{Labels: map[string]string{"app.kubernetes.io/name": "c", "tags.datadoghq.com/service": "a"}},
			[]string{"service:a", "label.app.kubernetes.io/name:c", "label.tags.datadoghq.com/service:a"}},
		{"a label that plays a tag", Container{Labels: map[string]string{"image_name:nginx\nx": "y"}}, []string{"label.image_name_nginxx:y"}},
		{"not text", Container{Name: "a\x00b\x1b[31m\xff\u202ec"}, []string{"container_name:ab[31mc"}},
	} {
		if diff := cmp.Diff(tt.want, tt.c.Tags()); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	if got := (&Container{Labels: many}).Tags(); len(got) != maxLabels || got[0] != "label.l000:x" {
		t.Errorf("%d tags, the first %s", len(got), got[0])
	}
	if got := (&Container{Name: strings.Repeat("ü", 300)}).Tags()[0]; got != "container_name:"+strings.Repeat("ü", maxText/2) {
		t.Errorf("a long name becomes %q", got)
	}
	if a := (&Container{ID: id, Runtime: "docker", Created: time.Unix(1, 5)}).Answer(); a.Question != "container" || a.Key != id || !slices.Equal(a.Values, []string{"docker", "1000000005"}) {
		t.Errorf("answer %+v", a)
	}
	if a := (&Container{Created: time.Unix(1<<40, 0)}).Answer(); a.Values[1] != "0" {
		t.Errorf("a time out of range is %s", a.Values[1])
	}
}

// serve answers on a Unix socket, plain and over HTTP/2, and returns its path.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "r-")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var both http.Protocols
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: &both}
	done := make(chan struct{})
	go func() { s.Serve(l); close(done) }()
	t.Cleanup(func() {
		s.Close()
		<-done
		os.RemoveAll(dir)
	})
	return path
}

func reply(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
}

// What an engine of version 20.10 says, without what is not read.
const inspected = `{"Id":"` + id + `","Created":"2026-11-22T05:33:19.240654731Z","State":{"Pid":27849},"Image":"` + imageID + `","Name":"/web2",
 "HostConfig":{"NetworkMode":"none"},"Config":{"Env":null,"Image":"%s","Labels":{"com.docker.compose.service":"web","io.kubernetes.pod.name":"p","io.kubernetes.pod.namespace":"n"}}}`

func TestDocker(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containers/"+id+"/json", reply(fmt.Sprintf(inspected, "example.org/bb:1.2")))
	mux.HandleFunc("GET /containers/"+other+"/json", reply(fmt.Sprintf(inspected, imageID))) // as if it were a name
	mux.HandleFunc("GET /images/"+imageID+"/json", reply(`{"RepoTags":["bb:1.2"],"RepoDigests":["x/bb@sha256:1","example.org/bb@`+digest+`"]}`))
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		if f := r.FormValue("filters"); !strings.Contains(f, `"create"`) {
			t.Errorf("filters %s", f)
		}
		fmt.Fprintln(w, `{"Type":"container","Action":"create","Actor":{"ID":"`+id+`","Attributes":{"com.docker.compose.service":"web","image":"bb:1.2","name":"web1"}},"timeNano":1795325522308254321}`)
		fmt.Fprintln(w, `{"Type":"container","Action":"rename","Actor":{"ID":"`+id+`","Attributes":{"oldName":"/web1","image":"bb:1.2","name":"web3"}},"timeNano":1795325522308254322}`)
	})
	path := serve(t, mux)
	d := NewDocker(path)
	defer d.client.CloseIdleConnections()
	got, err := d.Lookup(t.Context(), query(cgroup.Docker, false))
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"com.docker.compose.service": "web", "io.kubernetes.pod.name": "p", "io.kubernetes.pod.namespace": "n"}
	want := &Container{ID: id, Runtime: "docker", Name: "web2", Image: "example.org/bb:1.2", ImageID: imageID, Digest: digest,
		Created: time.Date(2026, 11, 22, 5, 33, 19, 240654731, time.UTC), Labels: labels}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err = d.Lookup(t.Context(), query(cgroup.Docker, true)); err != nil || got.Pod != "p" || got.Namespace != "n" {
		t.Errorf("of a pod: %+v, %v", got, err)
	}
	for _, unknown := range []string{other, "nobody", "../../info"} {
		if _, err := d.Lookup(t.Context(), Query{ID: unknown}); !errors.Is(err, ErrUnknown) {
			t.Errorf("container %s: %v", unknown, err)
		}
	}
	var told []Container
	if err := d.Watch(t.Context(), func(c *Container) { told = append(told, *c) }); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]Container{
		{ID: id, Runtime: "docker", Name: "web1", Image: "bb:1.2", Created: time.Unix(0, 1795325522308254321), Labels: map[string]string{"com.docker.compose.service": "web"}},
		{ID: id, Runtime: "docker", Name: "web3", Image: "bb:1.2", Labels: map[string]string{}},
	}, told); diff != "" {
		t.Error(diff)
	}

	p := NewPodman(path)
	defer p.client.CloseIdleConnections()
	if got, err = p.Lookup(t.Context(), query(cgroup.Podman, false)); err != nil || got.Runtime != "podman" {
		t.Errorf("podman: %+v, %v", got, err)
	}
}

// TestHostile holds that no reply costs more than its limits.
func TestHostile(t *testing.T) {
	endless := func(part string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(part)); err != nil {
					return
				}
			}
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"endless text":   endless(strings.Repeat("x", 4096)),
		"endless object": endless(`{"Id":"`),
		"endless lines":  endless("\n"),
		"never":          func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"nothing":        reply(""),
		"not an object":  reply(`[]`),
		"deep":           reply(strings.Repeat(`{"a":`, 100_000)),
		"another type":   reply(`{"Id":{},"Config":7}`),
		"an error":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"a way elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://localhost"+r.URL.Path, http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := serve(t, h)
			d := NewDocker(path)
			defer d.client.CloseIdleConnections()
			begin := time.Now()
			if c, err := d.Lookup(t.Context(), query(cgroup.Docker, false)); err == nil {
				t.Errorf("lookup: %+v", c)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*callTime)
			defer cancel()
			err := d.Watch(ctx, func(c *Container) { t.Errorf("told of %+v", c) })
			if err == nil && name != "nothing" && ctx.Err() == nil {
				t.Error("a watch ended well")
			}
			g := NewContainerd(path)
			defer g.grpc.client.CloseIdleConnections()
			if c, err := g.Lookup(t.Context(), query(cgroup.Containerd, true)); err == nil {
				t.Errorf("lookup by gRPC: %+v", c)
			}
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("took %v", took)
			}
		})
	}
}

// method serves one gRPC method with encoded messages.
func method(mux *http.ServeMux, procedure string, f func(req message, h http.Header) (message, error)) {
	mux.Handle(procedure, connect.NewUnaryHandler(procedure, func(_ context.Context, r *connect.Request[message]) (*connect.Response[message], error) {
		m, err := f(*r.Msg, r.Header())
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(&m), nil
	}, connect.WithCodec(raw{})))
}

func (m message) num(n protowire.Number, v uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, n, protowire.VarintType), v)
}

func pair(k, v string) message { return message(nil).str(1, k).str(2, v) }

// asked is the text at a path of a request.
func text(m message, at ...protowire.Number) (s string) {
	m.path(func(b message) { s = string(b) }, at...)
	return s
}

func TestContainerd(t *testing.T) {
	mux := http.NewServeMux()
	method(mux, "/containerd.services.namespaces.v1.Namespaces/List", func(message, http.Header) (message, error) {
		var m message
		for _, name := range []string{"moby", "zoo", "default"} {
			m = m.sub(1, message(nil).str(1, name))
		}
		return m, nil
	})
	var spaces []string
	method(mux, "/containerd.services.containers.v1.Containers/Get", func(req message, h http.Header) (message, error) {
		space := h.Get(namespaceHeader)
		spaces = append(spaces, space)
		if space == "default" || text(req, 1) != id {
			return nil, connect.NewError(connect.CodeNotFound, errors.New("no"))
		}
		c := message(nil).str(1, id).sub(2, pair("nerdctl/name", "web")).str(3, "docker.io/library/nginx:1.27").sub(8, message(nil).num(1, 1000).num(2, 7))
		return message(nil).sub(1, c), nil
	})
	method(mux, "/containerd.services.images.v1.Images/Get", func(req message, h http.Header) (message, error) {
		return message(nil).sub(1, message(nil).str(1, text(req, 1)).sub(3, message(nil).str(1, "application/json").str(2, digest))), nil
	})
	c := NewContainerd(serve(t, mux))
	defer c.grpc.client.CloseIdleConnections()
	got, err := c.Lookup(t.Context(), query(cgroup.Containerd, false))
	if err != nil {
		t.Fatal(err)
	}
	want := &Container{ID: id, Runtime: "containerd", Name: "web", Image: "docker.io/library/nginx:1.27", Digest: digest, Created: time.Unix(1000, 7),
		Labels: map[string]string{"nerdctl/name": "web"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(spaces, []string{"default", "zoo"}) {
		t.Errorf("asked in %v: docker's own are docker's to name", spaces)
	}
	if _, err := c.Lookup(t.Context(), Query{ID: other}); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v", err)
	}
}

func TestCRI(t *testing.T) {
	mux := http.NewServeMux()
	method(mux, criService+"ListContainers", func(req message, _ http.Header) (message, error) {
		if text(req, 1, 1) != id {
			return nil, nil
		}
		image := message(nil).str(1, imageID).str(18, "example.org/web:2")
		c := message(nil).str(1, id).str(2, "pod1").sub(3, message(nil).str(1, "app")).sub(4, image).str(5, "example.org/web@"+digest).
			num(7, 5_000_000_000).sub(8, pair("io.kubernetes.pod.name", "web-1"))
		return message(nil).sub(1, message(nil).str(1, id+"0")).sub(1, c), nil
	})
	method(mux, criService+"PodSandboxStatus", func(req message, _ http.Header) (message, error) {
		name := text(req, 1)
		if name != "pod1" && name != other {
			return nil, connect.NewError(connect.CodeNotFound, errors.New("no"))
		}
		m := message(nil).str(1, name).sub(2, message(nil).str(1, "web-1").str(2, "uid").str(3, "shop")).num(4, 3_000_000_000).sub(7, pair("app.kubernetes.io/name", "web"))
		return message(nil).sub(1, m), nil
	})
	c := NewCRI(serve(t, mux), cgroup.CRIO)
	defer c.grpc.client.CloseIdleConnections()
	got, err := c.Lookup(t.Context(), query(cgroup.CRIO, true))
	if err != nil {
		t.Fatal(err)
	}
	want := &Container{ID: id, Runtime: "cri-o", Name: "app", Image: "example.org/web:2", Digest: digest, Created: time.Unix(5, 0),
		Labels: map[string]string{"io.kubernetes.pod.name": "web-1"}, Namespace: "shop", Pod: "web-1", KubeName: "app", PodLabels: map[string]string{"app.kubernetes.io/name": "web"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// The pod's own container has an id of the same form.
	if got, err = c.Lookup(t.Context(), Query{ID: other}); err != nil || got.Pod != "web-1" || got.Namespace != "shop" || !got.Created.Equal(time.Unix(3, 0)) {
		t.Errorf("sandbox %+v, %v", got, err)
	}
	if _, err := c.Lookup(t.Context(), Query{ID: "nobody"}); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v", err)
	}
}

func TestFiles(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	quoted, _ := json.Marshal(`{"image-name":"docker.io/library/alpine:latest","image-id":"9c6f","name":"db","created-at":1}`)
	crio, _ := json.Marshal(`{"pod-name":"k8s_POD_web","image-name":"registry.k8s.io/web:2","metadata-name":"app"}`)
	const storage = "var/lib/containers/storage/overlay-containers/"
	task := func(root, space string) string {
		return root + "/io.containerd.runtime.v2.task/" + space + "/" + id + "/config.json"
	}
	for _, tt := range []struct {
		name  string
		files fstest.MapFS
		q     Query
		want  *Container
	}{
		{"docker", fstest.MapFS{"var/lib/docker/containers/" + id + "/config.v2.json": file(
			`{"ID":"` + id + `","Created":"2026-01-02T03:04:05Z","Image":"` + imageID + `","Name":"/web","Config":{"Image":"bb:1","Labels":{"a":"b"}}}`)}, query(cgroup.Docker, false),
			&Container{ID: id, Runtime: "docker", Name: "web", Image: "bb:1", ImageID: imageID, Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Labels: map[string]string{"a": "b"}}},
		{"docker's of another", fstest.MapFS{"var/lib/docker/containers/" + id + "/config.v2.json": file(`{"ID":"` + other + `"}`)}, query(cgroup.Docker, false), nil},
		{"podman", fstest.MapFS{storage + "containers.json": file(
			`[{"id":"` + other + `","names":["x"]},{"id":"` + id + `","names":["db"],"image":"9c6f","metadata":` + string(quoted) + `,"created":"2026-01-02T03:04:05Z"}]`)},
			query(cgroup.Podman, false), &Container{ID: id, Runtime: "podman", Name: "db", Image: "docker.io/library/alpine:latest", ImageID: "9c6f", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}},
		{"podman, --rm", fstest.MapFS{storage + "volatile-containers.json": file(`[{"id":"` + id + `","names":["db"],"metadata":"{}"}]`)},
			query(cgroup.Podman, false), &Container{ID: id, Runtime: "podman", Name: "db"}},
		{"podman, bundle alone", fstest.MapFS{"run/containers/storage/overlay-containers/" + id + "/userdata/config.json": file(`{"annotations":{"io.container.manager":"libpod"}}`)},
			query(cgroup.Podman, false), &Container{ID: id, Runtime: "podman"}},
		{"CRI-O", fstest.MapFS{
			storage + "containers.json": file(`[{"id":"` + id + `","names":["k8s_app_web"],"image":"9c6f","metadata":` + string(crio) + `}]`),
			"run/containers/storage/overlay-containers/" + id + "/userdata/config.json": file(`{"annotations":{"io.container.manager":"cri-o","io.kubernetes.pod.name":"web-1",` +
				`"io.kubernetes.pod.namespace":"shop","io.kubernetes.container.name":"app","io.kubernetes.cri-o.Labels":"{\"tier\":\"front\"}"}}`),
		}, query(cgroup.CRIO, true), &Container{ID: id, Runtime: "cri-o", Name: "app", Image: "registry.k8s.io/web:2", ImageID: "9c6f", Labels: map[string]string{"tier": "front"},
			Namespace: "shop", Pod: "web-1", KubeName: "app"}},
		{"containerd's CRI", fstest.MapFS{task("run/containerd", "k8s.io"): file(`{"annotations":{"io.kubernetes.cri.container-name":"app","io.kubernetes.cri.image-name":"r/web:2",` +
			`"io.kubernetes.cri.sandbox-name":"web-1","io.kubernetes.cri.sandbox-namespace":"shop"}}`)}, query(cgroup.Containerd, true),
			&Container{ID: id, Runtime: "containerd", Name: "app", Image: "r/web:2", Namespace: "shop", Pod: "web-1", KubeName: "app"}},
		{"k3s", fstest.MapFS{task("run/k3s/containerd", "k8s.io"): file(`{}`)}, query(cgroup.Containerd, true), &Container{ID: id, Runtime: "containerd"}},
		{"docker moved", fstest.MapFS{task("run/containerd", "moby"): file(`{}`)}, query("", false), &Container{ID: id, Runtime: "docker"}},
		{"nobody", fstest.MapFS{}, query("", false), nil},
		{"not an id", fstest.MapFS{"var/lib/docker/containers/config.v2.json": file(`{"ID":".."}`)}, Query{ID: ".."}, nil},
		{"a pattern", fstest.MapFS{task("run/containerd", "k8s.io"): file(`{}`)}, Query{ID: "*"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := NewFiles(tt.files).Lookup(t.Context(), tt.q)
			if tt.want == nil {
				if !errors.Is(err, ErrUnknown) {
					t.Fatalf("%+v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	big := fstest.MapFS{"var/lib/docker/containers/" + id + "/config.v2.json": &fstest.MapFile{Data: make([]byte, maxFile+1)}}
	if _, err := NewFiles(big).Lookup(t.Context(), query(cgroup.Docker, false)); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("a file that is too long: %v", err)
	}
}

func TestHost(t *testing.T) {
	names := func(env map[string]string) string {
		var out []string
		for _, s := range Host(func(k string) string { return env[k] }) {
			out = append(out, s.String())
		}
		return strings.Join(out, ", ")
	}
	if got := names(nil); !strings.Contains(got, "docker at /run/docker.sock") || !strings.Contains(got, "cri-o's CRI at /run/crio/crio.sock") || !strings.Contains(got, "podman at /run/podman/podman.sock") {
		t.Error(got)
	}
	// A docker over the network is not this host's.
	if got := names(map[string]string{"DOCKER_HOST": "tcp://10.0.0.1:2375"}); !strings.Contains(got, "docker at /run/docker.sock") {
		t.Error(got)
	}
	if got := names(map[string]string{"DOCKER_HOST": "unix:///x/d.sock", "CONTAINER_RUNTIME_ENDPOINT": "/y/containerd.sock"}); !strings.Contains(got, "docker at /x/d.sock") ||
		!strings.Contains(got, "containerd's CRI at /y/containerd.sock") {
		t.Error(got)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(message(nil).sub(1, message(nil).str(1, id).sub(2, pair("a", "b")).sub(8, message(nil).num(1, 1)))))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var labels map[string]string
		var at time.Time
		message(b).entry(&labels)
		message(b).time(&at)
		message(b).path(func(m message) { m.entry(&labels) }, 1, 2)
		c := &Container{Created: at, Name: string(b), Image: string(b), Labels: labels}
		for _, v := range c.Answer().Values {
			if len(v) > 2*maxText+10 || strings.ContainsAny(v, "\n\x00") {
				t.Errorf("value %q", v)
			}
		}
	})
}
