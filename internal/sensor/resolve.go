//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
)

// resolveCached is RESOLVE_CACHED (v5.12, 99668f618062): fail rather than ask a
// file system.
const resolveCached = 0x20

// A resolver looks up files that an event names by what the caller's memory
// said, as soon as the event is read: symbolic links are followed where the
// call did, and inode, owner and mode are filled in. What it finds is what the
// name means then, some milliseconds later, so the path source stays "user".
// Where the name means nothing any more, or cannot be walked without asking a
// file system or noting an access to a link, the event stays as it is.
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

// event looks up the files of an event that came by their names; nofollow says
// that the call was told not to follow a link at the end.
func (r *resolver) event(e *event.Event, mntns uint32, nofollow bool) {
	file := func(f *event.File, follow bool) {
		if f.PathSource == "user" && f.Path != "" {
			r.file(f, e.PID, mntns, follow)
		}
	}
	switch {
	case e.Exec != nil:
		file(&e.Exec.Image.File, true) // a script
		if p := e.Exec.Image; p.Script != nil && p.Script.PathSource == "user" {
			script := p.File
			p.Script = &script
		}
	case e.Flags&(event.FlagPathUser|event.FlagPathChanged) != event.FlagPathUser:
		// The kernel's own, or a name that was being rewritten.
	case e.Open != nil:
		file(&e.Open.File, true)
	case e.Chmod != nil:
		file(&e.Chmod.File, !nofollow)
	case e.Chown != nil:
		file(&e.Chown.File, !nofollow)
	case e.Rename != nil && e.Rename.Retval == 0:
		file(&e.Rename.Destination, false)
	case e.Link != nil && e.Link.Retval == 0:
		file(&e.Link.File, false)
		file(&e.Link.Destination, false)
	case e.Symlink != nil && e.Symlink.Retval == 0:
		file(&e.Symlink.File, false)
	case e.Mkdir != nil && e.Mkdir.Retval == 0:
		file(&e.Mkdir.File, false)
	case e.Setxattr != nil:
		file(&e.Setxattr.File, !nofollow)
	case e.Removexattr != nil:
		file(&e.Removexattr.File, !nofollow)
	case e.Utimes != nil:
		file(&e.Utimes.File, !nofollow)
	case e.Chdir != nil:
		file(&e.Chdir.File, true)
	}
}

// file fills in what stat tells, and the path behind symbolic links.
func (r *resolver) file(f *event.File, pid, mntns uint32, follow bool) {
	root := r.root
	if mntns != r.mntns {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		defer unix.Close(fd)
		root = fd
	}
	// The walk stays below that root, also by absolute links, and asks no file
	// system for anything: a name that the kernel does not have at hand is
	// given up. Whoever runs a file system in user space could stop us else.
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolveCached,
	}
	if !follow {
		how.Flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Openat2(root, f.Path, &how)
	for range 3 { // a rename or mount anywhere may disturb the walk
		if !errors.Is(err, unix.EAGAIN) {
			break
		}
		fd, err = unix.Openat2(root, f.Path, &how)
	}
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
	var buf [4096]byte
	if n, err := unix.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd), buf[:]); err == nil && n < len(buf) {
		if p := string(buf[:n]); strings.HasPrefix(p, "/") && !strings.HasSuffix(p, " (deleted)") {
			f.Path = p
		}
	}
}
