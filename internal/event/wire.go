// The parts of the binary form that generated code calls. The form is that of
// protobuf (proto/clew/v1/event.proto), written without reflection because it
// is on the path of every event.

package event

import (
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"
)

// A WireError says that bytes are not the encoding of a message.
type WireError struct {
	Message string
	Reason  string
}

func (e *WireError) Error() string {
	if e.Message == "" {
		return "decode: " + e.Reason
	}
	return "decode " + e.Message + ": " + e.Reason
}

func wireError(msg string, n int) error {
	return &WireError{Message: msg, Reason: protowire.ParseError(n).Error()}
}

// appendUint appends a varint. Most have one byte, which takes no call.
func appendUint(b []byte, v uint64) []byte {
	if v < 0x80 {
		return append(b, byte(v))
	}
	return protowire.AppendVarint(b, v)
}

// appendText appends a string after its length.
func appendText(b []byte, s string) []byte {
	return append(appendUint(b, uint64(len(s))), s...)
}

func appendMessage[T any](b []byte, num protowire.Number, x *T, f func([]byte, *T) []byte) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	// The length is not known yet: one byte is kept for it, which most
	// messages need, and the body moves up when it is longer.
	at := len(b)
	b = append(b, 0)
	b = f(b, x)
	n := len(b) - at - 1
	size := protowire.SizeVarint(uint64(n))
	if size > 1 {
		for range size - 1 {
			b = append(b, 0)
		}
		copy(b[at+size:], b[at+1:at+1+n])
	}
	protowire.AppendVarint(b[:at], uint64(n))
	return b
}

// appendValue leaves out a message that has no field set.
func appendValue[T any](b []byte, num protowire.Number, x *T, f func([]byte, *T) []byte) []byte {
	at := len(b)
	b = appendMessage(b, num, x, f)
	if len(b) == at+protowire.SizeTag(num)+1 {
		return b[:at]
	}
	return b
}

func appendIP(b []byte, num protowire.Number, ip netip.Addr) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendBytes(b, ip.WithZone("").AsSlice())
}

func appendRef(b []byte, num protowire.Number, r Ref) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(9+1+protowire.SizeVarint(r.Seq)))
	b = protowire.AppendTag(b, 1, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, r.Run)
	b = protowire.AppendTag(b, 2, protowire.VarintType)
	return protowire.AppendVarint(b, r.Seq)
}

func consumeRef(b []byte, r *Ref) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return wireError("Ref", n)
		}
		b = b[n:]
		switch num {
		case 1:
			v, n, err := consumeFixed64(b, typ)
			if err != nil {
				return err
			}
			r.Run, b = v, b[n:]
		case 2:
			v, n, err := consumeVarint(b, typ)
			if err != nil {
				return err
			}
			r.Seq, b = v, b[n:]
		default:
			n := protowire.ConsumeFieldValue(num, typ, b)
			if n < 0 {
				return wireError("Ref", n)
			}
			b = b[n:]
		}
	}
	return nil
}

// appendInts writes a list of integers, packed.
func appendInts(b []byte, num protowire.Number, list []int64) []byte {
	size := 0
	for _, v := range list {
		size += protowire.SizeVarint(uint64(v))
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	for _, v := range list {
		b = protowire.AppendVarint(b, uint64(v))
	}
	return b
}

// consumeInts reads one part of a list of integers, which may be packed or a
// single one, and returns the list with it appended.
func consumeInts(list []int64, b []byte, typ protowire.Type) ([]int64, int, error) {
	if typ == protowire.VarintType {
		v, n, err := consumeVarint(b, typ)
		return append(list, int64(v)), n, err
	}
	packed, n, err := consumeBytes(b, typ)
	for err == nil && len(packed) > 0 {
		var v uint64
		var m int
		if v, m, err = consumeVarint(packed, protowire.VarintType); err == nil {
			list, packed = append(list, int64(v)), packed[m:]
		}
	}
	return list, n, err
}

func consumeVarint(b []byte, typ protowire.Type) (uint64, int, error) {
	if typ != protowire.VarintType {
		return 0, 0, &WireError{Reason: "a field has another type than expected"}
	}
	v, n := protowire.ConsumeVarint(b)
	if n < 0 {
		return 0, 0, wireError("", n)
	}
	return v, n, nil
}

func consumeFixed64(b []byte, typ protowire.Type) (uint64, int, error) {
	if typ != protowire.Fixed64Type {
		return 0, 0, &WireError{Reason: "a field has another type than expected"}
	}
	v, n := protowire.ConsumeFixed64(b)
	if n < 0 {
		return 0, 0, wireError("", n)
	}
	return v, n, nil
}

func consumeBytes(b []byte, typ protowire.Type) ([]byte, int, error) {
	if typ != protowire.BytesType {
		return nil, 0, &WireError{Reason: "a field has another type than expected"}
	}
	v, n := protowire.ConsumeBytes(b)
	if n < 0 {
		return nil, 0, wireError("", n)
	}
	return v, n, nil
}

func consumeMessage[T any](b []byte, typ protowire.Type, f func([]byte, *T) error) (*T, int, error) {
	v, n, err := consumeBytes(b, typ)
	if err != nil {
		return nil, 0, err
	}
	x := new(T)
	if err := f(v, x); err != nil {
		return nil, 0, err
	}
	return x, n, nil
}
