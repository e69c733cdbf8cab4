package filehash

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A Root is a directory from which paths are resolved; nothing above it can be
// reached from it.
type Root struct{ fd int }

// HostRoot is the root of this process.
func HostRoot() (*Root, error) { return DirRoot("/") }

// ProcessRoot is the root of another process, in its mount namespace. To open
// it takes CAP_SYS_PTRACE.
func ProcessRoot(pid uint32) (*Root, error) {
	return DirRoot("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/root")
}

// DirRoot is a directory as a root.
func DirRoot(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return &Root{fd}, nil
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH):
		return nil, &Error{ReasonRoot, dir, err}
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return nil, &Error{ReasonDenied, dir, err}
	}
	return nil, &Error{ReasonError, dir, err}
}

// Close frees the root.
func (r *Root) Close() error { return unix.Close(r.fd) }

// Open opens a regular file for reading, if it is the one that want says, and
// tells what it is. A path is resolved below root: links cannot lead out of it,
// magic ones of /proc lead nowhere, and a link at the end is not followed. The
// file has not been opened, only found, before its device, inode and type have
// been compared, so a device, a pipe or somebody else's file is not touched.
// Reading from it does not change its time of access where that can be helped.
//
// Open may block as long as the file system it meets on the way; see OpenWithin.
// All errors are of type *Error.
func Open(root *Root, path string, want ID) (*os.File, Stat, error) {
	if path == "" || Served(want.Filesystem) {
		reason := ReasonFilesystem
		if path == "" {
			reason = ReasonPath
		}
		return nil, Stat{}, &Error{reason, path, nil}
	}
	how := unix.OpenHow{
		Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolveCached,
	}
	// What was used a moment ago is in the kernel's cache of names, which asks
	// nobody: neither FUSE nor a server that does not answer.
	fd, err := openat2(root.fd, path, &how)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINVAL) { // not cached, or older than 5.12
		how.Resolve &^= resolveCached
		fd, err = openat2(root.fd, path, &how)
	}
	if err != nil {
		return nil, Stat{}, &Error{reasonOf(err), path, err}
	}
	defer unix.Close(fd)
	return reopen(fd, path, want)
}

// OpenHandle opens a file by the handle that name_to_handle_at or fanotify gave,
// on the file system that mount, an open directory, is on. It takes
// CAP_DAC_READ_SEARCH. Everything else is as with Open.
func OpenHandle(mount int, handle unix.FileHandle, want ID) (*os.File, Stat, error) {
	fd, err := unix.OpenByHandleAt(mount, handle, unix.O_PATH|unix.O_CLOEXEC)
	name := fmt.Sprintf("handle %x", handle.Bytes())
	if err != nil {
		if errors.Is(err, unix.ESTALE) {
			err = unix.ENOENT
		}
		return nil, Stat{}, &Error{reasonOf(err), name, err}
	}
	defer unix.Close(fd)
	return reopen(fd, name, want)
}

// resolveCached is RESOLVE_CACHED, in kernels from 5.12.
const resolveCached = 0x20

func openat2(dir int, path string, how *unix.OpenHow) (int, error) {
	for range 16 {
		fd, err := unix.Openat2(dir, path, how)
		// EAGAIN without RESOLVE_CACHED: something was renamed on the way.
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) && how.Resolve&resolveCached == 0 {
			continue
		}
		return fd, err
	}
	return -1, unix.EAGAIN
}

func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ESTALE):
		return ReasonVanished
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV), errors.Is(err, unix.EAGAIN):
		return ReasonReplaced // what is there now is no path that the kernel resolved then
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return ReasonDenied
	case errors.Is(err, unix.ENAMETOOLONG):
		return ReasonPath
	}
	return ReasonError
}

// reopen makes a file that was found one that can be read.
func reopen(fd int, path string, want ID) (*os.File, Stat, error) {
	st, mount, err := look(fd)
	if err != nil {
		return nil, st, &Error{reasonOf(err), path, err}
	}
	switch {
	case want.Inode != 0 && st.Inode != want.Inode:
		return nil, st, &Error{ReasonReplaced, path, nil}
	case ownNumbers(want.Filesystem):
		if want.MountID != 0 && mount != 0 && mount != want.MountID {
			return nil, st, &Error{ReasonReplaced, path, nil}
		}
	case want.Dev != 0 && st.Dev != want.Dev:
		return nil, st, &Error{ReasonReplaced, path, nil}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, st, &Error{ReasonRegular, path, nil}
	}
	if want.Filesystem == "" || want.Dev == 0 {
		// Nobody has said what it lies on.
		name, err := fileSystem(fd)
		if err != nil {
			return nil, st, &Error{ReasonError, path, err}
		}
		if Served(name) {
			return nil, st, &Error{ReasonFilesystem, path, nil}
		}
	}
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	rd, err := unix.Open(self, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		rd, err = unix.Open(self, flags, 0)
	}
	if err != nil {
		return nil, st, &Error{reasonOf(err), path, err}
	}
	// The descriptor leads to the same file for certain; that it can be read
	// lets the file system say which generation of its number it is.
	if gen, err := unix.IoctlGetInt(rd, fsIOCGetVersion); err == nil {
		st.Generation = uint32(gen)
	}
	return os.NewFile(uintptr(rd), path), st, nil
}

// fsIOCGetVersion is FS_IOC_GETVERSION, _IOR('v', 1, long).
const fsIOCGetVersion = 0x80087601

// ownNumbers tells file systems whose device numbers for user space are not
// those in the kernel.
func ownNumbers(filesystem string) bool { return filesystem == "btrfs" || filesystem == "overlay" }

// look says what an open file is, without asking whoever serves it.
func look(fd int) (Stat, uint32, error) {
	var sx unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &sx)
	if err != nil {
		return Stat{}, 0, err
	}
	st := Stat{
		Dev: sx.Dev_major<<20 | sx.Dev_minor, Inode: sx.Ino, Mode: uint32(sx.Mode), UID: sx.Uid, GID: sx.Gid, Links: sx.Nlink,
		Size: int64(sx.Size), MtimeNS: sx.Mtime.Sec*1e9 + int64(sx.Mtime.Nsec), CtimeNS: sx.Ctime.Sec*1e9 + int64(sx.Ctime.Nsec),
	}
	var mount uint32
	if sx.Mask&unix.STATX_MNT_ID != 0 {
		mount = uint32(sx.Mnt_id)
	}
	return st, mount, nil
}

// Look says what an open file is now.
func Look(f *os.File) (Stat, error) {
	var st Stat
	var err error
	raw, cerr := f.SyscallConn()
	if cerr != nil {
		return st, cerr
	}
	cerr = raw.Control(func(fd uintptr) { st, _, err = look(int(fd)) })
	return st, errors.Join(cerr, err)
}

// magics are the served file systems by the number that statfs gives.
var magics = map[int64]string{
	unix.FUSE_SUPER_MAGIC: "fuse", unix.NFS_SUPER_MAGIC: "nfs", unix.SMB_SUPER_MAGIC: "smbfs", unix.SMB2_SUPER_MAGIC: "smb3", unix.CIFS_SUPER_MAGIC: "cifs",
	unix.V9FS_MAGIC: "9p", unix.AFS_SUPER_MAGIC: "afs", unix.AFS_FS_MAGIC: "afs", unix.CODA_SUPER_MAGIC: "coda", unix.CEPH_SUPER_MAGIC: "ceph",
	unix.OCFS2_SUPER_MAGIC: "ocfs2", unix.AUTOFS_SUPER_MAGIC: "autofs",
	unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs", unix.DEBUGFS_MAGIC: "debugfs", unix.TRACEFS_MAGIC: "tracefs",
	unix.SECURITYFS_MAGIC: "securityfs", unix.CGROUP_SUPER_MAGIC: "cgroup", unix.CGROUP2_SUPER_MAGIC: "cgroup2", unix.BPF_FS_MAGIC: "bpf",
	unix.PSTOREFS_MAGIC: "pstore", unix.EFIVARFS_MAGIC: "efivarfs", unix.DEVPTS_SUPER_MAGIC: "devpts", unix.SELINUX_MAGIC: "selinuxfs",
	unix.NSFS_MAGIC: "nsfs", unix.BINFMTFS_MAGIC: "binfmt_misc", unix.SOCKFS_MAGIC: "sockfs", unix.ANON_INODE_FS_MAGIC: "anon_inodefs",
}

// fileSystem is the type of the file system an open file is on, if it is one
// that is left alone.
func fileSystem(fd int) (string, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "", err
	}
	return magics[int64(uint32(st.Type))], nil //nolint:unconvert // the type's width depends on the architecture
}

// An Opener opens files within a time. A file system that does not answer keeps
// a thread of the kernel's making until it does; there are only so many.
type Opener struct {
	slots chan struct{}
}

// maxStuck bounds the threads that hang in file systems.
const maxStuck = 4

// NewOpener returns an opener.
func NewOpener() *Opener { return &Opener{slots: make(chan struct{}, maxStuck)} }

// OpenWithin is Open with a time limit. After it the error's reason is
// ReasonTimeout, and so it is while as many calls as there may be hang.
// root is called in the same time and may be slow, too.
func (o *Opener) OpenWithin(limit time.Duration, root func() (*Root, error), path string, want ID) (*os.File, Stat, error) {
	select {
	case o.slots <- struct{}{}:
	default:
		return nil, Stat{}, &Error{ReasonTimeout, path, errors.New("other files hang")}
	}
	type result struct {
		f   *os.File
		st  Stat
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-o.slots }()
		var r result
		dir, err := root()
		if err != nil {
			r.err = err
		} else {
			r.f, r.st, r.err = Open(dir, path, want)
			_ = dir.Close() // an O_PATH descriptor has nothing to lose
		}
		done <- r
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case r := <-done:
		return r.f, r.st, r.err
	case <-t.C:
		go func() { // whoever comes too late is closed
			if r := <-done; r.f != nil {
				_ = r.f.Close()
			}
		}()
		return nil, Stat{}, &Error{ReasonTimeout, path, nil}
	}
}

// writers tells whether somebody has the file open for writing: then the kernel
// grants no read lease. It is given back at once. To take one on another user's
// file needs CAP_LEASE. known is false where the file system has no leases or
// the privilege is missing.
func writers(f *os.File) (open, known bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, false
	}
	err = raw.Control(func(fd uintptr) {
		_, err := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK)
		switch {
		case err == nil:
			_, err = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
			known = err == nil
		case errors.Is(err, unix.EAGAIN):
			open, known = true, true
		}
	})
	runtime.KeepAlive(f)
	return open, known && err == nil
}
