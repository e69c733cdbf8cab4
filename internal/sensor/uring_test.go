//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
)

// A ring of io_uring, as much of it as one request at a time needs
// (include/uapi/linux/io_uring.h).
type uring struct {
	fd       int
	sq, sqes []byte
	sqTail   *uint32
	sqMask   uint32
	array    []uint32
	cqHead   *uint32
	cqTail   *uint32
	cqMask   uint32
	cqes     []uringResult
}

type uringResult struct {
	data  uint64
	res   int32
	flags uint32
}

type uringRequest struct {
	opcode, flags uint8
	prio          uint16
	fd            int32
	off, addr     uint64
	len, opflags  uint32
	data          uint64
	_             [3]uint64
}

type uringParams struct {
	sqEntries, cqEntries, flags, cpu, idle, features, wq uint32
	_                                                    [3]uint32
	sqOff                                                struct{ head, tail, mask, entries, flags, dropped, array, _, _, _ uint32 }
	cqOff                                                struct{ head, tail, mask, entries, overflow, cqes, flags, _, _, _ uint32 }
}

func newUring(t *testing.T) *uring {
	t.Helper()
	const sysSetup, single, offSQEs = 425, 1, 0x10000000
	var p uringParams
	fd, _, errno := syscall.Syscall(sysSetup, 4, uintptr(unsafe.Pointer(&p)), 0)
	if errno == unix.ENOSYS || errno == unix.EPERM {
		t.Skip("this kernel has no io_uring, or does not let it be used: ", errno)
	}
	if errno != 0 {
		t.Fatal("io_uring_setup: ", errno)
	}
	if p.features&single == 0 {
		t.Skip("this kernel maps the two rings apart, as before v5.4")
	}
	r := &uring{fd: int(fd)}
	t.Cleanup(func() { unix.Close(r.fd) })
	size := max(p.sqOff.array+p.sqEntries*4, p.cqOff.cqes+p.cqEntries*16)
	var err, err2 error
	r.sq, err = unix.Mmap(r.fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	r.sqes, err2 = unix.Mmap(r.fd, offSQEs, int(p.sqEntries)*64, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Munmap(r.sq)
		unix.Munmap(r.sqes)
	})
	at := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.sq[off])) }
	r.sqTail, r.sqMask = at(p.sqOff.tail), *at(p.sqOff.mask)
	r.cqHead, r.cqTail, r.cqMask = at(p.cqOff.head), at(p.cqOff.tail), *at(p.cqOff.mask)
	r.array = unsafe.Slice(at(p.sqOff.array), p.sqEntries)
	r.cqes = unsafe.Slice((*uringResult)(unsafe.Pointer(&r.sq[p.cqOff.cqes])), p.cqEntries)
	return r
}

// do carries out one request and returns its result.
func (r *uring) do(t *testing.T, q uringRequest) int32 {
	t.Helper()
	const sysEnter, getEvents = 426, 1
	tail := *r.sqTail
	i := tail & r.sqMask
	*(*uringRequest)(unsafe.Pointer(&r.sqes[i*64])) = q
	r.array[i] = i
	atomic.StoreUint32(r.sqTail, tail+1)
	if n, _, errno := syscall.Syscall6(sysEnter, uintptr(r.fd), 1, 1, getEvents, 0, 0); errno != 0 || n != 1 {
		t.Fatalf("io_uring_enter: %d, %v", n, errno)
	}
	head := *r.cqHead
	if atomic.LoadUint32(r.cqTail) == head {
		t.Fatal("no completion")
	}
	res := r.cqes[head&r.cqMask].res
	atomic.StoreUint32(r.cqHead, head+1)
	return res
}

// testUring does by io_uring what the other tests do by system calls.
func testUring(t *testing.T, w *watch) {
	if !resolved() && !seesUring(w.s.k.hooks) {
		t.Skip("this kernel's tracepoints do not show what a request is about")
	}
	dir := realTemp(t)
	r := newUring(t)
	var keep [][]byte
	text := func(s string) uint64 {
		b := append([]byte(s), 0)
		keep = append(keep, b)
		return uint64(uintptr(unsafe.Pointer(&b[0])))
	}
	const openat, renameat, unlinkat, mkdirat, symlinkat, linkat, async = 18, 35, 36, 37, 38, 39, 1 << 4
	do := func(what string, q uringRequest) int32 {
		t.Helper()
		res := r.do(t, q)
		// A request for which a worker must be made is given up when the
		// caller has a signal pending (create_io_worker, v5.12 to v6.5), and
		// the Go runtime sends signals as it likes. Nothing was done yet.
		for tries := 0; res == -int32(unix.ECANCELED) && tries < 100; tries++ {
			res = r.do(t, q)
		}
		if res == -int32(unix.EINVAL) {
			t.Logf("%s: not an operation of this kernel's io_uring", what)
		} else if res < 0 {
			t.Fatalf("%s: %v", what, syscall.Errno(-res))
		}
		return res
	}
	cwd := int32(unix.AT_FDCWD)
	for _, tt := range []struct {
		name  string
		flags uint8
	}{{"inline", 0}, {"worker", async}} {
		path := dir + "/" + tt.name
		fd := do("openat", uringRequest{opcode: openat, flags: tt.flags, fd: cwd, addr: text(path), len: 0o640, opflags: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL})
		defer unix.Close(int(fd))
		e := w.event(event.KindOpen, func(e *event.Event) bool { return e.Open.File.Path == path })
		checkActor(t, e)
		checkFile(t, &e.Open.File, path)
		if o := e.Open; !o.Created || o.SyscallPath != path || o.Flags&(unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL) != unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL || o.DestinationMode != 0o640 || !resolved() && o.Retval != int64(fd) {
			t.Errorf("%+v", o)
		}
		if async := e.Flags&event.FlagAsync != 0; !async && (!resolved() || tt.flags != 0) || e.Flags&^event.FlagAsync != 0 {
			t.Errorf("flags %#x", e.Flags)
		}
	}
	// What the mode names by the caller's string is named by the kernel's copy
	// of it here, and looked up as the others are.
	check := func(e *event.Event, f *event.File, path string) {
		t.Helper()
		checkActor(t, e)
		if f.Path != path || e.Flags&(event.FlagPathChanged|event.FlagPathCut|event.FlagPathUnknown) != 0 {
			t.Errorf("path %q, want %q, flags %#x", f.Path, path, e.Flags)
		}
		if !resolved() && e.Flags&event.FlagAsync == 0 {
			t.Errorf("flags %#x", e.Flags)
		}
	}
	old := mkfile(t, dir+"/old")
	if do("mkdirat", uringRequest{opcode: mkdirat, fd: cwd, addr: text(dir + "/made"), len: 0o711}) == 0 {
		e := w.event(event.KindMkdir, func(e *event.Event) bool { return e.Mkdir.File.Path == dir+"/made" })
		check(e, &e.Mkdir.File, dir+"/made")
		if e.Mkdir.DestinationMode != 0o711 || e.Mkdir.Retval != 0 {
			t.Errorf("%+v", e.Mkdir)
		}
	}
	sub, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sub)
	if do("linkat", uringRequest{opcode: linkat, fd: cwd, addr: text(old), len: uint32(sub), off: text("./linked")}) == 0 {
		e := w.event(event.KindLink, func(e *event.Event) bool { return e.Link.File.Path == old })
		check(e, &e.Link.File, old)
		check(e, &e.Link.Destination, dir+"/linked")
	}
	if do("symlinkat", uringRequest{opcode: symlinkat, fd: cwd, addr: text("to/nowhere"), off: text(dir + "/sym")}) == 0 {
		e := w.event(event.KindSymlink, func(e *event.Event) bool { return e.Symlink.File.Path == dir+"/sym" })
		check(e, &e.Symlink.File, dir+"/sym")
		if e.Symlink.Target != "to/nowhere" {
			t.Errorf("%+v", e.Symlink)
		}
	}
	if do("renameat", uringRequest{opcode: renameat, fd: cwd, addr: text(old), len: uint32(sub), off: text("new")}) == 0 {
		e := w.event(event.KindRename, func(e *event.Event) bool { return e.Rename.File.Path == old })
		check(e, &e.Rename.Destination, dir+"/new")
	}
	if do("unlinkat", uringRequest{opcode: unlinkat, fd: int32(sub), addr: text("new")}) == 0 {
		e := w.event(event.KindUnlink, func(e *event.Event) bool { return e.Unlink.File.Path == dir+"/new" })
		check(e, &e.Unlink.File, dir+"/new")
	}
	if err := os.Mkdir(dir+"/gone", 0o700); err != nil {
		t.Fatal(err)
	}
	if do("rmdir", uringRequest{opcode: unlinkat, fd: cwd, addr: text(dir + "/gone"), opflags: unix.AT_REMOVEDIR}) == 0 {
		e := w.event(event.KindRmdir, func(e *event.Event) bool { return e.Rmdir.File.Path == dir+"/gone" })
		check(e, &e.Rmdir.File, dir+"/gone")
	}
	if keep == nil {
		t.Error("nothing was done")
	}
}
