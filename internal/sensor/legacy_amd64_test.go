//go:build linux

package sensor

import "golang.org/x/sys/unix"

// legacyCalls are system calls that newer architectures do not have.
var legacyCalls = map[string]uintptr{
	"open": unix.SYS_OPEN, "creat": unix.SYS_CREAT, "unlink": unix.SYS_UNLINK, "rmdir": unix.SYS_RMDIR,
	"mkdir": unix.SYS_MKDIR, "rename": unix.SYS_RENAME, "chmod": unix.SYS_CHMOD, "chown": unix.SYS_CHOWN,
	"lchown": unix.SYS_LCHOWN, "link": unix.SYS_LINK, "symlink": unix.SYS_SYMLINK,
	"utime": unix.SYS_UTIME, "utimes": unix.SYS_UTIMES, "futimesat": unix.SYS_FUTIMESAT,
}
