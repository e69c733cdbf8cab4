//go:build linux && (amd64 || arm64)

package sensor

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cilium/ebpf/link"

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
	if err := k.load(map[string][]string{"proc": {procProgOnTask}}); err != nil {
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
	for _, r := range out {
		d.fromProc(r.snap)
	}
	slices.SortFunc(out, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.snap.StartNS, b.snap.StartNS), cmp.Compare(a.snap.PID, b.snap.PID))
	})
	return out, nil
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

// fromProc adds what the iterator cannot read.
func (d *decoder) fromProc(p *event.Process) {
	if p.IsKworker {
		return
	}
	dir := filepath.Join("/proc", strconv.FormatUint(uint64(p.PID), 10))
	args, argsCut := readLimited(filepath.Join(dir, "cmdline"), 16384)
	envs, envsCut := readLimited(filepath.Join(dir, "environ"), 16384)
	if exe, err := os.Stat(filepath.Join(dir, "exe")); err != nil || inode(exe) != p.File.Inode {
		return // gone, or another image by now: its exec is in the stream
	}
	p.AllArgs, p.ArgsTruncated = strs(args, maxStrings, argsCut)
	p.AllArgs = scrub.Args(p.AllArgs)
	d.envs(p, envs, maxStrings, envsCut)
}
