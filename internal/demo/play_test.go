//go:build linux

package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if IsHelper() {
		os.Exit(Helper())
	}
	os.Exit(m.Run())
}

// leftBehind lists the processes that have text in their command line or
// environment.
func leftBehind(t *testing.T, text string) []string {
	t.Helper()
	var left []string
	for _, file := range []string{"cmdline", "environ"} {
		names, err := filepath.Glob("/proc/[0-9]*/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err == nil && bytes.Contains(data, []byte(text)) && !strings.HasPrefix(name, "/proc/self/") {
				left = append(left, name)
			}
		}
	}
	return left
}

// TestPlay plays the attack on every kind of stage that this host allows. That
// each step has its effect is the stage's own check.
func TestPlay(t *testing.T) {
	allowed := 0
	for _, kind := range stageKinds {
		t.Run(kind.name, func(t *testing.T) {
			if kind.root && os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			root := filepath.Join(t.TempDir(), "stage")
			var got []string
			var plan Plan
			_, err := play(t.Context(), Config{
				Root:    root,
				Started: func(p Plan) { plan = p },
				Played:  func(s Step) { got = append(got, s.Name) },
			}, kind)
			if errors.Is(err, errRefused) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			allowed++
			var want []string
			for _, s := range plan.Steps() {
				want = append(want, s.Name)
			}
			if !slices.Equal(got, want) {
				t.Errorf("played %q, want %q", got, want)
			}
			if _, err := os.Lstat(root); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the stage's directory: %v", err)
			}
			if left := leftBehind(t, root); len(left) > 0 {
				t.Errorf("processes left behind: %q", left)
			}
		})
	}
	if allowed == 0 {
		t.Error("no kind of stage is allowed here, not even a shared one")
	}
}

// TestPlayInterrupted ends the attack in the middle.
func TestPlayInterrupted(t *testing.T) {
	for _, kind := range stageKinds {
		t.Run(kind.name, func(t *testing.T) {
			if kind.root && os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			root := filepath.Join(t.TempDir(), "stage")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			stop := errors.New("stop")
			start := time.Now()
			_, err := play(ctx, Config{
				Root: root,
				Pace: 50 * time.Millisecond,
				Played: func(s Step) {
					if s.Name == "discovery" {
						cancel(stop)
					}
				},
			}, kind)
			if errors.Is(err, errRefused) {
				t.Skip(err)
			}
			if !errors.Is(err, stop) {
				t.Errorf("play: %v, want %v", err, stop)
			}
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("ended after %s", d)
			}
			if _, err := os.Lstat(root); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the stage's directory: %v", err)
			}
			if left := leftBehind(t, root); len(left) > 0 {
				t.Errorf("processes left behind: %q", left)
			}
		})
	}
}

// TestOutsideUntouched: a directory that exists is not used, let alone removed.
func TestOutsideUntouched(t *testing.T) {
	root := t.TempDir()
	keep := filepath.Join(root, "keep")
	if err := os.WriteFile(keep, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Play(t.Context(), Config{Root: root}); !errors.Is(err, os.ErrExist) {
		t.Errorf("play in an existing directory: %v", err)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
}

func TestSteps(t *testing.T) {
	steps := Example().Steps()
	if len(steps) < 10 {
		t.Errorf("%d steps", len(steps))
	}
	names, markers := map[string]bool{}, map[string]bool{}
	for _, s := range steps {
		if names[s.Name] || markers[s.Marker] {
			t.Errorf("step %s: name or marker is not its own", s.Name)
		}
		names[s.Name], markers[s.Marker] = true, true
		_, err := netip.ParseAddr(s.Marker)
		if !filepath.IsAbs(s.Marker) && err != nil {
			t.Errorf("step %s: marker %q is neither a path nor an address", s.Name, s.Marker)
		}
		if !strings.HasSuffix(s.Text, ".") {
			t.Errorf("step %s: %q is no sentence", s.Name, s.Text)
		}
	}
}

func TestCronCommand(t *testing.T) {
	for _, tt := range []struct{ table, want string }{
		{"* * * * * root /bin/x report\n", "/bin/x report"},
		{"* * * * * root /bin/x report", ""},
		{"", ""},
		{"* * * * * root\n", ""},
	} {
		name := filepath.Join(t.TempDir(), "table")
		if err := os.WriteFile(name, []byte(tt.table), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := cronCommand(name); got != tt.want || err != nil {
			t.Errorf("%q: %q, %v, want %q", tt.table, got, err, tt.want)
		}
	}
}

func TestProgram(t *testing.T) {
	if !belowShared("/tmp/a/clew") || belowShared("/usr/bin/clew") {
		t.Error("/tmp is for everybody, /usr/bin is not")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := inMemory(self)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the copy has %d bytes, the program %d, or they differ", len(got), len(want))
	}
}
