package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"google.golang.org/protobuf/proto"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/wire"
)

// A segment file is a header and frames:
//
//	offset  size  header of the file
//	0       7     "clewspl"
//	7       1     version of the format, 1
//
//	offset  size  frame
//	0       4     length of the body, little endian, as are all numbers
//	4       4     records in the batch
//	8       8     when the batch was cut, ns since the epoch
//	16      4     CRC-32C of the 16 bytes before it and of the body
//	20      …     body: clew.v1.Batch
const (
	magic       = "clewspl"
	version     = 1
	headerSize  = int64(len(magic)) + 1
	frameHeader = 20
	maxBody     = wire.MaxPayload + 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A NewerError says that a segment was written by a later clew.
type NewerError struct {
	Path    string
	Version int
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("spool segment %s: written by a newer clew (format %d, this one knows %d)", e.Path, e.Version, version)
}

func appendHeader(b []byte) []byte { return append(append(b, magic...), version) }

// appendFrame appends the frame of a batch.
func appendFrame(b []byte, batch *clewv1.Batch, records uint32, atNS int64) ([]byte, error) {
	at := len(b)
	b = append(b, make([]byte, frameHeader)...)
	b, err := proto.MarshalOptions{}.MarshalAppend(b, batch)
	if err != nil {
		return b[:at], fmt.Errorf("batch %s: %w", batch.Id, err)
	}
	body := len(b) - at - frameHeader
	if body > maxBody {
		return b[:at], fmt.Errorf("batch %s: %d bytes, the most is %d", batch.Id, body, maxBody)
	}
	h := b[at:]
	binary.LittleEndian.PutUint32(h[0:], uint32(body))
	binary.LittleEndian.PutUint32(h[4:], records)
	binary.LittleEndian.PutUint64(h[8:], uint64(atNS))
	binary.LittleEndian.PutUint32(h[16:], checksum(h))
	return b, nil
}

// checksum is that of a whole frame, over everything but itself.
func checksum(frame []byte) uint32 {
	return crc32.Update(crc32.Checksum(frame[:16], castagnoli), castagnoli, frame[frameHeader:])
}

// A frame is one batch in a segment. Its body is only valid until the next
// frame is read.
type frame struct {
	off, end int64
	records  uint32
	atNS     int64
	body     []byte
}

func (f *frame) batch() (*clewv1.Batch, error) {
	b := new(clewv1.Batch)
	if err := proto.Unmarshal(f.body, b); err != nil {
		return nil, err
	}
	return b, nil
}

// A frameReader reads the frames of a segment.
type frameReader struct {
	r   io.ReaderAt
	buf []byte
}

// at reads the frame at off of a segment of size bytes. When there is no whole
// frame it returns ok = false; end is then where the next would begin, if the
// length that is written there is to be believed, and 0 if it is not.
func (r *frameReader) at(off, size int64) (f frame, ok bool, err error) {
	if size-off < frameHeader {
		return frame{off: off}, false, nil
	}
	if cap(r.buf) < frameHeader {
		r.buf = make([]byte, frameHeader, 64<<10)
	}
	b := r.buf[:frameHeader]
	if err := readFull(r.r, b, off); err != nil {
		return frame{off: off}, false, err
	}
	length := int64(binary.LittleEndian.Uint32(b))
	if length > maxBody || length > size-off-frameHeader {
		return frame{off: off}, false, nil
	}
	if need := frameHeader + int(length); cap(r.buf) < need {
		grown := make([]byte, need)
		copy(grown, b)
		r.buf = grown
	}
	b = r.buf[:frameHeader+length]
	if err := readFull(r.r, b[frameHeader:], off+frameHeader); err != nil {
		return frame{off: off}, false, err
	}
	f = frame{
		off: off, end: off + frameHeader + length,
		records: binary.LittleEndian.Uint32(b[4:]),
		atNS:    int64(binary.LittleEndian.Uint64(b[8:])),
		body:    b[frameHeader:],
	}
	return f, checksum(b) == binary.LittleEndian.Uint32(b[16:]), nil
}

// next reads the first whole frame at or after off. A damaged one is passed
// over when a whole one follows it. It returns ok = false when there is no
// more; f.off is then where the segment stops making sense. damaged counts
// the frames that were passed over.
func (r *frameReader) next(off, size int64) (f frame, ok bool, damaged int, err error) {
	for {
		f, ok, err = r.at(off, size)
		if ok || err != nil {
			return f, ok, damaged, err
		}
		if f.end == 0 || f.end >= size {
			return f, false, damaged, nil
		}
		bad := f.off
		if _, ok, err := r.at(f.end, size); err != nil || !ok {
			return frame{off: bad}, false, damaged, err
		}
		damaged++
		off = f.end
	}
}

// readFull is ReadAt that knows only whole reads.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// checkHeader tells whether a segment of size bytes begins as one. A segment
// that is shorter than its header was being made when the agent died.
func checkHeader(r io.ReaderAt, path string, size int64) (ok bool, err error) {
	if size < headerSize {
		return false, nil
	}
	var b [headerSize]byte
	if err := readFull(r, b[:], 0); err != nil {
		return false, err
	}
	if string(b[:len(magic)]) != magic {
		return false, nil
	}
	if v := int(b[len(magic)]); v != version {
		return false, &NewerError{Path: path, Version: v}
	}
	return true, nil
}
