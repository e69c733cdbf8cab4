//go:build linux && (amd64 || arm64)

package sensor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/schema"
)

// A Sensor watches the kernel. SetPlan, Canary and Stats may be called from
// any goroutine.
type Sensor struct {
	cfg Config
	log *slog.Logger

	mu     sync.Mutex // guards what follows; held while programs are loaded, so never by the reader
	k      *kernel    // nil unless running
	plan   kfilter.Plan
	closed bool
	last   Stats // after the end of Run
	rings  []*ring

	cnt      sync.Mutex    // guards what follows; held for moments only
	newPlan  *kfilter.Plan // in force and not in the stream yet
	deep     DepthStats
	decoded  [event.NumKinds]uint64
	badRecs  uint64
	unparsed uint64
	late     uint64
	canary   uint64

	newDepth atomic.Pointer[[]kfilter.Task] // asked for and not done yet
}

// New checks the configuration. It touches no kernel.
func New(cfg Config) (*Sensor, error) {
	switch cfg.Mode {
	case "":
		cfg.Mode = Auto
	case Auto, Trampoline, Tracepoint:
	default:
		return nil, fmt.Errorf("sensor: unknown mode %q", cfg.Mode)
	}
	if len(cfg.DNSPorts) > MaxDNSPorts {
		return nil, fmt.Errorf("sensor: %d ports of name servers, at most %d can be watched", len(cfg.DNSPorts), MaxDNSPorts)
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Sensor{cfg: cfg, log: log, plan: cfg.Plan}, nil
}

// SetPlan changes what the kernel lets through. While the sensor does not run
// it is kept for the start. The stream says from where on it holds.
func (s *Sensor) SetPlan(p kfilter.Plan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.k != nil {
		if err := s.k.setPlan(compilePlan(p)); err != nil {
			return fmt.Errorf("sensor: %w", err)
		}
	}
	s.plan = p
	if s.k != nil {
		s.cnt.Lock()
		s.newPlan = &p
		s.cnt.Unlock()
	}
	return nil
}

// ErrNotRunning says that the sensor has not started or has ended.
var ErrNotRunning = errors.New("sensor: not running")

// Canary sends a probe through the kernel's hooks and both rings; it comes out
// as a Canary record. The nonce must be below 2^63.
func (s *Sensor) Canary(nonce uint64) error {
	s.mu.Lock()
	running := s.k != nil
	s.mu.Unlock()
	if !running {
		return ErrNotRunning
	}
	if nonce >= 1<<63 {
		return fmt.Errorf("sensor: canary %d is too large", nonce)
	}
	// It must fail: there is no descriptor -1. The hook sees it all the same.
	if err := unix.Ftruncate(-1, int64(nonce)); !errors.Is(err, unix.EBADF) {
		return fmt.Errorf("sensor: canary: %w", err)
	}
	return nil
}

// Stats returns counters; after Run has ended, those of its end.
func (s *Sensor) Stats() (Stats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats()
}

func (s *Sensor) stats() (Stats, error) {
	if s.k == nil {
		return s.last, nil
	}
	c, err := s.k.fates()
	if err != nil {
		return Stats{}, fmt.Errorf("sensor: %w", err)
	}
	s.cnt.Lock()
	defer s.cnt.Unlock()
	st := Stats{
		Mode: s.k.mode, Kinds: kindStats(c), Decoded: make(map[event.Kind]uint64), Malformed: s.badRecs, Unparsed: s.unparsed,
		Late: s.late, Depth: s.deep,
		Canaries: s.canary, Missing: make(map[string]string, len(s.k.missing)), Programs: len(s.k.progs) + len(s.k.named),
		Links: len(s.k.links) + len(s.k.named), Rings: s.ringStats(),
	}
	st.Depth.Missed += c.Beside[procBesideBESIDE_DEPTH_FULL]
	for kind, n := range s.decoded {
		if n > 0 {
			st.Decoded[event.Kind(kind)] = n
		}
	}
	for place, why := range s.k.missing {
		st.Missing[place] = why
	}
	return st, nil
}

// Close ends the sensor for good; Run returns by its context, not by Close.
// What Run put into the kernel is taken out when Run returns.
func (s *Sensor) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// stream is the state of one Run: what goes to the sink, in order.
type stream struct {
	s        *Sensor
	sink     func(*event.StreamRecord) error
	seq      uint64
	run      uint64
	dec      *decoder
	pending  []record
	released uint64             // time of the youngest record passed on
	canaries map[uint64]uint8   // rings that a nonce has come by
	known    map[procKey]uint64 // processes of the snapshot and when each was read, for a while
	knownTo  uint64             // end of that while
	fates    procFateCounts     // at the last look
	fatesAt  int64

	names  *resolver
	meter  *flowMeter
	depths *depths

	pid  uint32
	exe  unix.Stat_t     // our program
	self *ebpf.Map       // thread groups that are left out
	ours map[uint32]bool // those of them that own put there
}

type procKey struct {
	pid   uint32
	start uint64
}

// Run loads and attaches the programs and passes the stream to sink until ctx
// ends or sink fails. sink is called from one goroutine and may keep the
// record. When Run returns, nothing of the sensor is left in the kernel.
func (s *Sensor) Run(ctx context.Context, sink func(*event.StreamRecord) error) (err error) {
	mode := s.cfg.Mode
	if mode == Auto {
		mode = pickMode()
	}
	k, err := newKernel(mode, &s.cfg, s.log)
	if err != nil {
		return fmt.Errorf("sensor: %w", err)
	}
	defer func() {
		s.mu.Lock()
		if s.k == k {
			if st, e := s.stats(); e == nil {
				s.last = st
			}
			s.k = nil
		}
		s.mu.Unlock()
		if e := k.Close(); e != nil && err == nil {
			err = fmt.Errorf("sensor: %w", e)
		}
	}()
	crit, err := newRing(k.maps[procMapCritical])
	if err != nil {
		return fmt.Errorf("sensor: open critical ring: %w", err)
	}
	defer crit.Close()
	bulk, err := newRing(k.maps[procMapBulk])
	if err != nil {
		return fmt.Errorf("sensor: open bulk ring: %w", err)
	}
	defer bulk.Close()
	s.setRings(crit, bulk)
	defer s.setRings()

	st := &stream{
		s: s, sink: sink, run: s.cfg.Start.Run, dec: newDecoder(s.cfg.EnvAllow), canaries: make(map[uint64]uint8),
		meter: newFlowMeter(s.cfg.FlowInterval),
	}
	st.dec.offset = wallOffset()
	st.pid, st.self, st.ours = uint32(os.Getpid()), k.maps[procMapSelf], make(map[uint32]bool)
	if err := unix.Stat("/proc/self/exe", &st.exe); err != nil {
		s.log.Warn("own program is not known", "err", err)
	}
	if st.names, err = newResolver(); err != nil {
		return fmt.Errorf("sensor: %w", err)
	}
	defer st.names.Close()
	if st.depths, err = newDepths(k); err != nil {
		return fmt.Errorf("sensor: %w", err)
	}
	defer st.depths.Close()
	// Attach first, then take the snapshot: what happens between is on the
	// rings, so there is no gap.
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrNotRunning
	}
	plan := s.plan
	if err := k.setPlan(compilePlan(plan)); err != nil {
		s.mu.Unlock()
		return fmt.Errorf("sensor: %w", err)
	}
	s.k = k
	s.mu.Unlock()
	began := bootNS()
	if err := st.start(k, began, plan); err != nil {
		return err
	}
	s.log.Info("watching", "mode", string(mode), "programs", len(k.progs), "links", len(k.links))
	return st.loop(ctx, k, crit, bulk)
}

// start writes the records that every stream begins with.
func (st *stream) start(k *kernel, began uint64, plan kfilter.Plan) error {
	rs := st.s.cfg.Start
	fillRunStart(&rs, k.mode, st.dec.offset)
	if err := st.put(began, &event.StreamRecord{RunStart: &rs}); err != nil {
		return err
	}
	if err := st.put(began, &event.StreamRecord{Clock: &event.Clock{OffsetNS: st.dec.offset}}); err != nil {
		return err
	}
	if err := st.putPlan(plan); err != nil {
		return err
	}
	procs, err := k.snapshot(st.dec)
	if err != nil {
		return fmt.Errorf("sensor: snapshot: %w", err)
	}
	n := uint64(0)
	st.known = make(map[procKey]uint64, len(procs))
	for _, r := range procs {
		p := r.snap
		if p.StartNS > began {
			continue // born after the hooks were in place: its fork is on the ring
		}
		st.known[procKey{p.PID, p.StartNS}] = r.ts
		st.knownTo = max(st.knownTo, r.ts)
		st.ownProcess(p)
		n++
		if err := st.put(began, &event.StreamRecord{Snapshot: p}); err != nil {
			return err
		}
	}
	return st.put(began, &event.StreamRecord{SnapshotEnd: &event.SnapshotEnd{Processes: n}})
}

// putPlan says in the stream what is collected from here on: of what the plan
// wants, that for which a program is attached.
func (st *stream) putPlan(p kfilter.Plan) error {
	p = withLife(p)
	p.Fit()
	st.s.mu.Lock()
	if st.s.k != nil {
		st.s.k.leaveOut(&p)
	}
	st.s.mu.Unlock()
	fp := p.Record()
	fp.At = clockNS(unix.CLOCK_REALTIME)
	return st.put(bootNS(), &event.StreamRecord{FilterPlan: fp})
}

// put numbers a record and hands it over.
func (st *stream) put(at uint64, r *event.StreamRecord) error {
	st.seq++
	r.Seq, r.BootNS = st.seq, at
	if r.Event != nil {
		r.Event.Seq, r.Event.Run = st.seq, st.run
	}
	return st.sink(r)
}

// loop reads the rings until ctx ends, then once more, so that what was on
// them by then is not lost.
func (st *stream) loop(ctx context.Context, k *kernel, crit, bulk *ring) error {
	st.fatesAt = clockNS(unix.CLOCK_REALTIME)
	nextCare := time.Now().Add(housekeeping)
	for {
		ended := ctx.Err() != nil
		if ended {
			// First nothing more is made, then what there is is read: the
			// counters and the stream end at the same event.
			if err := st.s.detach(k); err != nil {
				return err
			}
		}
		// Whatever was on a ring before this moment is read before any record
		// younger than it is passed on.
		watermark := bootNS()
		if ended || st.meter.due(time.Now()) {
			if err := st.flows(k); err != nil {
				return err
			}
		}
		tick := calmTick
		for _, r := range [...]*ring{crit, bulk} {
			if used, _ := r.fill(); used > r.size()/busyPart {
				tick = busyTick
			}
			if err := r.drain(st.take); err != nil {
				return fmt.Errorf("sensor: read ring: %w", err)
			}
		}
		until := watermark - uint64(slack)
		if ended {
			until = ^uint64(0)
		}
		if err := st.release(until); err != nil {
			return err
		}
		if now := time.Now(); ended || now.After(nextCare) {
			nextCare = now.Add(housekeeping)
			if err := st.care(k); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
		if err := st.plan(); err != nil {
			return err
		}
		if err := st.depth(); err != nil {
			return err
		}
		// Wait until the next tick, or until a ring fills faster than that.
		if err := bulk.wait(tick); err != nil {
			return fmt.Errorf("sensor: wait for ring: %w", err)
		}
	}
}

// detach ends all programs. Those that run on another CPU have ended, too.
func (s *Sensor) detach(k *kernel) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := k.detach(); err != nil {
		return fmt.Errorf("sensor: detach: %w", err)
	}
	return nil
}

// plan puts a changed filter plan into the stream.
func (st *stream) plan() error {
	s := st.s
	s.cnt.Lock()
	plan := s.newPlan
	s.newPlan = nil
	s.cnt.Unlock()
	if plan == nil {
		return nil
	}
	return st.putPlan(*plan)
}

// take decodes one kernel record.
func (st *stream) take(b []byte) {
	rec, err := st.dec.decode(b)
	if err != nil {
		st.s.cnt.Lock()
		st.s.badRecs++
		st.s.cnt.Unlock()
		return
	}
	if rec.part || rec.unparsed > 0 {
		st.s.cnt.Lock()
		st.s.unparsed += rec.unparsed
		if rec.part {
			st.s.decoded[eventKinds[rec.kind]]++
		}
		st.s.cnt.Unlock()
	}
	if rec.part {
		return
	}
	st.pending = append(st.pending, rec)
	for _, ev := range rec.more {
		st.pending = append(st.pending, record{ts: rec.ts, kind: rec.kind, mntns: rec.mntns, ev: ev, again: true})
	}
}

// release passes on, in order of time, what is not younger than until.
func (st *stream) release(until uint64) error {
	if len(st.pending) == 0 {
		return nil
	}
	slices.SortStableFunc(st.pending, func(a, b record) int {
		switch {
		case a.ts < b.ts:
			return -1
		case a.ts > b.ts:
			return 1
		}
		return 0
	})
	n := 0
	var late, canaries uint64
	var decoded [event.NumKinds]uint64
	for n < len(st.pending) && st.pending[n].ts <= until {
		r := &st.pending[n]
		n++
		if r.ev == nil {
			st.canaries[r.canary] |= 1 << b2i(r.bulk)
			if st.canaries[r.canary] == 3 {
				delete(st.canaries, r.canary)
				canaries++
				c := &event.Canary{Nonce: r.canary, At: int64(r.ts) + st.dec.offset}
				if err := st.put(r.ts, &event.StreamRecord{Canary: c}); err != nil {
					return err
				}
			}
			continue
		}
		if !r.again {
			decoded[r.ev.Kind]++
		}
		if st.known != nil && st.repeats(r) {
			continue
		}
		if r.ts < st.released {
			r.ev.Flags |= event.FlagLate
			late++
		}
		st.released = max(st.released, r.ts)
		st.own(r.ev)
		if st.names != nil {
			st.names.event(r)
		}
		if st.depths != nil {
			if err := st.depths.follow(r.ev); err != nil {
				return fmt.Errorf("sensor: %w", err)
			}
		}
		if err := st.put(r.ts, &event.StreamRecord{Event: r.ev}); err != nil {
			return err
		}
		// At once: whoever asked knows the processes up to here, and of those
		// that are born next the books are kept.
		if err := st.depth(); err != nil {
			return err
		}
	}
	rest := copy(st.pending, st.pending[n:])
	clear(st.pending[rest:])
	st.pending = st.pending[:rest]
	s := st.s
	s.cnt.Lock()
	s.late += late
	s.canary += canaries
	for k, v := range decoded {
		s.decoded[k] += v
	}
	s.cnt.Unlock()
	return nil
}

// own keeps the books on processes of our own program that this process
// started, as the server: what they do to files and sockets, mostly on behalf
// of the stream itself, is left out as this process's is, from their exec to
// their exit. Their exec and exit are reported.
func (st *stream) own(e *event.Event) {
	switch {
	case e.Exec != nil:
		st.ownProcess(e.Exec.Image)
	case e.Exit != nil && st.ours[e.PID]:
		delete(st.ours, e.PID)
		if err := st.self.Delete(e.PID); err != nil {
			st.s.log.Warn("own process stays excluded", "pid", e.PID, "err", err)
		}
	}
}

func (st *stream) ownProcess(p *event.Process) {
	if st.s.cfg.NotSelf || p.PPID != st.pid || p.File.Inode == 0 || p.File.Inode != st.exe.Ino || st.ours[p.PID] {
		return
	}
	if err := st.self.Put(p.PID, uint32(1)); err != nil {
		st.s.log.Warn("own process is not excluded", "pid", p.PID, "err", err)
		return
	}
	st.ours[p.PID] = true
}

// repeats tells whether a record says what the snapshot has said already: the
// hooks were in place before it was taken.
func (st *stream) repeats(r *record) bool {
	if r.ts > st.knownTo {
		st.known = nil
		return false
	}
	key := procKey{r.ev.PID, r.ev.StartNS}
	switch r.ev.Kind {
	case event.KindFork:
		key = procKey{r.ev.Fork.Child.PID, r.ev.Fork.Child.StartNS}
	case event.KindExec:
	default:
		return false
	}
	return r.ts <= st.known[key]
}

func b2i(b bool) uint {
	if b {
		return 1
	}
	return 0
}

// care looks at what was lost and at the clock.
func (st *stream) care(k *kernel) error {
	c, err := k.fates()
	if err != nil {
		return fmt.Errorf("sensor: %w", err)
	}
	now := clockNS(unix.CLOCK_REALTIME)
	for rec := range c.N {
		for f := range c.N[rec] {
			n := c.N[rec][f] - st.fates.N[rec][f]
			reason := lossName(procRecKind(rec), procFate(f))
			kind, ok := eventKinds[procRecKind(rec)]
			if n == 0 || reason == "" || !ok {
				continue
			}
			l := &event.Lost{Kind: kind, Reason: reason, Count: n, From: st.fatesAt, To: now, Where: "kernel"}
			if err := st.put(bootNS(), &event.StreamRecord{Lost: l}); err != nil {
				return err
			}
		}
	}
	st.fates, st.fatesAt = *c, now
	if err := st.depths.reconcile(bootNS()); err != nil {
		return fmt.Errorf("sensor: %w", err)
	}
	// A nonce of which one half was lost would be kept for ever.
	if len(st.canaries) > 64 {
		clear(st.canaries)
	}
	if offset := wallOffset(); offset-st.dec.offset > int64(clockStep) || st.dec.offset-offset > int64(clockStep) {
		st.dec.offset = offset
		return st.put(bootNS(), &event.StreamRecord{Clock: &event.Clock{OffsetNS: offset}})
	}
	return nil
}

// fillRunStart sets what the caller left empty.
func fillRunStart(rs *event.RunStart, mode Mode, offset int64) {
	rs.Mode, rs.OffsetNS, rs.Schema = string(mode), offset, schema.Version
	rs.At = clockNS(unix.CLOCK_REALTIME)
	if rs.BootID == "" {
		b, _ := readLimited("/proc/sys/kernel/random/boot_id", 64)
		rs.BootID = string(bytes.TrimSpace(b))
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		if rs.Hostname == "" {
			rs.Hostname = unix.ByteSliceToString(u.Nodename[:])
		}
		if rs.Kernel == "" {
			rs.Kernel = unix.ByteSliceToString(u.Release[:])
		}
	}
	if rs.Arch == "" {
		rs.Arch = runtime.GOARCH
	}
	if rs.Distribution == "" {
		rs.Distribution = distribution()
	}
}

// distribution is the operating system's name as it calls itself.
func distribution() string {
	b, _ := readLimited("/etc/os-release", 4096)
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("PRETTY_NAME=")); ok {
			return string(bytes.Trim(v, `"`))
		}
	}
	return ""
}
