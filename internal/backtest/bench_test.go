package backtest_test

import (
	"context"
	"flag"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/backtest"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/store"
	"github.com/clewsec/clew/internal/store/storetest"
	"github.com/clewsec/clew/rules"
)

var benchEvents = flag.Int("events", 100_000, "events in the store of BenchmarkStored")

// fill stores generated events of a run, and returns the time of the last.
func fill(b *testing.B, st store.Store, run uint64, events int) (last int64) {
	b.Helper()
	const size = 500
	start := []*event.SpoolRecord{{Seq: 1, RunStart: &event.RunStart{Run: run, HostID: storetest.Agent1, Hostname: "web-1", At: storetest.Epoch}}}
	for first := 4; first < 4+events; first += size {
		recs := storetest.Events(run, uint64(first), min(size, 4+events-first))
		last = recs[len(recs)-1].Event.TimeNS
		if start != nil {
			recs, start = append(start, recs...), nil
		}
		if _, err := st.Append(context.Background(), storetest.Batch(storetest.Agent1, run, recs)); err != nil {
			b.Fatal(err)
		}
	}
	return last
}

// cpu is the time that this process has had a processor.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkStored evaluates the shipped rules, and one for a single kind, on a
// store of execs, opens, connects and exits, of each as many.
func BenchmarkStored(b *testing.B) {
	st := openStore(b)
	last := fill(b, st, 7, *benchEvents)
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
			stored, eval := 0, 0.0
			began := cpu(b)
			for b.Loop() {
				res, err := backtest.Stored(context.Background(), cfg, backtest.Request{From: storetest.Epoch, To: last + 1})
				if err != nil {
					b.Fatal(err)
				}
				stored += *benchEvents
				eval += res.NsPerEvent
			}
			b.ReportMetric(float64(stored)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(stored)/(cpu(b)-began).Seconds(), "events/cpu-s")
			b.ReportMetric(eval/float64(b.N), "eval-ns/event")
		})
	}
}

// BenchmarkBeside stores batches of 500 events, alone and beside as many
// back-tests as may run at once.
func BenchmarkBeside(b *testing.B) {
	st := openStore(b)
	last := fill(b, st, 7, *benchEvents)
	load := compile(b, "rules:\n  - {id: x, expression: 'exec.file.name == \"curl\" && process.ancestors.file.name == \"nginx\"'}\n  - {id: y, expression: open.file.name == \"y\"}\n")
	run := uint64(100)
	for _, c := range []struct {
		name  string
		tests int
	}{{"0", 0}, {"1", 1}, {"2", 2}} {
		b.Run(c.name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			for range c.tests {
				wg.Go(func() {
					cfg := backtest.Config{Store: st, Load: load, Now: time.Now, Pause: backtest.Pace(func(ctx context.Context) (int64, error) {
						s, err := st.Stats(ctx)
						return s.Events, err
					}, time.Now)}
					for ctx.Err() == nil {
						// Its error is that of the end.
						_, _ = backtest.Stored(ctx, cfg, backtest.Request{From: storetest.Epoch, To: last + 1})
					}
				})
			}
			run++
			seq := uint64(4)
			for b.Loop() {
				b.StopTimer()
				batch := storetest.Batch(storetest.Agent1, run, storetest.Events(run, seq, 500))
				seq += 500
				b.StartTimer()
				if _, err := st.Append(ctx, batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(500*b.N)/b.Elapsed().Seconds(), "events/s")
			cancel()
			wg.Wait()
		})
	}
}
