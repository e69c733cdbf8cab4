package backtest

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestPause(t *testing.T) {
	for _, c := range []struct {
		worked time.Duration
		rate   float64
		want   time.Duration
	}{
		{40 * time.Millisecond, 0, 20 * time.Millisecond},
		{40 * time.Millisecond, -1000, 20 * time.Millisecond},
		{40 * time.Millisecond, 2500, 60 * time.Millisecond},
		{40 * time.Millisecond, 1e6, 400 * time.Millisecond},
		{time.Minute, 1e6, maxPause},
		{-time.Second, 0, 0},
	} {
		if got := pause(c.worked, c.rate); got != c.want {
			t.Errorf("after %v at %v/s: %v, want %v", c.worked, c.rate, got, c.want)
		}
	}
}

func TestPace(t *testing.T) {
	gone := errors.New("gone")
	clock := time.Unix(1, 0)
	n, failure := int64(0), error(nil)
	p := Pace(func(context.Context) (int64, error) { return n, failure }, func() time.Time { return clock })
	for range 3 {
		if err := p(context.Background(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
		clock, n = clock.Add(time.Second), n+1000
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	failure = gone
	if err := p(context.Background(), time.Millisecond); !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
}
