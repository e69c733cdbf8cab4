package stream_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/schema"
	"github.com/clewsec/clew/internal/stream"
)

func start() *event.StreamRecord {
	return &event.StreamRecord{Seq: 1, BootNS: 5, RunStart: &event.RunStart{
		Run: 7, Seed: bytes.Repeat([]byte{3}, 32), BootID: "b", Hostname: "recorded-host",
		Schema: schema.Version, Version: "v1", Recording: true,
	}}
}

func records() []*event.StreamRecord {
	return []*event.StreamRecord{
		start(),
		{Seq: 2, Clock: &event.Clock{OffsetNS: 1 << 40}},
		{Seq: 3, Snapshot: &event.Process{PID: 1, Comm: "init", AllArgs: []string{"/sbin/init", ""}}},
		{Seq: 4, SnapshotEnd: &event.SnapshotEnd{Processes: 1}},
		{Seq: 5, BootNS: 9, Event: &event.Event{
			Kind: event.KindExec, PID: 2, StartNS: 8,
			Exec: &event.Exec{Image: &event.Process{PID: 2, File: event.File{Path: "/bin/sh"}}},
		}},
		{Seq: 6, Lost: &event.Lost{Reason: "ring_full_bulk", Count: 3, Where: "kernel"}},
		{Seq: 7, Canary: &event.Canary{Nonce: 1 << 63}},
	}
}

func encode(t testing.TB, recs ...*event.StreamRecord) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := stream.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decode(b []byte) ([]*event.StreamRecord, error) {
	r, err := stream.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var out []*event.StreamRecord
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, rec)
	}
}

func TestRoundTrip(t *testing.T) {
	want := records()
	got, err := decode(encode(t, want...))
	if err != nil {
		t.Fatal(err)
	}
	opt := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".IP" }, cmp.Ignore())
	if d := cmp.Diff(want, got, opt); d != "" {
		t.Errorf("records differ (-want +got):\n%s", d)
	}
	if !bytes.Equal(encode(t, want...), encode(t, got...)) {
		t.Error("the same records do not give the same bytes")
	}
}

func TestFirstRecordIsRunStart(t *testing.T) {
	w, err := stream.NewWriter(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(&event.StreamRecord{Clock: &event.Clock{}}); err == nil {
		t.Error("a recording without a run start was written")
	}
}

func raw(t testing.TB, body []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithWindowSize(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(body, nil)
}

func framed(recs ...*event.StreamRecord) []byte {
	var b []byte
	for _, r := range recs {
		body := event.AppendStreamRecord(nil, r)
		b = append(binary.AppendUvarint(b, uint64(len(body))), body...)
	}
	return b
}

func TestRefused(t *testing.T) {
	newer := start()
	newer.RunStart.Schema, newer.RunStart.Version = schema.Version+1, "v9.9"
	// A record of empty processes: small on disk, a gigabyte in memory.
	bomb := []byte{1<<3 | 0, 1}
	state := bytes.Repeat([]byte{2<<3 | 2, 0}, 1<<19)
	bomb = append(bomb, 8<<3|2)
	bomb = append(binary.AppendUvarint(bomb, uint64(len(state))), state...)

	for _, tt := range []struct {
		name string
		in   []byte
		want string
	}{
		{"empty", nil, "no record at all"},
		{"empty stream", raw(t, nil), "no record at all"},
		{"not zstd", []byte("hello, this is a text file"), "this is no recording"},
		{"no run start", raw(t, framed(&event.StreamRecord{Clock: &event.Clock{OffsetNS: 1}})), "no run start"},
		{"newer", encode(t, newer), "made by a newer clew (v9.9, schema 2)"},
		{"length beyond the limit", raw(t, binary.AppendUvarint(nil, stream.MaxRecord+1)), "the most is"},
		{"length beyond the end", raw(t, binary.AppendUvarint(framed(start()), 1<<20)), "record 1: body"},
		{"body of nonsense", raw(t, append(framed(start()), 2, 0xff, 0xff)), "record 1: body"},
		{"amplification", raw(t, append(binary.AppendUvarint(framed(start()), uint64(len(bomb))), bomb...)), "too many parts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decode(tt.in)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			var corrupt *stream.CorruptError
			var newer *stream.NewerError
			if !errors.As(err, &corrupt) && !errors.As(err, &newer) {
				t.Errorf("error of type %T", err)
			}
		})
	}
}

// A recording that was cut off gives every whole record it has, then says so.
func TestCutOff(t *testing.T) {
	whole := encode(t, records()...)
	for n := range whole {
		got, err := decode(whole[:n])
		if err == nil {
			t.Fatalf("%d of %d bytes: no error, %d records", n, len(whole), len(got))
		}
	}
}

func TestHostID(t *testing.T) {
	a, b := start().RunStart, start().RunStart
	b.Run++
	if stream.HostID(a) != stream.HostID(start().RunStart) {
		t.Error("one recording has two host ids")
	}
	if stream.HostID(a) == stream.HostID(b) {
		t.Error("two recordings share a host id")
	}
	b.HostID = "0d9a2b3e-0000-4000-8000-000000000001"
	if got := stream.HostID(b); got != b.HostID {
		t.Errorf("host id %q, want the recording's own", got)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(encode(f, records()...))
	f.Add(raw(f, framed(start())))
	f.Add(raw(f, append(framed(start()), 2, 0xff, 0xff)))
	f.Fuzz(func(t *testing.T, b []byte) {
		recs, err := decode(b)
		if err != nil && len(recs) == 0 {
			return
		}
		// What was read can be written and read again.
		again, err := decode(encode(t, recs...))
		if err != nil || len(again) != len(recs) {
			t.Fatalf("%d records became %d: %v", len(recs), len(again), err)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	recs := records()
	for range 10 {
		recs = append(recs, recs[1:]...)
	}
	data := encode(b, recs...)
	b.ReportAllocs()
	for b.Loop() {
		got, err := decode(data)
		if err != nil || len(got) != len(recs) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(recs)), "ns/record")
}
