//go:build linux && (amd64 || arm64)

package sensor

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/sensor/scrub"
)

// What rules can see of arguments and environments.
const (
	maxStrings   = 256
	maxStringLen = 256
)

// envAllow are the variables whose values are kept; of the others only names.
var envAllow = []string{
	"DD_SERVICE", "DD_ENV", "DD_VERSION", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "PATH", "LD_PRELOAD",
	"LD_LIBRARY_PATH", "LD_AUDIT", "SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY", "SUDO_USER", "SUDO_UID", "SUDO_COMMAND",
	"CI", "GITHUB_ACTIONS", "GITHUB_RUN_ID", "GITHUB_REPOSITORY", "GITHUB_WORKFLOW", "GITHUB_JOB", "GITLAB_CI",
	"CI_JOB_ID", "CI_PROJECT_PATH", "JENKINS_URL", "BUILD_ID", "JOB_NAME", "BUILDKITE", "KUBERNETES_SERVICE_HOST",
	"INVOCATION_ID", "HISTFILE", "TERM", "LANG", "PYTHONPATH", "NODE_OPTIONS", "PERL5OPT", "PYTHONSTARTUP", "BASH_ENV",
}

// A decoded record. Exactly one of ev, snap and canary is set.
type record struct {
	ts     uint64
	kind   procRecKind
	ev     *event.Event
	snap   *event.Process
	canary uint64
	bulk   bool // canary: which ring it came by
	mntns  uint32
	// the call was told not to follow a symbolic link at the end of a path
	nofollow bool
	// paths as they were written, where the caller's memory named them
	raw, raw2 string
	// a packet in which no message ends, and how many were in it that are none
	part     bool
	unparsed uint64
	more     []*event.Event // beside ev
	again    bool           // one of those: its record has been counted
	// snapshot: the parent
	parent      uint32
	parentStart uint64
}

var errRecord = errors.New("malformed kernel record")

// A decoder turns kernel records into events. Not safe for concurrent use.
type decoder struct {
	offset int64 // wall clock minus boot clock, ns
	allow  map[string]bool
	// strings seen last, so that equal ones share memory
	intern map[string]string
	// paths seen last, by their names as the kernel gives them
	paths map[string]string
	// control groups seen last, in the same way
	groups map[string]group
	// environments seen last: a shell hands the same one to all it starts
	environments map[string]environment
	packets      packets
}

func newDecoder(allow []string) *decoder {
	d := &decoder{allow: make(map[string]bool, len(envAllow)+len(allow)), intern: make(map[string]string), paths: make(map[string]string), groups: make(map[string]group), environments: make(map[string]environment)}
	for _, n := range envAllow {
		d.allow[n] = true
	}
	for _, n := range allow {
		d.allow[n] = true
	}
	return d
}

// fill copies the head of b over a record's fixed part.
func fill[T any](b []byte) (*T, bool) {
	var r T
	n := int(unsafe.Sizeof(r))
	if len(b) < n {
		return nil, false
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&r)), n), b)
	return &r, true
}

// str is a string of a record. A reference outside of it gives nothing.
func str(b []byte, s procRecStr) []byte {
	from, to := int(s.Off), int(s.Off)+int(s.Len)
	if to > len(b) {
		return nil
	}
	return b[from:to]
}

// internMax bounds the tables of equal strings, which are emptied when they are
// full; internLen is the longest path in one.
const (
	internMax = 4096
	internLen = 512
)

func (d *decoder) same(s []byte) string {
	if v, ok := d.intern[string(s)]; ok {
		return v
	}
	if len(d.intern) >= internMax {
		clear(d.intern)
	}
	v := string(s)
	d.intern[v] = v
	return v
}

// path turns names, leaf first, into a path from the root.
func (d *decoder) path(names []byte) string {
	if len(names) == 0 {
		return "/"
	}
	if v, ok := d.paths[string(names)]; ok {
		return v
	}
	v := string(joinNames(names))
	if len(names) <= internLen {
		if len(d.paths) >= internMax {
			clear(d.paths)
		}
		d.paths[string(names)] = v
	}
	return v
}

// joinNames puts names, leaf first, behind each other from the root on.
func joinNames(names []byte) []byte {
	out := make([]byte, 0, len(names)+1)
	end := len(names)
	if names[end-1] == 0 {
		end--
	}
	for end >= 0 {
		at := bytes.LastIndexByte(names[:end], 0) + 1
		out = append(out, '/')
		out = append(out, names[at:end]...)
		if at == 0 {
			break
		}
		end = at - 1
	}
	return out
}

// A group is what the path of a control group says.
type group struct{ path, container, manager string }

func (d *decoder) group(names []byte) group {
	g, ok := d.groups[string(names)]
	if !ok {
		g.path = d.path(names)
		g.container, g.manager = container(g.path)
		if len(d.groups) >= internMax {
			clear(d.groups)
		}
		d.groups[string(names)] = g
	}
	return g
}

// join cleans a path that a caller gave, below the directory it is relative
// to. Symbolic links are not resolved.
func join(dir, given string) string {
	if (dir == "" || dir == "/") && clean(given) {
		return given
	}
	var parts []string
	for _, s := range [2]string{dir, given} {
		for p := range strings.SplitSeq(s, "/") {
			switch p {
			case "", ".":
			case "..":
				if len(parts) > 0 {
					parts = parts[:len(parts)-1]
				}
			default:
				parts = append(parts, p)
			}
		}
	}
	return "/" + strings.Join(parts, "/")
}

// clean tells whether path begins at the root and names nothing twice.
func clean(path string) bool {
	if len(path) < 2 || path[0] != '/' {
		return false
	}
	for i := 1; i < len(path); {
		n := strings.IndexByte(path[i:], '/')
		if n < 0 {
			n = len(path) - i
		} else if i+n+1 == len(path) {
			return false
		}
		switch path[i : i+n] {
		case "", ".", "..":
			return false
		}
		i += n + 1
	}
	return true
}

func (d *decoder) file(b []byte, f *procRecFile) event.File {
	if f.Flags&uint16(procRecFileFlagRF_PRESENT) == 0 {
		return event.File{}
	}
	out := event.File{
		Filesystem: d.same(cstrBytes(f.Fs[:])),
		Inode:      f.Inode, MountID: f.MntId, Dev: f.Dev, Mode: uint32(f.Mode), UID: f.Uid, GID: f.Gid,
		ChangeTime: int64(f.Ctime), ModificationTime: int64(f.Mtime), Links: f.Links,
		InUpperLayer: f.Flags&uint16(procRecFileFlagRF_UPPER) != 0, PathSource: "kernel",
	}
	names := str(b, f.Path)
	if f.Flags&uint16(procRecFileFlagRF_DETACHED) != 0 {
		// In no directory of any namespace: a memfd, a pipe, a file of a mount
		// that was taken away. The name stands without a slash.
		out.Path = strings.TrimPrefix(d.path(names), "/")
		out.MountDetached, out.MountHidden = true, true
		return out
	}
	out.Path = d.path(names)
	return out
}

func cstrBytes(b []int8) []byte {
	s := unsafe.Slice((*byte)(unsafe.Pointer(&b[0])), len(b))
	if i := bytes.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	return s
}

// decode reads one record. The result does not refer to b.
func (d *decoder) decode(b []byte) (record, error) {
	h, ok := fill[procRecHdr](b)
	if !ok || int(h.Size) > len(b) || int(h.Size) < int(unsafe.Sizeof(*h)) {
		return record{}, fmt.Errorf("%w: header", errRecord)
	}
	b = b[:h.Size]
	rec := record{ts: h.Ts, kind: procRecKind(h.Kind), mntns: h.Mntns}
	switch rec.kind {
	case procRecKindREC_FORK, procRecKindREC_EXEC, procRecKindREC_SNAPSHOT:
		ok = d.proc(&rec, b)
	case procRecKindREC_EXIT:
		ok = d.exit(&rec, b)
	case procRecKindREC_CRED:
		ok = d.cred(&rec, b)
	case procRecKindREC_CGROUP:
		ok = d.cgroup(&rec, b)
	case procRecKindREC_CANARY:
		var c *procRecCanary
		if c, ok = fill[procRecCanary](b); ok {
			rec.canary, rec.bulk = c.Nonce, c.Ring == 1
		}
	case procRecKindREC_CONNECT, procRecKindREC_ACCEPT, procRecKindREC_BIND:
		ok = d.net(&rec, b)
	case procRecKindREC_SOCKET:
		ok = d.socket(&rec, b)
	case procRecKindREC_SETSOCKOPT:
		ok = d.sockopt(&rec, b)
	case procRecKindREC_DNS:
		ok = d.dns(&rec, b)
	case procRecKindREC_IMDS:
		ok = d.imds(&rec, b)
	case procRecKindREC_OPEN, procRecKindREC_TRUNCATE, procRecKindREC_UNLINK, procRecKindREC_RMDIR,
		procRecKindREC_RENAME, procRecKindREC_MKDIR, procRecKindREC_CHMOD, procRecKindREC_CHOWN,
		procRecKindREC_LINK, procRecKindREC_SYMLINK:
		ok = d.fileop(&rec, b)
	case procRecKindREC_CHDIR, procRecKindREC_SETXATTR, procRecKindREC_REMOVEXATTR, procRecKindREC_UTIMES,
		procRecKindREC_SPLICE:
		ok = d.meta(&rec, b)
	case procRecKindREC_MOUNT, procRecKindREC_UMOUNT:
		ok = d.mount(&rec, b)
	case procRecKindREC_PTRACE, procRecKindREC_SIGNAL, procRecKindREC_SETRLIMIT, procRecKindREC_PRCTL,
		procRecKindREC_UNSHARE, procRecKindREC_MPROTECT:
		ok = d.call(&rec, b)
	case procRecKindREC_CAPABILITIES, procRecKindREC_SELINUX:
		ok = d.call(&rec, b)
	case procRecKindREC_ONDEMAND:
		ok = d.hook(&rec, b)
	case procRecKindREC_MMAP:
		ok = d.mmap(&rec, b)
	case procRecKindREC_BPF:
		ok = d.bpf(&rec, b)
	case procRecKindREC_LOAD_MODULE, procRecKindREC_UNLOAD_MODULE:
		ok = d.module(&rec, b)
	case procRecKindREC_SYSCTL:
		ok = d.sysctl(&rec, b)
	default:
		return rec, fmt.Errorf("%w: kind %d", errRecord, h.Kind)
	}
	if !ok {
		return rec, fmt.Errorf("%w: kind %d has %d bytes", errRecord, h.Kind, len(b))
	}
	return rec, nil
}

func (d *decoder) event(kind event.Kind, h *procRecHdr) *event.Event {
	ev := &event.Event{
		BootNS: h.Ts, TimeNS: int64(h.Ts) + d.offset, Kind: kind, PID: h.Tgid, TID: h.Tid, StartNS: h.Start,
		CgroupID: h.CgroupId, UID: h.Uid, GID: h.Gid, EUID: h.Euid,
	}
	if h.Flags&uint16(procRecHdrFlagRH_ASYNC) != 0 {
		ev.Flags |= event.FlagAsync
	}
	return ev
}

func (d *decoder) proc(rec *record, b []byte) bool {
	r, ok := fill[procRecProc](b)
	if !ok {
		return false
	}
	h := &r.Hdr
	has := func(f procRecProcFlag) bool { return r.Flags&uint32(f) != 0 }
	in := d.group(str(b, r.Cgroup))
	p := &event.Process{
		PID: h.Tgid, TID: h.Tid, PPID: h.Ppid, StartNS: h.Start, CreatedAt: int64(h.Ts) + d.offset,
		Comm: d.same(cstrBytes(h.Comm[:])), TTYName: d.same(cstrBytes(r.Tty[:])),
		UID: h.Uid, GID: h.Gid, EUID: h.Euid, EGID: h.Egid, FSUID: h.Fsuid, FSGID: h.Fsgid,
		AUID: h.Auid, AuditSession: h.Ses, CapEffective: r.CapEffective, CapPermitted: r.CapPermitted,
		CgroupID: h.CgroupId, SID: h.Sid, NetNS: h.Netns, MntNS: h.Mntns, PIDNS: r.Pidns, NSPID: r.Nspid,
		IsKworker: has(procRecProcFlagRP_KTHREAD), Source: "runtime",
		CWD: d.path(str(b, r.Cwd)), Cgroup: in.path, ContainerID: in.container, CgroupManager: in.manager, CgroupVersion: 2,
	}
	if has(procRecProcFlagRP_CGROUP_V1) {
		p.CgroupVersion = 1
	}

	switch rec.kind {
	case procRecKindREC_FORK:
		p.IsThread = true
		ev := d.event(event.KindFork, h)
		ev.PID, ev.TID, ev.StartNS = r.Creator, r.OldTid, r.CreatorStart
		ev.Fork = &event.Fork{Child: p}
		rec.ev = ev
		return true
	case procRecKindREC_SNAPSHOT:
		p.Source = "snapshot"
		p.CreatedAt = int64(h.Start) + d.offset
		p.File = d.file(b, &r.Exe)
		p.IsExec = p.File.Path != ""
		rec.snap, rec.parent, rec.parentStart = p, r.Creator, r.CreatorStart
		return true
	}
	p.IsExec, p.ExecTime = true, p.CreatedAt
	p.File = d.file(b, &r.Exe)
	p.AllArgs, p.ArgsTruncated = strs(str(b, r.Args), int(r.Argc), has(procRecProcFlagRP_ARGS_TRUNCATED))
	p.AllArgs = scrub.Args(p.AllArgs)
	if has(procRecProcFlagRP_ARGS_UNREADABLE) {
		p.ArgsTruncated = true
	}
	d.envs(p, str(b, r.Envs), int(r.Envc), has(procRecProcFlagRP_ENVS_TRUNCATED))
	if has(procRecProcFlagRP_ENVS_UNREADABLE) {
		p.EnvsTruncated = true
	}
	ev := d.event(event.KindExec, h)
	ev.Exec = &event.Exec{Image: p, SyscallPath: d.same(str(b, r.Filename))}
	if r.Interp.Len > 0 {
		// A script: what was asked for is the file, what the kernel loaded is
		// its interpreter. The script's own object is gone by now, unless it was
		// noted before.
		p.Interpreter = p.File
		p.File = event.File{Path: execPath(p.CWD, ev.Exec.SyscallPath), PathSource: "user"}
		if r.Script.Flags&uint16(procRecFileFlagRF_PRESENT) != 0 {
			p.File = d.file(b, &r.Script)
		}
	}
	p.File.OtherPaths = otherPaths(&p.File, p.CWD, ev.Exec.SyscallPath, has(procRecProcFlagRP_CHROOTED))
	if r.Interp.Len > 0 {
		script := p.File
		p.Script = &script
	}
	rec.ev = ev
	return true
}

// strs splits NUL-terminated strings and applies the limits.
func strs(b []byte, count int, cut bool) ([]string, bool) {
	out := make([]string, 0, min(max(count, 0), maxStrings))
	// Few have much: their strings share one piece of memory.
	all := ""
	if len(b) <= maxStringLen {
		all = string(b)
	}
	for at := 0; at < len(b); {
		if len(out) == maxStrings {
			return out, true
		}
		n := bytes.IndexByte(b[at:], 0)
		next := at + n + 1
		if n < 0 {
			n, next = len(b)-at, len(b)
		}
		if n > maxStringLen {
			n, cut = maxStringLen, true
		}
		if all != "" {
			out = append(out, all[at:at+n])
		} else {
			out = append(out, string(b[at:at+n]))
		}
		at = next
	}
	return out, cut
}

// envs keeps the names of all variables and the values of those allowed.
// An environment is what is kept of one. Processes share it; nobody may change
// it.
type environment struct {
	envs, envp []string
	cut        bool
}

// Bounds of the environments remembered: together at most 2 MiB of theirs.
const (
	maxEnvironments = 256
	maxEnvironment  = 8 << 10
)

func (d *decoder) envs(p *event.Process, b []byte, count int, cut bool) {
	e, ok := d.environments[string(b)]
	if !ok {
		e = d.environment(b, count)
		if len(b) <= maxEnvironment {
			if len(d.environments) >= maxEnvironments {
				clear(d.environments)
			}
			d.environments[string(b)] = e
		}
	}
	p.Envs, p.Envp, p.EnvsTruncated = e.envs, e.envp, cut || e.cut
}

// environment reads NAME=value strings, each ended by a NUL.
func (d *decoder) environment(b []byte, count int) (e environment) {
	e.envs = make([]string, 0, min(max(count, 0), maxStrings))
	for len(b) > 0 {
		if len(e.envs) == maxStrings {
			e.cut = true
			break
		}
		n := bytes.IndexByte(b, 0)
		next := n + 1
		if n < 0 {
			n, next = len(b), len(b)
		}
		s := b[:n]
		b = b[next:]
		if len(s) > maxStringLen {
			s, e.cut = s[:maxStringLen], true
		}
		name, _, found := bytes.Cut(s, []byte{'='})
		if !found || len(name) == 0 {
			continue
		}
		e.envs = append(e.envs, d.same(name))
		if d.allow[string(name)] {
			e.envp = append(e.envp, scrub.Env(string(s)))
		}
	}
	e.envs, e.envp = slices.Clip(e.envs), slices.Clip(e.envp)
	return e
}

func (d *decoder) exit(rec *record, b []byte) bool {
	r, ok := fill[procRecExit](b)
	if !ok {
		return false
	}
	e := &event.Exit{Code: int64(r.Code >> 8 & 0xff)}
	if sig := r.Code & 0x7f; sig != 0 {
		e.Cause, e.Code = 2, int64(sig)
		if r.Code&0x80 != 0 {
			e.Cause = 1
		}
	}
	rec.ev = d.event(event.KindExit, &r.Hdr)
	rec.ev.Exit = e
	return true
}

// cred makes setuid, setgid or capset of a change; one system call changes one
// of them, and a change of ids may change capabilities, too.
func (d *decoder) cred(rec *record, b []byte) bool {
	r, ok := fill[procRecCred](b)
	if !ok {
		return false
	}
	x, y := &r.Before, &r.After
	if x.Uid != y.Uid || x.Euid != y.Euid || x.Suid != y.Suid || x.Fsuid != y.Fsuid {
		rec.ev = d.event(event.KindSetuid, &r.Hdr)
		rec.ev.Setuid = &event.Setuid{
			UID: y.Uid, EUID: y.Euid, FSUID: y.Fsuid, CapEffective: y.CapEffective, CapPermitted: y.CapPermitted,
		}
		return true
	}
	if x.Gid == y.Gid && x.Egid == y.Egid && x.Sgid == y.Sgid && x.Fsgid == y.Fsgid {
		rec.ev = d.event(event.KindCapset, &r.Hdr)
		rec.ev.Capset = &event.Capset{CapEffective: y.CapEffective, CapPermitted: y.CapPermitted}
		return true
	}
	rec.ev = d.event(event.KindSetgid, &r.Hdr)
	rec.ev.Setgid = &event.Setgid{GID: y.Gid, EGID: y.Egid, FSGID: y.Fsgid}
	return true
}

func (d *decoder) cgroup(rec *record, b []byte) bool {
	r, ok := fill[procRecCgroup](b)
	if !ok {
		return false
	}
	path := d.path(str(b, r.Path))
	rec.ev = d.event(event.KindCgroupWrite, &r.Hdr)
	rec.ev.CgroupWrite = &event.CgroupWrite{
		File: event.File{Path: path, Inode: r.Node, Filesystem: "cgroup2", Mode: 0o40755, PathSource: "kernel"},
		PID:  r.Tgid, Cgroup: path, CgroupID: r.Node, MovedStartNS: r.Start,
	}
	if r.Flags&uint32(procRecProcFlagRP_CGROUP_V1) != 0 {
		rec.ev.CgroupWrite.File.Filesystem = "cgroup"
	}
	if r.Flags&uint32(procRecProcFlagRP_CGROUP_TRUNCATED) != 0 {
		rec.ev.Flags |= event.FlagPathCut
	}
	return true
}

func (d *decoder) fileop(rec *record, b []byte) bool {
	r, ok := fill[procRecFileop](b)
	if !ok {
		return false
	}
	op := func(f procRecOpFlag) bool { return r.Opflags&uint32(f) != 0 }
	given, given2 := string(str(b, r.Arg)), string(str(b, r.Arg2))
	file := d.file(b, &r.File)
	file2 := d.file(b, &r.File2)
	if r.File.Flags&uint16(procRecFileFlagRF_PRESENT) == 0 && given != "" {
		at := userPath{d.path(str(b, r.Dir)), given, op(procRecOpFlagRO_OWN_LINK), r.Hdr.Tgid}
		file, rec.raw = event.File{Path: at.String(), PathSource: "user"}, at.raw()
	}
	if r.File2.Flags&uint16(procRecFileFlagRF_PRESENT) == 0 && given2 != "" && rec.kind != procRecKindREC_SYMLINK {
		at := userPath{d.path(str(b, r.Dir2)), given2, op(procRecOpFlagRO_OWN_LINK2), r.Hdr.Tgid}
		file2, rec.raw2 = event.File{Path: at.String(), PathSource: "user"}, at.raw()
	}
	ret := int64(r.Retval)
	var ev *event.Event
	switch rec.kind {
	case procRecKindREC_OPEN:
		ev = d.event(event.KindOpen, &r.Hdr)
		ev.Open = &event.Open{
			File: file, Flags: int64(r.Flags), DestinationMode: int64(r.Mode), SyscallPath: given, Retval: ret,
			Created: op(procRecOpFlagRO_CREATED),
		}
	case procRecKindREC_TRUNCATE:
		ev = d.event(event.KindOpen, &r.Hdr)
		ev.Open = &event.Open{File: file, Flags: int64(r.Flags), SyscallPath: given, Retval: ret}
	case procRecKindREC_UNLINK:
		ev = d.event(event.KindUnlink, &r.Hdr)
		ev.Unlink = &event.Unlink{
			File: file, Flags: int64(r.Flags), SyscallPath: given, SyscallDirfd: int64(r.Dirfd), Retval: ret,
		}
	case procRecKindREC_RMDIR:
		ev = d.event(event.KindRmdir, &r.Hdr)
		ev.Rmdir = &event.Rmdir{File: file, SyscallPath: given, Retval: ret}
	case procRecKindREC_MKDIR:
		ev = d.event(event.KindMkdir, &r.Hdr)
		ev.Mkdir = &event.Mkdir{File: file, DestinationMode: int64(r.Mode), SyscallPath: given, Retval: ret}
	case procRecKindREC_RENAME:
		ev = d.event(event.KindRename, &r.Hdr)
		ev.Rename = &event.Rename{
			File: file, Destination: file2, SyscallPath: given, SyscallDestinationPath: given2, Retval: ret,
		}
	case procRecKindREC_CHMOD:
		ev = d.event(event.KindChmod, &r.Hdr)
		ev.Chmod = &event.Chmod{
			File: file, DestinationMode: int64(r.Mode & 0o7777), SyscallPath: given, SyscallMode: int64(r.Mode), Retval: ret,
		}
	case procRecKindREC_CHOWN:
		ev = d.event(event.KindChown, &r.Hdr)
		uid, gid := int64(int32(r.Uid)), int64(int32(r.Gid))
		ev.Chown = &event.Chown{
			File: file, DestinationUID: uid, DestinationGID: gid, SyscallUID: uid, SyscallGID: gid, SyscallPath: given,
			Retval: ret,
		}
	case procRecKindREC_LINK:
		ev = d.event(event.KindLink, &r.Hdr)
		ev.Link = &event.Link{
			File: file, Destination: file2, SyscallPath: given, SyscallDestinationPath: given2, Retval: ret,
		}
	case procRecKindREC_SYMLINK:
		ev = d.event(event.KindSymlink, &r.Hdr)
		ev.Symlink = &event.Symlink{File: file, Target: given2, Retval: ret}
	default:
		return false
	}
	if op(procRecOpFlagRO_PATH_USER) {
		ev.Flags |= event.FlagPathUser
	}
	if op(procRecOpFlagRO_CHANGED) {
		ev.Flags |= event.FlagPathChanged
	}
	if op(procRecOpFlagRO_UNREADABLE) {
		ev.Flags |= event.FlagPathChanged
	}
	if file.Path == "" || file.PathSource == "user" && elsewhere(file.Path) {
		ev.Flags |= event.FlagPathUnknown
	}
	if op(procRecOpFlagRO_TRUNCATED) || r.File.Flags&uint16(procRecFileFlagRF_TRUNCATED) != 0 {
		ev.Flags |= event.FlagPathCut
	}
	rec.nofollow = r.Flags&unix.AT_SYMLINK_NOFOLLOW != 0
	rec.ev = ev
	return true
}

const afUnix, afInet6 = 1, 10

func address(family uint16, raw *[16]uint8, port uint16) event.Address {
	a := event.Address{Family: int64(family), Port: uint32(port)}
	if family == afInet6 {
		a.IP = netip.AddrFrom16(*raw).Unmap()
	} else {
		a.IP = netip.AddrFrom4([4]byte(raw[:4]))
	}
	return a
}

func (d *decoder) net(rec *record, b []byte) bool {
	r, ok := fill[procRecNet](b)
	if !ok {
		return false
	}
	var local, peer event.Address
	if r.Family == afUnix {
		path := string(str(b, r.Path))
		if r.Pad != 0 {
			path = "@" + path
		}
		peer = event.Address{Family: afUnix, UnixPath: path}
		local = peer
	} else {
		local, peer = address(r.Family, &r.Laddr, r.Lport), address(r.Family, &r.Raddr, r.Rport)
	}
	switch rec.kind {
	case procRecKindREC_CONNECT:
		rec.ev = d.event(event.KindConnect, &r.Hdr)
		rec.ev.Connect = &event.Connect{Addr: peer, Protocol: int64(r.Protocol), Retval: int64(r.Retval)}
	case procRecKindREC_ACCEPT:
		rec.ev = d.event(event.KindAccept, &r.Hdr)
		rec.ev.Accept = &event.Accept{Addr: peer, Local: local, Retval: int64(r.Retval)}
	default:
		rec.ev = d.event(event.KindBind, &r.Hdr)
		rec.ev.Bind = &event.Bind{Addr: local, Protocol: int64(r.Protocol), Retval: int64(r.Retval)}
	}
	return true
}
