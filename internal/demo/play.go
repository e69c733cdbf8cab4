//go:build linux

package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config says how to play. The zero Config is a good one.
type Config struct {
	// Root is a directory that is made for the attack and removed after it.
	// Empty means a new one with a name of its own below the system's directory
	// for temporary files.
	Root string
	// Pace is the pause before each of the attacker's requests.
	Pace time.Duration
	// Started, if not nil, is called once, before the first step, with where
	// the attack is played; Played with each step once it has been. Both are
	// called by Play.
	Started func(Plan)
	Played  func(Step)
}

// A stageKind is what a stage has to itself. The kinds are tried in order
// until the host allows one.
type stageKind struct {
	name  string
	flags uintptr
	base  Plan
	root  bool // only for root
}

const ownNamespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET

var stageKinds = []stageKind{
	{name: "namespaces", flags: ownNamespaces, base: staged, root: true},
	{name: "user namespace", flags: ownNamespaces | syscall.CLONE_NEWUSER, base: staged},
	{name: "shared", base: shared},
}

// Play plays the attack and clears everything away, also when ctx ends early.
// It returns where it was played. The error is nil only if every step was.
func Play(ctx context.Context, cfg Config) (Plan, error) {
	root := os.Geteuid() == 0
	var plan Plan
	var err error
	for _, kind := range stageKinds {
		if kind.root && !root {
			continue
		}
		plan, err = play(ctx, cfg, kind)
		if !errors.Is(err, errRefused) {
			break
		}
	}
	return plan, err
}

// play plays on a stage of one kind.
func play(ctx context.Context, cfg Config, kind stageKind) (plan Plan, err error) {
	plan = kind.base
	if cfg.Root == "" {
		plan.Root, err = os.MkdirTemp("", "clew-demo-")
	} else {
		plan.Root = filepath.Clean(cfg.Root)
		err = os.Mkdir(plan.Root, 0o700)
	}
	if err != nil {
		return plan, err
	}
	// The kernel's names for it, which are those in the story, have no links.
	if plan.Root, err = filepath.EvalSymlinks(plan.Root); err != nil {
		return plan, err
	}
	// On a stage of its own kind this directory stays empty; on a shared one
	// the stage has emptied it, unless it was killed.
	defer func() { err = errors.Join(err, os.RemoveAll(plan.Root)) }()

	in, err := json.Marshal(script{Plan: plan, Own: kind.flags != 0, Pace: cfg.Pace})
	if err != nil {
		return plan, err
	}
	self, closeSelf, err := program()
	if err != nil {
		return plan, err
	}
	defer closeSelf()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = []string{stageName}
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", stageEnv + "=1"}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: kind.flags,
		Setsid:     true,
		Pdeathsig:  syscall.SIGKILL, // ends everything in its process namespace
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Second
	if kind.flags == 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM // it has to end its processes itself
	}
	if kind.flags&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return plan, err
	}
	// The death signal is tied to the thread that starts the stage.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		if kind.flags != 0 {
			err = fmt.Errorf("%w: %w", errRefused, err)
		}
		return plan, fmt.Errorf("start the stage (%s): %w", kind.name, err)
	}

	steps := plan.Steps()
	played := 0
	var last message
	readErr := readMessages(out, func(m message) {
		if m.Done == "" {
			last = m
			return
		}
		if played == 0 && cfg.Started != nil {
			cfg.Started(plan)
		}
		if played < len(steps) && steps[played].Name == m.Done {
			if cfg.Played != nil {
				cfg.Played(steps[played])
			}
			played++
		}
	})
	waitErr := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return plan, context.Cause(ctx)
	case last.Refused:
		return plan, fmt.Errorf("%w: %s", errRefused, strings.TrimPrefix(last.Error, errRefused.Error()+": "))
	case last.Error != "":
		return plan, errors.New(last.Error)
	case waitErr != nil:
		return plan, fmt.Errorf("stage: %w: %s", waitErr, strings.TrimSpace(stderr.String()))
	case readErr != nil:
		return plan, readErr
	case played < len(steps):
		return plan, fmt.Errorf("step %s was not played", steps[played].Name)
	}
	return plan, nil
}

// program returns a path under which to start the stage: this program's, unless
// it lies below a directory that everybody can write to, as a checkout below
// /tmp does. Whatever is started from there is suspicious in its own right, and
// would make setting the stage a part of the story; a copy in memory stands in
// for it where the kernel allows that.
func program() (path string, done func(), err error) {
	self, err := os.Executable()
	if err != nil || !belowShared(self) {
		return self, func() {}, err
	}
	copied, err := inMemory(self)
	if err != nil {
		return self, func() {}, nil
	}
	return fmt.Sprintf("/proc/self/fd/%d", copied.Fd()), func() { copied.Close() }, nil
}

// belowShared reports whether everybody can write to one of the directories
// above a file.
func belowShared(name string) bool {
	for dir := filepath.Dir(name); ; dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err == nil && st.Mode().Perm()&0o002 != 0 {
			return true
		}
		if dir == filepath.Dir(dir) {
			return false
		}
	}
}

func inMemory(name string) (_ *os.File, err error) {
	fd, err := unix.MemfdCreate(stageName, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3, all are executable
		fd, err = unix.MemfdCreate(stageName, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, err
	}
	out := os.NewFile(uintptr(fd), stageName)
	defer func() {
		if err != nil {
			out.Close()
		}
	}()
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if _, err := io.Copy(out, in); err != nil {
		return nil, err
	}
	// What is open for writing cannot be executed.
	ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, err
	}
	return ro, out.Close()
}
