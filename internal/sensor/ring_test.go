//go:build linux && (amd64 || arm64)

package sensor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
)

// A fakeRing is a ring whose writer is the test.
type fakeRing struct {
	ring
	cons, prod uint64
}

func newFakeRing(size int) *fakeRing {
	f := &fakeRing{}
	f.ring = ring{consPos: &f.cons, prodPos: &f.prod, data: make([]byte, size), mask: uint64(size - 1)}
	return f
}

// write puts a record in as the kernel does; false when there is no room.
func (f *fakeRing) write(b []byte, flags uint32) bool {
	next := uint64(ringHeader + (len(b)+7)&^7)
	if f.prod-f.cons+next > uint64(len(f.data)) {
		return false
	}
	at := f.prod & f.mask
	binary.LittleEndian.PutUint32(f.data[at:], uint32(len(b))|flags)
	for i, c := range b {
		f.data[(at+ringHeader+uint64(i))&f.mask] = c
	}
	f.prod += next
	return true
}

// TestRingAroundTheEnd writes records of all sizes into a small buffer many
// times around: each comes out whole, also those that lie around its end.
func TestRingAroundTheEnd(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	f := newFakeRing(1024)
	var want [][]byte
	around, wrote, read := 0, 0, 0
	take := func(b []byte) {
		if !bytes.Equal(b, want[0]) {
			t.Fatalf("record %d is %x, want %x", read, b, want[0])
		}
		want, read = want[1:], read+1
	}
	for wrote < 5000 {
		b := make([]byte, rnd.IntN(300))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		from := (f.prod + ringHeader) & f.mask
		flags := uint32(0)
		if rnd.IntN(10) == 0 {
			flags = ringDiscard
		}
		if !f.write(b, flags) {
			if err := f.drain(take); err != nil {
				t.Fatal(err)
			}
			continue
		}
		wrote++
		if flags == 0 {
			want = append(want, b)
		} else {
			read++
		}
		if from+uint64(len(b)) > uint64(len(f.data)) {
			around++
		}
	}
	if err := f.drain(take); err != nil {
		t.Fatal(err)
	}
	if read != wrote || len(want) > 0 || around == 0 {
		t.Errorf("%d of %d records came out, %d lay around the end", read, wrote, around)
	}
}

// TestRingDamaged: a length beyond what was written ends the reading.
func TestRingDamaged(t *testing.T) {
	f := newFakeRing(1024)
	if !f.write(make([]byte, 16), 0) {
		t.Fatal("no room")
	}
	binary.LittleEndian.PutUint32(f.data, 4096)
	if err := f.drain(func([]byte) { t.Error("a record came out") }); !errors.Is(err, errRing) {
		t.Errorf("got %v, want %v", err, errRing)
	}
}
