//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
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
)

// helper plays the programs that the tests watch.
func helper(what string, args []string) int {
	switch what {
	case "exit":
		n, _ := strconv.Atoi(args[0])
		return n
	case "kill":
		n, _ := strconv.Atoi(args[0])
		syscall.Kill(os.Getpid(), syscall.Signal(n))
		select {}
	case "wait": // until standard input ends
		io.Copy(io.Discard, os.Stdin)
		return 0
	case "touch": // when standard input ends
		io.Copy(io.Discard, os.Stdin)
		if err := os.Chmod(args[0], 0o644); err != nil {
			return 1
		}
		return 0
	case "write": // standard input, in one piece, to descriptor 3
		b, err := io.ReadAll(os.Stdin)
		if err == nil {
			_, err = os.NewFile(3, "").Write(b)
		}
		if err != nil {
			return 1
		}
		return 0
	case "ids":
		return changeIDs(args)
	case "denied":
		return denied(args)
	case "evade":
		return evade(args)
	case "kern":
		return kernHelper(args)
	case "denied meta":
		return deniedMeta(args)
	}
	return 99
}

// raw makes a system call with up to six arguments; strings become pointers.
func raw(nr uintptr, args ...any) (uintptr, syscall.Errno) {
	var a [6]uintptr
	var keep [][]byte
	for i, x := range args {
		switch x := x.(type) {
		case string:
			b := append([]byte(x), 0)
			keep = append(keep, b)
			a[i] = uintptr(unsafe.Pointer(&b[0]))
		case int:
			a[i] = uintptr(x)
		case uint64:
			a[i] = uintptr(x)
		case unsafe.Pointer:
			a[i] = uintptr(x)
		}
	}
	r, _, err := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	runtime.KeepAlive(keep)
	return r, err
}

func must(t *testing.T, what string, errno syscall.Errno) bool {
	t.Helper()
	if errno == unix.ENOSYS {
		t.Logf("%s is not a system call of this kernel", what)
		return false
	}
	if errno != 0 {
		t.Fatalf("%s: %v", what, errno)
	}
	return true
}

// resolved tells whether the mode has the kernel's own object for calls that
// name a file by a string.
func resolved() bool { return testMode() == Trampoline }

// checkNamed checks a file that was named by a string. In trampoline mode it
// is the kernel's object, else what the caller's memory said.
func checkNamed(t *testing.T, e *event.Event, f *event.File, path string, given, wantGiven string) {
	t.Helper()
	if f.Path != path {
		t.Errorf("path %q, want %q", f.Path, path)
	}
	if resolved() {
		if f.PathSource != "kernel" || e.Flags&event.FlagPathUser != 0 {
			t.Errorf("path source %q, flags %#x, want the kernel's", f.PathSource, e.Flags)
		}
	} else {
		if f.PathSource != "user" || e.Flags&event.FlagPathUser == 0 {
			t.Errorf("path source %q, flags %#x, want the user's", f.PathSource, e.Flags)
		}
		if given != wantGiven {
			t.Errorf("path given %q, want %q", given, wantGiven)
		}
	}
	if bad := e.Flags & (event.FlagPathChanged | event.FlagPathCut | event.FlagPathUnknown); bad != 0 {
		t.Errorf("flags %#x", bad)
	}
}

func mkfile(t *testing.T, path string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKinds has a test for each kind of event, all under one sensor.
func TestKinds(t *testing.T) {
	w := startWatch(t, Config{Plan: everything(), NotSelf: true})
	noteBudget(t, w.s)
	sub := func(name string, f func(t *testing.T, w *watch)) {
		t.Run(name, func(t *testing.T) {
			w.t = t
			f(t, w)
		})
	}
	sub("open", testOpen)
	sub("truncate", testTruncate)
	sub("unlink", testUnlink)
	sub("rmdir", testRmdir)
	sub("mkdir", testMkdir)
	sub("rename", testRename)
	sub("chmod", testChmod)
	sub("chown", testChown)
	sub("link", testLink)
	sub("symlink", testSymlink)
	sub("connect", testConnect)
	sub("bind", testBind)
	sub("accept", testAccept)
	sub("unix", testUnix)
	sub("exec", testExec)
	sub("script", testScript)
	sub("fork", testFork)
	sub("exit", testExit)
	sub("ids", testIDs)
	sub("cgroup", testCgroup)
	sub("denied", testDenied)
	sub("mounts", testMounts)
	for _, k := range fsmetaTests {
		sub(k.name, k.f)
	}
	sub("canary", func(t *testing.T, w *watch) { w.settle() })
	w.t = t
	w.stop()
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
}

// checkSums holds records in = events out + drops by reason.
func checkSums(t *testing.T, st Stats) {
	t.Helper()
	for kind, k := range st.Kinds {
		sum := k.Sent + k.Filtered + k.Ignored
		for _, n := range k.Lost {
			sum += n
		}
		if sum != k.Seen {
			t.Errorf("%s: saw %d, accounts for %d: %+v", kind, k.Seen, sum, k)
		}
	}
	var sent, decoded uint64
	for _, k := range st.Kinds {
		sent += k.Sent
	}
	for _, n := range st.Decoded {
		decoded += n
	}
	if sent != decoded || st.Malformed != 0 {
		t.Errorf("%d records sent, %d decoded, %d malformed", sent, decoded, st.Malformed)
	}
}

func testOpen(t *testing.T, w *watch) {
	dir := realTemp(t)
	dfd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dfd)
	how := unix.OpenHow{Flags: unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, Mode: 0o604}
	type variant struct {
		name    string
		call    func(path string) (uintptr, syscall.Errno)
		flags   int64
		mode    int64
		created bool
		given   string
	}
	const keep = unix.O_ACCMODE | unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC | unix.O_APPEND
	variants := []variant{
		{"openat", func(p string) (uintptr, syscall.Errno) {
			return raw(unix.SYS_OPENAT, dfd, filepath.Base(p), unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND, 0o600)
		}, unix.O_WRONLY | unix.O_CREAT | unix.O_APPEND, 0o600, true, "openat"},
		{"read", func(p string) (uintptr, syscall.Errno) {
			return raw(unix.SYS_OPENAT, unix.AT_FDCWD, mkfile(t, p), unix.O_RDONLY, 0)
		}, unix.O_RDONLY, 0, false, dir + "/read"},
		{"openat2", func(p string) (uintptr, syscall.Errno) {
			return raw(unix.SYS_OPENAT2, unix.AT_FDCWD, p, unsafe.Pointer(&how), int(unsafe.Sizeof(how)))
		}, unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, 0o604, true, dir + "/openat2"},
	}
	for name, nr := range legacyCalls {
		switch name {
		case "open":
			variants = append(variants, variant{"open", func(p string) (uintptr, syscall.Errno) {
				return raw(nr, mkfile(t, p), unix.O_WRONLY|unix.O_TRUNC, 0)
			}, unix.O_WRONLY | unix.O_TRUNC, 0, false, dir + "/open"})
		case "creat":
			variants = append(variants, variant{"creat", func(p string) (uintptr, syscall.Errno) {
				return raw(nr, p, 0o611)
			}, unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC, 0o611, true, dir + "/creat"})
		}
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			w.t = t
			path := filepath.Join(dir, v.name)
			fd, errno := v.call(path)
			if !must(t, v.name, errno) {
				return
			}
			defer unix.Close(int(fd))
			e := w.event(event.KindOpen, func(e *event.Event) bool {
				return e.Open.File.Path == path && e.Open.Flags&keep == v.flags && (e.Open.SyscallPath == v.given || resolved())
			})
			checkActor(t, e)
			checkFile(t, &e.Open.File, path)
			if e.Open.DestinationMode != v.mode {
				t.Errorf("mode %o, want %o", e.Open.DestinationMode, v.mode)
			}
			if e.Open.Created != v.created {
				t.Errorf("created %v, want %v", e.Open.Created, v.created)
			}
			if e.Open.SyscallPath != v.given {
				t.Errorf("path given %q, want %q", e.Open.SyscallPath, v.given)
			}
			if !resolved() && e.Open.Retval != int64(fd) {
				t.Errorf("retval %d, want %d", e.Open.Retval, fd)
			}
			if resolved() && e.Open.Retval < 0 {
				t.Errorf("retval %d", e.Open.Retval)
			}
			if e.Flags != 0 {
				t.Errorf("flags %#x", e.Flags)
			}
		})
	}
	t.Run("symlink", func(t *testing.T) {
		w.t = t
		target := mkfile(t, filepath.Join(dir, "target"))
		if err := os.Symlink(target, filepath.Join(dir, "via")); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(dir, "via"), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		e := w.event(event.KindOpen, func(e *event.Event) bool {
			return e.Open.SyscallPath == filepath.Join(dir, "via")
		})
		checkFile(t, &e.Open.File, target)
	})
	t.Run("memfd", func(t *testing.T) {
		w.t = t
		fd, err := unix.MemfdCreate("clew", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(again)
		e := w.event(event.KindOpen, func(e *event.Event) bool { return strings.HasPrefix(e.Open.File.Path, "memfd:") })
		if e.Open.File.Path != "memfd:clew" || e.Open.File.Links != 0 {
			t.Errorf("path %q, %d links", e.Open.File.Path, e.Open.File.Links)
		}
	})
}

func testTruncate(t *testing.T, w *watch) {
	dir := realTemp(t)
	a, b := mkfile(t, dir+"/truncate"), mkfile(t, dir+"/ftruncate")
	if err := unix.Truncate(a, 0); err != nil {
		t.Fatal(err)
	}
	e := w.event(event.KindOpen, func(e *event.Event) bool {
		return e.Open.File.Path == a && e.Open.Flags == unix.O_WRONLY|unix.O_TRUNC && e.Open.DestinationMode == 0
	})
	checkActor(t, e)
	checkNamed(t, e, &e.Open.File, a, e.Open.SyscallPath, a)
	fd, err := unix.Open(b, unix.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 0); err != nil {
		t.Fatal(err)
	}
	e = w.event(event.KindOpen, func(e *event.Event) bool {
		return e.Open.File.Path == b && e.Open.Flags == unix.O_WRONLY|unix.O_TRUNC && e.Open.DestinationMode == 0
	})
	checkActor(t, e)
	checkFile(t, &e.Open.File, b)
	if e.Open.Retval != 0 || e.Flags != 0 {
		t.Errorf("retval %d, flags %#x", e.Open.Retval, e.Flags)
	}
}

func testUnlink(t *testing.T, w *watch) {
	dir := realTemp(t)
	dfd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dfd)
	check := func(name, given string, call func() syscall.Errno) {
		path := mkfile(t, filepath.Join(dir, name))
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if !must(t, name, call()) {
			return
		}
		e := w.event(event.KindUnlink, func(e *event.Event) bool { return e.Unlink.File.Path == path })
		checkActor(t, e)
		checkNamed(t, e, &e.Unlink.File, path, e.Unlink.SyscallPath, given)
		if e.Unlink.Flags != 0 || e.Unlink.Retval != 0 {
			t.Errorf("flags %d, retval %d", e.Unlink.Flags, e.Unlink.Retval)
		}
		if resolved() && (e.Unlink.File.Inode != st.Ino || e.Unlink.File.Mode != st.Mode) {
			t.Errorf("inode %d mode %o, want %d %o", e.Unlink.File.Inode, e.Unlink.File.Mode, st.Ino, st.Mode)
		}
	}
	check("unlinkat", "./unlinkat", func() syscall.Errno { _, e := raw(unix.SYS_UNLINKAT, dfd, "./unlinkat", 0); return e })
	check("abs", dir+"/./abs", func() syscall.Errno {
		_, e := raw(unix.SYS_UNLINKAT, unix.AT_FDCWD, dir+"/./abs", 0)
		return e
	})
	if nr, ok := legacyCalls["unlink"]; ok {
		check("unlink", dir+"//unlink", func() syscall.Errno { _, e := raw(nr, dir+"//unlink"); return e })
	}
}

func testRmdir(t *testing.T, w *watch) {
	dir := realTemp(t)
	check := func(name string, call func(string) syscall.Errno) {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if !must(t, name, call(path)) {
			return
		}
		e := w.event(event.KindRmdir, func(e *event.Event) bool { return e.Rmdir.File.Path == path })
		checkActor(t, e)
		checkNamed(t, e, &e.Rmdir.File, path, e.Rmdir.SyscallPath, path)
		if e.Rmdir.Retval != 0 {
			t.Errorf("retval %d", e.Rmdir.Retval)
		}
	}
	check("unlinkat", func(p string) syscall.Errno {
		_, e := raw(unix.SYS_UNLINKAT, unix.AT_FDCWD, p, unix.AT_REMOVEDIR)
		return e
	})
	if nr, ok := legacyCalls["rmdir"]; ok {
		check("rmdir", func(p string) syscall.Errno { _, e := raw(nr, p); return e })
	}
}

func testMkdir(t *testing.T, w *watch) {
	dir := realTemp(t)
	check := func(name string, call func(string) syscall.Errno) {
		path := filepath.Join(dir, name)
		if !must(t, name, call(path)) {
			return
		}
		e := w.event(event.KindMkdir, func(e *event.Event) bool { return e.Mkdir.File.Path == path })
		checkActor(t, e)
		checkNamed(t, e, &e.Mkdir.File, path, e.Mkdir.SyscallPath, path)
		if e.Mkdir.DestinationMode != 0o751 || e.Mkdir.Retval != 0 {
			t.Errorf("mode %o, retval %d", e.Mkdir.DestinationMode, e.Mkdir.Retval)
		}
	}
	check("mkdirat", func(p string) syscall.Errno { _, e := raw(unix.SYS_MKDIRAT, unix.AT_FDCWD, p, 0o751); return e })
	if nr, ok := legacyCalls["mkdir"]; ok {
		check("mkdir", func(p string) syscall.Errno { _, e := raw(nr, p, 0o751); return e })
	}
}

func testRename(t *testing.T, w *watch) {
	dir := realTemp(t)
	if err := os.Mkdir(dir+"/sub", 0o700); err != nil {
		t.Fatal(err)
	}
	sub, err := unix.Open(dir+"/sub", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sub)
	check := func(name, to, given string, call func(from string) syscall.Errno) {
		from := mkfile(t, filepath.Join(dir, name))
		if !must(t, name, call(from)) {
			return
		}
		e := w.event(event.KindRename, func(e *event.Event) bool { return e.Rename.File.Path == from })
		checkActor(t, e)
		checkNamed(t, e, &e.Rename.File, from, e.Rename.SyscallPath, from)
		checkNamed(t, e, &e.Rename.Destination, to, e.Rename.SyscallDestinationPath, given)
		if e.Rename.Retval != 0 {
			t.Errorf("retval %d", e.Rename.Retval)
		}
	}
	check("renameat2", dir+"/sub/renamed2", "renamed2", func(from string) syscall.Errno {
		_, e := raw(unix.SYS_RENAMEAT2, unix.AT_FDCWD, from, sub, "renamed2", unix.RENAME_NOREPLACE)
		return e
	})
	check("renameat", dir+"/renamed", "../renamed", func(from string) syscall.Errno {
		_, e := raw(unix.SYS_RENAMEAT, unix.AT_FDCWD, from, sub, "../renamed")
		return e
	})
	if nr, ok := legacyCalls["rename"]; ok {
		check("rename", dir+"/renamed1", dir+"/renamed1", func(from string) syscall.Errno {
			_, e := raw(nr, from, dir+"/renamed1")
			return e
		})
	}
}

func testChmod(t *testing.T, w *watch) {
	dir := realTemp(t)
	check := func(name string, byFD bool, call func(path string, fd int) syscall.Errno) {
		path := mkfile(t, filepath.Join(dir, name))
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if !must(t, name, call(path, fd)) {
			return
		}
		e := w.event(event.KindChmod, func(e *event.Event) bool { return e.Chmod.File.Path == path })
		checkActor(t, e)
		if byFD || resolved() {
			checkFile(t, &e.Chmod.File, path)
		} else {
			checkNamed(t, e, &e.Chmod.File, path, e.Chmod.SyscallPath, path)
		}
		if e.Chmod.DestinationMode != 0o4711 || e.Chmod.SyscallMode != 0o4711 || e.Chmod.Retval != 0 {
			t.Errorf("mode %o, %o, retval %d", e.Chmod.DestinationMode, e.Chmod.SyscallMode, e.Chmod.Retval)
		}
	}
	check("fchmod", true, func(_ string, fd int) syscall.Errno { _, e := raw(unix.SYS_FCHMOD, fd, 0o4711); return e })
	check("fchmodat", false, func(p string, _ int) syscall.Errno {
		_, e := raw(unix.SYS_FCHMODAT, unix.AT_FDCWD, p, 0o4711)
		return e
	})
	check("fchmodat2", false, func(p string, _ int) syscall.Errno {
		_, e := raw(unix.SYS_FCHMODAT2, unix.AT_FDCWD, p, 0o4711, unix.AT_SYMLINK_NOFOLLOW)
		return e
	})
	check("empty", true, func(_ string, fd int) syscall.Errno {
		_, e := raw(unix.SYS_FCHMODAT2, fd, "", 0o4711, unix.AT_EMPTY_PATH)
		return e
	})
	// By a link: what changed is what it points at.
	target := mkfile(t, filepath.Join(dir, "target"))
	if err := os.Symlink("target", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	// A link that nobody has followed since it was made cannot be followed
	// without the kernel noting the access.
	for deadline := time.Now().Add(2 * time.Second); ; { // for good on file systems that note none
		if _, err := os.Stat(filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, "link"), &st); err != nil {
			t.Fatal(err)
		}
		if st.Atim.Nano() > st.Ctim.Nano() || time.Now().After(deadline) {
			break
		}
	}
	if err := os.Chmod(filepath.Join(dir, "link"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := w.event(event.KindChmod, func(e *event.Event) bool { return e.Chmod.File.Path == target })
	var st unix.Stat_t
	if err := unix.Stat(target, &st); err != nil {
		t.Fatal(err)
	}
	if f := e.Chmod.File; f.Inode != st.Ino || f.UID != st.Uid || f.Mode != st.Mode || f.MountID == 0 {
		t.Errorf("%+v", f)
	}
	if !resolved() && e.Chmod.SyscallPath != filepath.Join(dir, "link") {
		t.Errorf("path given %q", e.Chmod.SyscallPath)
	}
	if nr, ok := legacyCalls["chmod"]; ok {
		check("chmod", false, func(p string, _ int) syscall.Errno { _, e := raw(nr, p, 0o4711); return e })
	}
}

func testChown(t *testing.T, w *watch) {
	dir := realTemp(t)
	check := func(name string, byFD bool, uid, gid int, call func(path string, fd int) syscall.Errno) {
		path := mkfile(t, filepath.Join(dir, name))
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if !must(t, name, call(path, fd)) {
			return
		}
		e := w.event(event.KindChown, func(e *event.Event) bool { return e.Chown.File.Path == path })
		checkActor(t, e)
		if byFD || resolved() {
			checkFile(t, &e.Chown.File, path)
		} else {
			checkNamed(t, e, &e.Chown.File, path, e.Chown.SyscallPath, path)
		}
		c := e.Chown
		if c.DestinationUID != int64(uid) || c.DestinationGID != int64(gid) || c.SyscallUID != int64(uid) || c.SyscallGID != int64(gid) || c.Retval != 0 {
			t.Errorf("%+v, want uid %d gid %d", c, uid, gid)
		}
	}
	check("fchown", true, 3, 4, func(_ string, fd int) syscall.Errno { _, e := raw(unix.SYS_FCHOWN, fd, 3, 4); return e })
	check("fchownat", false, 5, -1, func(p string, _ int) syscall.Errno {
		_, e := raw(unix.SYS_FCHOWNAT, unix.AT_FDCWD, p, 5, -1, 0)
		return e
	})
	check("empty", true, 6, 7, func(_ string, fd int) syscall.Errno {
		_, e := raw(unix.SYS_FCHOWNAT, fd, "", 6, 7, unix.AT_EMPTY_PATH)
		return e
	})
	for _, name := range []string{"chown", "lchown"} {
		if nr, ok := legacyCalls[name]; ok {
			check(name, false, -1, 9, func(p string, _ int) syscall.Errno { _, e := raw(nr, p, -1, 9); return e })
		}
	}
}

func testLink(t *testing.T, w *watch) {
	dir := realTemp(t)
	check := func(name string, call func(from, to string) syscall.Errno) {
		from, to := mkfile(t, filepath.Join(dir, name)), filepath.Join(dir, name+"-new")
		if !must(t, name, call(from, to)) {
			return
		}
		e := w.event(event.KindLink, func(e *event.Event) bool { return e.Link.File.Path == from })
		checkActor(t, e)
		checkNamed(t, e, &e.Link.File, from, e.Link.SyscallPath, from)
		checkNamed(t, e, &e.Link.Destination, to, e.Link.SyscallDestinationPath, to)
		if e.Link.Retval != 0 {
			t.Errorf("retval %d", e.Link.Retval)
		}
	}
	check("linkat", func(from, to string) syscall.Errno {
		_, e := raw(unix.SYS_LINKAT, unix.AT_FDCWD, from, unix.AT_FDCWD, to, 0)
		return e
	})
	if nr, ok := legacyCalls["link"]; ok {
		check("link", func(from, to string) syscall.Errno { _, e := raw(nr, from, to); return e })
	}
}

func testSymlink(t *testing.T, w *watch) {
	dir := realTemp(t)
	check := func(name string, call func(target, path string) syscall.Errno) {
		path := filepath.Join(dir, name)
		if !must(t, name, call("../else/"+name, path)) {
			return
		}
		e := w.event(event.KindSymlink, func(e *event.Event) bool { return e.Symlink.File.Path == path })
		checkActor(t, e)
		checkNamed(t, e, &e.Symlink.File, path, "", "")
		if e.Symlink.Target != "../else/"+name || e.Symlink.Retval != 0 {
			t.Errorf("target %q, retval %d", e.Symlink.Target, e.Symlink.Retval)
		}
	}
	check("symlinkat", func(target, path string) syscall.Errno {
		_, e := raw(unix.SYS_SYMLINKAT, target, unix.AT_FDCWD, path)
		return e
	})
	if nr, ok := legacyCalls["symlink"]; ok {
		check("symlink", func(target, path string) syscall.Errno { _, e := raw(nr, target, path); return e })
	}
}

// listen opens a listening socket on loopback.
func listen(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // the protocol is checked
	l, err := lc.Listen(t.Context(), network, addr)
	if err != nil {
		t.Skipf("this machine has no %s loopback: %v", network, err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func addrOf(a net.Addr) netip.AddrPort {
	ap := netip.MustParseAddrPort(a.String())
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func testConnect(t *testing.T, w *watch) {
	for _, tt := range []struct {
		network, addr string
		family        int64
	}{{"tcp4", "127.0.0.1:0", unix.AF_INET}, {"tcp6", "[::1]:0", unix.AF_INET6}} {
		t.Run(tt.network, func(t *testing.T) {
			w.t = t
			l := listen(t, tt.network, tt.addr)
			c, err := net.Dial(tt.network, l.Addr().String()) // non-blocking: EINPROGRESS is possible
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			want := addrOf(l.Addr())
			e := w.event(event.KindConnect, func(e *event.Event) bool { return e.Connect.Addr.Port == uint32(want.Port()) })
			checkActor(t, e)
			if a := e.Connect.Addr; a.IP != want.Addr() || a.Family != tt.family {
				t.Errorf("address %+v, want %s", a, want)
			}
			if e.Connect.Protocol != unix.IPPROTO_TCP {
				t.Errorf("protocol %d", e.Connect.Protocol)
			}
			if r := e.Connect.Retval; r != 0 && r != -int64(unix.EINPROGRESS) {
				t.Errorf("retval %d", r)
			}
		})
	}
	t.Run("blocking", func(t *testing.T) {
		w.t = t
		l := listen(t, "tcp4", "127.0.0.1:0")
		want := addrOf(l.Addr())
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(want.Port())}); err != nil {
			t.Fatal(err)
		}
		e := w.event(event.KindConnect, func(e *event.Event) bool { return e.Connect.Addr.Port == uint32(want.Port()) })
		if e.Connect.Retval != 0 {
			t.Errorf("retval %d", e.Connect.Retval)
		}
	})
	t.Run("udp", func(t *testing.T) {
		w.t = t
		c, err := net.Dial("udp4", "127.0.0.1:54321")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		e := w.event(event.KindConnect, func(e *event.Event) bool { return e.Connect.Addr.Port == 54321 })
		if e.Connect.Protocol != unix.IPPROTO_UDP || e.Connect.Addr.IP.String() != "127.0.0.1" {
			t.Errorf("%+v", e.Connect)
		}
	})
	t.Run("refused is not reported", func(t *testing.T) {
		w.t = t
		l := listen(t, "tcp4", "127.0.0.1:0")
		port := addrOf(l.Addr()).Port()
		l.Close()
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(port)}); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatal(err)
		}
		w.settle()
		if got := w.events(func(e *event.Event) bool { return e.Connect != nil && e.Connect.Addr.Port == uint32(port) }); len(got) > 0 {
			t.Errorf("reported %+v", got[0].Connect)
		}
	})
}

func testBind(t *testing.T, w *watch) {
	for _, tt := range []struct {
		network, addr string
		family        int64
	}{{"tcp4", "127.0.0.1:0", unix.AF_INET}, {"tcp6", "[::1]:0", unix.AF_INET6}} {
		t.Run(tt.network, func(t *testing.T) {
			w.t = t
			l := listen(t, tt.network, tt.addr)
			want := addrOf(l.Addr())
			e := w.event(event.KindBind, func(e *event.Event) bool { return e.Bind.Addr.Port == uint32(want.Port()) })
			checkActor(t, e)
			if a := e.Bind.Addr; a.IP != want.Addr() || a.Family != tt.family {
				t.Errorf("address %+v, want %s", a, want)
			}
			if e.Bind.Protocol != unix.IPPROTO_TCP || e.Bind.Retval != 0 {
				t.Errorf("protocol %d, retval %d", e.Bind.Protocol, e.Bind.Retval)
			}
		})
	}
}

func testAccept(t *testing.T, w *watch) {
	accept := func(t *testing.T, nr uintptr, flags int) {
		w.t = t
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		if err := unix.Listen(fd, 1); err != nil {
			t.Fatal(err)
		}
		sa, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		port := sa.(*unix.SockaddrInet4).Port
		c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, errno := raw(nr, fd, 0, 0, flags)
		if errno != 0 {
			t.Fatal(errno)
		}
		defer unix.Close(int(got))
		peer := addrOf(c.LocalAddr())
		e := w.event(event.KindAccept, func(e *event.Event) bool { return e.Accept.Addr.Port == uint32(peer.Port()) })
		checkActor(t, e)
		a := e.Accept
		if a.Addr.IP != peer.Addr() || a.Addr.Family != unix.AF_INET {
			t.Errorf("peer %+v, want %s", a.Addr, peer)
		}
		if a.Local.IP.String() != "127.0.0.1" || a.Local.Port != uint32(port) {
			t.Errorf("local %+v, want port %d", a.Local, port)
		}
		if !resolved() && a.Retval != int64(got) {
			t.Errorf("retval %d, want %d", a.Retval, got)
		}
	}
	t.Run("accept4", func(t *testing.T) { accept(t, unix.SYS_ACCEPT4, unix.SOCK_CLOEXEC) })
	t.Run("accept", func(t *testing.T) { accept(t, unix.SYS_ACCEPT, 0) })
}

func testUnix(t *testing.T, w *watch) {
	path := realTemp(t) + "/sock"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	e := w.event(event.KindConnect, func(e *event.Event) bool { return e.Connect.Addr.UnixPath == path })
	checkActor(t, e)
	if e.Connect.Addr.Family != unix.AF_UNIX || e.Connect.Retval != 0 {
		t.Errorf("%+v", e.Connect)
	}
	w.event(event.KindBind, func(e *event.Event) bool { return e.Bind.Addr.UnixPath == path })
	abstract, err := net.Listen("unix", fmt.Sprintf("@clew-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	w.event(event.KindBind, func(e *event.Event) bool {
		return e.Bind.Addr.UnixPath == fmt.Sprintf("@clew-%d", os.Getpid())
	})
}

func self(t testing.TB) string {
	t.Helper()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func nsInode(t *testing.T, name string) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/"+name, &st); err != nil {
		t.Fatal(err)
	}
	return uint32(st.Ino)
}

func testExec(t *testing.T, w *watch) {
	exe := self(t)
	cmd := exec.Command(exe, "0", "two words", "--password=hunter2", strings.Repeat("x", 300))
	cmd.Env = []string{
		"CLEW_SENSOR_HELPER=exit", "DD_SERVICE=shop", "SECRET_TOKEN=abc", "PATH=/bin", "LD_PRELOAD=http://a:b@c/",
	}
	cmd.Dir = "/"
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	pid := uint32(cmd.Process.Pid)
	e := w.eventOf(event.KindExec, func(e *event.Event) bool { return e.PID == pid })
	p := e.Exec.Image
	checkFile(t, &p.File, exe)
	if e.Exec.SyscallPath != exe {
		t.Errorf("path given %q", e.Exec.SyscallPath)
	}
	want := []string{exe, "0", "two words", "--password=[redacted]", strings.Repeat("x", 256)}
	if !slices.Equal(p.AllArgs, want) || !p.ArgsTruncated {
		t.Errorf("arguments %q, cut %v", p.AllArgs, p.ArgsTruncated)
	}
	if want := []string{"CLEW_SENSOR_HELPER", "DD_SERVICE", "SECRET_TOKEN", "PATH", "LD_PRELOAD"}; !slices.Equal(p.Envs, want) || p.EnvsTruncated {
		t.Errorf("environment %q, cut %v", p.Envs, p.EnvsTruncated)
	}
	if want := []string{"DD_SERVICE=shop", "PATH=/bin", "LD_PRELOAD=http://a:[redacted]@c/"}; !slices.Equal(p.Envp, want) {
		t.Errorf("values %q, want %q", p.Envp, want)
	}
	comm := filepath.Base(exe)
	if len(comm) > 15 {
		comm = comm[:15]
	}
	if p.Comm != comm {
		t.Errorf("comm %q, want %q", p.Comm, comm)
	}
	if p.PID != pid || p.TID != pid || p.PPID != uint32(os.Getpid()) {
		t.Errorf("pid %d, tid %d, ppid %d", p.PID, p.TID, p.PPID)
	}
	if !p.IsExec || p.IsThread || p.IsKworker || p.Source != "runtime" || p.ExecTime != e.TimeNS || p.CreatedAt != e.TimeNS {
		t.Errorf("%+v", p)
	}
	if p.UID != 0 || p.GID != 0 || p.EUID != 0 || p.EGID != 0 || p.FSUID != 0 || p.FSGID != 0 {
		t.Errorf("ids %+v", p)
	}
	if p.CapEffective == 0 || p.CapPermitted == 0 {
		t.Errorf("capabilities %x %x", p.CapEffective, p.CapPermitted)
	}
	if got, err := os.ReadFile("/proc/self/loginuid"); err == nil && fmt.Sprint(p.AUID) != strings.TrimSpace(string(got)) {
		t.Errorf("login uid %d, want %s", p.AUID, got)
	}
	if got, err := os.ReadFile("/proc/self/sessionid"); err == nil && fmt.Sprint(p.AuditSession) != strings.TrimSpace(string(got)) {
		t.Errorf("audit session %d, want %s", p.AuditSession, got)
	}
	if sid, err := unix.Getsid(0); err != nil || p.SID != uint32(sid) {
		t.Errorf("session %d, want %d", p.SID, sid)
	}
	if p.MntNS != nsInode(t, "mnt") || p.NetNS != nsInode(t, "net") || p.PIDNS != nsInode(t, "pid") || p.NSPID != pid {
		t.Errorf("namespaces %d %d %d, pid in its own %d", p.MntNS, p.NetNS, p.PIDNS, p.NSPID)
	}
	if p.CWD != "/" {
		t.Errorf("working directory %q", p.CWD)
	}
	if path, id, version := ownCgroup(t); p.Cgroup != path || p.CgroupVersion != version || id != 0 && p.CgroupID != id {
		t.Errorf("cgroup %q id %d version %d, want %q %d %d", p.Cgroup, p.CgroupID, p.CgroupVersion, path, id, version)
	}
	if p.Interpreter.Path != "" {
		t.Errorf("interpreter %+v", p.Interpreter)
	}
}

// ownCgroup is this process's cgroup as the sensor chooses it.
func ownCgroup(t *testing.T) (path string, id uint64, version int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for c := range strings.SplitSeq(f[1], ",") {
			by[c] = f[2]
		}
	}
	if by[""] != "/" && by[""] != "" {
		return by[""], 0, 2
	}
	for _, c := range []string{"pids", "memory"} {
		if p := by[c]; p != "" && p != "/" {
			return p, 0, 1
		}
	}
	return "/", 0, 2
}

func testScript(t *testing.T, w *watch) {
	dir := realTemp(t)
	script := filepath.Join(dir, "script")
	// The test binary itself interprets, so that nothing has to be installed.
	if err := os.WriteFile(script, []byte("#!"+self(t)+" 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("./script", "arg")
	cmd.Dir = dir
	cmd.Env = []string{"CLEW_SENSOR_HELPER=exit"}
	var failed *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &failed) || failed.ExitCode() != 7 {
		t.Fatal(err)
	}
	e := w.eventOf(event.KindExec, func(e *event.Event) bool { return e.PID == uint32(cmd.Process.Pid) })
	p := e.Exec.Image
	if p.File.Path != script {
		t.Errorf("file %+v, want %s", p.File, script)
	}
	checkFile(t, &p.Interpreter, self(t))
	checkScript(t, p, script)
	if e.Exec.SyscallPath != "./script" || p.CWD != dir {
		t.Errorf("path given %q in %q", e.Exec.SyscallPath, p.CWD)
	}
	if want := []string{self(t), "7", "./script", "arg"}; !slices.Equal(p.AllArgs, want) {
		t.Errorf("arguments %q, want %q", p.AllArgs, want)
	}
}

func testFork(t *testing.T, w *watch) {
	cmd := exec.Command(self(t), "0")
	cmd.Env = []string{"CLEW_SENSOR_HELPER=exit"}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	pid := uint32(cmd.Process.Pid)
	e := w.eventOf(event.KindFork, func(e *event.Event) bool { return e.Fork.Child.PID == pid })
	checkActor(t, e)
	c := e.Fork.Child
	x := w.eventOf(event.KindExec, func(e *event.Event) bool { return e.PID == pid })
	if c.StartNS == 0 || c.StartNS != x.StartNS {
		t.Errorf("child's start %d, its exec's %d", c.StartNS, x.StartNS)
	}
	if x.BootNS <= e.BootNS || x.Seq <= e.Seq {
		t.Errorf("exec at %d (%d), fork at %d (%d)", x.BootNS, x.Seq, e.BootNS, e.Seq)
	}
	if c.PPID != uint32(os.Getpid()) || c.TID != pid || !c.IsThread || c.IsExec || c.Source != "runtime" {
		t.Errorf("%+v", c)
	}
	if c.CgroupID != e.CgroupID || c.NSPID != pid || c.MntNS != nsInode(t, "mnt") {
		t.Errorf("%+v", c)
	}
	// A thread is no process.
	done := make(chan int)
	go func() {
		runtime.LockOSThread() // never unlocked: a thread of its own, which ends
		done <- unix.Gettid()
	}()
	tid := <-done
	w.settle()
	if got := w.events(func(e *event.Event) bool { return e.Fork != nil && e.Fork.Child.PID == uint32(tid) }); len(got) > 0 && tid != os.Getpid() {
		t.Errorf("a thread was reported: %+v", got[0].Fork.Child)
	}
}

func testExit(t *testing.T, w *watch) {
	run := func(what, arg string) *event.Event {
		cmd := exec.Command(self(t), arg)
		cmd.Env = []string{"CLEW_SENSOR_HELPER=" + what, "GOTRACEBACK=none"}
		_ = cmd.Run() // ends as it was told
		return w.eventOf(event.KindExit, func(e *event.Event) bool { return e.PID == uint32(cmd.Process.Pid) })
	}
	if e := run("exit", "0"); e.Exit.Cause != 0 || e.Exit.Code != 0 || e.StartNS == 0 {
		t.Errorf("%+v", e.Exit)
	}
	if e := run("exit", "37"); e.Exit.Cause != 0 || e.Exit.Code != 37 {
		t.Errorf("%+v", e.Exit)
	}
	if e := run("kill", "9"); e.Exit.Cause != 2 || e.Exit.Code != 9 {
		t.Errorf("%+v", e.Exit)
	}
}

// changeIDs makes one system call in the only thread that does: the ids are
// those of a thread.
func changeIDs(args []string) int {
	runtime.LockOSThread()
	var a [3]uintptr
	for i, s := range args[1:] {
		n, _ := strconv.Atoi(s)
		a[i] = uintptr(n)
	}
	nr, _ := strconv.Atoi(args[0])
	if _, _, errno := syscall.RawSyscall(uintptr(nr), a[0], a[1], a[2]); errno != 0 {
		return 1
	}
	return 0
}

func testIDs(t *testing.T, w *watch) {
	for _, tt := range []struct {
		name          string
		nr            int
		args          [3]int
		r, e, f       uint32
		group, silent bool
	}{
		{"setuid", unix.SYS_SETUID, [3]int{1000}, 1000, 1000, 1000, false, false},
		{"setreuid", unix.SYS_SETREUID, [3]int{1001, 1002}, 1001, 1002, 1002, false, false},
		{"setresuid", unix.SYS_SETRESUID, [3]int{-1, 1003, -1}, 0, 1003, 1003, false, false},
		{"setfsuid", unix.SYS_SETFSUID, [3]int{1004}, 0, 0, 1004, false, false},
		{"setgid", unix.SYS_SETGID, [3]int{2000}, 2000, 2000, 2000, true, false},
		{"setregid", unix.SYS_SETREGID, [3]int{2001, 2002}, 2001, 2002, 2002, true, false},
		{"setresgid", unix.SYS_SETRESGID, [3]int{-1, 2003, -1}, 0, 2003, 2003, true, false},
		{"setfsgid", unix.SYS_SETFSGID, [3]int{2004}, 0, 0, 2004, true, false},
		{"no change", unix.SYS_SETUID, [3]int{0}, 0, 0, 0, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.t = t
			cmd := exec.Command(self(t), fmt.Sprint(tt.nr), fmt.Sprint(tt.args[0]), fmt.Sprint(tt.args[1]), fmt.Sprint(tt.args[2]))
			cmd.Env = []string{"CLEW_SENSOR_HELPER=ids"}
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			pid := uint32(cmd.Process.Pid)
			if tt.silent {
				w.settle()
				if got := w.events(func(e *event.Event) bool { return e.PID == pid && (e.Setuid != nil || e.Setgid != nil) }); len(got) > 0 {
					t.Errorf("reported %s %+v", got[0].Kind, got[0])
				}
				return
			}
			if tt.group {
				e := w.eventOf(event.KindSetgid, func(e *event.Event) bool { return e.PID == pid })
				if g := e.Setgid; g.GID != tt.r || g.EGID != tt.e || g.FSGID != tt.f || e.GID != tt.r {
					t.Errorf("%+v", g)
				}
				return
			}
			e := w.eventOf(event.KindSetuid, func(e *event.Event) bool { return e.PID == pid })
			u := e.Setuid
			if u.UID != tt.r || u.EUID != tt.e || u.FSUID != tt.f || e.UID != tt.r || e.EUID != tt.e {
				t.Errorf("%+v", u)
			}
			if tt.e != 0 && u.CapEffective != 0 {
				t.Errorf("still has capabilities %x", u.CapEffective)
			}
			if tt.r == 0 && u.CapPermitted == 0 {
				t.Error("no permitted capabilities are left")
			}
		})
	}
}

// cgroupRoot is where a cgroup can be made that processes are named by.
func cgroupRoot() (string, string) {
	for _, dir := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, "cgroup2"
		}
	}
	return "", ""
}

func testCgroup(t *testing.T, w *watch) {
	root, fs := cgroupRoot()
	if root == "" {
		t.Fatal("no unified cgroup hierarchy is mounted")
	}
	name := "clew-test-" + strconv.Itoa(os.Getpid())
	id := strings.Repeat("0123456789abcdef", 4)
	outer := filepath.Join(root, name)
	dir := filepath.Join(outer, "docker-"+id+".scope")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer func() {
		os.Remove(dir)
		os.Remove(outer)
	}()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	// Born into the cgroup: the fork record shows it.
	born := exec.Command(self(t), "0")
	born.Env = []string{"CLEW_SENSOR_HELPER=exit"}
	born.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	if err := born.Run(); err != nil {
		t.Fatal(err)
	}
	want := "/" + name + "/docker-" + id + ".scope"
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	e := w.eventOf(event.KindExec, func(e *event.Event) bool { return e.PID == uint32(born.Process.Pid) })
	if p := e.Exec.Image; p.Cgroup != want || p.ContainerID != id || p.CgroupManager != "docker" || p.CgroupVersion != 2 || p.CgroupID != st.Ino {
		t.Errorf("cgroup %q container %q manager %q version %d id %d, want %q, %d", p.Cgroup, p.ContainerID, p.CgroupManager, p.CgroupVersion, p.CgroupID, want, st.Ino)
	}
	f := w.eventOf(event.KindFork, func(e *event.Event) bool { return e.Fork.Child.PID == uint32(born.Process.Pid) })
	if c := f.Fork.Child; c.Cgroup != want || c.ContainerID != id {
		t.Errorf("cgroup %q container %q", c.Cgroup, c.ContainerID)
	}
	m := moveTo(t, w, dir)
	c := m.CgroupWrite
	if c.Cgroup != want || c.CgroupID != st.Ino || c.File.Path != want || c.File.Inode != st.Ino || c.File.Filesystem != fs {
		t.Errorf("%+v, want %s, %d", c, want, st.Ino)
	}

	// Where hierarchies are mixed, and the unified one says nothing, the path is
	// that of a version 1 controller.
	var pids unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup/pids", &pids) != nil || pids.Type != unix.CGROUP_SUPER_MAGIC {
		return
	}
	old := filepath.Join("/sys/fs/cgroup/pids", name)
	if err := os.Mkdir(old, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(old)
	if err := unix.Stat(old, &st); err != nil {
		t.Fatal(err)
	}
	c = moveTo(t, w, old).CgroupWrite
	if c.Cgroup != "/"+name || c.CgroupID != st.Ino || c.File.Filesystem != "cgroup" {
		t.Errorf("%+v, want %s, %d", c, name, st.Ino)
	}
}

// moveTo moves a new process into a cgroup and returns what is said of it.
func moveTo(t *testing.T, w *watch, dir string) *event.Event {
	t.Helper()
	moved := exec.Command(self(t))
	moved.Env = []string{"CLEW_SENSOR_HELPER=wait"}
	stdin, err := moved.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := moved.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		moved.Wait()
	}()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(moved.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	m := w.event(event.KindCgroupWrite, func(e *event.Event) bool { return e.CgroupWrite.PID == uint32(moved.Process.Pid) })
	checkActor(t, m)
	if m.CgroupWrite.MovedStartNS/1e7 != startOf(t, moved.Process.Pid) {
		t.Errorf("start %d", m.CgroupWrite.MovedStartNS)
	}
	return m
}

// denied tries what user 1000 may not do.
func denied(args []string) int {
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, 1000, 1000, 1000); errno != 0 {
		return 1
	}
	dir := args[0]
	if fd, _ := raw(unix.SYS_OPENAT, unix.AT_FDCWD, dir+"/secret", unix.O_RDONLY, 0); int(fd) >= 0 {
		return 2
	}
	raw(unix.SYS_OPENAT, unix.AT_FDCWD, dir+"/absent", unix.O_RDONLY, 0)
	raw(unix.SYS_FCHMODAT, unix.AT_FDCWD, dir+"/secret", 0o777)
	raw(unix.SYS_UNLINKAT, unix.AT_FDCWD, dir+"/secret", 0)
	return 0
}

func testDenied(t *testing.T, w *watch) {
	dir, err := os.MkdirTemp("/tmp", "clew-denied-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/secret", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self(t), dir)
	cmd.Env = []string{"CLEW_SENSOR_HELPER=denied"}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	pid := uint32(cmd.Process.Pid)
	e := w.eventOf(event.KindOpen, func(e *event.Event) bool { return e.PID == pid && e.Open.Retval < 0 })
	if e.Open.Retval != -int64(unix.EACCES) || e.Open.File.Path != dir+"/secret" || e.Open.SyscallPath != dir+"/secret" {
		t.Errorf("%+v", e.Open)
	}
	c := w.eventOf(event.KindChmod, func(e *event.Event) bool { return e.PID == pid })
	if c.Chmod.Retval != -int64(unix.EPERM) || c.Chmod.File.Path != dir+"/secret" {
		t.Errorf("%+v", c.Chmod)
	}
	u := w.eventOf(event.KindUnlink, func(e *event.Event) bool { return e.PID == pid })
	if u.Unlink.Retval != -int64(unix.EACCES) || u.Unlink.File.Path != dir+"/secret" {
		t.Errorf("%+v", u.Unlink)
	}
	w.settle()
	if got := w.events(func(e *event.Event) bool { return e.Open != nil && strings.HasSuffix(e.Open.SyscallPath, "/absent") }); len(got) > 0 {
		t.Errorf("a missing file was reported: %+v", got[0].Open)
	}
}

// testMounts resolves paths across mounts, bind mounts of single files
// included, in a mount namespace of its own.
func testMounts(t *testing.T, w *watch) {
	dir := realTemp(t)
	mkfile(t, dir+"/real")
	if err := os.MkdirAll(dir+"/mnt", 0o700); err != nil {
		t.Fatal(err)
	}
	type result struct {
		what string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // the thread keeps its namespace and ends with the goroutine
		step := func(what string, err error) bool {
			if err != nil {
				done <- result{what, err}
			}
			return err == nil
		}
		if !step("unshare", unix.Unshare(unix.CLONE_NEWNS)) ||
			!step("private", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")) ||
			!step("tmpfs", unix.Mount("none", dir+"/mnt", "tmpfs", 0, "")) {
			return
		}
		defer unix.Unmount(dir+"/mnt", unix.MNT_DETACH)
		if !step("mkdir", unix.Mkdir(dir+"/mnt/a", 0o700)) {
			return
		}
		for _, name := range []string{"/mnt/a/file", "/mnt/a/bound"} {
			fd, err := unix.Open(dir+name, unix.O_CREAT|unix.O_WRONLY, 0o600)
			if !step("open", err) {
				return
			}
			unix.Close(fd)
		}
		if !step("bind", unix.Mount(dir+"/real", dir+"/mnt/a/bound", "", unix.MS_BIND, "")) {
			return
		}
		fd, err := unix.Open(dir+"/mnt/a/bound", unix.O_WRONLY|unix.O_APPEND, 0)
		if !step("open", err) {
			return
		}
		unix.Close(fd)
		done <- result{}
	}()
	if r := <-done; r.err != nil {
		t.Fatal(r.what, ": ", r.err)
	}
	e := w.event(event.KindOpen, func(e *event.Event) bool { return e.Open.SyscallPath == dir+"/mnt/a/file" })
	if e.Open.File.Path != dir+"/mnt/a/file" || e.Open.File.Filesystem != "tmpfs" {
		t.Errorf("%+v", e.Open.File)
	}
	e = w.event(event.KindOpen, func(e *event.Event) bool {
		return e.Open.SyscallPath == dir+"/mnt/a/bound" && e.Open.Flags&unix.O_APPEND != 0
	})
	if e.Open.File.Path != dir+"/mnt/a/bound" {
		t.Errorf("%+v", e.Open.File)
	}
}

// rawPath makes a call on a path that lies in memory others write to.
func rawPath(nr uintptr, path []byte, mode int) {
	at := unix.AT_FDCWD
	syscall.Syscall(nr, uintptr(at), uintptr(unsafe.Pointer(&path[0])), uintptr(mode))
}
