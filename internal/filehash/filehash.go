// Package filehash finds out what is in a file that an event was about: its
// SHA-256, what kind of file it is and, of an ELF, how it was linked; and what
// the file was before.
//
// A file is named by whoever is watched, so opening it is hostile ground. The
// process that may open everything (Open) never reads: it resolves the path
// inside the root of the process that used it, without asking a file system
// that a user serves, compares device and inode with what the kernel saw, and
// hands a read-only descriptor to a helper that has no privileges at all, which
// reads (Examine).
//
// Every file that is asked for is answered once: with a hash, or with a Reason.
package filehash

import (
	"errors"
	"fmt"

	"github.com/clewsec/clew/internal/event"
)

// A Reason says why there is no hash. The list is closed: reasons are labels of
// counters.
type Reason string

// Why a file was not hashed.
const (
	ReasonNone       Reason = ""            // it was
	ReasonPath       Reason = "no_path"     // the event has no path that leads to it
	ReasonRoot       Reason = "no_root"     // nobody lives any more in the mount namespace where the path means something
	ReasonVanished   Reason = "vanished"    // the path leads nowhere any more
	ReasonReplaced   Reason = "replaced"    // the path leads to another file by now
	ReasonRegular    Reason = "not_regular" // a directory, device, pipe, socket or link
	ReasonFilesystem Reason = "filesystem"  // a file system that others serve: FUSE, a network's, the kernel's own
	ReasonSize       Reason = "too_large"
	ReasonRate       Reason = "rate"       // more files or bytes than may be read
	ReasonChanged    Reason = "changed"    // it was written to while it was read, each time
	ReasonStillOpen  Reason = "still_open" // its writer did not close it in time
	ReasonTimeout    Reason = "timeout"    // it could not be opened or read in time
	ReasonDenied     Reason = "denied"     // the agent may not open it
	ReasonError      Reason = "error"      // reading failed
	ReasonHelper     Reason = "no_helper"  // the helper cannot be started
	ReasonStopped    Reason = "stopped"    // the agent ended first
)

// Reasons are all reasons, in a fixed order.
var Reasons = []Reason{
	ReasonPath, ReasonRoot, ReasonVanished, ReasonReplaced, ReasonRegular, ReasonFilesystem, ReasonSize, ReasonRate, ReasonChanged,
	ReasonStillOpen, ReasonTimeout, ReasonDenied, ReasonError, ReasonHelper, ReasonStopped,
}

// An Error says why a file is not looked into.
type Error struct {
	Reason Reason
	Path   string
	Err    error // nil: the reason says it all
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("open %q: %s", e.Path, e.Reason)
	}
	return fmt.Sprintf("open %q: %s: %v", e.Path, e.Reason, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// ReasonOf is the reason of an error of this package; ReasonError for others.
func ReasonOf(err error) Reason {
	if err == nil {
		return ReasonNone
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ReasonError
}

// An ID says which file is meant, as the kernel knew it. What is 0 is not
// compared.
type ID struct {
	Dev     uint32 // as the kernel encodes it: major<<20 | minor
	Inode   uint64
	MountID uint32
	// Filesystem is the type: ext4, btrfs, overlay. Some of them tell user space
	// other device numbers than they have in the kernel.
	Filesystem string
}

// Stat is what is compared to tell whether a file is the same and unchanged.
type Stat struct {
	Dev        uint32 // major<<20 | minor
	Inode      uint64
	Generation uint32 // of the inode number; 0 where the file system has none
	Mode       uint32 // type and permissions
	UID, GID   uint32
	Links      uint32
	Size       int64 // bytes
	MtimeNS    int64
	CtimeNS    int64
}

// served are file systems that are not opened: what answers there is a process
// or another host, and it may take its time for ever, or answer differently to
// whoever asks; or there is nothing behind the names but the kernel.
var served = map[string]bool{
	"fuse": true, "fuseblk": true, "fusectl": true, "virtiofs": true,
	"nfs": true, "nfs4": true, "cifs": true, "smb3": true, "smbfs": true, "ncpfs": true, "afs": true, "coda": true, "ceph": true, "9p": true,
	"gfs2": true, "ocfs2": true, "orangefs": true, "lustre": true, "glusterfs": true, "autofs": true,
	"proc": true, "sysfs": true, "debugfs": true, "tracefs": true, "securityfs": true, "configfs": true, "pstore": true, "efivarfs": true,
	"cgroup": true, "cgroup2": true, "bpf": true, "mqueue": true, "devpts": true, "selinuxfs": true, "binfmt_misc": true, "nsfs": true,
	"pipefs": true, "sockfs": true, "anon_inodefs": true, "rpc_pipefs": true, "resctrl": true,
}

// Served tells whether files of this type of file system are left alone.
func Served(filesystem string) bool { return served[filesystem] }

// Limits of what is read, where a configuration says nothing else.
const (
	DefaultMaxSize = 64 << 20 // bytes of one file
	DefaultText    = 64 << 10 // bytes of a file of which a difference is made
)

// An Ask is a question about one file of an event.
type Ask struct {
	Event event.Ref
	Field string // which file of the event: open.file
	Path  string // as the kernel resolved it
	ID    ID
	Mode  uint32 // type and permissions, as the event has them; 0: not known
	// MntNS is the mount namespace in which the path means something; 0 is this
	// process's own. PIDs are processes that may still live in it.
	MntNS   uint32
	PIDs    []uint32
	MaxSize int64 // bytes; 0 or more than the service's own: that one
	Text    bool  // a rule names the file, so a difference of its text may be told
}

// Stats counts. Asked is at any time what was answered, with a hash or with a
// reason, and what still waits.
type Stats struct {
	Asked   uint64
	Hashed  uint64 // answers with a hash
	Cached  uint64 // of them, those for which nothing was read
	Joined  uint64 // of them and of the others, those that shared a reading with an earlier one
	Bytes   uint64 // that were read
	Reasons map[Reason]uint64
	Waiting uint64
}
