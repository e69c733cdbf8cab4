// Package stream reads and writes recordings (.clewrec): one zstd stream of
// clew.v1.StreamRecord, each preceded by its length as a varint. The first
// record is always a RunStart; it names the version of the schema the rest is
// written in.
//
// A recording may come from anybody. A reader therefore bounds what it
// allocates by what it has really read, not by what the file promises, and
// answers nonsense with a *CorruptError.
package stream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/schema"
)

// MaxRecord is the most bytes one record may have. The largest there is, the
// state that the last run saved, holds every living process of a host.
const MaxRecord = 32 << 20

// window is the zstd window of what is written and the largest that is read:
// it decides the memory of a reader.
const window = 1 << 20

// A CorruptError says where a recording stops making sense.
type CorruptError struct {
	Record uint64 // number of the record, from 0
	Reason string
	Err    error // may be nil
}

func (e *CorruptError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("recording: record %d: %s", e.Record, e.Reason)
	}
	return fmt.Sprintf("recording: record %d: %s: %v", e.Record, e.Reason, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// A NewerError says that a recording was made by a later clew.
type NewerError struct {
	Schema int64  // version of the schema it is written in
	Made   string // version of clew that wrote it
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("recording: made by a newer clew (%s, schema %d); this one reads up to schema %d",
		e.Made, e.Schema, schema.Version)
}

// A Writer writes a recording.
type Writer struct {
	z       *zstd.Encoder
	started bool
	buf     []byte
}

// NewWriter returns a writer to w. The caller closes the Writer, then w.
func NewWriter(w io.Writer) (*Writer, error) {
	return newWriter(w, zstd.WithWindowSize(window), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
}

// NewFastWriter is NewWriter for what is written often and does not stay: it
// takes a fraction of the time and memory and gives more bytes.
func NewFastWriter(w io.Writer) (*Writer, error) {
	return newWriter(w, zstd.WithWindowSize(128<<10), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
}

func newWriter(w io.Writer, opts ...zstd.EOption) (*Writer, error) {
	z, err := zstd.NewWriter(w, append(opts, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	return &Writer{z: z}, nil
}

// Write adds a record, which it does not keep. The first must be a RunStart.
func (w *Writer) Write(rec *event.StreamRecord) error {
	if !w.started && rec.RunStart == nil {
		return errors.New("recording: the first record is no run start")
	}
	// The length is only known after the body: room for the longest varint
	// is kept before it.
	const room = binary.MaxVarintLen64
	if w.buf == nil {
		w.buf = make([]byte, room, 4096)
	}
	w.buf = event.AppendStreamRecord(w.buf[:room], rec)
	body := len(w.buf) - room
	if body > MaxRecord {
		return fmt.Errorf("recording: a record of %d bytes, the most is %d", body, MaxRecord)
	}
	var length [room]byte
	n := binary.PutUvarint(length[:], uint64(body))
	copy(w.buf[room-n:], length[:n])
	if _, err := w.z.Write(w.buf[room-n:]); err != nil {
		return fmt.Errorf("recording: write: %w", err)
	}
	w.started = true
	return nil
}

// Flush makes what was written so far readable.
func (w *Writer) Flush() error {
	if err := w.z.Flush(); err != nil {
		return fmt.Errorf("recording: write: %w", err)
	}
	return nil
}

// Close ends the recording. It does not close what it was written to.
func (w *Writer) Close() error {
	if err := w.z.Close(); err != nil {
		return fmt.Errorf("recording: write: %w", err)
	}
	return nil
}

// A Reader reads a recording.
type Reader struct {
	z     *zstd.Decoder
	r     *bufio.Reader
	buf   []byte
	n     uint64
	start *event.StreamRecord
	first bool
}

// NewReader reads up to the first record. It fails with a *CorruptError when r
// is no recording, with a *NewerError when it is one of a later clew.
func NewReader(r io.Reader) (*Reader, error) {
	z, err := zstd.NewReader(r,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	rd := &Reader{z: z, r: bufio.NewReaderSize(z, 32<<10)}
	rec, err := rd.next()
	if err == io.EOF {
		err = &CorruptError{Reason: "no record at all"}
	}
	if errors.Is(err, zstd.ErrMagicMismatch) {
		err = &CorruptError{Reason: "this is no recording"}
	}
	if err == nil && rec.RunStart == nil {
		err = &CorruptError{Reason: "the first record is no run start"}
	}
	if err == nil && rec.RunStart.Schema > schema.Version {
		err = &NewerError{Schema: rec.RunStart.Schema, Made: rec.RunStart.Version}
	}
	if err != nil {
		z.Close()
		return nil, err
	}
	rd.start, rd.first = rec, true
	return rd, nil
}

// Start is the first record's RunStart. It belongs to the reader.
func (r *Reader) Start() *event.RunStart { return r.start.RunStart }

// Next returns the next record, the first one included, and io.EOF after the
// last. The record belongs to the caller. A recording that was cut off ends
// with a *CorruptError around io.ErrUnexpectedEOF.
func (r *Reader) Next() (*event.StreamRecord, error) {
	if r.first {
		r.first = false
		return r.start, nil
	}
	return r.next()
}

func (r *Reader) next() (*event.StreamRecord, error) {
	size, err := binary.ReadUvarint(r.r)
	switch {
	case err == io.EOF:
		return nil, io.EOF
	case err != nil:
		return nil, r.corrupt("length", err)
	case size > MaxRecord:
		return nil, r.corrupt(fmt.Sprintf("a length of %d bytes, the most is %d", size, MaxRecord), nil)
	}
	if err := r.fill(int(size)); err != nil {
		return nil, r.corrupt("body", err)
	}
	if !event.Bounded(r.buf) {
		return nil, r.corrupt("too many parts", nil)
	}
	rec := new(event.StreamRecord)
	if err := event.ConsumeStreamRecord(r.buf, rec); err != nil {
		return nil, r.corrupt("body", err)
	}
	r.n++
	return rec, nil
}

// fill reads size bytes into the buffer, which it lets grow only as far as
// bytes really come.
func (r *Reader) fill(size int) error {
	const step = 64 << 10
	if r.buf = r.buf[:0]; cap(r.buf) > 1<<20 && size < 64<<10 {
		r.buf = nil // one large record does not decide the memory of the rest
	}
	for len(r.buf) < size {
		n := min(step, size-len(r.buf))
		at := len(r.buf)
		if cap(r.buf)-at < n {
			grown := make([]byte, at, max(at+n, 2*cap(r.buf)))
			copy(grown, r.buf)
			r.buf = grown
		}
		r.buf = r.buf[:at+n]
		if _, err := io.ReadFull(r.r, r.buf[at:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

func (r *Reader) corrupt(reason string, err error) error {
	return &CorruptError{Record: r.n, Reason: reason, Err: err}
}

// Close frees the reader. It does not close what it reads from.
func (r *Reader) Close() { r.z.Close() }

// hostSpace is the name space of the ids that recordings get.
var hostSpace = uuid.MustParse("6b1f2f0e-6c3e-5b0e-9d0c-3f8f6a1c7e52")

// HostID is the agent id of a recording: that of its first record when it has
// one, else an id derived from that record, so that the same recording always
// has the same and no two hosts share one.
func HostID(start *event.RunStart) string {
	if start.HostID != "" {
		return start.HostID
	}
	return uuid.NewSHA1(hostSpace, event.AppendRunStart(nil, start)).String()
}
