package runtimes

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/cgroup"
)

const testImage = "registry.test/team/tools:1.2"

// archive is an image with nothing but busybox, as `docker save` writes it.
func archive(t *testing.T) []byte {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") != "true" {
		t.Skip("busybox is not installed")
	}
	if err != nil {
		t.Fatal(err)
	}
	pack := func(files ...any) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i := 0; i < len(files); i += 2 {
			content := files[i+1].([]byte)
			if err := w.WriteHeader(&tar.Header{Name: files[i].(string), Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(content))}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	js := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	type m = map[string]any
	layer := pack("bin/busybox", busybox)
	config := js(m{
		"architecture": runtime.GOARCH, "os": "linux", "config": m{"Cmd": []string{"/bin/busybox", "sleep", "600"}},
		"rootfs": m{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	return pack("layer.tar", layer, "config.json", config,
		"manifest.json", js([]m{{"Config": "config.json", "RepoTags": []string{testImage}, "Layers": []string{"layer.tar"}}}))
}

// startContainerd starts a containerd of the test's own and returns its socket
// and its command line tool.
func startContainerd(t *testing.T) (socket string, ctr func(args ...string) string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containerd needs root")
	}
	program, err := exec.LookPath("containerd")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("containerd is not installed, tools/setup.sh test installs it")
		}
		t.Skip("containerd is not installed")
	}
	dir, err := os.MkdirTemp("", "c-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket = filepath.Join(dir, "s")
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
`, dir+"/root", dir+"/state", socket, testImage, dir+"/bin", dir+"/conf")
	if err := os.WriteFile(dir+"/config.toml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(program, "--config", dir+"/config.toml")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Logf("containerd: %v", err)
		}
		if t.Failed() {
			b := log.Bytes()
			t.Logf("containerd printed:\n%s", b[max(0, len(b)-6000):])
		}
		// What it mounted and could not unmount again.
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Error(err)
		}
		for line := range bytes.Lines(mounts) {
			if f := strings.Fields(string(line)); len(f) > 1 && strings.HasPrefix(f[1], dir) {
				if err := unix.Unmount(f[1], unix.MNT_DETACH); err != nil {
					t.Errorf("unmount %s: %v", f[1], err)
				}
			}
		}
	})
	try := func(ctx context.Context, args ...string) ([]byte, error) {
		return exec.CommandContext(ctx, "ctr", append([]string{"--address", socket}, args...)...).CombinedOutput()
	}
	ctr = func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		out, err := try(ctx, args...)
		if err != nil {
			t.Fatalf("ctr %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	await(t, func() bool { _, err := try(t.Context(), "version"); return err == nil })
	image := filepath.Join(dir, "image.tar")
	if err := os.WriteFile(image, archive(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, space := range []string{"default", kubeNamespace} {
		ctr("-n", space, "images", "import", image)
	}
	return socket, ctr
}

// await waits for a condition.
func await(t *testing.T, good func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !good() {
		if time.Now().After(deadline) {
			t.Fatal("time is up")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// emptied removes directories that the test's containers leave in the tree of
// control groups, where nobody else uses them.
func emptied(t *testing.T, names ...string) {
	t.Cleanup(func() {
		for _, name := range names {
			dirs, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
			if err != nil {
				t.Error(err)
			}
			for _, d := range append(dirs, "/sys/fs/cgroup/"+name) {
				os.Remove(d)
			}
		}
	})
}

// TestRealContainerd asks a containerd: for a container of its own, and through
// the CRI for one of a pod, and for the pod's.
func TestRealContainerd(t *testing.T) {
	emptied(t, "default", "k8s.io")
	socket, ctr := startContainerd(t)
	c := NewContainerd(socket)
	defer c.grpc.client.CloseIdleConnections()

	told := make(chan *Container, 10)
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- c.Watch(ctx, func(c *Container) { told <- c }) }()
	defer func() {
		stop()
		if err := <-watched; err != nil {
			t.Error(err)
		}
	}()
	// The subscription has begun when something is told; until then another
	// container is made.
	n := 0
	var first *Container
	await(t, func() bool {
		n++
		name := fmt.Sprint("probe", n)
		ctr("-n", "default", "containers", "create", testImage, name)
		ctr("-n", "default", "containers", "rm", name)
		select {
		case first = <-told:
			return true
		default:
			return false
		}
	})
	if first.Runtime != cgroup.Containerd || first.Image != testImage {
		t.Errorf("told of %+v", first)
	}

	ctr("-n", "default", "run", "-d", "--label", "com.docker.compose.service=shop", testImage, id, "/bin/busybox", "sleep", "600")
	defer ctr("-n", "default", "tasks", "rm", "-f", id)
	q := Query{ID: id, Place: cgroup.Parse("/default/" + id)}
	got, err := c.Lookup(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	tags := got.Tags()
	for _, want := range []string{"image_name:registry.test/team/tools", "short_image:tools", "image_tag:1.2", "service:shop", "label.com.docker.compose.service:shop"} {
		if !slices.Contains(tags, want) {
			t.Errorf("no tag %s in %v", want, tags)
		}
	}
	if !strings.HasPrefix(got.Digest, "sha256:") || time.Since(got.Created) > time.Hour {
		t.Errorf("digest %q, created %v", got.Digest, got.Created)
	}
	if _, err := c.Lookup(t.Context(), Query{ID: other, Place: q.Place}); !errors.Is(err, ErrUnknown) {
		t.Errorf("a container that is not there: %v", err)
	}

	// A pod, with the network of the host, because there is no other.
	cri := NewCRI(socket, cgroup.Containerd)
	defer cri.grpc.client.CloseIdleConnections()
	// Setting up a pod takes longer than an answer may.
	call := func(name string, req message) message {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		resp, err := cri.grpc.method(criService+name).CallUnary(ctx, connect.NewRequest(&req))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return *resp.Msg
	}
	options := message(nil).num(1, 2).num(2, 1)
	pod := message(nil).
		sub(1, message(nil).str(1, "web-1").str(2, "uid1").str(3, "shop")).
		sub(6, pair("app.kubernetes.io/name", "web")).
		sub(8, message(nil).sub(2, message(nil).sub(1, options)))
	sandbox := text(call("RunPodSandbox", message(nil).sub(1, pod)), 1)
	defer func() {
		call("StopPodSandbox", message(nil).str(1, sandbox))
		call("RemovePodSandbox", message(nil).str(1, sandbox))
	}()
	container := message(nil).sub(1, message(nil).str(1, "app")).sub(2, message(nil).str(1, testImage)).
		sub(9, pair("io.kubernetes.pod.name", "web-1"))
	made := text(call("CreateContainer", message(nil).str(1, sandbox).sub(2, container).sub(3, pod)), 1)
	for _, want := range []struct {
		id   string
		tags []string
	}{
		{made, []string{"image_name:registry.test/team/tools", "container_name:app", "kube_namespace:shop", "pod_name:web-1", "kube_container_name:app", "service:web"}},
		{sandbox, []string{"kube_namespace:shop", "pod_name:web-1", "service:web"}},
	} {
		got, err := cri.Lookup(t.Context(), Query{ID: want.id, Place: cgroup.Parse("/kubepods/poduid1/" + want.id)})
		if err != nil {
			t.Fatal(err)
		}
		tags := got.Tags()
		for _, tag := range want.tags {
			if !slices.Contains(tags, tag) {
				t.Errorf("no tag %s in %v", tag, tags)
			}
		}
	}
}
