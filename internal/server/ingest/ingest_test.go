package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/live"
	"github.com/clewsec/clew/internal/store"
	"github.com/clewsec/clew/internal/store/sqlite"
	"github.com/clewsec/clew/internal/store/storetest"
	"github.com/clewsec/clew/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pack(t testing.TB, agent string, run uint64, recs []*event.SpoolRecord) *clewv1.Batch {
	t.Helper()
	var raw []byte
	for _, r := range recs {
		var err error
		if raw, err = wire.AppendRecord(raw, r); err != nil {
			t.Fatal(err)
		}
	}
	enc, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	first, last := recs[0].Seq, recs[len(recs)-1].Seq
	return &clewv1.Batch{Id: wire.BatchID(agent, run, first), AgentId: agent, Run: run, FirstSeq: first, LastSeq: last, Payload: enc.Encode(nil, raw)}
}

// BenchmarkTake is everything that is done for a batch but the network: decode,
// check, store, fold into stories, hand on.
func BenchmarkTake(b *testing.B) {
	for _, size := range []int{250, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			st, err := sqlite.Open(context.Background(), sqlite.Config{Dir: b.TempDir()}, time.Now)
			if err != nil {
				b.Fatal(err)
			}
			defer st.Close()
			h := New(Config{Store: st, Fold: live.NewStories(live.NewSource(st), time.Now), Tail: live.NewTail(), Agents: live.NewAgents(time.Now), Aside: b.TempDir(), Log: slog.New(slog.DiscardHandler)})
			dec, err := wire.NewDecoder()
			if err != nil {
				b.Fatal(err)
			}
			defer dec.Close()
			hello := &clewv1.Hello{AgentId: storetest.Agent1}
			var n uint64 = 4
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				batch := pack(b, storetest.Agent1, 7, storetest.Events(7, n, size))
				b.StartTimer()
				if _, err := h.take(context.Background(), dec, hello, batch); err != nil {
					b.Fatal(err)
				}
				n += uint64(size)
			}
			b.ReportMetric(float64(n-4)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

var _ Folder = (*live.Stories)(nil)

var _ store.Store = (*sqlite.DB)(nil)
