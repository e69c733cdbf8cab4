//go:build linux && (amd64 || arm64)

package sensor

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/sensor/scrub"
)

// maxRecord is the longest a record can be (SCRATCH_BUF).
const maxRecord = 65536

// snapshot reads every living process by an iterator of the kernel. Their
// arguments and environments lie in their own memory, where a program may not
// reach from outside; these come from /proc, and only while it still shows the
// same process.
func (k *kernel) snapshot(d *decoder) ([]record, error) {
	// With it, what looks for descendants later: reading an object takes memory.
	if err := k.load(map[string][]string{"proc": {procProgOnTask, procProgOnDeepen}}); err != nil {
		return nil, err
	}
	it, err := link.AttachIter(link.IterOptions{Program: k.progs["proc/"+procProgOnTask]})
	if err != nil {
		return nil, fmt.Errorf("attach task iterator: %w", err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return nil, fmt.Errorf("open task iterator: %w", err)
	}
	defer r.Close()
	var out []record
	in := bufio.NewReaderSize(r, 2*maxRecord)
	for {
		head, err := in.Peek(8)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read task iterator: %w", err)
		}
		n := int(binary.LittleEndian.Uint32(head[4:]))
		if n < 8 || n > maxRecord {
			return nil, fmt.Errorf("read task iterator: %w", errRecord)
		}
		b, err := in.Peek(n)
		if err != nil {
			return nil, fmt.Errorf("read task iterator: %w", err)
		}
		rec, err := d.decode(b)
		if err != nil {
			return nil, fmt.Errorf("read task iterator: %w", err)
		}
		if rec.snap != nil {
			out = append(out, rec)
		}
		if _, err := in.Discard(n); err != nil {
			return nil, fmt.Errorf("read task iterator: %w", err)
		}
	}
	out = append(out, d.hidden(out)...)
	for _, r := range out {
		d.fromProc(r.snap, slow)
	}
	slices.SortFunc(out, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.snap.StartNS, b.snap.StartNS), cmp.Compare(a.snap.PID, b.snap.PID))
	})
	return out, nil
}

// hidden finds processes that /proc shows and the iterator does not: some
// kernels keep pid 1 from it. Less is known of them. Their start is taken from
// what a child says of its parent, since /proc tells it in ticks only.
func (d *decoder) hidden(seen []record) (out []record) {
	known := make(map[uint32]bool, len(seen))
	starts := make(map[uint32]uint64)
	for _, r := range seen {
		known[r.snap.PID] = true
		starts[r.parent] = r.parentStart
	}
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	now := bootNS()
	for _, e := range dirs {
		n, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil || known[uint32(n)] {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		stat, _ := readLimited(filepath.Join(dir, "stat"), 4096)
		open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		fields := bytes.Fields(stat[end+1:])
		if open < 0 || end < open || len(fields) < 20 {
			continue // gone
		}
		number := func(i int) uint64 {
			v, _ := strconv.ParseUint(string(fields[i]), 10, 64)
			return v
		}
		p := &event.Process{
			PID: uint32(n), TID: uint32(n), PPID: uint32(number(1)), SID: uint32(number(3)), NSPID: uint32(n),
			Comm: string(stat[open+1 : end]), StartNS: number(19) * 1e7, Source: "snapshot",
			AUID: ^uint32(0), AuditSession: ^uint32(0), Cgroup: "/", CgroupVersion: 2,
		}
		if start, ok := starts[p.PID]; ok {
			p.StartNS = start
		}
		if p.StartNS+1e9 > now {
			continue // just born: its fork is in the stream, and says when
		}
		p.CreatedAt = int64(p.StartNS) + d.offset
		if exe, err := os.Readlink(filepath.Join(dir, "exe")); err == nil {
			p.File = event.File{Path: exe, PathSource: "kernel"}
			p.File.Inode = exeInode(dir)
		}
		p.IsExec = p.File.Path != ""
		status, _ := readLimited(filepath.Join(dir, "status"), 8192)
		for line := range bytes.Lines(status) {
			name, rest, _ := bytes.Cut(line, []byte(":"))
			ids := bytes.Fields(rest)
			id := func(i int) uint32 {
				v, _ := strconv.ParseUint(string(ids[i]), 10, 32)
				return uint32(v)
			}
			switch {
			case string(name) == "Uid" && len(ids) == 4:
				p.UID, p.EUID, p.FSUID = id(0), id(1), id(3)
			case string(name) == "Gid" && len(ids) == 4:
				p.GID, p.EGID, p.FSGID = id(0), id(1), id(3)
			}
		}
		out = append(out, record{ts: now, kind: procRecKindREC_SNAPSHOT, snap: p})
	}
	return out
}

// readLimited reads at most n bytes of a file; cut tells that there were more.
func readLimited(name string, n int64) (b []byte, cut bool) {
	f, err := os.Open(name)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	b, err = io.ReadAll(io.LimitReader(f, n+1))
	if err != nil {
		return nil, false
	}
	if int64(len(b)) > n {
		return b[:n], true
	}
	return b, false
}

// slow is how long /proc may take for one process. Its memory may be backed by
// a file system that somebody runs in user space, who can make a reader wait.
const slow = time.Second

// fromProc adds what the iterator cannot read.
func (d *decoder) fromProc(p *event.Process, patience time.Duration) {
	if p.IsKworker {
		return
	}
	type memory struct {
		args, envs       []byte
		argsCut, envsCut bool
	}
	dir := filepath.Join("/proc", strconv.FormatUint(uint64(p.PID), 10))
	want := p.File.Inode
	got := make(chan *memory, 1)
	go func() {
		m := new(memory)
		m.args, m.argsCut = readLimited(filepath.Join(dir, "cmdline"), 16384)
		m.envs, m.envsCut = readLimited(filepath.Join(dir, "environ"), 16384)
		if exeInode(dir) != want {
			m = nil // gone, or another image by now: its exec is in the stream
		}
		got <- m
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case m := <-got:
		if m == nil {
			return
		}
		p.AllArgs, p.ArgsTruncated = strs(m.args, maxStrings, m.argsCut)
		p.AllArgs = scrub.Args(p.AllArgs)
		d.envs(p, m.envs, maxStrings, m.envsCut)
	case <-timer.C:
		p.ArgsTruncated, p.EnvsTruncated = true, true
	}
}

// exeInode is the inode of a process's executable, 0 if that is not known. It
// asks no file system.
func exeInode(dir string) uint64 {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, filepath.Join(dir, "exe"), unix.AT_STATX_DONT_SYNC, unix.STATX_INO|unix.STATX_MODE, &st); err != nil {
		return 0
	}
	return st.Ino
}
