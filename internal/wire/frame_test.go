package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/clewsec/clew/internal/event"
)

func spoolRecords() []*event.SpoolRecord {
	return []*event.SpoolRecord{
		{Seq: 1, RunStart: &event.RunStart{Run: 9, HostID: "h", Mode: "none"}},
		{Seq: 2, Canary: &event.Canary{Nonce: 1}},
		{Seq: 3, Lost: &event.Lost{Reason: strings.Repeat("x", 100)}},
		{Seq: 4, Lost: &event.Lost{Reason: strings.Repeat("y", 200)}},
		{Seq: 5, Lost: &event.Lost{Reason: strings.Repeat("z", 20000)}},
		{Seq: 6, Context: &event.Context{Key: "sudo_1", Layer: "sudo", Priority: 48}},
		{},
	}
}

func payload(t testing.TB, recs []*event.SpoolRecord) []byte {
	t.Helper()
	var raw []byte
	for _, r := range recs {
		var err error
		if raw, err = AppendRecord(raw, r); err != nil {
			t.Fatal(err)
		}
	}
	enc, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	return enc.Encode(nil, raw)
}

func decodeAll(t testing.TB, p []byte) ([]*event.SpoolRecord, error) {
	t.Helper()
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var out []*event.SpoolRecord
	err = d.Decode(p, func(r *event.SpoolRecord) error {
		out = append(out, r)
		return nil
	})
	return out, err
}

func TestPayload(t *testing.T) {
	want := spoolRecords()
	got, err := decodeAll(t, payload(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("records differ (-want +got):\n%s", d)
	}
}

func TestRecordTooLarge(t *testing.T) {
	small, err := AppendRecord(nil, spoolRecords()[0])
	if err != nil {
		t.Fatal(err)
	}
	big := &event.SpoolRecord{Lost: &event.Lost{Reason: strings.Repeat("x", MaxRecord)}}
	got, err := AppendRecord(small, big)
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v", err)
	}
	if !bytes.Equal(got, small) {
		t.Error("the batch is not as it was before")
	}
}

func TestPayloadRefused(t *testing.T) {
	enc, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		in   []byte
		want string
	}{
		{"not zstd", []byte("nonsense"), "payload"},
		{"too large", make([]byte, MaxPayload+1), "payload too large"},
		{"bomb", enc.Encode(nil, make([]byte, MaxRaw+1)), "payload"},
		{"length beyond the end", enc.Encode(nil, []byte{5, 1}), "length beyond the end"},
		{"length without end", enc.Encode(nil, []byte{0x80}), "length beyond the end"},
		{"record too large", enc.Encode(nil, append(binary.AppendUvarint(nil, MaxRecord+1), make([]byte, MaxRecord+1)...)), "too large"},
		{"body of nonsense", enc.Encode(nil, []byte{2, 0xff, 0xff}), "body"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decodeAll(t, tt.in)
			var fe *FrameError
			if !errors.As(err, &fe) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want a FrameError with %q", err, tt.want)
			}
		})
	}
}

func TestBatchID(t *testing.T) {
	if got, want := BatchID("a-b", 0x1f, 12), "a-b-000000000000001f-12"; got != want {
		t.Errorf("id %q, want %q", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(payload(f, spoolRecords()))
	f.Add([]byte{})
	f.Add([]byte("nonsense"))
	f.Fuzz(func(t *testing.T, b []byte) {
		recs, err := decodeAll(t, b)
		if err != nil {
			return
		}
		again, err := decodeAll(t, payload(t, recs))
		if err != nil || len(again) != len(recs) {
			t.Fatalf("%d records became %d: %v", len(recs), len(again), err)
		}
	})
}

func BenchmarkAppendRecord(b *testing.B) {
	rec := spoolRecords()[3]
	buf := make([]byte, 0, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendRecord(buf, rec); err != nil {
			b.Fatal(err)
		}
	}
}
