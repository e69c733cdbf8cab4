package sensor

import "encoding/binary"

// Bounds of what is kept of unfinished messages.
const (
	maxTCPStreams = 64
	maxTCPMessage = 4096
)

type tcpKey struct {
	cookie uint64
	egress bool
}

// A tcpStream is one direction of a connection to a name server.
type tcpStream struct {
	next uint32 // number of the byte that comes next
	skip int    // bytes of a message that are not wanted any more
	buf  []byte // of a message that is not complete, with its length before it
	used uint64
}

// tcpStreams puts the messages of DNS over TCP together: each has its length
// in two bytes before it (RFC 1035 section 4.2.2) and lies in segments as it
// falls, often the length alone in one. The stream that was used longest ago
// makes room for a new one.
type tcpStreams struct {
	streams map[tcpKey]*tcpStream
	clock   uint64
}

// segment takes a segment and calls message for each message that ends in it,
// or of which no more will be had. have is the beginning of the segment's
// payload, of length bytes in all; seq is the number of its first byte.
func (t *tcpStreams) segment(key tcpKey, seq uint32, have []byte, length int, message func([]byte)) {
	if len(have) > length {
		have = have[:length]
	}
	if t.streams == nil {
		t.streams = make(map[tcpKey]*tcpStream)
	}
	t.clock++
	s := t.streams[key]
	if s == nil {
		if len(t.streams) >= maxTCPStreams {
			t.evict()
		}
		s = &tcpStream{next: seq}
		t.streams[key] = s
	}
	s.used = t.clock
	if d := int32(seq - s.next); d != 0 {
		if d < 0 && int(-d) >= length {
			return // sent again
		}
		// A segment is missing. A message begins here, or else it is not read.
		*s = tcpStream{used: t.clock}
	}
	s.next = seq + uint32(length)
	missing := length - len(have)
	for len(have) > 0 || missing > 0 {
		if s.skip > 0 {
			n := min(s.skip, len(have))
			have, s.skip = have[n:], s.skip-n
			n = min(s.skip, missing)
			missing, s.skip = missing-n, s.skip-n
			if len(have) == 0 && missing > 0 {
				return // a message begins in what is missing
			}
			continue
		}
		if len(s.buf) < 2 {
			if len(have) == 0 {
				s.buf = nil // a length lies in what is missing
				return
			}
			s.buf = append(s.buf, have[0])
			have = have[1:]
			continue
		}
		size := int(binary.BigEndian.Uint16(s.buf))
		n := min(size-(len(s.buf)-2), len(have), max(0, maxTCPMessage-len(s.buf)))
		s.buf = append(s.buf, have[:n]...)
		have = have[n:]
		left := size - (len(s.buf) - 2)
		switch {
		case left == 0, missing > 0 && len(have) == 0, len(s.buf) >= maxTCPMessage:
			if size > 0 {
				message(s.buf[2:])
			}
			s.buf, s.skip = nil, left
		case len(have) == 0:
			return // more comes
		}
	}
}

func (t *tcpStreams) evict() {
	var oldest tcpKey
	first := true
	for k, s := range t.streams {
		if first || s.used < t.streams[oldest].used {
			oldest, first = k, false
		}
	}
	delete(t.streams, oldest)
}
