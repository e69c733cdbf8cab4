//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
)

// resolveCached is RESOLVE_CACHED (v5.12, 99668f618062): fail rather than ask a
// file system.
const resolveCached = 0x20

// A resolver looks up files that an event names by what the caller's memory
// said, as soon as the event is read: symbolic links are followed where the
// call did, those of its directories always, and inode, owner and mode are
// filled in. What it finds is what the
// name means then, some milliseconds later, so the path source stays "user".
// Where the name means nothing any more, or cannot be walked without asking a
// file system of a network or of user space, the event stays as it is.
type resolver struct {
	mntns uint32 // our own
	root  int    // our root directory
}

func newResolver() (*resolver, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/mnt", &st); err != nil {
		return nil, fmt.Errorf("own mount namespace: %w", err)
	}
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	return &resolver{mntns: uint32(st.Ino), root: fd}, nil
}

func (r *resolver) Close() error { return unix.Close(r.root) }

// event looks up the files of an event that came by their names.
func (r *resolver) event(rec *record) {
	e := rec.ev
	named := func(f *event.File) bool { return f.PathSource == "user" && f.Path != "" }
	// follow is for calls that follow a link at the end, unless told not to.
	follow := func(f *event.File, raw string, follow bool) {
		if named(f) {
			r.file(f, raw, e.PID, rec.mntns, follow)
		}
	}
	// gone is for names that are not there any more: the directory still is.
	gone := func(f *event.File, raw string) {
		if named(f) {
			r.parent(f, raw, e.PID, rec.mntns)
		}
	}
	switch {
	case e.Exec != nil:
		follow(&e.Exec.Image.File, e.Exec.Image.File.Path, true) // a script
		if p := e.Exec.Image; p.Script != nil && p.Script.PathSource == "user" {
			script := p.File
			p.Script = &script
		}
	case e.Flags&(event.FlagPathUser|event.FlagPathChanged) != event.FlagPathUser:
		// The kernel's own, or a name that was being rewritten.
	case e.Open != nil:
		follow(&e.Open.File, rec.raw, true)
	case e.Chmod != nil:
		follow(&e.Chmod.File, rec.raw, !rec.nofollow)
	case e.Chown != nil:
		follow(&e.Chown.File, rec.raw, !rec.nofollow)
	case e.Unlink != nil:
		gone(&e.Unlink.File, rec.raw)
	case e.Rmdir != nil:
		gone(&e.Rmdir.File, rec.raw)
	case e.Rename != nil:
		gone(&e.Rename.File, rec.raw)
		if e.Rename.Retval == 0 {
			follow(&e.Rename.Destination, rec.raw2, false)
		} else {
			gone(&e.Rename.Destination, rec.raw2)
		}
	case e.Link != nil:
		follow(&e.Link.File, rec.raw, false)
		follow(&e.Link.Destination, rec.raw2, false)
	case e.Symlink != nil:
		follow(&e.Symlink.File, rec.raw, false)
	case e.Mkdir != nil:
		follow(&e.Mkdir.File, rec.raw, false)
	case e.Setxattr != nil:
		follow(&e.Setxattr.File, rec.raw, !rec.nofollow)
	case e.Removexattr != nil:
		follow(&e.Removexattr.File, rec.raw, !rec.nofollow)
	case e.Utimes != nil:
		follow(&e.Utimes.File, rec.raw, !rec.nofollow)
	case e.Chdir != nil:
		follow(&e.Chdir.File, rec.raw, true)
	}
}

// rootOf is the root directory of a mount namespace; the caller closes it
// unless it is our own.
func (r *resolver) rootOf(pid, mntns uint32) (fd int, done func(), ok bool) {
	if mntns == r.mntns {
		return r.root, func() {}, true
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, nil, false
	}
	return fd, func() { unix.Close(fd) }, true
}

// open opens a path below a root without asking a file system for anything: a
// name that the kernel does not have at hand is given up. Whoever runs a file
// system in user space could stop us else. The walk stays below that root, also
// by absolute links.
func open(root int, path string, flags, resolve uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolveCached | resolve,
	}
	fd, err := unix.Openat2(root, path, &how)
	for range 3 { // a rename or mount anywhere may disturb the walk
		if !errors.Is(err, unix.EAGAIN) {
			break
		}
		fd, err = unix.Openat2(root, path, &how)
	}
	return fd, err
}

// lookup opens what a path names, and what its links lead to. The kernel gives
// up such a walk, too, where it would have to note that a link was read, as for
// one that was made a moment ago: then the links are read one by one.
func (r *resolver) lookup(root int, path string, pid uint32, follow bool) (int, error) {
	var flags uint64
	if !follow {
		flags = unix.O_NOFOLLOW
	}
	fd, err := open(root, path, flags, 0)
	if !errors.Is(err, unix.EAGAIN) {
		return fd, err
	}
	plain, err := r.byHand(root, path, pid, follow)
	if err != nil {
		return -1, err
	}
	return open(root, plain, flags, unix.RESOLVE_NO_SYMLINKS)
}

// maxLinks is how many links a path may lead through, as in the kernel.
const maxLinks = 40

// byHand follows the links of a path below a root; last tells whether to follow
// one at its end.
func (r *resolver) byHand(root int, path string, pid uint32, last bool) (string, error) {
	done, todo := "/", strings.Split(path, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = filepath.Dir(done)
			continue
		}
		next := filepath.Join(done, name)
		if len(todo) == 0 && !last {
			return next, nil
		}
		target, err := r.link(root, next, pid)
		if err != nil {
			return "", err
		}
		if target == "" {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", unix.ELOOP
		}
		if strings.HasPrefix(target, "/") {
			done = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return done, nil
}

// local are file systems that read a link without asking anybody in user space
// or on a network.
var local = []string{
	"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "ramfs", "rootfs", "overlay", "squashfs", "erofs", "zfs", "bcachefs",
}

// link reads a symbolic link; empty for what is none.
func (r *resolver) link(root int, path string, pid uint32) (string, error) {
	fd, err := open(root, path, unix.O_NOFOLLOW, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_MNT_ID, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", nil
	}
	if fs := mountType(pid, st.Mnt_id); st.Mask&unix.STATX_MNT_ID == 0 || !slices.Contains(local, fs) {
		return "", unix.EAGAIN
	}
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", buf[:])
	if err == nil && n == 0 {
		err = unix.ENOENT
	}
	return string(buf[:max(n, 0)]), err
}

// maxMountinfo bounds what is read of a mount table.
const maxMountinfo = 4 << 20

// mountType is the type of the file system of a mount that a process sees.
func mountType(pid uint32, id uint64) string {
	b, _ := readLimited(fmt.Sprintf("/proc/%d/mountinfo", pid), maxMountinfo)
	if len(b) == 0 { // it has ended: perhaps it saw what we see
		b, _ = readLimited("/proc/self/mountinfo", maxMountinfo)
	}
	prefix := strconv.FormatUint(id, 10) + " "
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			_, rest, _ = strings.Cut(rest, " - ")
			fs, _, _ := strings.Cut(rest, " ")
			return fs
		}
	}
	return ""
}

// parent replaces the directory in the path of a file that is gone by where it
// really is.
func (r *resolver) parent(f *event.File, raw string, pid, mntns uint32) {
	root, done, ok := r.rootOf(pid, mntns)
	if !ok {
		return
	}
	defer done()
	if path, ok := r.inParent(root, raw, pid); ok {
		f.Path = path
	}
}

// inParent is a path whose last name is not followed, and whose directory is
// where it really is.
func (r *resolver) inParent(root int, raw string, pid uint32) (string, bool) {
	raw = strings.TrimRight(raw, "/")
	dir, name := filepath.Split(raw)
	if name == "" || name == "." || name == ".." || dir == "" {
		return "", false
	}
	fd, err := r.lookup(root, dir, pid, true)
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	path, ok := pathOf(fd)
	if !ok {
		return "", false
	}
	return filepath.Join(path, name), true
}

// pathOf is where an open file is.
func pathOf(fd int) (string, bool) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd), buf[:])
	if err != nil || n == len(buf) {
		return "", false
	}
	p := string(buf[:n])
	return p, strings.HasPrefix(p, "/") && !strings.HasSuffix(p, " (deleted)")
}

// file fills in what stat tells, and the path behind symbolic links.
func (r *resolver) file(f *event.File, raw string, pid, mntns uint32, follow bool) {
	root, done, ok := r.rootOf(pid, mntns)
	if !ok {
		return
	}
	defer done()
	if !follow {
		if path, ok := r.inParent(root, raw, pid); ok {
			f.Path = path
		}
	}
	fd, err := r.lookup(root, raw, pid, follow)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); err != nil {
		return
	}
	f.Inode, f.Mode, f.UID, f.GID, f.Links = st.Ino, uint32(st.Mode), st.Uid, st.Gid, st.Nlink
	f.Dev = st.Dev_major<<20 | st.Dev_minor
	f.ChangeTime = st.Ctime.Sec*1e9 + int64(st.Ctime.Nsec)
	f.ModificationTime = st.Mtime.Sec*1e9 + int64(st.Mtime.Nsec)
	if st.Mask&unix.STATX_MNT_ID != 0 {
		f.MountID = uint32(st.Mnt_id)
	}
	if !follow {
		return
	}
	if path, ok := pathOf(fd); ok {
		f.Path = path
	}
}
