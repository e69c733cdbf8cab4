package backtest

import (
	"context"
	"time"
)

// How a back-test steps back: after each page for half as long as the page
// took, so that it has two thirds of a processor at most, and for longer the
// more events are stored at the same time.
const (
	idlePause  = 0.5
	pacePerSec = 2500.0 // stored events a second that lengthen a pause by the time a page took
	maxFactor  = 10.0
	maxPause   = 2 * time.Second
)

// Pace returns a Config.Pause that leaves the processors to those who store
// events. stored tells how many events there are; now is a clock. Each
// back-test has a pace of its own.
func Pace(stored func(context.Context) (int64, error), now func() time.Time) func(ctx context.Context, worked time.Duration) error {
	var (
		at     time.Time
		before int64
	)
	return func(ctx context.Context, worked time.Duration) error {
		n, err := stored(ctx)
		if err != nil {
			return err
		}
		rate, t := 0.0, now()
		if d := t.Sub(at); !at.IsZero() && d > 0 {
			rate = float64(n-before) / d.Seconds()
		}
		at, before = t, n
		timer := time.NewTimer(pause(worked, rate))
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		}
	}
}

// pause is how long to step back after a page, at a rate of stored events a
// second. Events may go while the back-test runs.
func pause(worked time.Duration, rate float64) time.Duration {
	factor := min(idlePause+max(rate, 0)/pacePerSec, maxFactor)
	return max(0, min(time.Duration(float64(worked)*factor), maxPause))
}
