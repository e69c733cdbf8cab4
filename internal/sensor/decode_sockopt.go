//go:build linux && (amd64 || arm64)

package sensor

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"

	"github.com/clewsec/clew/internal/event"
)

func (d *decoder) socket(rec *record, b []byte) bool {
	r, ok := fill[sockopt_tpRecSocket](b)
	if !ok {
		return false
	}
	h, _ := fill[procRecHdr](b)
	rec.ev = d.event(event.KindSocket, h)
	// SOCK_NONBLOCK and SOCK_CLOEXEC say nothing about the socket.
	rec.ev.Socket = &event.Socket{Domain: int64(r.Domain), Type: int64(r.Type & 0xf), Protocol: int64(r.Protocol), Retval: int64(r.Retval)}
	return true
}

func (d *decoder) sockopt(rec *record, b []byte) bool {
	r, ok := fill[sockopt_tpRecSockopt](b)
	if !ok {
		return false
	}
	h, _ := fill[procRecHdr](b)
	rec.ev = d.event(event.KindSetsockopt, h)
	s := &event.Setsockopt{
		SocketType: int64(r.Type), SocketFamily: int64(r.Family), SocketProtocol: int64(r.Protocol), Level: int64(r.Level),
		Optname: int64(r.Optname), FilterLen: int64(r.FilterLen), Retval: int64(r.Retval),
	}
	rec.ev.Setsockopt = s
	if r.FilterLen == 0 {
		return true
	}
	raw := str(b, procRecStr{Off: r.Filter.Off, Len: r.Filter.Len})
	s.IsFilterTruncated = len(raw) < 8*int(r.FilterLen)
	s.FilterInstructions, s.UsedImmediates = disassemble(raw)
	sum := sha256.Sum256(raw)
	s.FilterHash = hex.EncodeToString(sum[:])
	return true
}

// disassemble writes the instructions of a classic packet filter, one a line,
// and collects the constants that they load, compute with or compare to, in
// the order in which they first appear.
func disassemble(raw []byte) (text string, constants []int64) {
	var out strings.Builder
	for at := 0; at+8 <= len(raw); at += 8 {
		in := bpf.RawInstruction{
			Op: binary.LittleEndian.Uint16(raw[at:]), Jt: raw[at+2], Jf: raw[at+3], K: binary.LittleEndian.Uint32(raw[at+4:]),
		}
		if at > 0 {
			out.WriteByte('\n')
		}
		var k uint32
		used := true
		switch x := in.Disassemble().(type) {
		case bpf.RawInstruction:
			out.WriteString(".raw ")
			for i, v := range []uint64{uint64(x.Op), uint64(x.Jt), uint64(x.Jf), uint64(x.K)} {
				if i > 0 {
					out.WriteByte(',')
				}
				out.WriteString(strconv.FormatUint(v, 10))
			}
			used = false
		case bpf.LoadConstant:
			out.WriteString(x.String())
			k = x.Val
		case bpf.ALUOpConstant:
			out.WriteString(x.String())
			k = x.Val
		case bpf.JumpIf:
			out.WriteString(x.String())
			k = x.Val
		default:
			if s, ok := x.(interface{ String() string }); ok {
				out.WriteString(s.String())
			}
			used = false
		}
		if used && !slices.Contains(constants, int64(k)) && len(constants) < maxConstants {
			constants = append(constants, int64(k))
		}
	}
	return out.String(), constants
}

// maxConstants bounds the constants of one event.
const maxConstants = 256
