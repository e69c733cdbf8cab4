// Package streamtest builds streams for tests: processes that fork, execute,
// open files and connect, without a kernel.
package streamtest

import (
	"net/netip"

	"github.com/clewsec/clew/internal/event"
)

// T0 is the wall clock of the first record.
const T0 = int64(1_700_000_000_000_000_000)

// Proc is a process of the stream.
type Proc struct {
	PID   uint32
	Start uint64
	image event.Process
}

// A Builder collects records. Each step takes a millisecond.
type Builder struct {
	Records []*event.StreamRecord
	boot    uint64
	pid     uint32
	inode   uint64
	inodes  map[string]uint64
}

// New begins a stream with a run start, and pid 1 in a snapshot.
func New() (*Builder, *Proc) {
	b := &Builder{boot: 1e9, pid: 100, inode: 1000, inodes: map[string]uint64{}}
	b.add(&event.StreamRecord{RunStart: &event.RunStart{
		Run: 0x1122334455667788, Seed: make([]byte, 32), HostID: "3f1c0c3e-6e1e-4c8f-9a51-0d2b7f5f2f11", BootID: "boot", Hostname: "test-host",
		Kernel: "6.1.0", Arch: "x86_64", Mode: "replay", Schema: 1, OffsetNS: T0 - 1e9, At: T0,
	}})
	init := event.Process{PID: 1, TID: 1, StartNS: 1, Comm: "init", AllArgs: []string{"/sbin/init"}, IsExec: true, File: b.File("/sbin/init"), AUID: ^uint32(0), AuditSession: ^uint32(0), SID: 1, Cgroup: "/"}
	p := init
	b.add(&event.StreamRecord{Snapshot: &p})
	b.add(&event.StreamRecord{SnapshotEnd: &event.SnapshotEnd{Processes: 1}})
	return b, &Proc{PID: 1, Start: 1, image: init}
}

func (b *Builder) add(r *event.StreamRecord) {
	b.boot += 1e6
	r.Seq = uint64(len(b.Records) + 1)
	r.BootNS = b.boot
	if r.Event != nil {
		r.Event.BootNS = b.boot
	}
	b.Records = append(b.Records, r)
}

// Say adds an answer from outside.
func (b *Builder) Say(a *event.Answer) { b.add(&event.StreamRecord{Answer: a}) }

// Sleep lets time pass.
func (b *Builder) Sleep(ns uint64) { b.boot += ns }

// File is a regular file; the same path has the same inode.
func (b *Builder) File(path string) event.File {
	if b.inodes[path] == 0 {
		b.inode++
		b.inodes[path] = b.inode
	}
	return event.File{Path: path, Inode: b.inodes[path], Dev: 1, Mode: 0o100755, Filesystem: "ext4", PathSource: "kernel"}
}

func (b *Builder) event(p *Proc, k event.Kind, fill func(*event.Event)) *event.Event {
	ev := &event.Event{Kind: k, PID: p.PID, TID: p.PID, StartNS: p.Start, UID: p.image.UID, GID: p.image.GID, EUID: p.image.EUID}
	fill(ev)
	b.add(&event.StreamRecord{Event: ev})
	return ev
}

// Fork makes a child of p.
func (b *Builder) Fork(p *Proc) *Proc {
	b.pid++
	c := &Proc{PID: b.pid, Start: b.boot, image: p.image}
	c.image.PID, c.image.TID, c.image.PPID, c.image.StartNS = c.PID, c.PID, p.PID, c.Start
	b.event(p, event.KindFork, func(ev *event.Event) {
		ev.Fork = &event.Fork{Child: &event.Process{PID: c.PID, TID: c.PID, StartNS: c.Start, PPID: p.PID, Comm: p.image.Comm}}
	})
	return c
}

// Exec executes path with these arguments in p; change may alter the image.
func (b *Builder) Exec(p *Proc, path string, argv []string, change ...func(*event.Process)) *event.Event {
	img := p.image
	img.File = b.File(path)
	img.Comm = img.File.Name()
	img.AllArgs = append([]string{img.File.Name()}, argv...)
	for _, f := range change {
		f(&img)
	}
	p.image = img
	return b.event(p, event.KindExec, func(ev *event.Event) {
		ev.Exec = &event.Exec{Image: &img, SyscallPath: path}
	})
}

// Spawn forks and executes.
func (b *Builder) Spawn(p *Proc, path string, argv []string, change ...func(*event.Process)) *Proc {
	c := b.Fork(p)
	b.Exec(c, path, argv, change...)
	return c
}

// Setsid is a change for Exec: the image leads a session of its own.
func Setsid(p *event.Process) { p.SID = p.PID }

// Exit ends p.
func (b *Builder) Exit(p *Proc, code int64) {
	b.event(p, event.KindExit, func(ev *event.Event) { ev.Exit = &event.Exit{Code: code} })
}

// Write opens path for writing.
func (b *Builder) Write(p *Proc, path string) {
	b.event(p, event.KindOpen, func(ev *event.Event) {
		f := b.File(path)
		f.Mode = 0o100644
		ev.Open = &event.Open{File: f, Flags: 0o1101, Retval: 3, Created: true, SyscallPath: path}
	})
}

// Read opens path for reading.
func (b *Builder) Read(p *Proc, path string) {
	b.event(p, event.KindOpen, func(ev *event.Event) {
		ev.Open = &event.Open{File: b.File(path), Retval: 3, SyscallPath: path}
	})
}

// Move moves who to another control group.
func (b *Builder) Move(p, who *Proc, cgroup string) {
	b.event(p, event.KindCgroupWrite, func(ev *event.Event) {
		ev.CgroupWrite = &event.CgroupWrite{PID: who.PID, MovedStartNS: who.Start, Cgroup: cgroup}
	})
	who.image.Cgroup = cgroup
}

// Unlink removes path.
func (b *Builder) Unlink(p *Proc, path string) {
	b.event(p, event.KindUnlink, func(ev *event.Event) { ev.Unlink = &event.Unlink{File: b.File(path)} })
	delete(b.inodes, path)
}

// Chmod changes the bits of path.
func (b *Builder) Chmod(p *Proc, path string, mode int64) {
	b.event(p, event.KindChmod, func(ev *event.Event) {
		ev.Chmod = &event.Chmod{File: b.File(path), DestinationMode: mode, SyscallMode: mode, SyscallPath: path}
	})
}

// Connect connects to addr ("10.0.0.1:80").
func (b *Builder) Connect(p *Proc, addr string) {
	a := netip.MustParseAddrPort(addr)
	b.event(p, event.KindConnect, func(ev *event.Event) {
		ev.Connect = &event.Connect{Addr: event.Address{IP: a.Addr(), Port: uint32(a.Port()), Family: 2}, Protocol: 6}
	})
}

// Answer has a process get an answer from a name server, in a network
// namespace: a name has the addresses.
func (b *Builder) Answer(p *Proc, netns uint32, name string, addrs ...string) {
	b.event(p, event.KindDNS, func(ev *event.Event) {
		ev.DNS = &event.DNS{
			ID: 1, QuestionName: name, QuestionType: 1, QuestionClass: 1, QuestionSize: int64(len(name) + 6), QuestionCount: 1,
			IsResponse: true, Addresses: addrs, Network: event.Headers{DeviceNetns: netns, DeviceIfname: "eth0"},
		}
	})
}

// Mount and Umount change what is at a directory.
func (b *Builder) Mount(p *Proc, at, fs string) {
	b.event(p, event.KindMount, func(ev *event.Event) {
		ev.Mount = &event.Mount{MountpointPath: at, FSType: fs, RootPath: "/"}
	})
}

func (b *Builder) Umount(p *Proc, at string) {
	b.event(p, event.KindUmount, func(ev *event.Event) { ev.Umount = &event.Umount{MountpointPath: at} })
}

// Setxattr sets an extended attribute.
func (b *Builder) Setxattr(p *Proc, path, name string) {
	b.event(p, event.KindSetxattr, func(ev *event.Event) {
		ev.Setxattr = &event.Setxattr{File: b.File(path), DestinationName: name}
	})
}

// Lost says that events are missing.
func (b *Builder) Lost(k event.Kind, reason string, n uint64) {
	b.add(&event.StreamRecord{Lost: &event.Lost{Kind: k, Reason: reason, Count: n, Where: "kernel"}})
}
