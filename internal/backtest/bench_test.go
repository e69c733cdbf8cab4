package backtest_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/backtest"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/store/storetest"
	"github.com/clewsec/clew/rules"
)

var benchEvents = flag.Int("events", 100_000, "events in the store of BenchmarkStored")

// BenchmarkStored evaluates the shipped rules on a store of execs, opens,
// connects and exits, of each as many. One operation is one event.
func BenchmarkStored(b *testing.B) {
	st := openStore(b)
	const run, size = 7, 500
	start := []*event.SpoolRecord{{Seq: 1, RunStart: &event.RunStart{Run: run, HostID: storetest.Agent1, Hostname: "web-1", At: storetest.Epoch}}}
	var last int64
	for first := 4; first < 4+*benchEvents; first += size {
		recs := storetest.Events(run, uint64(first), min(size, 4+*benchEvents-first))
		last = recs[len(recs)-1].Event.TimeNS
		if start != nil {
			recs, start = append(start, recs...), nil
		}
		if _, err := st.Append(context.Background(), storetest.Batch(storetest.Agent1, run, recs)); err != nil {
			b.Fatal(err)
		}
	}
	files, err := ruleset.ReadFiles(rules.FS, ".", "shipped")
	if err != nil {
		b.Fatal(err)
	}
	for name, policies := range map[string][]ruleset.File{
		"shipped": files,
		"exec":    {{Name: "x.policy", Data: []byte("rules:\n  - {id: x, expression: exec.file.name == \"curl\"}\n")}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			cfg := backtest.Config{Store: st, Load: backtest.Compile(policies), Now: time.Now}
			events, looked, eval := uint64(0), uint64(0), 0.0
			for b.Loop() {
				res, err := backtest.Stored(context.Background(), cfg, backtest.Request{From: storetest.Epoch, To: last + 1})
				if err != nil {
					b.Fatal(err)
				}
				events += res.Events
				looked += uint64(*benchEvents)
				eval += res.NsPerEvent * float64(res.Events)
			}
			b.ReportMetric(float64(looked)/b.Elapsed().Seconds(), "stored/s")
			b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "evaluated/s")
			b.ReportMetric(eval/float64(events), "eval-ns/event")
		})
	}
}
