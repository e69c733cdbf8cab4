package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/wire/wiretest"
)

// Where the kernel cannot be watched a recording is shown, and says why.
func TestFallsBackToRecording(t *testing.T) {
	srv := wiretest.New(t)
	blind := newFake(1)
	blind.fail = os.ErrPermission
	cfg := engineConfig{
		dir: t.TempDir(), client: srv.Client(), source: blind, live: true, mode: SensorAuto, rules: noRules(t),
		log: slog.New(slog.DiscardHandler),
	}
	a := &Agent{cfg: Config{Sensor: SensorAuto, Recording: recording(t, 10), Log: cfg.log}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	started := make(chan session, 1)
	go func() { done <- a.work(ctx, nil, cfg, started) }()
	st := srv.Until("recording", func(s wiretest.State) bool { return len(execs(s.Records)) == 10 })
	if h := st.Hello; !h.Recording || h.Mode != "replay" || !strings.Contains(h.Reason, "kernel") {
		t.Errorf("hello %v", h)
	}
	if s := <-started; !s.start.Recording || !strings.Contains(greeting("v1", s, "", "/d"), "RECORDING") {
		t.Errorf("session %+v", s)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	// Who asks for a way to watch gets that or an error.
	a.cfg.Sensor = SensorTracepoint
	if err := a.work(t.Context(), nil, cfg, started); err == nil || !strings.Contains(err.Error(), "kernel") {
		t.Errorf("error %v", err)
	}
}

func TestDataDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "data")
	d, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	id, seed, err := d.identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"agent": 0o700, "server": 0o700, "run": 0o755} {
		fi, err := os.Lstat(filepath.Join(path, name))
		if err != nil || fi.Mode().Perm() != mode || !fi.IsDir() {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(path, name), &st); err != nil {
			t.Fatal(err)
		}
		want := d.uid
		if name == "agent" {
			want = os.Geteuid()
		}
		if int(st.Uid) != want {
			t.Errorf("%s belongs to %d, want %d", name, st.Uid, want)
		}
	}
	if os.Geteuid() == 0 && d.uid == 0 {
		t.Error("the server would be root")
	}

	var busy *BusyError
	if _, err := openDataDir(path); !errors.As(err, &busy) || busy.PID != os.Getpid() {
		t.Errorf("second agent: %v", err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	id2, seed2, err := again.identity()
	if err != nil || id2 != id || string(seed2) != string(seed) {
		t.Errorf("another identity at the second start: %v", err)
	}
	if again.uid != d.uid {
		t.Errorf("server's user was %d and is %d", d.uid, again.uid)
	}
}

func TestDataDirRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(t *testing.T, path string) error
		want string
	}{
		{"something else's", func(_ *testing.T, p string) error {
			return os.WriteFile(filepath.Join(p, "x"), nil, 0o600)
		}, "is not empty and no data directory of clew"},
		{"newer", func(_ *testing.T, p string) error {
			return os.WriteFile(filepath.Join(p, "version"), []byte("2\n"), 0o600)
		}, "was written by a newer clew (layout 2, this one knows 1)"},
		{"no version", func(_ *testing.T, p string) error {
			return os.WriteFile(filepath.Join(p, "version"), []byte("x\n"), 0o600)
		}, "which is no version"},
		{"open to others", func(_ *testing.T, p string) error { return os.Chmod(p, 0o777) }, "may be written by others"},
		{"of another user", func(t *testing.T, p string) error {
			if os.Geteuid() != 0 {
				t.Skip("giving a directory away needs root")
			}
			return os.Chown(p, 4242, 4242)
		}, "belongs to uid 4242"},
		{"server is a link", func(_ *testing.T, p string) error {
			return errors.Join(os.WriteFile(filepath.Join(p, "version"), []byte("1\n"), 0o600), os.Symlink("/etc", filepath.Join(p, "server")))
		}, "server"},
		{"run is a link", func(_ *testing.T, p string) error {
			return errors.Join(os.WriteFile(filepath.Join(p, "version"), []byte("1\n"), 0o600), os.Symlink("/etc", filepath.Join(p, "run")))
		}, "run is no directory"},
		{"agent is a link", func(_ *testing.T, p string) error {
			return errors.Join(os.WriteFile(filepath.Join(p, "version"), []byte("1\n"), 0o600), os.Symlink("/etc", filepath.Join(p, "agent")))
		}, "agent is no directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data")
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := tt.make(t, path); err != nil {
				t.Fatal(err)
			}
			_, err := openDataDir(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestDying(t *testing.T) {
	if dying(os.Getpid()) {
		t.Error("this process is said to be dying")
	}
	cmd := exec.Command("/bin/sh", "-c", "read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if dying(cmd.Process.Pid) {
		t.Error("a process that waits is said to be dying")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Until it is waited for it is a zombie.
	waitFor(t, "killed process seen", func() bool { return dying(cmd.Process.Pid) })
	_ = cmd.Wait()
	in.Close()
	if !dying(cmd.Process.Pid) {
		t.Error("a process that is gone is said to live")
	}
}

// A server that dies is started again; one that does not start at all is not.
func TestChild(t *testing.T) {
	dir := t.TempDir()
	starts := func() int {
		b, err := os.ReadFile(filepath.Join(dir, "starts"))
		if err != nil {
			return 0
		}
		return strings.Count(string(b), "\n")
	}
	works := true
	c := &child{
		exe: "/bin/sh", args: func() []string { return []string{"-c", "echo >> " + dir + "/starts; exit 3"} },
		ready: func() bool { return works }, log: slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.run(ctx) }()
	waitFor(t, "several starts", func() bool { return starts() >= 3 })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("error %v at the end", err)
	}

	works = false
	var failed *childError
	if err := c.run(t.Context()); !errors.As(err, &failed) || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v", err)
	}

	// One that does not want to end is killed.
	c.args = func() []string {
		return []string{"-c", "trap '' TERM; echo >> " + dir + "/stubborn; while :; do sleep 1; done"}
	}
	ctx, cancel = context.WithCancel(t.Context())
	go func() { done <- c.run(ctx) }()
	waitFor(t, "stubborn server", func() bool { _, err := os.Stat(dir + "/stubborn"); return err == nil })
	began := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("error %v at the end", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to end", took)
	}
}
