// Package rulebench measures what a rule set costs an event.
package rulebench

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
)

// Result is what was measured. Durations are in nanoseconds.
type Result struct {
	Events         int     `json:"events"`  // that the set was given, each many times
	Rules          int     `json:"rules"`   // loaded
	Matches        int     `json:"matches"` // of one pass over the events
	NsPerEvent     float64 `json:"nsPerEvent"`
	AllocsPerEvent float64 `json:"allocsPerEvent"`
	P50Ns          int64   `json:"p50Ns"`
	P99Ns          int64   `json:"p99Ns"`
}

// Limits of one measurement: how long each of its two halves may take, and how
// many single evaluations are timed at most.
const (
	half       = time.Second
	maxSamples = 1 << 20
)

// Run evaluates the events again and again, at first as fast as it goes, then
// one by one with the clock read around each. It ends within some 2 s, or when
// ctx does.
func Run(ctx context.Context, set *ruleset.Set, events []*event.Event) (Result, error) {
	res := Result{Events: len(events), Rules: len(set.Rules())}
	if len(events) == 0 {
		return res, errors.New("no events to evaluate")
	}
	var out []ruleset.Match
	for _, e := range events {
		out = set.Eval(e, out[:0])
		res.Matches += len(out)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start, n := time.Now(), 0
	for time.Since(start) < half && ctx.Err() == nil {
		for range max(1, 4096/len(events)) {
			for _, e := range events {
				out = set.Eval(e, out[:0])
			}
			n += len(events)
		}
	}
	elapsed := time.Since(start)
	runtime.ReadMemStats(&after)
	if n == 0 {
		return res, ctx.Err()
	}
	res.NsPerEvent = float64(elapsed.Nanoseconds()) / float64(n)
	// What the measurement itself allocates is far less than one per event.
	res.AllocsPerEvent = float64((after.Mallocs-before.Mallocs)*1000/uint64(n)) / 1000

	samples := make([]int64, 0, maxSamples)
	clock := clockCost()
	for start = time.Now(); time.Since(start) < half && len(samples) < maxSamples && ctx.Err() == nil; {
		for _, e := range events[:min(len(events), maxSamples-len(samples))] {
			t := time.Now()
			out = set.Eval(e, out[:0])
			samples = append(samples, max(0, time.Since(t).Nanoseconds()-clock))
			if len(samples)%4096 == 0 && time.Since(start) > half {
				break
			}
		}
	}
	if len(samples) == 0 {
		return res, ctx.Err()
	}
	slices.Sort(samples)
	res.P50Ns = samples[len(samples)/2]
	res.P99Ns = samples[len(samples)*99/100]
	return res, ctx.Err()
}

// clockCost is what reading the clock twice takes at least.
func clockCost() int64 {
	least := int64(1 << 62)
	for range 1000 {
		t := time.Now()
		least = min(least, time.Since(t).Nanoseconds())
	}
	return least
}
