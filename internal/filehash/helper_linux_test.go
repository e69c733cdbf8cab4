package filehash

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
)

func newHelper(t *testing.T) *Helper {
	t.Helper()
	h := NewHelper(HelperConfig{Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestHelper(t *testing.T) {
	h := newHelper(t)
	path := filepath.Join(t.TempDir(), "f")
	for _, tc := range []struct {
		text     string
		max, all int64
		reason   Reason
		kind     int64
	}{
		{"hello\n", 100, 0, "", event.FileText},
		{"", 100, 100, "", 0},
		{"#!/bin/sh\n", 100, 100, "", event.FileScript},
		{strings.Repeat("0123456789abcdef", 64<<10), 1 << 20, 0, "", event.FileText},
		{strings.Repeat("0123456789abcdef", 64<<10) + "x", 1 << 20, 0, ReasonSize, 0},
		{strings.Repeat("€", 20<<10), 1 << 20, 64 << 10, "", event.FileText},
	} {
		write(t, path, tc.text)
		if err := os.Chmod(path, 0); err != nil { // the helper may not open it
			t.Fatal(err)
		}
		r, err := HostRoot()
		if err != nil {
			t.Fatal(err)
		}
		f, _, err := Open(r, path, ID{})
		r.Close()
		if os.Geteuid() != 0 {
			t.Skip("a file that nobody may read takes root")
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := h.Examine(f, tc.max, tc.all, time.Minute)
		f.Close()
		if ReasonOf(err) != tc.reason {
			t.Fatalf("%.20q: %v, want reason %q", tc.text, err, tc.reason)
		}
		if err != nil {
			continue
		}
		if c.SHA256 != sum(tc.text) || c.Size != int64(len(tc.text)) || c.Metadata.Type != tc.kind {
			t.Errorf("%.20q: %+v", tc.text, c)
		}
		if want := tc.all > 0 && int64(len(tc.text)) <= tc.all; want != c.IsText || want && string(c.Text) != tc.text {
			t.Errorf("%.20q: text of %d bytes", tc.text, len(c.Text))
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHelperPowerless looks at the helper from outside: who it is, and what it
// may do.
func TestHelperPowerless(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("another user takes root")
	}
	h := newHelper(t)
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "x")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := h.Examine(f, 100, 0, time.Minute); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Uid:\t61845\t61845\t61845\t61845\n", "Gid:\t61845\t61845\t61845\t61845\n", "Groups:\t \n", "CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n",
		"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "Seccomp_filters:\t2\n",
	} {
		if !strings.Contains(string(status), want) {
			t.Errorf("status has no %q:\n%s", want, status)
		}
	}
}

// TestHelperThreads reads with a helper whose runtime has to start threads, as
// one that reads large files for a while has: it is sealed before they start.
func TestHelperThreads(t *testing.T) {
	h := newHelper(t)
	path := filepath.Join(t.TempDir(), "f")
	text := strings.Repeat("0123456789abcdef", 1<<20)
	write(t, path, text)
	want := sum(text)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first := 0
	for range 20 {
		c, err := h.Examine(f, 64<<20, 0, time.Minute)
		if err != nil || c.SHA256 != want {
			t.Fatalf("%+v, %v", c, err)
		}
		if first == 0 {
			first = h.Pid()
		}
	}
	if h.Pid() != first {
		t.Error("the helper was started again")
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", first))
	if err != nil {
		t.Fatal(err)
	}
	if len(tasks) < 2 {
		t.Errorf("%d threads", len(tasks))
	}
}

// TestHelperTimeout: a file that does not end in time costs that answer, and
// the next file is read by another helper.
func TestHelperTimeout(t *testing.T) {
	h := newHelper(t)
	// A pipe that nobody writes to: the opener refuses it, the helper would wait.
	fds := make([]int, 2)
	if err := unix.Pipe2(fds, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	pipe := os.NewFile(uintptr(fds[0]), "pipe")
	defer pipe.Close()
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "x")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := h.Examine(f, 100, 0, time.Minute); err != nil {
		t.Fatal(err)
	}
	first := h.Pid()
	if err := unix.Kill(first, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Examine(f, 100, 0, 20*time.Millisecond); ReasonOf(err) != ReasonTimeout {
		t.Fatalf("a stopped helper: %v", err)
	}
	// A pipe cannot be read at a place: that is an error, not a wait.
	if _, err := h.Examine(pipe, 100, 0, time.Minute); ReasonOf(err) != ReasonError {
		t.Fatalf("a pipe: %v", err)
	}
	c, err := h.Examine(f, 100, 0, time.Minute)
	if err != nil || c.SHA256 != sum("x") {
		t.Fatalf("after a timeout: %+v, %v", c, err)
	}
	if h.Pid() == first {
		t.Error("the helper that did not answer is still there")
	}
}
