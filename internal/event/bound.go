package event

import "google.golang.org/protobuf/encoding/protowire"

// MaxElements is the most parts that Bounded lets a record have.
const MaxElements = 1 << 17

// Bounded tells whether the encoded StreamRecord or SpoolRecord b may be
// decoded without allocating far more than its size: two bytes are enough to
// say "another, empty process", which becomes a kilobyte in memory. A record
// of ordinary size always passes; a large one must not have more than
// MaxElements parts.
func Bounded(b []byte) bool {
	const ordinary = 64 << 10
	if len(b) <= ordinary {
		return true
	}
	parts := 0
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return false
		}
		if parts++; parts > MaxElements {
			return false
		}
		if typ == protowire.BytesType {
			inner, _ := protowire.ConsumeBytes(b)
			for len(inner) > 0 {
				_, _, n := protowire.ConsumeField(inner)
				if n < 0 {
					return false
				}
				inner = inner[n:]
				if parts++; parts > MaxElements {
					return false
				}
			}
		}
		b = b[n:]
	}
	return true
}
