//go:build linux && (amd64 || arm64)

package sensor

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// maxRecorded bounds what is remembered of whom the flight recorder was read
// for; beyond it that starts anew, and a moment may be told twice.
const maxRecorded = 16384

// A flightLog reads the kernel's flight recorder through a mapping of it.
type flightLog struct {
	mem  []byte
	logs []procMoments
}

const (
	logMask     = 512 - 1 // RECORDER_LOGS in maps.h
	momentCount = uint64(len(procMoments{}.M))
)

func newFlightLog(m *ebpf.Map) (*flightLog, error) {
	if m == nil {
		return &flightLog{}, nil
	}
	n := int(m.MaxEntries())
	size := n * int(unsafe.Sizeof(procMoments{}))
	if m.ValueSize() != uint32(unsafe.Sizeof(procMoments{})) || n != logMask+1 {
		return nil, fmt.Errorf("%d logs of %d bytes", n, m.ValueSize())
	}
	page := os.Getpagesize()
	mem, err := unix.Mmap(m.FD(), 0, (size+page-1)&^(page-1), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &flightLog{mem: mem, logs: unsafe.Slice((*procMoments)(unsafe.Pointer(&mem[0])), n)}, nil
}

// Close gives the memory back.
func (l *flightLog) Close() error {
	if l.mem == nil {
		return nil
	}
	l.logs = nil
	return unix.Munmap(l.mem)
}

// moments reads what the recorder has of tasks, oldest first, and adds to rec
// what there was.
func (d *depths) moments(tasks []kfilter.Task, rec *event.Depth) []*event.Event {
	if len(d.log.logs) == 0 || len(tasks) == 0 {
		return nil
	}
	if len(d.recorded) > maxRecorded {
		clear(d.recorded)
	}
	now := bootNS()
	whose := make(map[procKey]uint64, len(tasks))
	logs := make(map[uint32]bool)
	var order []uint32
	for _, t := range tasks {
		key := procKey{t.PID, t.StartNS}
		whose[key] = d.recorded[key]
		d.recorded[key] = now
		at := t.Session & logMask
		if !logs[at] {
			logs[at] = true
			order = append(order, at)
		}
	}
	var out []*event.Event
	for _, at := range order {
		log := &d.log.logs[at]
		n := atomic.LoadUint64(&log.N)
		if n > momentCount {
			rec.Overwritten += n - momentCount
		}
		for i := range min(n, momentCount) {
			m := log.M[i] // a copy: the kernel goes on
			if m.Sum != m.Ts^m.Start^m.Dentry^(uint64(m.Tgid)<<32|uint64(m.Sid))^uint64(m.Flags) {
				rec.Torn++
				continue
			}
			until, ours := whose[procKey{m.Tgid, m.Start}]
			if !ours || m.Ts <= until {
				continue
			}
			out = append(out, moment(&m))
		}
	}
	slices.SortStableFunc(out, func(a, b *event.Event) int { return cmp.Compare(a.BootNS, b.BootNS) })
	rec.Recorded = uint64(len(out))
	return out
}

// moment is an open as the recorder knows it: by whom, when, and the last name
// of the file.
func moment(m *procMoment) *event.Event {
	name := make([]byte, len(m.Name))
	for i, c := range m.Name {
		name[i] = byte(c)
	}
	flags := event.FlagRecorded
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	} else {
		flags |= event.FlagPathCut
	}
	return &event.Event{
		Kind: event.KindOpen, BootNS: m.Ts, PID: m.Tgid, TID: m.Tgid, StartNS: m.Start, Flags: flags,
		Open: &event.Open{Flags: int64(m.Flags), File: event.File{Path: string(name), PathSource: "recorder"}},
	}
}
