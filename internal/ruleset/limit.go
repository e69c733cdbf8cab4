package ruleset

import (
	"strconv"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/secl"
)

// Where a rule does not say how often it may raise a signal it is defaultRate
// times a second, defaultBurst at once.
const (
	defaultRate  = 10
	defaultBurst = 40
)

// maxTokens is how many combinations of a rule's limiter_token are told apart
// at a time; the oldest is forgotten first.
const maxTokens = 500

// limiter limits how often a rule raises a signal, in event time. What it
// refuses is counted, and the next signal that is let through says how many
// there were.
type limiter struct {
	// interval is the time that one token takes, burst how many there can be.
	interval int64
	burst    int64
	all      credit
	// token, where it is set, gives each of its values a limit of its own.
	token  []*secl.Value[eventT, Element]
	values map[string]*credit
	order  []string
	// free lets everything through.
	free bool
}

// credit is a bucket of tokens: the time that has been saved up.
type credit struct {
	saved      int64
	last       int64
	started    bool
	suppressed uint64
}

func newLimiter(r *Rule) *limiter {
	l := &limiter{interval: int64(time.Second) / defaultRate, burst: defaultBurst, token: r.token}
	if r.Every > 0 {
		l.interval, l.burst = int64(min(r.Every, maxEvery)), 1
	}
	if len(l.token) > 0 {
		l.values = map[string]*credit{}
	}
	return l
}

// maxEvery keeps sums of intervals far from overflow.
const maxEvery = 10 * 365 * 24 * time.Hour

// allow tells whether a signal may be raised, and how many were not since the
// last one that was.
func (l *limiter) allow(c *evalCtx) (suppressed uint64, ok bool) {
	if l.free {
		return 0, true
	}
	b := &l.all
	if l.values != nil {
		b = l.bucket(c)
	}
	now, limit := c.Event.TimeNS, l.burst*l.interval
	if !b.started {
		b.started, b.saved, b.last = true, limit, now
	}
	// An event that comes late earns nothing.
	if d := now - b.last; d > 0 {
		b.last = now
		b.saved = min(limit, b.saved+min(d, limit))
	}
	if b.saved < l.interval {
		b.suppressed++
		return 0, false
	}
	b.saved -= l.interval
	suppressed, b.suppressed = b.suppressed, 0
	return suppressed, true
}

func (l *limiter) bucket(c *evalCtx) *credit {
	var key strings.Builder
	for _, t := range l.token {
		s := t.Text(c)
		key.WriteString(strconv.Itoa(len(s)))
		key.WriteByte(':')
		key.WriteString(s)
	}
	k := key.String()
	b := l.values[k]
	if b == nil {
		if len(l.values) == maxTokens {
			delete(l.values, l.order[0])
			l.order = l.order[1:]
		}
		b = &credit{}
		l.values[k] = b
		l.order = append(l.order, k)
	}
	return b
}
