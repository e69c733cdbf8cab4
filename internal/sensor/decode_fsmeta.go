//go:build linux && (amd64 || arm64)

package sensor

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
)

// The records of what is done to files beside their content and names.

// meta decodes chdir, extended attributes, times and splice.
func (d *decoder) meta(rec *record, b []byte) bool {
	r, ok := fill[procRecMeta](b)
	if !ok {
		return false
	}
	op := &r.Op
	given := string(str(b, op.Arg))
	file := d.file(b, &op.File)
	if op.File.Flags&uint16(procRecFileFlagRF_PRESENT) == 0 && given != "" {
		at := userPath{d.path(str(b, op.Dir)), given, op.Opflags&uint32(procRecOpFlagRO_OWN_LINK) != 0, op.Hdr.Tgid}
		file, rec.raw = event.File{Path: at.String(), PathSource: "user"}, at.raw()
	}
	ret := int64(op.Retval)
	var ev *event.Event
	switch rec.kind {
	case procRecKindREC_CHDIR:
		ev = d.event(event.KindChdir, &op.Hdr)
		ev.Chdir = &event.Chdir{File: file, SyscallPath: given, Retval: ret}
	case procRecKindREC_SETXATTR:
		ev = d.event(event.KindSetxattr, &op.Hdr)
		ev.Setxattr = &event.Setxattr{File: file, DestinationName: string(str(b, r.Name)), Retval: ret}
	case procRecKindREC_REMOVEXATTR:
		ev = d.event(event.KindRemovexattr, &op.Hdr)
		ev.Removexattr = &event.Removexattr{File: file, DestinationName: string(str(b, r.Name)), Retval: ret}
	case procRecKindREC_UTIMES:
		ev = d.event(event.KindUtimes, &op.Hdr)
		ev.Utimes = &event.Utimes{File: file, SyscallPath: given, Atime: r.Atime, Mtime: r.Mtime, Retval: ret}
	case procRecKindREC_SPLICE:
		ev = d.event(event.KindSplice, &op.Hdr)
		ev.Splice = &event.Splice{
			File: file, PipeEntryFlag: int64(r.PipeBefore), PipeExitFlag: int64(r.PipeAfter), Retval: ret,
		}
	default:
		return false
	}
	ev.Flags |= pathFlags(op.Opflags, op.File.Flags, file.Path)
	rec.nofollow = op.Mode&unix.AT_SYMLINK_NOFOLLOW != 0
	if rec.kind == procRecKindREC_UTIMES {
		rec.nofollow = op.Flags&unix.AT_SYMLINK_NOFOLLOW != 0
	}
	rec.ev = ev
	return true
}

// pathFlags says where the path of an operation is from and how whole it is.
func pathFlags(opflags uint32, file uint16, path string) (flags uint32) {
	op := func(f procRecOpFlag) bool { return opflags&uint32(f) != 0 }
	if op(procRecOpFlagRO_PATH_USER) {
		flags |= event.FlagPathUser
	}
	if op(procRecOpFlagRO_CHANGED) || op(procRecOpFlagRO_UNREADABLE) {
		flags |= event.FlagPathChanged
	}
	if path == "" || op(procRecOpFlagRO_PATH_USER) && elsewhere(path) {
		flags |= event.FlagPathUnknown
	}
	if op(procRecOpFlagRO_TRUNCATED) || file&uint16(procRecFileFlagRF_TRUNCATED) != 0 {
		flags |= event.FlagPathCut
	}
	return flags
}

// mount decodes mount and umount.
func (d *decoder) mount(rec *record, b []byte) bool {
	r, ok := fill[procRecMount](b)
	if !ok {
		return false
	}
	has := func(f procRecMountFlag) bool { return r.Mflags&uint32(f) != 0 }
	known := r.File.Flags&uint16(procRecFileFlagRF_PRESENT) != 0
	detached := has(procRecMountFlagRM_DETACHED) || known && r.File.Flags&uint16(procRecFileFlagRF_DETACHED) != 0
	source, target := string(str(b, r.Source)), string(str(b, r.Target))
	point := ""
	switch {
	case known && !detached:
		point = d.path(str(b, r.File.Path))
	case target != "":
		point = userPath{d.path(str(b, r.Dir2)), target, r.Opflags&uint32(procRecOpFlagRO_OWN_LINK2) != 0, r.Hdr.Tgid}.String()
	}
	if rec.kind == procRecKindREC_UMOUNT {
		rec.ev = d.event(event.KindUmount, &r.Hdr)
		rec.ev.Umount = &event.Umount{MountpointPath: point, Flags: int64(r.Flags), Retval: int64(r.Retval)}
		rec.ev.Flags |= pathFlags(r.Opflags, r.File.Flags, point)
		return true
	}
	m := &event.Mount{
		MountpointPath: point, SyscallMountpointPath: target, SyscallSourcePath: source,
		SyscallFSType: string(str(b, r.Type)), FSType: string(str(b, r.Type)), Flags: r.Flags, Detached: detached,
		Hidden: detached, Retval: int64(r.Retval),
	}
	if has(procRecMountFlagRM_FOUND) {
		m.FSType = d.same(cstrBytes(r.File.Fs[:]))
		m.RootPath = d.path(str(b, r.Root))
	}
	if (has(procRecMountFlagRM_BIND) || has(procRecMountFlagRM_MOVED)) && source != "" {
		m.SourcePath = userPath{d.path(str(b, r.Dir)), source, r.Opflags&uint32(procRecOpFlagRO_OWN_LINK) != 0, r.Hdr.Tgid}.String()
	}
	rec.ev = d.event(event.KindMount, &r.Hdr)
	rec.ev.Mount = m
	flags := pathFlags(r.Opflags, r.File.Flags, point)
	if detached {
		flags &^= event.FlagPathUnknown // it has none
	}
	rec.ev.Flags |= flags
	return true
}

// execPath is the path that an exec asked for.
func execPath(cwd, given string) string {
	if strings.HasPrefix(given, "/") {
		cwd = "/"
	}
	return join(cwd, given)
}

// otherPaths is the path that a program was asked for by, where it is another
// than the kernel found it at: a symbolic link. It is left out where the text
// alone does not say what it names: below another root, with "..", and as the
// kernel writes descriptors.
func otherPaths(f *event.File, cwd, given string, chrooted bool) []string {
	if f.PathSource != "kernel" || given == "" || chrooted || strings.Contains("/"+given+"/", "/../") ||
		strings.HasPrefix(given, "/dev/fd/") || strings.HasPrefix(given, "/proc/") {
		return nil
	}
	path := execPath(cwd, given)
	if path == f.Path || strings.HasPrefix(path, "/proc/") {
		return nil
	}
	return []string{path}
}
