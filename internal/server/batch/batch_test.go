package batch

import (
	"testing"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/eventview"
	"github.com/clewsec/clew/internal/server/story"
	"github.com/clewsec/clew/internal/store/storetest"
	"github.com/clewsec/clew/internal/wire"
)

func raw(t testing.TB, recs []*event.SpoolRecord) (b []byte) {
	t.Helper()
	for _, r := range recs {
		var err error
		if b, err = wire.AppendRecord(b, r); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// FuzzDecode hands in any records; the frame around them has its own test in
// internal/wire. What is accepted must be fit for all that
// reads it later: stories, views, and the store's own encoding.
func FuzzDecode(f *testing.F) {
	recs := storetest.Events(7, 4, 12)
	recs = append(recs,
		&event.SpoolRecord{RunStart: &event.RunStart{Run: 7, HostID: storetest.Agent1}},
		&event.SpoolRecord{Context: &event.Context{Key: storetest.ContextKey(8), Episodic: true, At: storetest.Epoch}},
		&event.SpoolRecord{Link: &event.ContextLink{FromContext: "a", ToContext: "b", Weight: 1}},
		&event.SpoolRecord{Lost: &event.Lost{Reason: "x", Count: 1 << 63}},
	)
	for i, r := range recs {
		r.Seq = uint64(i + 1)
	}
	f.Add(raw(f, recs))
	f.Add(raw(f, recs[:1]))
	f.Add([]byte{})
	enc, err := wire.NewEncoder()
	if err != nil {
		f.Fatal(err)
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		f.Fatal(err)
	}
	defer dec.Close()
	f.Fuzz(func(t *testing.T, records []byte) {
		got, err := Decode(dec, &clewv1.Batch{Id: "b", FirstSeq: 0, LastSeq: 1 << 62, Payload: enc.Encode(nil, records)})
		if err != nil {
			return
		}
		fold := story.NewFold(story.Config{})
		mem := story.NewMemory()
		for _, r := range got {
			again := new(event.SpoolRecord)
			if err := event.ConsumeSpoolRecord(event.AppendSpoolRecord(nil, r), again); err != nil {
				t.Fatal(err)
			}
			fold.Add(storetest.Agent1, r)
			mem.Add(storetest.Agent1, r)
			if r.Event != nil {
				eventview.View(storetest.Agent1, "h", r.Event, r.Event.Proc, nil)
			}
		}
		for _, h := range fold.Heads(0) {
			if _, err := story.Build(fold, mem, h.ID(), story.Options{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
