// Package spool keeps on disk what the agent has to tell until the server has
// stored it. It is a queue of batches in segment files: records are appended,
// a batch is cut and written, handed to the server in order, and forgotten
// when it is acknowledged.
//
// A batch never changes once it is written, and its id follows from agent, run
// and first record, so one that is sent twice is known as such. The process
// may be killed at any point: what had been written stays, a half-written end
// is found by its checksum and cut off. Only records that were not yet cut
// into a batch are gone then, at most what CutBytes and the caller's interval
// between two calls of Cut allow. After a power failure it may be what was
// written since the last Sync as well.
//
// The spool has a limit. Beyond it the oldest segment is given up. This, and
// everything else that makes a record disappear, is counted by reason.
package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/wire"
)

// Reasons why a record is lost here.
const (
	ReasonFull     = "spool_full"     // the oldest made room for the youngest
	ReasonWrite    = "spool_write"    // the disk took no more
	ReasonDamaged  = "spool_damaged"  // what was read is not what was written
	ReasonTooLarge = "spool_record"   // a record that fits in no batch
	ReasonRefused  = "server_refused" // the server will never take the batch
)

// Reasons lists them all.
func Reasons() []string {
	return []string{ReasonFull, ReasonWrite, ReasonDamaged, ReasonTooLarge, ReasonRefused}
}

// Config is what a Spool needs to know.
type Config struct {
	Dir          string // made when it is not there
	AgentID      string
	Run          uint64
	MaxBytes     int64            // on disk; 512 MiB when 0
	SegmentBytes int64            // a segment; 4 MiB when 0
	CutBytes     int              // of records, not compressed, in a batch; 256 KiB when 0
	Now          func() time.Time // time.Now when nil
	Log          *slog.Logger
}

// A Spool is safe for concurrent use, but Next, Ack, Refuse and Rewind expect
// one caller.
type Spool struct {
	cfg   Config
	ready chan struct{}

	mu  sync.Mutex
	enc *wire.Encoder

	// The batch that is not cut yet.
	raw         []byte
	first, last uint64 // numbers of its records
	count       uint32
	payload     []byte // scratch
	frame       []byte // scratch
	offsetNS    int64

	segs     []*segment // oldest first; the last is written to when w is set
	w        *os.File
	unsynced []*os.File // written and not yet synchronised, no longer written to
	dirty    bool       // w has something that is not synchronised
	bytes    int64
	nextSeg  uint64

	read   position
	rf     *os.File // open segment of read
	rfSeg  uint64
	frames frameReader
	under  []handed // handed out, oldest first
	acked  position // everything before it may be forgotten
	cursor *os.File

	stats   Stats
	lost    []event.Lost
	failing bool // the last write failed
	ackedOf uint64
	lastCut int64
}

// A segment is one file.
type segment struct {
	index    uint64
	size     int64
	left     uint64 // records that are not acknowledged
	from, to int64  // when its first and its last batch were cut
}

// A position is a place between two frames.
type position struct {
	seg uint64
	off int64
}

func (p position) before(q position) bool {
	return p.seg < q.seg || p.seg == q.seg && p.off < q.off
}

// handed is a batch that Next returned.
type handed struct {
	id      string
	end     position
	records uint32
	done    bool
	current bool // of this run
}

// Stats are counts since Open.
type Stats struct {
	Records  uint64 // in the spool now: written and not acknowledged
	Bytes    int64  // on disk now
	Batches  uint64 // written
	Written  uint64 // records written
	Acked    uint64 // batches acknowledged
	Lost     map[string]uint64
	Failing  bool  // the disk takes nothing at the moment
	CutOff   int64 // bytes of half-written batches found at Open
	Previous int   // segments of earlier runs found at Open
	Oldest   int64 // when the oldest segment with unacknowledged records began, ns since the epoch; 0: none
}

// Open reads what is in the directory and makes it ready for a new run.
// Batches of earlier runs come first. It fails with a *NewerError when a later
// clew wrote there.
func Open(cfg Config) (*Spool, error) {
	cfg.MaxBytes = or(cfg.MaxBytes, 512<<20)
	cfg.SegmentBytes = min(or(cfg.SegmentBytes, 4<<20), max(cfg.MaxBytes/4, 1))
	cfg.CutBytes = min(or(cfg.CutBytes, 256<<10), wire.MaxRaw-wire.MaxRecord-16)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	enc, err := wire.NewEncoder()
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	s := &Spool{cfg: cfg, enc: enc, ready: make(chan struct{}, 1), stats: Stats{Lost: map[string]uint64{}}}
	for _, r := range Reasons() {
		s.stats.Lost[r] = 0
	}
	if err := s.load(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func or[T ~int | ~int64](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

const suffix = ".spool"

func (s *Spool) path(seg uint64) string {
	return filepath.Join(s.cfg.Dir, fmt.Sprintf("%016x", seg)+suffix)
}

// load finds the segments of earlier runs.
func (s *Spool) load() error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.cursor, err = os.OpenFile(filepath.Join(s.cfg.Dir, "acked"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.acked = readCursor(s.cursor)
	var indices []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || len(name) != 16 {
			continue
		}
		if i, err := strconv.ParseUint(name, 16, 64); err == nil && i < 1<<63 {
			indices = append(indices, i)
		}
	}
	slices.Sort(indices)
	for _, i := range indices {
		if err := s.loadSegment(i); err != nil {
			return err
		}
		s.nextSeg = i + 1
	}
	// The number of a segment that is gone must not come again while the
	// cursor still names it.
	s.nextSeg = max(s.nextSeg, s.acked.seg+1)
	s.stats.Previous = len(s.segs)
	if len(s.segs) > 0 {
		s.acked = later(s.acked, position{s.segs[0].index, headerSize})
		s.wake()
	} else {
		s.acked = position{s.nextSeg, headerSize}
	}
	s.read = s.acked
	return nil
}

func later(p, q position) position {
	if p.before(q) {
		return q
	}
	return p
}

// loadSegment checks every frame of a segment, cuts off what is half-written
// and removes a segment in which nothing is left.
func (s *Spool) loadSegment(index uint64) error {
	path := s.path(index)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	size := info.Size()
	ok, err := checkHeader(f, path, size)
	var newer *NewerError
	if errors.As(err, &newer) {
		return err
	}
	if err != nil {
		return fmt.Errorf("spool: segment %s: %w", path, err)
	}
	if !ok {
		if size > headerSize {
			s.lose(ReasonDamaged, 0, info.ModTime().UnixNano(), info.ModTime().UnixNano())
			s.cfg.Log.Warn("spool segment is none, removed", "path", path, "bytes", size)
		}
		return remove(path)
	}
	seg := &segment{index: index}
	off := headerSize
	frames := frameReader{r: f}
	total := 0
	for off < size {
		fr, ok, damaged, err := frames.next(off, size)
		if err != nil {
			return fmt.Errorf("spool: segment %s: %w", path, err)
		}
		if damaged > 0 {
			s.cfg.Log.Warn("spool has damaged batches", "path", path, "batches", damaged)
			s.lose(ReasonDamaged, 0, max(seg.to, 0), info.ModTime().UnixNano())
		}
		if !ok {
			s.stats.CutOff += size - fr.off
			s.cfg.Log.Info("half-written end of the spool cut off", "path", path, "bytes", size-fr.off)
			if err := f.Truncate(fr.off); err != nil {
				return fmt.Errorf("spool: %w", err)
			}
			size = fr.off
			break
		}
		total++
		s.lastCut = max(s.lastCut, fr.atNS)
		if seg.from == 0 {
			seg.from = fr.atNS
		}
		seg.to = fr.atNS
		off = fr.end
		if index > s.acked.seg || index == s.acked.seg && fr.off >= s.acked.off {
			seg.left += uint64(fr.records)
		}
	}
	seg.size = size
	if index < s.acked.seg || index == s.acked.seg && s.acked.off >= size || total == 0 {
		return remove(path)
	}
	s.segs = append(s.segs, seg)
	s.bytes += size
	s.stats.Records += seg.left
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// The cursor is the position before which everything is acknowledged: segment
// and offset, 8 bytes each, and their CRC-32C. It is a saving, not a promise:
// when it is damaged, batches are sent again and known by their ids.
const cursorSize = 20

func readCursor(f *os.File) position {
	var b [cursorSize]byte
	if readFull(f, b[:], 0) != nil ||
		crc32.Checksum(b[:16], castagnoli) != binary.LittleEndian.Uint32(b[16:]) {
		return position{}
	}
	p := position{binary.LittleEndian.Uint64(b[:]), int64(binary.LittleEndian.Uint64(b[8:]))}
	if p.seg >= 1<<63 || p.off < headerSize {
		return position{}
	}
	return p
}

func (s *Spool) writeCursor() {
	var b [cursorSize]byte
	binary.LittleEndian.PutUint64(b[:], s.acked.seg)
	binary.LittleEndian.PutUint64(b[8:], uint64(s.acked.off))
	binary.LittleEndian.PutUint32(b[16:], crc32.Checksum(b[:16], castagnoli))
	if _, err := s.cursor.WriteAt(b[:], 0); err != nil {
		s.cfg.Log.Debug("spool cursor", "error", err)
	}
}

func (s *Spool) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// lose counts records that are gone. A count of 0 means that it is not known.
func (s *Spool) lose(reason string, count uint64, from, to int64) {
	s.stats.Lost[reason] += max(count, 1)
	for i := range s.lost {
		l := &s.lost[i]
		if l.Reason == reason && (l.Count == 0) == (count == 0) {
			l.Count += count
			l.From, l.To = min(l.From, from), max(l.To, to)
			return
		}
	}
	s.lost = append(s.lost, event.Lost{Reason: reason, Count: count, From: from, To: to, Where: "spool"})
}

// TakeLost returns what was lost since it was last called, nil when nothing.
func (s *Spool) TakeLost() []event.Lost {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lost
	s.lost = nil
	return l
}

// SetOffset says by how much the wall clock is ahead of the boot clock, in ns;
// batches that are cut from now on carry it.
func (s *Spool) SetOffset(ns int64) {
	s.mu.Lock()
	s.offsetNS = ns
	s.mu.Unlock()
}

// Append adds a record, which it does not keep. Its Seq must be one more than
// that of the record before. It never fails: what cannot be kept is counted.
func (s *Spool) Append(rec *event.SpoolRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, err := wire.AppendRecord(s.raw, rec)
	if err != nil {
		now := s.cfg.Now().UnixNano()
		s.lose(ReasonTooLarge, 1, now, now)
		return
	}
	if s.raw = raw; s.count == 0 {
		s.first = rec.Seq
	}
	s.last = rec.Seq
	s.count++
	if len(s.raw) >= s.cfg.CutBytes {
		s.cut()
	}
}

// Cut makes a batch of what was appended since the last one and writes it.
func (s *Spool) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut()
}

func (s *Spool) cut() {
	if s.count == 0 {
		return
	}
	now := s.cfg.Now().UnixNano()
	s.payload = s.enc.Encode(s.payload[:0], s.raw)
	batch := &clewv1.Batch{
		Id:       wire.BatchID(s.cfg.AgentID, s.cfg.Run, s.first),
		FirstSeq: s.first, LastSeq: s.last,
		Drops:   s.dropped(),
		Payload: s.payload, Run: s.cfg.Run, AgentId: s.cfg.AgentID, OffsetNs: s.offsetNS,
	}
	count := s.count
	if s.raw, s.count = s.raw[:0], 0; cap(s.raw) > 2<<20 {
		s.raw, s.payload, s.frame = nil, nil, nil
	}
	frame, err := appendFrame(s.frame[:0], batch, count, now)
	if err == nil {
		s.frame = frame
		err = s.write(frame, uint64(count), now)
	}
	switch {
	case err != nil:
		s.lose(ReasonWrite, uint64(count), now, now)
		if !s.failing {
			s.cfg.Log.Error("spool cannot be written, events are being lost", "error", err)
		}
	case s.failing:
		s.cfg.Log.Info("spool can be written again", "lost", s.stats.Lost[ReasonWrite])
	}
	s.failing = err != nil
	s.wake()
}

func (s *Spool) dropped() uint64 {
	var n uint64
	for _, v := range s.stats.Lost {
		n += v
	}
	return n
}

// write puts a frame at the end of the newest segment, or of a new one.
func (s *Spool) write(frame []byte, count uint64, now int64) error {
	if n := len(s.segs); s.w != nil && s.segs[n-1].size+int64(len(frame)) > s.cfg.SegmentBytes && s.segs[n-1].size > headerSize {
		s.rotate()
	}
	if s.w == nil {
		if err := s.create(); err != nil {
			return err
		}
	}
	for s.bytes+int64(len(frame)) > s.cfg.MaxBytes && len(s.segs) > 1 {
		s.dropOldest()
	}
	seg := s.segs[len(s.segs)-1]
	if _, err := s.w.WriteAt(frame, seg.size); err != nil {
		// Half a frame must not be in the way of the next one.
		if terr := s.w.Truncate(seg.size); terr != nil {
			s.rotate()
		}
		return err
	}
	seg.size += int64(len(frame))
	seg.left += count
	if seg.from == 0 {
		seg.from = now
	}
	seg.to = now
	s.dirty = true
	s.bytes += int64(len(frame))
	s.stats.Records += count
	s.stats.Written += count
	s.stats.Batches++
	return nil
}

// rotate ends the segment that is written to.
func (s *Spool) rotate() {
	s.unsynced = append(s.unsynced, s.w)
	s.w = nil
	s.forget()
}

func (s *Spool) create() error {
	index := s.nextSeg
	f, err := os.OpenFile(s.path(index), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	s.nextSeg++
	if _, err := f.Write(appendHeader(nil)); err != nil {
		f.Close()
		os.Remove(s.path(index))
		return err
	}
	s.w = f
	s.segs = append(s.segs, &segment{index: index, size: headerSize})
	s.bytes += headerSize
	return nil
}

// dropOldest gives up the oldest segment. What of it is under way may still
// arrive and is counted as lost all the same.
func (s *Spool) dropOldest() {
	seg := s.segs[0]
	if seg.left > 0 {
		s.lose(ReasonFull, seg.left, seg.from, seg.to)
	}
	s.cfg.Log.Debug("spool is full, oldest segment given up", "segment", seg.index, "records", seg.left)
	s.removeOldest()
	start := position{s.segs[0].index, headerSize}
	s.acked, s.read = later(s.acked, start), later(s.read, start)
	s.under = slices.DeleteFunc(s.under, func(h handed) bool { return h.end.seg < start.seg })
	s.writeCursor()
}

func (s *Spool) removeOldest() {
	seg := s.segs[0]
	s.segs = s.segs[1:]
	s.bytes -= seg.size
	s.stats.Records -= seg.left
	if s.rf != nil && s.rfSeg == seg.index {
		s.rf.Close()
		s.rf = nil
	}
	if err := remove(s.path(seg.index)); err != nil {
		s.cfg.Log.Warn("spool segment stays behind", "error", err)
	}
}

// forget removes the segments that are acknowledged as a whole.
func (s *Spool) forget() {
	for len(s.segs) > 0 {
		seg := s.segs[0]
		written := s.w != nil && len(s.segs) == 1
		if written || s.acked.before(position{seg.index, seg.size}) {
			return
		}
		s.removeOldest()
	}
}

// Sync waits until what was written is on the disk. The caller decides how
// often.
func (s *Spool) Sync() error {
	s.mu.Lock()
	old := s.unsynced
	s.unsynced = nil
	var w *os.File
	if s.dirty {
		w, s.dirty = s.w, false
	}
	s.mu.Unlock()
	var errs []error
	for _, f := range old {
		errs = append(errs, f.Sync(), f.Close())
	}
	if w != nil {
		// A Close of the spool may come before it and does the same.
		if err := w.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// Ready receives a value after a batch was written.
func (s *Spool) Ready() <-chan struct{} { return s.ready }

// Next returns the oldest batch that was not handed out since the last Rewind,
// nil when there is none.
func (s *Spool) Next() (*clewv1.Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		i := slices.IndexFunc(s.segs, func(seg *segment) bool { return seg.index >= s.read.seg })
		if i < 0 {
			return nil, nil
		}
		seg := s.segs[i]
		if seg.index > s.read.seg {
			s.read = position{seg.index, headerSize}
		}
		if s.read.off >= seg.size {
			if i == len(s.segs)-1 {
				return nil, nil
			}
			s.passEnd(s.segs[i+1].index)
			continue
		}
		if err := s.openRead(seg.index); err != nil {
			return nil, err
		}
		f, ok, damaged, err := s.frames.next(s.read.off, seg.size)
		if err != nil {
			return nil, fmt.Errorf("spool: segment %s: %w", s.path(seg.index), err)
		}
		if damaged > 0 || !ok {
			s.lose(ReasonDamaged, 0, seg.from, seg.to)
			s.cfg.Log.Warn("spool has damaged batches", "path", s.path(seg.index), "batches", damaged)
		}
		if !ok {
			s.read.off = seg.size
			continue
		}
		s.read.off = f.end
		batch, err := f.batch()
		if err != nil {
			s.lose(ReasonDamaged, uint64(f.records), f.atNS, f.atNS)
			continue
		}
		s.under = append(s.under, handed{
			id: batch.Id, end: s.read, records: f.records,
			current: batch.Run == s.cfg.Run && batch.AgentId == s.cfg.AgentID,
		})
		return batch, nil
	}
}

// passEnd moves the reading on to another segment. When nothing of the ones
// before is under way they need not be kept, whatever their last frames are.
func (s *Spool) passEnd(next uint64) {
	s.read = position{next, headerSize}
	if len(s.under) == 0 {
		s.acked = later(s.acked, s.read)
		s.writeCursor()
		s.forget()
	}
}

func (s *Spool) openRead(index uint64) error {
	if s.rf != nil && s.rfSeg == index {
		return nil
	}
	if s.rf != nil {
		s.rf.Close()
		s.rf = nil
	}
	f, err := os.Open(s.path(index))
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	s.rf, s.rfSeg = f, index
	s.frames = frameReader{r: f, buf: s.frames.buf}
	return nil
}

// Ack forgets a batch that Next returned. An id that is not under way is
// ignored: it was acknowledged before, or given up.
func (s *Spool) Ack(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ack(id)
	return nil
}

func (s *Spool) ack(id string) (records uint32, ok bool) {
	i := slices.IndexFunc(s.under, func(h handed) bool { return h.id == id && !h.done })
	if i < 0 {
		return 0, false
	}
	h := &s.under[i]
	h.done = true
	s.stats.Acked++
	if h.current {
		s.ackedOf++
	}
	records = h.records
	n := 0
	for ; n < len(s.under) && s.under[n].done; n++ {
		for _, seg := range s.segs {
			if seg.index == s.under[n].end.seg {
				gone := min(seg.left, uint64(s.under[n].records))
				seg.left -= gone
				s.stats.Records -= gone
			}
		}
	}
	if n > 0 {
		s.acked = later(s.acked, s.under[n-1].end)
		s.under = slices.Delete(s.under, 0, n)
		s.writeCursor()
		s.forget()
	}
	return records, true
}

// Refuse gives up a batch that the server will never take.
func (s *Spool) Refuse(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.ack(id); ok {
		now := s.cfg.Now().UnixNano()
		s.lose(ReasonRefused, uint64(n), now, now)
	}
	return nil
}

// Rewind makes Next begin with the oldest batch that is not acknowledged.
func (s *Spool) Rewind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = s.acked
	s.under = s.under[:0]
	s.wake()
}

// AckedOfRun is how many batches of this run were acknowledged. While it is 0,
// everything that the run has said is still in the spool.
func (s *Spool) AckedOfRun() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ackedOf
}

// LastCut is when the youngest batch that Open found was cut, ns since the
// epoch; 0 when there was none.
func (s *Spool) LastCut() int64 { return s.lastCut }

// Stats returns the counts.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Bytes, st.Failing = s.bytes, s.failing
	for i := range s.segs {
		if s.segs[i].left > 0 {
			st.Oldest = s.segs[i].from
			break
		}
	}
	st.Lost = make(map[string]uint64, len(s.stats.Lost))
	for k, v := range s.stats.Lost {
		st.Lost[k] = v
	}
	return st
}

// Empty tells whether everything that was appended is acknowledged.
func (s *Spool) Empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count == 0 && s.stats.Records == 0
}

// Full tells by how much of its limit the spool is full, 0 to 1.
func (s *Spool) Full() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(s.bytes) / float64(s.cfg.MaxBytes)
}

// Close cuts and writes what was appended, waits for the disk and frees the
// spool.
func (s *Spool) Close() error {
	s.mu.Lock()
	s.cut()
	s.mu.Unlock()
	err := s.Sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range []*os.File{s.w, s.rf, s.cursor} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	s.w, s.rf = nil, nil
	return err
}
