//go:build linux && (amd64 || arm64)

package sensor

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
)

// spawnRecords are what the kernel tells of a shell that runs a small program:
// fork, exec, exit.
func spawnRecords() [3][]byte {
	header := func(h *procRecHdr, comm string) {
		h.Ts, h.Start, h.Tgid, h.Tid, h.Ppid = 3_600_000_000_000, 3_599_999_000_000, 70123, 70123, 4711
		h.Auid, h.Ses, h.Sid, h.CgroupId = ^uint32(0), ^uint32(0), 4000, 4242
		h.Netns, h.Mntns = 4026531840, 4026531841
		for i := range len(comm) {
			h.Comm[i] = int8(comm[i])
		}
	}
	// Names lie leaf first.
	const cgroup = "session-3.scope\x00user-1000.slice\x00user.slice\x00"
	const home = "clew\x00src\x00alice\x00home\x00"

	var fork procRecProc
	header(&fork.Hdr, "bash")
	fork.Creator, fork.CreatorStart, fork.OldTid, fork.Pidns, fork.Nspid = 4711, 1_000_000, 4711, 4026531836, 70123
	used := 0
	fork.Cwd = at[procRecProc](home, &used)
	fork.Cgroup = at[procRecProc](cgroup, &used)
	f := newPack(&fork)
	f.b = append(f.b, home+cgroup...)

	exec := fork
	header(&exec.Hdr, "true")
	env := []string{
		"SHELL=/bin/bash", "PWD=/home/alice/src/clew", "LOGNAME=alice", "HOME=/home/alice", "LANG=C.UTF-8", "TERM=xterm-256color",
		"USER=alice", "SHLVL=2", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games", "_=/bin/true",
		"LS_COLORS=" + strings.Repeat("*.tar=01;31:", 60),
	}
	tail := []string{"true\x00bin\x00usr\x00", cgroup, "/bin/true", home, "/bin/true\x00", strings.Join(env, "\x00") + "\x00"}
	used = 0
	exec.Exe = procRecFile{
		Inode: 123456, Mode: 0o100755, Flags: uint16(procRecFileFlagRF_PRESENT), MntId: 29, Dev: 0x800001, Links: 1,
		Ctime: 1_700_000_000_000_000_000, Mtime: 1_690_000_000_000_000_000,
	}
	copy(exec.Exe.Fs[:], []int8{'e', 'x', 't', '4'})
	exec.Exe.Path = at[procRecProc](tail[0], &used)
	exec.Cgroup = at[procRecProc](tail[1], &used)
	exec.Filename = at[procRecProc](tail[2], &used)
	exec.Cwd = at[procRecProc](tail[3], &used)
	exec.Args = at[procRecProc](tail[4], &used)
	exec.Envs = at[procRecProc](tail[5], &used)
	exec.Argc, exec.Envc = 1, uint32(len(env))
	e := newPack(&exec)
	e.b = append(e.b, strings.Join(tail, "")...)

	var exit procRecExit
	header(&exit.Hdr, "true")
	return [3][]byte{f.done(procRecKindREC_FORK), e.done(procRecKindREC_EXEC), newPack(&exit).done(procRecKindREC_EXIT)}
}

// cpuTime makes a benchmark report CPU time, collector included, beside the
// time on the clock, which on a busy machine says little.
func cpuTime(b *testing.B) func() {
	used := func() int64 {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	from := used()
	return func() { b.ReportMetric(float64(used()-from)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkDecodeSpawn: a fork, an exec and an exit, from the kernel's records to
// events.
func BenchmarkDecodeSpawn(b *testing.B) {
	recs := spawnRecords()
	d := newDecoder(nil)
	b.ReportAllocs()
	defer cpuTime(b)()
	for b.Loop() {
		for _, r := range recs {
			if _, err := d.decode(r); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkTakeSpawn adds what is done with them until they leave the sensor, in
// order of time.
func BenchmarkTakeSpawn(b *testing.B) {
	recs := spawnRecords()
	s, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	st := &stream{s: s, dec: newDecoder(nil), sink: func(*event.StreamRecord) error { return nil }}
	b.ReportAllocs()
	defer cpuTime(b)()
	n := 0
	for b.Loop() {
		for _, r := range recs {
			st.take(r)
		}
		if n++; n%32 == 0 {
			if err := st.release(^uint64(0)); err != nil {
				b.Fatal(err)
			}
		}
	}
}
