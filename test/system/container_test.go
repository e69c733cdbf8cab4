package system

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/testkit/proc"
)

// needProgram skips where a program is not installed; under continuous
// integration it is.
func needProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed, tools/setup.sh test installs it", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

// daemon starts a program in a directory of its own and ends it with the test,
// before which its containers must be gone. What runtimes leave in the cgroup
// tree goes, too.
func daemon(t *testing.T, dir string, name string, args ...string) {
	t.Helper()
	before, err := proc.ReadPlaces()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Errorf("%s does not end", name)
			cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("%s printed:\n%s", name, b[max(0, len(b)-8000):])
		}
		after, err := proc.ReadPlaces()
		if err != nil {
			t.Error(err)
		}
		for _, m := range after.Mounts {
			if at := m[strings.LastIndexByte(m, ' ')+1:]; strings.HasPrefix(at, dir) {
				if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
					t.Errorf("unmount %s: %v", at, err)
				}
			}
		}
		// Directories below others come after them.
		for _, c := range slices.Backward(after.Cgroups) {
			if !slices.Contains(before.Cgroups, c) && strings.Contains(c, "/docker") {
				os.Remove(c)
			}
		}
	})
}

// dockerEngine is a docker of this test's own.
type dockerEngine struct {
	t      *testing.T
	socket string
	client http.Client
}

func startDocker(t *testing.T) *dockerEngine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("docker's engine needs root")
	}
	dockerd := needProgram(t, "dockerd")
	dir, err := os.MkdirTemp("", "d-") // sockets have short names
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	d := &dockerEngine{t: t, socket: filepath.Join(dir, "docker.sock")}
	d.client.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var n net.Dialer
		return n.DialContext(ctx, "unix", d.socket)
	}}
	daemon(t, dir, dockerd, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "-H", "unix://"+d.socket, "--bridge=none", "--iptables=false", "--ip6tables=false")
	t.Cleanup(d.client.CloseIdleConnections)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("docker does not answer"))
	defer cancel()
	if err := proc.Until(ctx, func() (bool, error) {
		_, err := d.call(http.MethodGet, "/_ping", "", nil)
		return err == nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	d.must(http.MethodPost, "/images/create?fromSrc=-&repo=team/tools&tag=1.2", "application/x-tar", imageRoot(t))
	return d
}

func (d *dockerEngine) call(method, path, kind string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(d.t.Context()), method, "http://docker"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kind)
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	return b, nil
}

func (d *dockerEngine) must(method, path, kind string, body []byte) []byte {
	d.t.Helper()
	b, err := d.call(method, path, kind, body)
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

// run starts a container and returns its id. One without a name is removed
// when it ends.
func (d *dockerEngine) run(name string, labels map[string]string, command ...string) string {
	d.t.Helper()
	config, err := json.Marshal(map[string]any{
		"Image": "team/tools:1.2", "Cmd": command, "Labels": labels,
		"HostConfig": map[string]any{"NetworkMode": "none", "AutoRemove": name == ""},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	var made struct{ ID string }
	if err := json.Unmarshal(d.must(http.MethodPost, "/containers/create?name="+url.QueryEscape(name), "application/json", config), &made); err != nil {
		d.t.Fatal(err)
	}
	if name != "" {
		d.t.Cleanup(func() { d.must(http.MethodDelete, "/containers/"+made.ID+"?force=1", "", nil) })
	}
	d.must(http.MethodPost, "/containers/"+made.ID+"/start", "", nil)
	return made.ID
}

// gone waits until no container without a name is left.
func (d *dockerEngine) gone(named int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeoutCause(d.t.Context(), time.Minute, errors.New("containers are left"))
	defer cancel()
	if err := proc.Until(ctx, func() (bool, error) {
		var left []struct{ ID string }
		err := json.Unmarshal(d.must(http.MethodGet, "/containers/json?all=1", "", nil), &left)
		return len(left) <= named, err
	}); err != nil {
		d.t.Error(err)
	}
}

// imageRoot is the root of an image with nothing but busybox, as tar.
func imageRoot(t *testing.T) []byte {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") != "true" {
		t.Skip("busybox is not installed")
	}
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777},
		{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(busybox))},
		{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "busybox"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write(busybox); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tags of an event's container.
func tags(e proc.Event) []string {
	var out []string
	list, _ := e.Fields["process.container.tags"].([]any)
	for _, v := range list {
		out = append(out, fmt.Sprint(v))
	}
	return out
}

// execs waits until the execution of something with a mark is stored and says
// what is asked for.
func execs(t *testing.T, c *proc.Clew, mark string, good func(proc.Event) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("time is up"))
	defer cancel()
	var last []proc.Event
	if err := proc.Until(ctx, func() (bool, error) {
		events, err := c.Events(ctx, "exec", mark)
		if err != nil {
			return false, err
		}
		last = events
		return slices.ContainsFunc(events, good), nil
	}); err != nil {
		for _, e := range last[:min(len(last), 5)] {
			t.Logf("%s %v: container %v %v %v", e.Fields["process.file.path"], e.Fields["process.args"], e.Fields["process.container.id"], e.Fields["process.container.runtime"], tags(e))
		}
		t.Errorf("execution of %s: %v", mark, err)
	}
}

// TestDocker watches containers of docker: one that was there before clew, one
// that starts later, and many that live for milliseconds.
func TestDocker(t *testing.T) {
	d := startDocker(t)
	t.Setenv("DOCKER_HOST", "unix://"+d.socket)
	mark := fmt.Sprintf("m%d", time.Now().UnixNano())
	const loop = `while :; do /bin/busybox echo "$0" >/dev/null; /bin/busybox sleep 0.2; done`
	before := d.run("early", map[string]string{"com.docker.compose.service": "shop"}, "/bin/sh", "-c", loop, mark+"a")
	policy := filepath.Join(t.TempDir(), "drift.policy")
	rules := `rules:
  - id: by_image
    expression: exec.args =~ "*` + mark + `*" && container.tags == "image_name:team/tools" && process.container.id != ""
    tags: {severity: medium}
`
	if err := os.WriteFile(policy, []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	c, _ := watching(t, "--policies", policy)
	has := func(id string, want ...string) func(proc.Event) bool {
		return func(e proc.Event) bool {
			got := tags(e)
			return e.Fields["process.container.id"] == id && e.Fields["process.container.runtime"] == "docker" &&
				!slices.ContainsFunc(want, func(tag string) bool { return !slices.Contains(got, tag) })
		}
	}
	execs(t, c, mark+"a", has(before, "container_name:early", "image_name:team/tools", "short_image:tools", "image_tag:1.2", "service:shop",
		"label.com.docker.compose.service:shop"))
	after := d.run("late", map[string]string{"org.example.team": "blue"}, "/bin/sh", "-c", loop, mark+"b")
	execs(t, c, mark+"b", has(after, "container_name:late", "image_name:team/tools", "label.org.example.team:blue"))

	t.Run("short", func(t *testing.T) {
		n := size(10, 50, 200)
		ids := map[string]string{}
		for i := range n {
			arg := fmt.Sprintf("%ss%d.", mark, i)
			ids[arg] = d.run("", nil, "/bin/sh", "-c", "/bin/busybox usleep 20000", arg)
		}
		d.gone(2)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("time is up"))
		defer cancel()
		right, named := 0, 0
		if err := proc.Until(ctx, func() (bool, error) {
			events, err := c.Events(ctx, "exec", mark+"s")
			if err != nil {
				return false, err
			}
			right, named = 0, 0
			for arg, id := range ids {
				for _, e := range events {
					if args, _ := e.Fields["process.args"].(string); strings.HasSuffix(args, arg) && e.Fields["process.container.id"] == id {
						right++
						if slices.Contains(tags(e), "image_name:team/tools") {
							named++
						}
						break
					}
				}
			}
			return right == n, nil
		}); err != nil {
			t.Errorf("container id of %d of %d: %v", right, n, err)
		}
		t.Logf("container id of %d of %d containers of 20 ms, image of %d", right, n, named)
	})
	out, err := c.Run(t.Context(), "events", "--json", "--since", "1h", "--rule", "by_image")
	if err != nil {
		t.Error(err)
	}
	if !bytes.Contains(out, []byte(mark)) {
		t.Error("a rule on the image's name found nothing")
	}

	// A program that the image did not have: the shipped rule, and the story
	// that says where it was.
	d.run("drifting", nil, "/bin/sh", "-c", "/bin/busybox cp /bin/busybox /tmp/busybox; /tmp/busybox echo "+mark+"d; /bin/busybox echo "+mark+"i; /bin/busybox sleep 60")
	execs(t, c, mark+"d", func(e proc.Event) bool {
		return e.Fields["process.file.path"] == "/tmp/busybox" && e.Fields["process.file.in_upper_layer"] == true
	})
	execs(t, c, mark+"i", func(e proc.Event) bool {
		return e.Fields["process.file.path"] == "/bin/busybox" && e.Fields["process.file.in_upper_layer"] != true
	})
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("time is up"))
	defer cancel()
	if err := proc.Until(ctx, func() (bool, error) {
		out, err := c.Run(ctx, "events", "--json", "--since", "1h", "--rule", "container_drift")
		if err != nil {
			return false, err
		}
		found := false
		for line := range bytes.Lines(out) {
			var e proc.Event
			if err := json.Unmarshal(line, &e); err != nil {
				return false, err
			}
			switch e.Fields["process.args"] {
			case "echo " + mark + "i":
				return false, errors.New("a program of the image is called drift")
			case "echo " + mark + "d":
				found = true
			}
		}
		return found, nil
	}); err != nil {
		t.Errorf("container_drift: %v", err)
	}
	list, err := c.Stories(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, story := range list {
		out, err := c.Run(ctx, "story", story.ID)
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, string(out))
	}
	if !slices.ContainsFunc(told, func(s string) bool { return strings.Contains(s, "in container drifting (team/tools:1.2)") }) {
		t.Errorf("no story says where it was:\n%s", strings.Join(told, "\n"))
	}
}
