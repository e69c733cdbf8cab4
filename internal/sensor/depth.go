//go:build linux && (amd64 || arm64)

package sensor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"golang.org/x/sys/unix"
)

const (
	// walkPasses bounds the walks over living processes: each finds at least
	// the children of those that the one before found.
	walkPasses = 8
	// strayNS is how long a hint may be in the kernel's table before it is known
	// here: the fork that made it is on its way.
	strayNS = 2e9
)

// SetDepth says which processes are hot: their events leave the kernel whole,
// and so do those of their children, see kfilter.Deep. It replaces what was said
// before. What the flight recorder knows of the new ones comes as events with
// event.FlagRecorded, after a Depth record. It never waits, and is to be called
// by the stream's sink: tasks are complete as of the record that it was given.
func (s *Sensor) SetDepth(tasks []kfilter.Task) {
	s.newDepth.Store(&tasks)
}

// depths are the hints that are in the kernel, as far as the stream has come.
type depths struct {
	k        *kernel
	log      *flightLog
	hinted   map[procKey]bool
	recorded map[procKey]uint64 // until when the flight recorder was read for it
	on       bool
}

func newDepths(k *kernel) (*depths, error) {
	log, err := newFlightLog(k.maps[procMapRecorder])
	if err != nil {
		return nil, fmt.Errorf("map flight recorder: %w", err)
	}
	return &depths{k: k, log: log, hinted: make(map[procKey]bool), recorded: make(map[procKey]uint64)}, nil
}

// Close gives the memory back.
func (d *depths) Close() error { return d.log.Close() }

// state switches hints on or off as a whole. Nobody born before since is found
// by a walk: who was to be hot of them is known.
func (d *depths) state(on bool, since uint64) error {
	st := d.k.depthState
	st.Since = since
	if on {
		st.Hints = 1
	}
	if err := d.k.maps[procMapDepthState].Put(uint32(0), st); err != nil {
		return fmt.Errorf("write depth state: %w", err)
	}
	d.on = on
	return nil
}

func hintKey(k procKey) procProcKey { return procProcKey{Start: k.start, Tgid: k.pid} }

// set makes tasks, and no others, hot. released is the time up to which the
// stream has been passed on: processes born later may not be known to whoever
// chose the tasks.
//
// A child that is born meanwhile cannot escape: its parent is hinted at first,
// from then on the kernel copies the hint at each fork, before the child runs;
// children that were born before and are not known yet are found by the walk
// that follows, which is repeated until it finds nobody.
func (d *depths) set(tasks []kfilter.Task, released uint64) (*event.Depth, []kfilter.Task, error) {
	rec := &event.Depth{}
	want := make(map[procKey]bool, len(tasks))
	var fresh []kfilter.Task
	var hint []procKey
	for _, t := range tasks {
		key := procKey{t.PID, t.StartNS}
		if !t.Ended {
			want[key] = true
			if !d.hinted[key] {
				hint = append(hint, key)
			}
		}
		if !d.hinted[key] {
			fresh = append(fresh, t)
		}
	}
	if len(hint) > 0 {
		if err := d.state(true, released); err != nil {
			return nil, nil, err
		}
	}
	m := d.k.maps[procMapDepths]
	for _, key := range hint {
		switch err := m.Put(hintKey(key), uint32(1)); {
		case errors.Is(err, unix.E2BIG):
			rec.Missed++ // the table is full
			continue
		case err != nil:
			return nil, nil, fmt.Errorf("write depth hint: %w", err)
		}
		d.hinted[key] = true
		rec.Set++
	}
	if len(hint) > 0 {
		n, err := d.walk()
		if err != nil {
			// The children's forks are on the ring, and follow.
			d.k.log.Debug("living descendants are not looked for", "err", err)
		}
		rec.Set += n
	}
	for key := range d.hinted {
		if want[key] || key.start > released {
			continue
		}
		if err := d.clear(key); err != nil {
			return nil, nil, err
		}
		rec.Cleared++
	}
	if len(d.hinted) == 0 && d.on {
		if err := d.state(false, 0); err != nil {
			return nil, nil, err
		}
	}
	rec.Processes = uint64(len(d.hinted))
	return rec, fresh, nil
}

func (d *depths) clear(key procKey) error {
	delete(d.hinted, key)
	err := d.k.maps[procMapDepths].Delete(hintKey(key))
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("clear depth hint: %w", err)
	}
	return nil
}

// walk lets the kernel hint at the living children of those that have a hint,
// until there are none.
func (d *depths) walk() (found uint64, err error) {
	if err := d.k.load(map[string][]string{"proc": {procProgOnDeepen}}); err != nil {
		return 0, err
	}
	it, err := link.AttachIter(link.IterOptions{Program: d.k.progs["proc/"+procProgOnDeepen]})
	if err != nil {
		return 0, fmt.Errorf("attach task iterator: %w", err)
	}
	defer it.Close()
	for range walkPasses {
		keys, err := d.pass(it)
		if err != nil {
			return found, err
		}
		if len(keys) == 0 {
			break
		}
		for _, key := range keys {
			d.hinted[key] = true
		}
		found += uint64(len(keys))
	}
	return found, nil
}

func (d *depths) pass(it *link.Iter) ([]procKey, error) {
	r, err := it.Open()
	if err != nil {
		return nil, fmt.Errorf("open task iterator: %w", err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read task iterator: %w", err)
	}
	var keys []procKey
	for ; len(b) >= 16; b = b[16:] { // struct proc_key
		keys = append(keys, procKey{start: binary.LittleEndian.Uint64(b), pid: binary.LittleEndian.Uint32(b[8:])})
	}
	return keys, nil
}

// follow keeps the books on births and deaths as the stream tells of them. The
// kernel has done the same already, except for children that were born before
// their parent got its hint and have lost that parent since: a walk does not
// find them.
func (d *depths) follow(e *event.Event) error {
	if len(d.hinted) == 0 {
		return nil
	}
	switch {
	case e.Fork != nil && e.Fork.Child != nil && d.hinted[procKey{e.PID, e.StartNS}]:
		key := procKey{e.Fork.Child.PID, e.Fork.Child.StartNS}
		if d.hinted[key] {
			return nil
		}
		// It may have ended: its exit is behind this record, and clears it.
		switch err := d.k.maps[procMapDepths].Put(hintKey(key), uint32(1)); {
		case errors.Is(err, unix.E2BIG):
			return nil // counted by the kernel
		case err != nil:
			return fmt.Errorf("write depth hint: %w", err)
		}
		d.hinted[key] = true
	case e.Exit != nil && d.hinted[procKey{e.PID, e.StartNS}]:
		return d.clear(procKey{e.PID, e.StartNS})
	}
	return nil
}

// reconcile takes away hints that nobody knows of: a fork that was on its way
// while its parent's hint was taken back has copied it all the same.
func (d *depths) reconcile(now uint64) error {
	if !d.on {
		return nil
	}
	var key procProcKey
	var level uint32
	var stray []procKey
	it := d.k.maps[procMapDepths].Iterate()
	for it.Next(&key, &level) {
		k := procKey{key.Tgid, key.Start}
		if !d.hinted[k] && k.start+strayNS < now {
			stray = append(stray, k)
		}
	}
	// An iteration that a change cut short is taken up in a second.
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("read depth hints: %w", err)
	}
	for _, k := range stray {
		if err := d.clear(k); err != nil {
			return err
		}
	}
	return nil
}

// depth does what SetDepth asked for, and puts into the stream what follows.
func (st *stream) depth() error {
	s := st.s
	if s.newDepth.Load() == nil || st.depths == nil {
		return nil
	}
	tasks := s.newDepth.Swap(nil)
	rec, fresh, err := st.depths.set(*tasks, st.released)
	if err != nil {
		return fmt.Errorf("sensor: %w", err)
	}
	moments := st.depths.moments(fresh, rec)
	if rec.Set+rec.Cleared+rec.Missed+rec.Recorded == 0 {
		return nil
	}
	rec.At = clockNS(unix.CLOCK_REALTIME)
	s.cnt.Lock()
	s.deep.Hinted = rec.Processes
	s.deep.Missed += rec.Missed
	s.deep.Recorded += rec.Recorded
	s.deep.Overwritten += rec.Overwritten
	s.deep.Torn += rec.Torn
	s.cnt.Unlock()
	if err := st.put(bootNS(), &event.StreamRecord{Depth: rec}); err != nil {
		return err
	}
	for _, e := range moments {
		e.TimeNS = int64(e.BootNS) + st.dec.offset
		if err := st.put(e.BootNS, &event.StreamRecord{Event: e}); err != nil {
			return err
		}
	}
	return nil
}
