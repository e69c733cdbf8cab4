package replay_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/schema"
	"github.com/clewsec/clew/internal/sensor/replay"
	"github.com/clewsec/clew/internal/stream"
)

func recording(t *testing.T, events int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := stream.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	recs := []*event.StreamRecord{{Seq: 1, RunStart: &event.RunStart{Run: 7, Seed: make([]byte, 32), Schema: schema.Version}}}
	for i := range events {
		recs = append(recs, &event.StreamRecord{Seq: uint64(i + 2), Canary: &event.Canary{Nonce: uint64(i)}})
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

func source(t *testing.T, b []byte) *replay.Source {
	t.Helper()
	s, err := replay.New(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestPlaysAll(t *testing.T) {
	b := recording(t, 5)
	var ids []string
	for range 2 {
		s := source(t, b)
		var got []*event.StreamRecord
		if err := s.Run(t.Context(), func(r *event.StreamRecord) error { got = append(got, r); return nil }); err != nil {
			t.Fatal(err)
		}
		if len(got) != 6 || got[0].RunStart == nil || got[5].Canary.Nonce != 4 {
			t.Fatalf("%d records", len(got))
		}
		start := got[0].RunStart
		if !start.Recording || uuid.Validate(start.HostID) != nil || start != s.Start() {
			t.Errorf("run start %+v", start)
		}
		ids = append(ids, start.HostID)
	}
	if ids[0] != ids[1] {
		t.Errorf("agent ids %v of one recording", ids)
	}
}

func TestEndsEarly(t *testing.T) {
	b := recording(t, 5)
	full := errors.New("full")
	if err := source(t, b).Run(t.Context(), func(*event.StreamRecord) error { return full }); !errors.Is(err, full) {
		t.Errorf("error %v, want the sink's", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := source(t, b).Run(ctx, func(*event.StreamRecord) error { n++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("error %v after %d records", err, n)
	}
	var corrupt *stream.CorruptError
	if _, err := replay.New(bytes.NewReader([]byte("text"))); !errors.As(err, &corrupt) {
		t.Errorf("error %v", err)
	}
	long := recording(t, 100_000)
	if err := source(t, long[:len(long)-2]).Run(t.Context(), func(*event.StreamRecord) error { return nil }); !errors.As(err, &corrupt) {
		t.Errorf("a recording that was cut off ends with %v", err)
	}
}
