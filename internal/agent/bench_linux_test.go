package agent

import (
	"log/slog"
	"syscall"
	"testing"

	"github.com/clewsec/clew/internal/agent/spool"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/schema"
)

// BenchmarkSpawn is what a small program costs the agent after decode: its
// fork, exec and exit through the pipeline with the shipped rules, into the
// spool and onto the disk, sixty to a batch.
func BenchmarkSpawn(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	rules, err := loadRules(ruleset.Facts{CORE: true}, nil, log)
	if err != nil {
		b.Fatal(err)
	}
	pipe, err := pipeline.New(rules.pipeline)
	if err != nil {
		b.Fatal(err)
	}
	sp, err := spool.Open(spool.Config{Dir: b.TempDir(), AgentID: hostID, Run: 1, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	defer sp.Close()
	seq, written := uint64(0), 0
	push := func(rec *event.StreamRecord) {
		seq++
		rec.Seq = seq
		err := pipe.Push(rec, func(rec *event.SpoolRecord) error {
			written++
			sp.Append(rec)
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	const offset = 1_700_000_000_000_000_000
	push(&event.StreamRecord{BootNS: 1e9, RunStart: &event.RunStart{
		Run: 1, Seed: make([]byte, 32), HostID: hostID, BootID: "boot", Schema: schema.Version, OffsetNS: offset, At: offset + 1e9,
	}})
	file := func(path string, inode uint64) event.File {
		return event.File{
			Path: path, Filesystem: "ext4", Inode: inode, MountID: 29, Dev: 0x800001, Mode: 0o100755, Links: 1, PathSource: "kernel",
			ChangeTime: offset - 1e15, ModificationTime: offset - 1e16,
		}
	}
	bash := event.Process{
		PID: 4711, TID: 4711, PPID: 1, StartNS: 1000, Comm: "bash", AUID: ^uint32(0), AuditSession: ^uint32(0), SID: 4711,
		Cgroup: "/user.slice/user-1000.slice/session-3.scope", CgroupID: 4242, CgroupVersion: 2, CgroupManager: "systemd",
		NetNS: 4026531840, MntNS: 4026531841, PIDNS: 4026531836, CWD: "/home/alice", File: file("/usr/bin/bash", 1233),
		AllArgs: []string{"bash"}, Source: "snapshot", IsExec: true,
		Envs: []string{"SHELL", "PWD", "LOGNAME", "HOME", "LANG", "TERM", "USER", "SHLVL", "PATH", "_", "LS_COLORS"},
		Envp: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "TERM=xterm-256color", "LANG=C.UTF-8"},
	}
	push(&event.StreamRecord{BootNS: 1e9, Snapshot: &event.Process{PID: 1, TID: 1, StartNS: 1, Comm: "init", Source: "snapshot", IsExec: true, File: file("/usr/lib/systemd/systemd", 1)}})
	shell := bash
	push(&event.StreamRecord{BootNS: 1e9, Snapshot: &shell})
	push(&event.StreamRecord{BootNS: 1e9, SnapshotEnd: &event.SnapshotEnd{Processes: 2}})

	boot, pid := uint64(2e9), uint32(10000)
	b.ReportAllocs()
	// On a busy machine the time on the clock says little: CPU time, the
	// collector's included, is reported beside it.
	cpu := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	used := cpu()
	written = 0
	spawns := 0
	for b.Loop() {
		// A thousand a second, as a shell's loop makes them.
		boot += 1e6
		if pid++; pid == 30000 {
			pid = 10000
		}
		child := bash
		child.PID, child.TID, child.PPID, child.StartNS, child.NSPID = pid, pid, 4711, boot, pid
		child.AllArgs, child.Envs, child.Envp, child.File = nil, nil, nil, event.File{}
		image := bash
		image.PID, image.TID, image.PPID, image.StartNS, image.NSPID = pid, pid, 4711, boot, pid
		image.Comm, image.File, image.AllArgs = "true", file("/usr/bin/true", 1234), []string{"/bin/true"}
		push(&event.StreamRecord{BootNS: boot, Event: &event.Event{
			Kind: event.KindFork, BootNS: boot, PID: 4711, TID: 4711, StartNS: 1000, Fork: &event.Fork{Child: &child},
		}})
		push(&event.StreamRecord{BootNS: boot + 1e5, Event: &event.Event{
			Kind: event.KindExec, BootNS: boot + 1e5, PID: pid, TID: pid, StartNS: boot, CgroupID: 4242,
			Exec: &event.Exec{Image: &image, SyscallPath: "/bin/true"},
		}})
		push(&event.StreamRecord{BootNS: boot + 5e5, Event: &event.Event{
			Kind: event.KindExit, BootNS: boot + 5e5, PID: pid, TID: pid, StartNS: boot, CgroupID: 4242, Exit: &event.Exit{},
		}})
		if spawns++; spawns%60 == 0 {
			sp.Cut()
			for batch, err := sp.Next(); batch != nil; batch, err = sp.Next() {
				if err != nil {
					b.Fatal(err)
				}
				if err := sp.Ack(batch.Id); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.ReportMetric(float64(cpu()-used)/float64(spawns), "cpu-ns/op")
	b.ReportMetric(float64(written)/float64(spawns), "records/spawn")
}
