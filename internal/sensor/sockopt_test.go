//go:build linux && (amd64 || arm64)

package sensor

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

func TestSockets(t *testing.T) {
	var p kfilter.Plan
	p.Kinds[event.KindSocket].Mode = kfilter.All
	p.Kinds[event.KindSetsockopt].Mode = kfilter.All
	w := startWatch(t, Config{Plan: p, NotSelf: true})
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	e := w.event(event.KindSocket, func(e *event.Event) bool { return e.Socket.Protocol == unix.IPPROTO_ICMP })
	checkActor(t, e)
	if want := (event.Socket{Domain: unix.AF_INET, Type: unix.SOCK_RAW, Protocol: unix.IPPROTO_ICMP, Retval: int64(fd)}); *e.Socket != want {
		t.Errorf("%+v, want %+v", *e.Socket, want)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, 3); err != nil {
		t.Fatal(err)
	}
	e = w.event(event.KindSetsockopt, func(e *event.Event) bool { return e.Setsockopt.Optname == unix.SO_PRIORITY })
	checkActor(t, e)
	if s := e.Setsockopt; s.Level != unix.SOL_SOCKET || s.SocketType != unix.SOCK_RAW || s.SocketFamily != unix.AF_INET ||
		s.SocketProtocol != unix.IPPROTO_ICMP || s.FilterLen != 0 || s.FilterHash != "" || s.Retval != 0 {
		t.Errorf("%+v", s)
	}

	// A filter as those use that wait for a packet with a secret in it.
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 23, Size: 1}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 17, SkipFalse: 2}, bpf.LoadAbsolute{Off: 42, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x5293, SkipTrue: 1}, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: 65535},
	})
	if err != nil {
		t.Fatal(err)
	}
	attach := func(option int, raw []bpf.RawInstruction) error {
		filter := make([]unix.SockFilter, len(raw))
		for i, in := range raw {
			filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
		}
		prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option, &prog)
		clear(filter) // what the caller's memory says afterwards is of no account
		return err
	}
	if err := attach(unix.SO_ATTACH_FILTER, raw); err != nil {
		t.Fatal(err)
	}
	e = w.event(event.KindSetsockopt, func(e *event.Event) bool { return e.Setsockopt.Optname == unix.SO_ATTACH_FILTER })
	checkActor(t, e)
	s := e.Setsockopt
	wantText := "ldb [23]\njneq #17,2\nldh [42]\njeq #21139,1\nret #0\nret #65535"
	if s.FilterLen != 6 || s.IsFilterTruncated || s.FilterInstructions != wantText || !slices.Equal(s.UsedImmediates, []int64{17, 0x5293}) {
		t.Errorf("%+v", s)
	}
	sum := sha256.New()
	for _, in := range raw {
		binary.Write(sum, binary.LittleEndian, in)
	}
	if want := hex.EncodeToString(sum.Sum(nil)); s.FilterHash != want {
		t.Errorf("hash %s, want %s", s.FilterHash, want)
	}
	w.settle()
	w.stop()
	st, err := w.s.Stats()
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, st)
}

// sockoptSamples are records for the decoder's tests.
func sockoptSamples() map[string][]byte {
	var so sockopt_tpRecSocket
	so.Domain, so.Type, so.Protocol, so.Retval = unix.AF_PACKET, unix.SOCK_RAW, 0x300, 5
	var op sockopt_tpRecSockopt
	filter := "\x30\x00\x00\x00\x17\x00\x00\x00\xff\xff\x01\x02\x03\x00\x00\x00"
	op.Level, op.Optname, op.FilterLen, op.Family = unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, 2, unix.AF_PACKET
	op.Filter.Off, op.Filter.Len = uint16(unsafe.Sizeof(op)), uint16(len(filter))
	p := newPack(&op)
	p.b = append(p.b, filter...)
	return map[string][]byte{
		"socket": newPack(&so).done(procRecKindREC_SOCKET), "setsockopt": p.done(procRecKindREC_SETSOCKOPT),
	}
}

func TestDecodeSockopt(t *testing.T) {
	d := newDecoder(nil)
	rec, err := d.decode(sockoptSamples()["setsockopt"])
	if err != nil {
		t.Fatal(err)
	}
	if got, want := rec.ev.Setsockopt.FilterInstructions, "ldb [23]\n.raw 65535,1,2,3"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if rec.ev.Setsockopt.IsFilterTruncated {
		t.Error("a whole filter is called cut")
	}
	var cut sockopt_tpRecSockopt
	cut.FilterLen, cut.Filter.Off = 3000, uint16(unsafe.Sizeof(cut))
	long := newPack(&cut)
	for range 2048 {
		long.b = append(long.b, "\x30\x00\x00\x00\x17\x00\x00\x00"...)
	}
	(*sockopt_tpRecSockopt)(unsafe.Pointer(&long.b[0])).Filter.Len = 16384
	rec, err = d.decode(long.done(procRecKindREC_SETSOCKOPT))
	if err != nil || !rec.ev.Setsockopt.IsFilterTruncated || strings.Count(rec.ev.Setsockopt.FilterInstructions, "\n") != 2047 {
		t.Errorf("%v %+v", err, rec.ev)
	}
	rec, err = d.decode(sockoptSamples()["socket"])
	if err != nil || rec.ev.Socket.Domain != unix.AF_PACKET || rec.ev.Socket.Protocol != 0x300 {
		t.Errorf("%v %+v", err, rec.ev.Socket)
	}
	for name, b := range sockoptSamples() {
		for n := range len(b) {
			if _, err := d.decode(b[:n]); err == nil {
				t.Fatalf("%s cut to %d bytes", name, n)
			}
		}
	}
}
