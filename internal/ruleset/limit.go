package ruleset

import (
	"time"

	"github.com/clewsec/clew/internal/event"
)

// Where a rule does not say how often it may raise a signal it is defaultRate
// times a second, defaultBurst at once.
const (
	defaultRate  = 10
	defaultBurst = 40
)

// limiter is a token bucket in event time. What it refuses is counted, and the
// next signal that is let through says how many there were.
type limiter struct {
	// interval is the time that one token takes, burst how many there can be.
	interval int64
	burst    int64
	// credit is the time that has been saved up.
	credit     int64
	last       int64
	started    bool
	suppressed uint64
}

func newLimiter(r *Rule) *limiter {
	l := &limiter{interval: int64(time.Second) / defaultRate, burst: defaultBurst}
	if r.Every > 0 {
		l.interval, l.burst = int64(r.Every), 1
	}
	return l
}

// allow tells whether a signal may be raised, and how many were not since the
// last one that was.
func (l *limiter) allow(ev *event.Event) (suppressed uint64, ok bool) {
	limit := l.burst * l.interval
	if !l.started {
		l.started, l.credit, l.last = true, limit, ev.TimeNS
	}
	// An event that comes late earns nothing.
	if d := ev.TimeNS - l.last; d > 0 {
		l.last = ev.TimeNS
		l.credit = min(limit, l.credit+min(d, limit))
	}
	if l.credit < l.interval {
		l.suppressed++
		return 0, false
	}
	l.credit -= l.interval
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}
