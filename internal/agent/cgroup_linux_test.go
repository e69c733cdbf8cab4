package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestLocate(t *testing.T) {
	v1 := func(point, options string) string {
		return "30 29 0:26 / " + point + " rw,relatime - cgroup cgroup rw," + options + "\n"
	}
	v2 := func(root, point string) string {
		return "31 29 0:27 " + root + " " + point + " rw - cgroup2 cgroup2 rw\n"
	}
	for _, tt := range []struct {
		name, self, mounts string
		want               []hierarchy
	}{
		{"unified", "0::/system.slice/clew.service\n", v2("/", "/sys/fs/cgroup"),
			[]hierarchy{{v2: true, controllers: []string{"memory", "cpu"}, base: "/sys/fs/cgroup/system.slice/clew.service"}}},
		{"unified, its root", "0::/\n", v2("/", "/sys/fs/cgroup"),
			[]hierarchy{{v2: true, controllers: []string{"memory", "cpu"}, base: "/sys/fs/cgroup"}}},
		{"container without a namespace of its own", "0::/docker/abc\n", v2("/docker/abc", "/sys/fs/cgroup"),
			[]hierarchy{{v2: true, controllers: []string{"memory", "cpu"}, base: "/sys/fs/cgroup"}}},
		{"hybrid", "4:memory:/a\n2:cpu,cpuacct:/b\n0::/c\n", v1("/c/memory", "memory") + v1("/c/cpu\\040acct", "cpu,cpuacct") + v2("/", "/c/unified"),
			[]hierarchy{{controllers: []string{"memory"}, base: "/c/memory/a"}, {controllers: []string{"cpu"}, base: "/c/cpu acct/b"}}},
		{"version 1 mounted together", "4:cpu,memory:/\n", v1("/c", "cpu,memory"),
			[]hierarchy{{controllers: []string{"memory", "cpu"}, base: "/c"}}},
		{"only names", "9:name=systemd:/\n0::/\n", v1("/c/systemd", "name=systemd"), nil},
		{"outside of what is mounted", "0::/x\n", v2("/docker/abc", "/sys/fs/cgroup"), nil},
		{"nonsense", "x\n::\n", "a - b\n- -\n", nil},
	} {
		if got := locate([]byte(tt.self), []byte(tt.mounts)); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestOwnGroups moves a process, a shell of this test's, into groups and looks
// whether the ceilings are in force, and nothing is left at the end.
func TestOwnGroups(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("control groups take root")
	}
	places, err := findGroups()
	var none *errNoGroups
	if errors.As(err, &none) {
		t.Skip(none)
	}
	if err != nil {
		t.Fatal(err)
	}
	cat := exec.Command("/bin/cat")
	in, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			in.Close()
			if err := cat.Wait(); err != nil {
				t.Error(err)
			}
		}
	}
	defer stop()
	// What an agent that was killed leaves is removed by the next one.
	gone := exec.Command("/bin/true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(places[0].base, fmt.Sprintf("%s%d-agent", groupPrefix, gone.Process.Pid))
	if err := os.Mkdir(left, 0o755); err != nil {
		t.Skip("no control group can be made here: ", err)
	}

	l := Limits{Agent: Ceilings{Memory: 200 << 20, CPUs: 0.5}, Server: Ceilings{Memory: 300 << 20, CPUs: 0.25}}
	g, err := enterGroups(places, cat.Process.Pid, l, slog.New(slog.DiscardHandler))
	if errors.As(err, &none) {
		os.Remove(left)
		t.Skip(none)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s of a dead agent is still there: %v", left, err)
	}
	where := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cat.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := strings.Count(where(), g.name+"-agent\n"); got != len(places) {
		t.Errorf("the process is in %d of %d groups:\n%s", got, len(places), where())
	}
	if n, err := g.memoryUsed(); err != nil || n < 0 || n > l.Agent.Memory {
		t.Errorf("memory used: %d, %v", n, err)
	}
	if n, err := g.throttled(); err != nil || n < 0 {
		t.Errorf("throttled: %v, %v", n, err)
	}
	for _, h := range places {
		file, want := map[bool]string{true: "memory.max", false: "memory.limit_in_bytes"}[h.v2], l.Server.Memory
		if h.controllers[0] != "memory" {
			continue
		}
		if n, err := readInt(filepath.Join(g.dir(h, "server"), file)); err != nil || n != want {
			t.Errorf("the server's ceiling is %d, want %d: %v", n, want, err)
		}
	}
	if err := g.server(cat.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(where(), g.name+"-server\n"); got != len(places) {
		t.Errorf("the server is in %d of %d groups:\n%s", got, len(places), where())
	}
	dirs := []string{}
	for _, h := range places {
		dirs = append(dirs, g.dir(h, "agent"), g.dir(h, "server"))
	}
	stop()
	if err := g.close(); err != nil {
		t.Error(err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
}
