package runtimes

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/cgroup"
)

// TestForeignSocket holds that a socket of another user gets no question.
func TestForeignSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can serve as somebody else")
	}
	dir, err := os.MkdirTemp("", "r-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	type result struct {
		l   net.Listener
		err error
	}
	made := make(chan result)
	go func() {
		// One thread becomes another user, and ends with the goroutine.
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			made <- result{nil, errno}
			return
		}
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		made <- result{l, err}
	}()
	r := <-made
	if r.err != nil {
		t.Fatal(r.err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })}
	done := make(chan struct{})
	go func() { s.Serve(r.l); close(done) }()
	defer func() { s.Close(); <-done }()
	d := NewDocker(filepath.Join(dir, "s"))
	if _, err := d.Lookup(t.Context(), query(cgroup.Docker, false)); err == nil || !strings.Contains(err.Error(), "uid 65534") {
		t.Errorf("error %v", err)
	}
}
