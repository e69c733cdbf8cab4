// Package wire is the protocol between agent and server: how a batch of
// records is written into a payload, and the agent's half of
// clew.v1.IngestService/Push. The server's half is internal/server/ingest.
//
// A payload is one zstd frame of clew.v1.SpoolRecord, each preceded by its
// length as a varint. Neither side trusts the other with its memory: every
// size is bounded before anything is allocated for it.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/klauspost/compress/zstd"

	"github.com/clewsec/clew/internal/event"
)

// Protocol is the version of the protocol that this package speaks.
const Protocol = 1

// Sizes in bytes. A sender cuts its batches far below them.
const (
	MaxRecord  = 1 << 20 // one encoded record
	MaxRaw     = 4 << 20 // the records of a batch
	MaxPayload = 4 << 20 // the same, compressed
)

// A FrameError says why a payload is none.
type FrameError struct {
	Record int // number of the record in its batch, from 0
	Reason string
	Err    error // may be nil
}

func (e *FrameError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("batch: record %d: %s", e.Record, e.Reason)
	}
	return fmt.Sprintf("batch: record %d: %s: %v", e.Record, e.Reason, e.Err)
}

func (e *FrameError) Unwrap() error { return e.Err }

// ErrTooLarge is returned for a record that no batch may hold.
var ErrTooLarge = errors.New("record is larger than a batch may hold")

// BatchID is the id of the batch of an agent's run that begins with the record
// of number first. A batch never changes, so its id names its content.
func BatchID(agent string, run, first uint64) string {
	b := make([]byte, 0, len(agent)+40)
	b = append(b, agent...)
	b = fmt.Appendf(b, "-%016x-", run)
	return string(strconv.AppendUint(b, first, 10))
}

// AppendRecord appends a record and its length to the raw form of a batch. On
// an error b is as it was.
func AppendRecord(b []byte, rec *event.SpoolRecord) ([]byte, error) {
	// The length is not known yet. Two bytes are kept for it, which is right
	// for all records of 128 to 16383 bytes, and the body moves when it is not.
	at := len(b)
	b = append(b, 0, 0)
	b = event.AppendSpoolRecord(b, rec)
	size := len(b) - at - 2
	if size > MaxRecord {
		return b[:at], ErrTooLarge
	}
	var length [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(length[:], uint64(size))
	switch {
	case n < 2:
		copy(b[at+n:], b[at+2:])
		b = b[:at+n+size]
	case n > 2:
		b = append(b, length[:n-2]...)
		copy(b[at+n:], b[at+2:at+2+size])
	}
	copy(b[at:], length[:n])
	return b, nil
}

// Records calls f with each record of the raw form of a batch. The record is
// the callee's to keep; it does not share memory with raw.
func Records(raw []byte, f func(*event.SpoolRecord) error) error {
	for i := 0; len(raw) > 0; i++ {
		size, n := binary.Uvarint(raw)
		if n <= 0 || size > uint64(len(raw)-n) {
			return &FrameError{Record: i, Reason: "length beyond the end"}
		}
		if size > MaxRecord {
			return &FrameError{Record: i, Reason: "too large"}
		}
		body := raw[n : n+int(size)]
		if !event.Bounded(body) {
			return &FrameError{Record: i, Reason: "too many parts"}
		}
		var rec event.SpoolRecord
		if err := event.ConsumeSpoolRecord(body, &rec); err != nil {
			return &FrameError{Record: i, Reason: "body", Err: err}
		}
		if err := f(&rec); err != nil {
			return err
		}
		raw = raw[n+int(size):]
	}
	return nil
}

// An Encoder makes payloads. It is for one goroutine.
type Encoder struct{ z *zstd.Encoder }

// NewEncoder returns an encoder.
func NewEncoder() (*Encoder, error) {
	z, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(512<<10),
		zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, fmt.Errorf("batch encoder: %w", err)
	}
	return &Encoder{z}, nil
}

// Encode appends the payload of the raw form of a batch to dst.
func (e *Encoder) Encode(dst, raw []byte) []byte { return e.z.EncodeAll(raw, dst) }

// A Decoder reads payloads. It is for one goroutine.
type Decoder struct {
	z   *zstd.Decoder
	buf []byte
}

// NewDecoder returns a decoder. Close frees it.
func NewDecoder() (*Decoder, error) {
	z, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxRaw))
	if err != nil {
		return nil, fmt.Errorf("batch decoder: %w", err)
	}
	return &Decoder{z: z}, nil
}

// Decode calls f with each record of a payload. The record is the callee's to
// keep. What was handed to f before a *FrameError is not to be trusted.
func (d *Decoder) Decode(payload []byte, f func(*event.SpoolRecord) error) error {
	if len(payload) > MaxPayload {
		return &FrameError{Reason: "payload too large"}
	}
	raw, err := d.z.DecodeAll(payload, d.buf[:0])
	if err != nil {
		return &FrameError{Reason: "payload", Err: err}
	}
	if d.buf = raw; cap(raw) > 1<<20 {
		d.buf = nil
	}
	return Records(raw, f)
}

// Close frees the decoder.
func (d *Decoder) Close() { d.z.Close() }
