//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
)

// fsmetaTests are those of TestKinds about what is done to files beside their
// content and names.
var fsmetaTests = []struct {
	name string
	f    func(*testing.T, *watch)
}{
	{"chdir", testChdir},
	{"xattr", testXattr},
	{"utimes", testUtimes},
	{"splice", testSplice},
	{"mount", testMount},
	{"detached mount", testDetachedMount},
	{"denied meta", testDeniedMeta},
	{"open by handle", testOpenByHandle},
	{"memfd exec", testMemfdExec},
	{"io_uring", testUring},
	{"exec by link", testExecByLink},
}

// alone runs f in a thread that shares no working directory with others, and
// ends with it. f returns what it was doing when it failed.
func alone(t *testing.T, f func() (string, error)) {
	t.Helper()
	type result struct {
		what string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- result{"unshare", err}
			return
		}
		what, err := f()
		done <- result{what, err}
	}()
	if r := <-done; r.err != nil {
		t.Fatalf("%s: %v", r.what, r.err)
	}
}

// ownMounts gives the thread a mount namespace of its own.
func ownMounts() error {
	return errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
}

func testChdir(t *testing.T, w *watch) {
	dir := realTemp(t)
	for _, d := range []string{"/target", "/other"} {
		if err := os.Mkdir(dir+d, 0o751); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("target", dir+"/via"); err != nil {
		t.Fatal(err)
	}
	alone(t, func() (string, error) {
		if err := unix.Chdir(dir + "/via"); err != nil {
			return "chdir", err
		}
		fd, err := unix.Open(dir+"/other", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return "open", err
		}
		defer unix.Close(fd)
		return "fchdir", unix.Fchdir(fd)
	})
	e := w.event(event.KindChdir, func(e *event.Event) bool { return e.Chdir.File.Path == dir+"/target" })
	checkActor(t, e)
	checkFile(t, &e.Chdir.File, dir+"/target")
	if given := e.Chdir.SyscallPath; e.Chdir.Retval != 0 || e.Flags != 0 || !resolved() && given != dir+"/via" {
		t.Errorf("%+v, flags %#x", e.Chdir, e.Flags)
	}
	e = w.event(event.KindChdir, func(e *event.Event) bool { return e.Chdir.File.Path == dir+"/other" })
	checkFile(t, &e.Chdir.File, dir+"/other")
	if e.Chdir.SyscallPath != "" || e.Chdir.Retval != 0 || e.Flags != 0 {
		t.Errorf("%+v, flags %#x", e.Chdir, e.Flags)
	}
}

func testXattr(t *testing.T, w *watch) {
	dir := realTemp(t)
	const attr = "trusted.clew"
	value := []byte("v")
	try := func(name string, byFD bool, set, remove func(path string, fd int) syscall.Errno) {
		path := mkfile(t, filepath.Join(dir, name))
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if !must(t, "set "+name, set(path, fd)) || !must(t, "remove "+name, remove(path, fd)) {
			return
		}
		check := func(e *event.Event, f *event.File, attribute string, retval int64) {
			t.Helper()
			checkActor(t, e)
			if byFD || resolved() {
				checkFile(t, f, path)
				if e.Flags != 0 {
					t.Errorf("flags %#x", e.Flags)
				}
			} else {
				checkNamed(t, e, f, path, "", "")
			}
			if attribute != attr || retval != 0 {
				t.Errorf("attribute %q, retval %d", attribute, retval)
			}
		}
		s := w.event(event.KindSetxattr, func(e *event.Event) bool { return e.Setxattr.File.Path == path })
		check(s, &s.Setxattr.File, s.Setxattr.DestinationName, s.Setxattr.Retval)
		if ns := s.Setxattr.DestinationNamespace(); ns != "trusted" {
			t.Errorf("namespace %q", ns)
		}
		r := w.event(event.KindRemovexattr, func(e *event.Event) bool { return e.Removexattr.File.Path == path })
		check(r, &r.Removexattr.File, r.Removexattr.DestinationName, r.Removexattr.Retval)
	}
	at := unix.AT_FDCWD
	args := struct {
		value       uint64
		size, flags uint32
	}{uint64(uintptr(unsafe.Pointer(&value[0]))), uint32(len(value)), 0}
	try("path", false, func(p string, _ int) syscall.Errno {
		_, e := raw(unix.SYS_SETXATTR, p, attr, unsafe.Pointer(&value[0]), len(value), 0)
		return e
	}, func(p string, _ int) syscall.Errno { _, e := raw(unix.SYS_REMOVEXATTR, p, attr); return e })
	try("link", false, func(p string, _ int) syscall.Errno {
		_, e := raw(unix.SYS_LSETXATTR, p, attr, unsafe.Pointer(&value[0]), len(value), 0)
		return e
	}, func(p string, _ int) syscall.Errno { _, e := raw(unix.SYS_LREMOVEXATTR, p, attr); return e })
	try("fd", true, func(_ string, fd int) syscall.Errno {
		_, e := raw(unix.SYS_FSETXATTR, fd, attr, unsafe.Pointer(&value[0]), len(value), 0)
		return e
	}, func(_ string, fd int) syscall.Errno { _, e := raw(unix.SYS_FREMOVEXATTR, fd, attr); return e })
	try("at", false, func(p string, _ int) syscall.Errno {
		_, e := raw(unix.SYS_SETXATTRAT, at, p, 0, attr, unsafe.Pointer(&args), int(unsafe.Sizeof(args)))
		return e
	}, func(p string, _ int) syscall.Errno { _, e := raw(unix.SYS_REMOVEXATTRAT, at, p, 0, attr); return e })
	runtime.KeepAlive(value)
}

func testUtimes(t *testing.T, w *watch) {
	dir := realTemp(t)
	check := func(name string, byFD bool, atime, mtime int64, call func(path string, fd int) syscall.Errno) {
		path := mkfile(t, filepath.Join(dir, name))
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if !must(t, name, call(path, fd)) {
			return
		}
		e := w.event(event.KindUtimes, func(e *event.Event) bool { return e.Utimes.File.Path == path })
		checkActor(t, e)
		u := e.Utimes
		if byFD || resolved() {
			if u.File.PathSource != "kernel" || u.File.Inode == 0 || e.Flags != 0 {
				t.Errorf("%+v, flags %#x", u.File, e.Flags)
			}
		} else {
			checkNamed(t, e, &u.File, path, u.SyscallPath, path)
		}
		if u.Atime != atime || u.Mtime != mtime || u.Retval != 0 {
			t.Errorf("%s: times %d %d, want %d %d, retval %d", name, u.Atime, u.Mtime, atime, mtime, u.Retval)
		}
	}
	ts := []unix.Timespec{{Sec: 1e9, Nsec: 5}, {Sec: 11e8, Nsec: 6}}
	check("utimensat", false, 1e18+5, 11e17+6, func(p string, _ int) syscall.Errno {
		_, e := raw(unix.SYS_UTIMENSAT, unix.AT_FDCWD, p, unsafe.Pointer(&ts[0]), 0)
		return e
	})
	check("futimens", true, 1e18+5, 11e17+6, func(_ string, fd int) syscall.Errno {
		_, e := raw(unix.SYS_UTIMENSAT, fd, 0, unsafe.Pointer(&ts[0]), 0)
		return e
	})
	part := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}
	check("omit", false, -1, 0, func(p string, _ int) syscall.Errno {
		_, e := raw(unix.SYS_UTIMENSAT, unix.AT_FDCWD, p, unsafe.Pointer(&part[0]), unix.AT_SYMLINK_NOFOLLOW)
		return e
	})
	check("now", false, 0, 0, func(p string, _ int) syscall.Errno {
		_, e := raw(unix.SYS_UTIMENSAT, unix.AT_FDCWD, p, 0, 0)
		return e
	})
	tv := []unix.Timeval{{Sec: 1e9, Usec: 5}, {Sec: 11e8, Usec: 6}}
	sec := [2]int64{1e9, 11e8}
	for name, nr := range legacyCalls {
		switch name {
		case "utimes":
			check(name, false, 1e18+5000, 11e17+6000, func(p string, _ int) syscall.Errno {
				_, e := raw(nr, p, unsafe.Pointer(&tv[0]))
				return e
			})
		case "futimesat":
			check(name, false, 1e18+5000, 11e17+6000, func(p string, _ int) syscall.Errno {
				_, e := raw(nr, unix.AT_FDCWD, p, unsafe.Pointer(&tv[0]))
				return e
			})
		case "utime":
			check(name, false, 1e18, 11e17, func(p string, _ int) syscall.Errno {
				_, e := raw(nr, p, unsafe.Pointer(&sec))
				return e
			})
		}
	}
}

func testSplice(t *testing.T, w *watch) {
	dir := realTemp(t)
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	in, err := os.Open(mkfile(t, dir+"/in"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(dir + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	// What write puts into a pipe may be merged with what comes after; what
	// splice puts there is the file's page, and may not.
	const canMerge = 0x10
	if _, err := unix.Write(pipe[1], []byte("abc")); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Splice(int(in.Fd()), nil, pipe[1], nil, 1, 0); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	e := w.event(event.KindSplice, func(e *event.Event) bool { return e.Splice.File.Path == dir+"/in" })
	checkActor(t, e)
	checkFile(t, &e.Splice.File, dir+"/in")
	if s := e.Splice; s.PipeEntryFlag != canMerge || s.PipeExitFlag&canMerge != 0 || s.Retval != 1 || e.Flags != 0 {
		t.Errorf("%+v, flags %#x", s, e.Flags)
	}
	if n, err := unix.Splice(pipe[0], nil, int(out.Fd()), nil, 4, 0); err != nil || n != 4 && n != 3 {
		t.Fatal(n, err)
	}
	e = w.event(event.KindSplice, func(e *event.Event) bool { return e.Splice.File.Path == dir+"/out" })
	if s := e.Splice; s.File.PathSource != "kernel" || s.Retval != 4 && s.Retval != 3 {
		t.Errorf("%+v", s)
	}
}

func testMount(t *testing.T, w *watch) {
	dir := realTemp(t)
	for _, d := range []string{"/real", "/real/deep", "/m", "/b", "/moved"} {
		if err := os.Mkdir(dir+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	alone(t, func() (string, error) {
		if err := ownMounts(); err != nil {
			return "own mounts", err
		}
		if err := unix.Mount("some", dir+"/m", "tmpfs", unix.MS_NOSUID, "size=1m"); err != nil {
			return "mount tmpfs", err
		}
		if err := unix.Mount(dir+"/real/deep", dir+"/b", "", unix.MS_BIND, ""); err != nil {
			return "bind", err
		}
		if err := unix.Mount("", dir+"/b", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return "remount", err
		}
		if err := unix.Mount(dir+"/m", dir+"/moved", "", unix.MS_MOVE, ""); err != nil {
			return "move", err
		}
		if err := unix.Unmount(dir+"/moved", unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return "unmount", err
		}
		return "unmount", unix.Unmount(dir+"/b", 0)
	})
	at := func(path string) *event.Event {
		return w.event(event.KindMount, func(e *event.Event) bool { return e.Mount.MountpointPath == path })
	}
	e := at(dir + "/m")
	checkActor(t, e)
	m := e.Mount
	if m.FSType != "tmpfs" || m.SyscallFSType != "tmpfs" || m.SyscallSourcePath != "some" || m.SourcePath != "" ||
		m.RootPath != "/" || m.Flags != unix.MS_NOSUID || m.Detached || m.Hidden || m.Retval != 0 || e.Flags != 0 {
		t.Errorf("%+v, flags %#x", m, e.Flags)
	}
	if !resolved() && m.SyscallMountpointPath != dir+"/m" {
		t.Errorf("mount point given %q", m.SyscallMountpointPath)
	}
	m = at(dir + "/b").Mount
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if m.SourcePath != dir+"/real/deep" || m.SyscallSourcePath != dir+"/real/deep" || m.Flags != unix.MS_BIND ||
		!strings.HasSuffix(m.RootPath, "/real/deep") || m.FSType == "" || fs.Type == unix.TMPFS_MAGIC && m.FSType != "tmpfs" {
		t.Errorf("%+v", m)
	}
	m = at(dir + "/moved").Mount
	if m.SourcePath != dir+"/m" || m.Flags != unix.MS_MOVE {
		t.Errorf("%+v", m)
	}
	u := w.event(event.KindUmount, func(e *event.Event) bool { return e.Umount.MountpointPath == dir+"/moved" })
	checkActor(t, u)
	if u.Umount.Flags != unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW || u.Umount.Retval != 0 {
		t.Errorf("%+v", u.Umount)
	}
	if user := u.Flags&event.FlagPathUser != 0; user == resolved() {
		t.Errorf("flags %#x", u.Flags)
	}
	w.event(event.KindUmount, func(e *event.Event) bool { return e.Umount.MountpointPath == dir+"/b" && e.Umount.Flags == 0 })
	w.settle()
	if n := len(w.events(func(e *event.Event) bool { return e.Mount != nil && e.Mount.MountpointPath == dir+"/b" })); n != 1 {
		t.Errorf("%d mounts on one directory, of which one only changed its flags", n)
	}
}

// testDetachedMount follows a mount that is made by the newer calls: at first
// in no directory, where files are used by a descriptor only, and then in one.
func testDetachedMount(t *testing.T, w *watch) {
	dir := realTemp(t)
	for _, d := range []string{"/n", "/real"} {
		if err := os.Mkdir(dir+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mkfile(t, dir+"/real/in-a-clone")
	open := func(at int, name string) error {
		fd, err := unix.Openat(at, name, unix.O_WRONLY|unix.O_CREAT, 0o600)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}
	alone(t, func() (string, error) {
		if err := ownMounts(); err != nil {
			return "own mounts", err
		}
		ctx, err := unix.Fsopen("tmpfs", 0)
		if err != nil {
			return "fsopen", err
		}
		defer unix.Close(ctx)
		if err := unix.FsconfigCreate(ctx); err != nil {
			return "fsconfig", err
		}
		mnt, err := unix.Fsmount(ctx, 0, 0)
		if err != nil {
			return "fsmount", err
		}
		defer unix.Close(mnt)
		if err := open(mnt, "in-the-void"); err != nil {
			return "open", err
		}
		if err := unix.MoveMount(mnt, "", unix.AT_FDCWD, dir+"/n", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return "move_mount", err
		}
		if err := open(mnt, "in-place"); err != nil {
			return "open", err
		}
		tree, err := unix.OpenTree(unix.AT_FDCWD, dir+"/real", unix.OPEN_TREE_CLONE)
		if err != nil {
			return "open_tree", err
		}
		defer unix.Close(tree)
		return "open", open(tree, "in-a-clone")
	})
	e := w.event(event.KindMount, func(e *event.Event) bool { return e.Mount.Detached && e.Mount.FSType == "tmpfs" })
	if m := e.Mount; m.FSType != "tmpfs" || m.RootPath != "/" || !m.Hidden || m.MountpointPath != "" || e.Flags != 0 {
		t.Errorf("%+v, flags %#x", m, e.Flags)
	}
	o := w.event(event.KindOpen, func(e *event.Event) bool { return strings.HasSuffix(e.Open.File.Path, "in-the-void") })
	if f := o.Open.File; f.Path != "in-the-void" || !f.MountDetached || f.MountVisible() {
		t.Errorf("%+v", f)
	}
	e = w.event(event.KindMount, func(e *event.Event) bool { return e.Mount.MountpointPath == dir+"/n" })
	checkActor(t, e)
	if m := e.Mount; m.FSType != "tmpfs" || m.RootPath != "/" || m.Hidden || m.Detached || m.Retval != 0 {
		t.Errorf("%+v", m)
	}
	o = w.event(event.KindOpen, func(e *event.Event) bool { return strings.HasSuffix(e.Open.File.Path, "in-place") })
	if f := o.Open.File; f.Path != dir+"/n/in-place" || f.MountDetached || !f.MountVisible() {
		t.Errorf("%+v", f)
	}
	e = w.event(event.KindMount, func(e *event.Event) bool { return e.Mount.Detached && e.Mount.SourcePath != "" })
	if m := e.Mount; m.SourcePath != dir+"/real" || !strings.HasSuffix(m.RootPath, "/real") {
		t.Errorf("%+v", m)
	}
	o = w.event(event.KindOpen, func(e *event.Event) bool {
		return strings.HasSuffix(e.Open.File.Path, "in-a-clone") && e.Open.File.MountDetached
	})
	if f := o.Open.File; f.Path != "in-a-clone" {
		t.Errorf("%+v", f)
	}
}

// deniedMeta tries what user 1000 may not do.
func deniedMeta(args []string) int {
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, 1000, 1000, 1000); errno != 0 {
		return 1
	}
	dir := args[0]
	value := []byte("v")
	raw(unix.SYS_CHDIR, dir+"/closed")
	raw(unix.SYS_CHDIR, dir+"/absent")
	raw(unix.SYS_SETXATTR, dir+"/secret", "trusted.clew", unsafe.Pointer(&value[0]), 1, 0)
	raw(unix.SYS_UTIMENSAT, unix.AT_FDCWD, dir+"/secret", 0, 0)
	raw(unix.SYS_MOUNT, "none", dir, "tmpfs", 0, 0)
	raw(unix.SYS_UMOUNT2, dir, 0)
	return 0
}

func testDeniedMeta(t *testing.T, w *watch) {
	dir, err := os.MkdirTemp("/tmp", "clew-denied-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(dir+"/closed", 0o700), os.WriteFile(dir+"/secret", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self(t), dir)
	cmd.Env = []string{"CLEW_SENSOR_HELPER=denied meta"}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	pid := uint32(cmd.Process.Pid)
	of := func(k event.Kind) *event.Event {
		return w.eventOf(k, func(e *event.Event) bool { return e.PID == pid })
	}
	if x := of(event.KindSetxattr).Setxattr; x.Retval != -int64(unix.EPERM) || x.File.Path != dir+"/secret" || x.DestinationName != "trusted.clew" {
		t.Errorf("%+v", x)
	}
	if x := of(event.KindUtimes).Utimes; x.Retval != -int64(unix.EACCES) || x.File.Path != dir+"/secret" {
		t.Errorf("%+v", x)
	}
	if x := of(event.KindMount).Mount; x.Retval != -int64(unix.EPERM) || x.MountpointPath != dir || x.FSType != "tmpfs" {
		t.Errorf("%+v", x)
	}
	if x := of(event.KindUmount).Umount; x.Retval != -int64(unix.EPERM) || x.MountpointPath != dir {
		t.Errorf("%+v", x)
	}
	w.settle()
	changes := w.events(func(e *event.Event) bool { return e.PID == pid && e.Chdir != nil })
	if resolved() {
		if len(changes) > 0 {
			t.Errorf("%+v", changes[0].Chdir)
		}
		return
	}
	if len(changes) != 1 {
		t.Fatalf("%d changes of directory, want that which was refused", len(changes))
	}
	e := changes[0]
	if x := e.Chdir; x.Retval != -int64(unix.EACCES) || x.File.Path != dir+"/closed" || x.SyscallPath != dir+"/closed" || e.Flags&event.FlagPathUser == 0 {
		t.Errorf("%+v, flags %#x", x, e.Flags)
	}
}

func testOpenByHandle(t *testing.T, w *watch) {
	dir := realTemp(t)
	path := mkfile(t, dir+"/by-handle")
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("the file system of the temporary directory has no handles")
	}
	if err != nil {
		t.Fatal(err)
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(at)
	mnt, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(mnt)
	fd, err := unix.OpenByHandleAt(mnt, handle, unix.O_WRONLY|unix.O_APPEND)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	e := w.event(event.KindOpen, func(e *event.Event) bool {
		return e.Open.File.Path == path && e.Open.Flags&(unix.O_ACCMODE|unix.O_APPEND) == unix.O_WRONLY|unix.O_APPEND
	})
	checkActor(t, e)
	checkFile(t, &e.Open.File, path)
	if e.Open.SyscallPath != "" || e.Open.Retval < 0 || e.Flags != 0 {
		t.Errorf("%+v, flags %#x", e.Open, e.Flags)
	}
}

// testMemfdExec runs a program that is in no directory.
func testMemfdExec(t *testing.T, w *watch) {
	fd, err := unix.MemfdCreate("clew-program", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	defer f.Close()
	program, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(program); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self(t), "0")
	cmd.Path = "/proc/self/fd/3"
	cmd.ExtraFiles = []*os.File{f}
	cmd.Env = []string{"CLEW_SENSOR_HELPER=exit"}
	if err := cmd.Run(); err != nil && !errors.Is(err, unix.ETXTBSY) {
		t.Fatal(err)
	} else if err != nil {
		t.Skip("the kernel does not execute what is open for writing")
	}
	e := w.eventOf(event.KindExec, func(e *event.Event) bool { return e.PID == uint32(cmd.Process.Pid) })
	p := e.Exec.Image
	if p.File.Path != "memfd:clew-program" || p.File.Filesystem != "tmpfs" || p.File.Links != 0 || !p.File.MountDetached || p.File.Inode == 0 {
		t.Errorf("%+v", p.File)
	}
}

// checkScript checks the file of a script that an interpreter runs.
func checkScript(t *testing.T, p *event.Process, path string) {
	t.Helper()
	if p.Script == nil {
		t.Fatal("no script")
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	f := p.Script
	if f.Path != path || f.Inode != st.Ino || f.Mode != st.Mode || f.Dev == 0 || p.File.Inode != st.Ino {
		t.Errorf("%+v, want inode %d", f, st.Ino)
	}
	if source := map[bool]string{true: "kernel", false: "user"}[resolved()]; f.PathSource != source {
		t.Errorf("path source %q, want %q", f.PathSource, source)
	}
}

// testExecByLink runs a program and a script through symbolic links.
func testExecByLink(t *testing.T, w *watch) {
	dir := realTemp(t)
	if err := errors.Join(os.Symlink(self(t), dir+"/python"), os.Symlink("script", dir+"/job"),
		os.WriteFile(dir+"/script", []byte("#!"+self(t)+" 0\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	run := func(path string) *event.Process {
		cmd := exec.Command(path, "0")
		cmd.Dir = dir
		cmd.Env = []string{"CLEW_SENSOR_HELPER=exit"}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		return w.eventOf(event.KindExec, func(e *event.Event) bool { return e.PID == uint32(cmd.Process.Pid) }).Exec.Image
	}
	for _, given := range []string{dir + "/python", "./python"} {
		p := run(given)
		if want := []string{dir + "/python"}; p.File.Path != self(t) || !slices.Equal(p.File.OtherPaths, want) {
			t.Errorf("%s: %q, other paths %q, want %q", given, p.File.Path, p.File.OtherPaths, want)
		}
	}
	for _, given := range []string{self(t), filepath.Dir(dir) + "/../" + filepath.Base(filepath.Dir(dir)) + "/" + filepath.Base(dir) + "/python"} {
		if p := run(given); len(p.File.OtherPaths) > 0 {
			t.Errorf("%s: other paths %q", given, p.File.OtherPaths)
		}
	}
	p := run(dir + "/job")
	if !resolved() {
		return // its name is looked up when it is read, and links with it
	}
	if want := []string{dir + "/job"}; p.File.Path != dir+"/script" || !slices.Equal(p.File.OtherPaths, want) || p.Interpreter.Path != self(t) {
		t.Errorf("%q, other paths %q, interpreter %q", p.File.Path, p.File.OtherPaths, p.Interpreter.Path)
	}
}
