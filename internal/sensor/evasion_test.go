//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/ruleset"
)

// evasionPolicy names files and programs by where they really are. Each attempt
// has a directory of its own below BASE with a secret, a victim and a tool.
const evasionPolicy = `
rules:
  - id: opened
    expression: open.file.path == ~"BASE/*/secret"
  - id: opened_by_tool
    expression: open.file.path == ~"BASE/*/secret" && process.file.path == ~"BASE/*/tool"
  - id: copied_up
    expression: open.file.path == ~"BASE/*/merged/secret" && open.file.in_upper_layer && open.flags & O_WRONLY > 0
  - id: removed
    expression: unlink.file.path == ~"BASE/*/victim"
  - id: moved
    expression: rename.file.path == ~"BASE/*/victim"
  - id: mode
    expression: chmod.file.path == ~"BASE/*/secret"
  - id: owner
    expression: chown.file.path == ~"BASE/*/secret"
  - id: linked
    expression: link.file.path == ~"BASE/*/secret"
  - id: bound
    expression: mount.source.path in [~"BASE/*/secret", ~"BASE/*/real"]
  - id: ran
    expression: exec.file.path == ~"BASE/*/tool"
  - id: ran_memory
    expression: exec.file.name == ~"memfd:*"
  - id: ran_deleted
    expression: exec.file.path == ~"BASE/*/gone"
`

// An evasion is one way to do something without being seen doing it. It is done
// by a helper, in its own process; which rules fire for that process is what a
// person would be told.
type evasion struct {
	name string
	attr syscall.SysProcAttr
	// rules are those that fire; none of them when the call's strings are read
	// from the caller's memory and say nothing certain: then the event has one
	// of flags, and the path of one of paths, which the caller showed.
	rules []string
	flags uint32
}

var evasions = []evasion{
	{name: "symlink", rules: []string{"opened"}},
	{name: "symlinked directory", rules: []string{"opened"}},
	{name: "symlink chmod", rules: []string{"mode"}},
	{name: "symlinked directory unlink", rules: []string{"removed"}},
	{name: "symlinked directory rename", rules: []string{"moved"}},
	// The other name is another path; that it was made is what is seen.
	{name: "hard link", rules: []string{"linked"}},
	{name: "bind mount of a file", attr: syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}, rules: []string{"bound"}},
	{name: "bind mount of a directory", attr: syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}, rules: []string{"bound"}},
	{name: "overlay", attr: syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}, rules: []string{"copied_up", "opened"}},
	{name: "mount namespace", attr: syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}, rules: []string{"mode", "opened", "removed"}},
	{name: "user namespace", attr: syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	}, rules: []string{"mode", "opened", "removed"}},
	{name: "proc self root", rules: []string{"mode", "moved", "opened", "owner", "removed"}},
	{name: "proc self cwd", rules: []string{"mode", "opened", "removed"}},
	{name: "proc self fd", rules: []string{"mode", "opened", "removed"}},
	{name: "memfd", rules: []string{"ran_memory"}},
	{name: "deleted executable", rules: []string{"ran_deleted"}},
	{name: "open by handle", rules: []string{"opened"}},
	{name: "execveat empty path", rules: []string{"ran"}},
	{name: "exec from another thread", rules: []string{"opened", "opened_by_tool", "ran"}},
	{name: "vfork", rules: []string{"opened", "opened_by_tool", "ran"}},
	{name: "paged out", rules: []string{"mode", "opened", "removed"}},
}

// evade does one of evasions in dir. What it prints last is the process that did
// it, where that is another one.
func evade(args []string) int {
	runtime.LockOSThread()
	what, dir := args[0], args[1]
	secret, victim, tool := dir+"/secret", dir+"/victim", dir+"/tool"
	do := func(err error) {
		if err != nil {
			fmt.Println(what, err)
			if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.ENODEV) {
				os.Exit(4)
			}
			os.Exit(1)
		}
	}
	call := func(nr uintptr, a ...any) uintptr {
		r, errno := raw(nr, a...)
		if errno != 0 {
			do(errno)
		}
		return r
	}
	read := func(path string) { call(unix.SYS_OPENAT, unix.AT_FDCWD, path, unix.O_RDONLY, 0) }
	chmod := func(path string) { call(unix.SYS_FCHMODAT, unix.AT_FDCWD, path, 0o600) }
	unlink := func(path string) { call(unix.SYS_UNLINKAT, unix.AT_FDCWD, path, 0) }
	none := []string{"CLEW_SENSOR_HELPER=evade"}
	switch what {
	case "read":
		read(secret)
	case "symlink":
		do(os.Symlink("secret", dir+"/innocent"))
		read(dir + "/innocent")
	case "symlinked directory":
		do(os.Symlink(dir, dir+"/innocent"))
		read(dir + "/innocent/secret")
	case "symlink chmod":
		do(os.Symlink("secret", dir+"/innocent"))
		chmod(dir + "/innocent")
	case "symlinked directory unlink":
		do(os.Symlink(dir, dir+"/innocent"))
		unlink(dir + "/innocent/victim")
	case "symlinked directory rename":
		do(os.Symlink(".", dir+"/innocent"))
		do(os.Rename(dir+"/innocent/victim", dir+"/innocent/elsewhere"))
	case "hard link":
		do(os.Link(secret, dir+"/innocent"))
		read(dir + "/innocent")
	case "bind mount of a file":
		do(unix.Mount(secret, mkplain(dir+"/innocent"), "", unix.MS_BIND, ""))
		read(dir + "/innocent")
	case "bind mount of a directory":
		do(os.MkdirAll(dir+"/real", 0o700))
		do(os.MkdirAll(dir+"/innocent", 0o700))
		do(unix.Mount(dir+"/real", dir+"/innocent", "", unix.MS_BIND, ""))
	case "overlay":
		for _, sub := range []string{"/upper", "/top", "/merged"} {
			do(os.Mkdir(dir+sub, 0o700))
		}
		// The upper layer must be on a file system that can be one.
		do(unix.Mount("none", dir+"/top", "tmpfs", 0, ""))
		do(os.Mkdir(dir+"/top/up", 0o700))
		do(os.Mkdir(dir+"/top/work", 0o700))
		do(unix.Mount("none", dir+"/merged", "overlay", 0, "lowerdir="+dir+"/lower,upperdir="+dir+"/top/up,workdir="+dir+"/top/work"))
		call(unix.SYS_OPENAT, unix.AT_FDCWD, dir+"/merged/secret", unix.O_WRONLY|unix.O_APPEND, 0)
		read(secret)
	case "mount namespace", "user namespace":
		do(unix.Mount("none", "/proc", "tmpfs", 0, ""))
		read(secret)
		chmod(secret)
		unlink(victim)
	case "proc self root":
		root := "/proc/self/root"
		read("/proc/" + strconv.Itoa(os.Getpid()) + "/root" + secret)
		chmod(root + secret)
		call(unix.SYS_FCHOWNAT, unix.AT_FDCWD, "/proc/thread-self/root"+secret, 0, 0, 0)
		do(os.Rename(root+victim, root+dir+"/moved"))
		do(os.Rename(dir+"/moved", victim))
		unlink("/proc/" + strconv.Itoa(os.Getpid()) + "/root" + root + victim)
	case "proc self cwd":
		do(os.Chdir(dir))
		read("/proc/self/cwd/secret")
		chmod("/proc/self/cwd/secret")
		unlink("/proc/self/cwd/victim")
	case "proc self fd":
		file, err := unix.Open(secret, unix.O_PATH, 0)
		do(err)
		at, err := unix.Open(dir, unix.O_PATH, 0)
		do(err)
		read(fmt.Sprintf("/proc/self/fd/%d", file))
		chmod(fmt.Sprintf("/proc/self/fd/%d", file))
		unlink(fmt.Sprintf("/proc/self/fd/%d/victim", at))
	case "memfd":
		fd, err := unix.MemfdCreate("clew-tool", 0)
		do(err)
		b, err := os.ReadFile("/proc/self/exe")
		do(err)
		_, err = unix.Write(fd, b)
		do(err)
		// A file that is open for writing is not executed.
		ro, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		do(err)
		do(unix.Close(fd))
		do(execveat(ro, "", []string{"tool", "nothing", dir}, none, unix.AT_EMPTY_PATH))
	case "deleted executable":
		b, err := os.ReadFile("/proc/self/exe")
		do(err)
		do(os.WriteFile(dir+"/gone", b, 0o755))
		fd, err := unix.Open(dir+"/gone", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		do(err)
		do(os.Remove(dir + "/gone"))
		do(execveat(fd, "", []string{"tool", "nothing", dir}, none, unix.AT_EMPTY_PATH))
	case "open by handle":
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, secret, 0)
		do(err)
		at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		do(err)
		_, err = unix.OpenByHandleAt(at, h, unix.O_RDONLY)
		do(err)
	case "execveat empty path":
		fd, err := unix.Open(tool, unix.O_PATH|unix.O_CLOEXEC, 0)
		do(err)
		do(execveat(fd, "", []string{"innocent", "nothing", dir}, none, unix.AT_EMPTY_PATH))
	case "exec from another thread":
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == os.Getpid() {
				do(errors.New("this is the first thread"))
			}
			do(unix.Exec(tool, []string{"innocent", "read", dir}, none))
		}()
		select {}
	case "vfork":
		// The runtime starts programs so: by CLONE_VFORK and CLONE_VM.
		cmd := exec.Command(tool, "read", dir)
		cmd.Env = none
		do(cmd.Run())
		fmt.Println(cmd.Process.Pid)
	case "paged out":
		for _, x := range []struct {
			nr   uintptr
			path string
			args []any
		}{{unix.SYS_OPENAT, secret, []any{unix.O_RDONLY, 0}}, {unix.SYS_FCHMODAT, secret, []any{0o600}}, {unix.SYS_UNLINKAT, victim, []any{0}}} {
			p, err := absentPage(dir, x.path)
			do(err)
			call(x.nr, append([]any{unix.AT_FDCWD, p}, x.args...)...)
		}
	case "nothing":
	default:
		return 99
	}
	return 0
}

// mkplain makes an empty file.
func mkplain(path string) string {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		panic(err)
	}
	return path
}

func execveat(fd int, path string, argv, env []string, flags int) error {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	av, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return err
	}
	ev, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	_, _, errno := syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&av[0])), uintptr(unsafe.Pointer(&ev[0])), uintptr(flags), 0)
	return errno
}

// absentPage is memory with a text in it that no page is there for: it was
// mapped from a file and given back.
func absentPage(dir, text string) (unsafe.Pointer, error) {
	f, err := os.CreateTemp(dir, "page")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.WriteString(text + "\x00"); err != nil {
		return nil, err
	}
	if err := f.Truncate(4096); err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	// It was never touched, and is dropped all the same.
	if err := unix.Madvise(b, unix.MADV_DONTNEED); err != nil {
		return nil, err
	}
	return unsafe.Pointer(&b[0]), nil
}

// TestEvasion does what a rule is about in ways that are meant to keep it from
// firing, with the kernel's filter made from the rules, and holds which of them
// fire at the end of the pipeline, for which process.
func TestEvasion(t *testing.T) {
	base := realTemp(t)
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	policy := ruleset.File{Name: "evasion.policy", Data: []byte(strings.ReplaceAll(evasionPolicy, "BASE", base))}
	set, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{policy})
	if err != nil {
		t.Fatal(err)
	}
	if report.Failed() {
		report.WriteText(t.Output())
		t.Fatal("the policy is wrong")
	}
	w := startWatch(t, Config{Plan: ruleset.DerivePlan(set), NotSelf: true})
	pids := make(map[string]uint32)
	for i, e := range evasions {
		t.Run(e.name, func(t *testing.T) {
			dir := filepath.Join(base, strconv.Itoa(i))
			stage(t, dir)
			cmd := exec.Command(self(t), e.name, dir)
			cmd.Env = []string{"CLEW_SENSOR_HELPER=evade"}
			cmd.SysProcAttr = &e.attr
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 4 {
				t.Skipf("this kernel does not have it: %s", out)
			}
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			pid := cmd.Process.Pid
			if lines := strings.Fields(string(out)); len(lines) > 0 {
				if pid, err = strconv.Atoi(lines[len(lines)-1]); err != nil {
					t.Fatalf("%s", out)
				}
			}
			pids[e.name] = uint32(pid)
		})
	}
	w.settle()
	w.stop()
	fired := firedBy(t, set, w.recs)
	for _, e := range evasions {
		pid, ok := pids[e.name]
		if !ok {
			continue
		}
		if got := slices.Sorted(maps.Keys(fired[pid])); !slices.Equal(got, e.rules) {
			t.Errorf("%s: fired %v, want %v", e.name, got, e.rules)
			for _, r := range w.recs {
				if r.Event != nil && r.Event.PID == pid && r.Event.Kind != event.KindFork {
					t.Logf("  %s flags %#x %s", r.Event.Kind, r.Event.Flags, describe(r.Event))
				}
			}
		}
	}
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
}

// stage prepares a directory for one attempt.
func stage(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir+"/lower", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/secret", "/victim", "/lower/secret"} {
		if err := os.WriteFile(dir+name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(self(t), dir+"/tool"); err == nil {
		return
	}
	from, err := os.Open(self(t))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(dir+"/tool", os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
}

// firedBy puts a stream through the pipeline and returns the rules that fired,
// by process.
func firedBy(t *testing.T, set *ruleset.Set, recs []*event.StreamRecord) map[uint32]map[string]*event.Event {
	t.Helper()
	cfg, err := pipeline.Standard(set)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pipeline.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	fired := make(map[uint32]map[string]*event.Event)
	for _, r := range recs {
		err := p.Push(r, func(s *event.SpoolRecord) error {
			e := s.Event
			if e == nil {
				return nil
			}
			for _, sig := range e.Signals {
				if fired[e.PID] == nil {
					fired[e.PID] = make(map[string]*event.Event)
				}
				fired[e.PID][sig.RuleID] = e
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return fired
}

var _ = time.Now

// describe shows what of an event the evasions are about.
func describe(e *event.Event) string {
	var files []string
	add := func(what string, f event.File) {
		files = append(files, fmt.Sprintf("%s %q (%s)", what, f.Path, f.PathSource))
	}
	switch {
	case e.Exec != nil:
		if e.Exec.Image != nil {
			add("file", e.Exec.Image.File)
		}
	case e.Open != nil:
		add("file", e.Open.File)
	case e.Unlink != nil:
		add("file", e.Unlink.File)
	case e.Rename != nil:
		add("file", e.Rename.File)
		add("to", e.Rename.Destination)
	case e.Chmod != nil:
		add("file", e.Chmod.File)
	case e.Chown != nil:
		add("file", e.Chown.File)
	case e.Link != nil:
		add("file", e.Link.File)
	case e.Mount != nil:
		files = append(files, fmt.Sprintf("%+v", e.Mount))
	}
	return strings.Join(files, ", ")
}
