package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// childEnd is how long the server may take to end before it is killed.
	childEnd = 800 * time.Millisecond
	// childSteady is how long it must have lived for the next start to follow
	// at once.
	childSteady  = 10 * time.Second
	childMinWait = 100 * time.Millisecond
	childMaxWait = 5 * time.Second
)

// A childError says that the server ended before it worked for the first time.
// It has said why itself.
type childError struct{ state *os.ProcessState }

func (e *childError) Error() string { return "the server did not start: " + e.state.String() }

// A child is the server process, started again when it dies.
type child struct {
	exe  string
	args func() []string
	cred *syscall.Credential // nil: this process's own
	log  *slog.Logger
	// closed is a directory above data that the server's user may not walk;
	// empty when there is none.
	data, closed string
	// env is what it gets beside childEnv; adopt puts a server that was just
	// started where it belongs. Both may be nil.
	env   []string
	adopt func(pid int) error
	// ready tells whether the server has ever worked.
	ready func() bool
}

// run keeps a server running until ctx ends; then it asks it to end and waits.
func (c *child) run(ctx context.Context) error {
	wait := childMinWait
	for {
		began := time.Now()
		state, err := c.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("start the server: %w", err)
		}
		if !c.ready() && state.Exited() {
			return &childError{state}
		}
		if time.Since(began) > childSteady {
			wait = childMinWait
		}
		c.log.Warn("server ended, starting it again", "status", state.String(), "wait", wait)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		wait = min(2*wait, childMaxWait)
	}
}

// once runs the server until it ends.
func (c *child) once(ctx context.Context) (*os.ProcessState, error) {
	cmd := exec.Command(c.exe, c.args()...)
	cmd.Args[0] = "clew"
	cmd.Dir = "/"
	cmd.Env = append(childEnv(), c.env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Killed with the agent, however that ends: two servers on one
		// directory must not be. What it has acknowledged is durable.
		Pdeathsig: syscall.SIGKILL,
		// Ctrl-C in a terminal is for the agent, which ends the server last.
		Setpgid:    true,
		Credential: c.cred,
	}
	type result struct {
		state *os.ProcessState
		err   error
	}
	ended := make(chan result, 1)
	started := make(chan struct{})
	onOwnThread(func() {
		err := c.uncover()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			ended <- result{nil, err}
			return
		}
		close(started)
		err = cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = nil
		}
		ended <- result{cmd.ProcessState, err}
	})
	select {
	case r := <-ended:
		return r.state, r.err
	case <-started:
	}
	if c.adopt != nil {
		// It runs all the same, below the agent's ceiling.
		if err := c.adopt(cmd.Process.Pid); err != nil {
			c.log.Warn("the server has no control group of its own", "error", err)
		}
	}
	select {
	case r := <-ended:
		return r.state, r.err
	case <-ctx.Done():
	}
	// A process that has ended cannot be signalled, which is as well.
	_ = cmd.Process.Signal(syscall.SIGTERM)
	t := time.NewTimer(childEnd)
	defer t.Stop()
	select {
	case r := <-ended:
		return r.state, r.err
	case <-t.C:
		c.log.Warn("server did not end in time and is killed")
		_ = cmd.Process.Kill()
		r := <-ended
		return r.state, r.err
	}
}

// onOwnThread runs f on a thread that is used for nothing else and ends with
// it. The death signal comes when the thread that forked ends, so it has to
// live as long as the server; and what is done to its view of the file system
// must not reach other goroutines.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f() // not unlocked: the thread ends
			return
		}
		// The main thread cannot end. It is kept busy until another one is
		// taken.
		taken := make(chan struct{})
		onOwnThread(func() { close(taken); f() })
		<-taken
		runtime.UnlockOSThread()
	}()
}

// uncover makes the data reachable for the server when they lie below a
// directory that is closed to its user, as /root is: in a mount namespace of
// its own that directory is empty but for the way to the data. The namespace
// ends with the server.
func (c *child) uncover() error {
	if c.closed == "" {
		return nil
	}
	fail := func(what string, err error) error {
		return fmt.Errorf("data directory %s: the server's user may not walk through %s, and it cannot be opened for the server alone (%s: %w): choose another with --data",
			c.data, c.closed, what, err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fail("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fail("make mounts private", err)
	}
	fd, err := unix.Open(c.data, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail("open", err)
	}
	defer unix.Close(fd)
	if err := unix.Mount("clew", c.closed, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "mode=0755,size=64k"); err != nil {
		return fail("mount", err)
	}
	// The modes do not depend on the umask: nobody else sees them.
	at := c.closed
	for _, part := range strings.Split(strings.Trim(strings.TrimPrefix(c.data, c.closed), "/"), "/") {
		at = filepath.Join(at, part)
		if err := errors.Join(unix.Mkdir(at, 0o755), unix.Chmod(at, 0o755)); err != nil {
			return fail("make "+at, err)
		}
	}
	if err := unix.Mount(fmt.Sprintf("/proc/thread-self/fd/%d", fd), c.data, "", unix.MS_BIND, ""); err != nil {
		return fail("bind", err)
	}
	return nil
}

// childEnv is what of the environment the server needs. The rest may hold what
// is not meant for it.
func childEnv() []string {
	env := []string{}
	for _, name := range []string{"TZ", "LANG", "GODEBUG", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GOCOVERDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
