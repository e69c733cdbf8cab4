package runtimes

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clewsec/clew/internal/cgroup"
	"github.com/clewsec/clew/internal/event"
)

const (
	maxKnown   = 8192 // containers that are remembered as asked for
	maxWaiting = 1024 // questions that nobody has got round to
	// restTime is how long a source that does not answer is left alone.
	restTime = 5 * time.Second
	// watchAgain is how long after its end a watch is tried again.
	watchAgain = 5 * time.Second
)

// tries are how long after the question it is asked again. A runtime may be on
// its way up.
var tries = []time.Duration{250 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second}

// how a container became known.
type how uint8

const (
	told  how = iota + 1 // by a runtime, before a process of it was seen
	asked                // because a process of it was seen
)

// Config is what a Resolver works with.
type Config struct {
	Sources []Source // asked in this order; the first that knows is right
	Log     *slog.Logger
}

// Counters count questions; each ends as one of the others, or waits.
type Counters struct {
	Asked    atomic.Uint64 // containers
	Answered atomic.Uint64 // of them
	Unknown  atomic.Uint64 // nobody knows them, or nobody answers
	Refused  atomic.Uint64 // of users other than root, whose runtimes are not asked
	Dropped  atomic.Uint64 // too many at once; asked for with their next process
	Told     atomic.Uint64 // by a runtime, unasked
}

// A Resolver finds out what containers are, beside the stream of events.
type Resolver struct {
	cfg      Config
	counters Counters
	queue    chan Query

	mu    sync.Mutex
	known map[string]how
	order []string // of known; a ring once it is full
	next  int

	rests map[Source]time.Time // until when a source is left alone; the worker's own
}

// New returns a resolver that asks nobody yet.
func New(cfg Config) *Resolver {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Resolver{cfg: cfg, queue: make(chan Query, maxWaiting), known: map[string]how{}, rests: map[Source]time.Time{}}
}

// Counters returns the counters, which go on counting.
func (r *Resolver) Counters() *Counters { return &r.counters }

// Ask says that a process is in the container of a control group. It returns at
// once, and costs a look-up in a map once the container is known.
func (r *Resolver) Ask(id, path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.known[id]
	if before == asked {
		return
	}
	p := cgroup.Parse(path)
	if p.ID != id {
		return // it moved meanwhile
	}
	switch {
	case before == told && !p.Kube:
		// Only a pod has more to ask for: whose labels say that they are of a
		// pod is believed when the control group says so, too.
	case p.User:
		r.counters.Refused.Add(1)
	case p.Manager == cgroup.LXC, p.Manager == cgroup.Nspawn, p.Manager == cgroup.BuildKit:
		// The id is all there is.
	default:
		select {
		case r.queue <- Query{ID: id, Place: p}:
			r.counters.Asked.Add(1)
		default:
			r.counters.Dropped.Add(1)
			return
		}
	}
	r.learn(id, asked)
}

// learn remembers how an id is known.
func (r *Resolver) learn(id string, by how) {
	before := r.known[id]
	r.known[id] = max(before, by)
	if before != 0 {
		return
	}
	if len(r.order) < maxKnown {
		r.order = append(r.order, id)
		return
	}
	delete(r.known, r.order[r.next])
	r.order[r.next] = id
	r.next = (r.next + 1) % maxKnown
}

// A retry is a question that was not answered yet.
type retry struct {
	Query
	at  time.Time
	try int
	// told is set when the runtime has told of it unasked: nobody waits then.
	told bool
}

// Run works until ctx ends, which is no error. answer is called by one
// goroutine at a time, in no particular order; its error ends the work.
func (r *Resolver) Run(ctx context.Context, answer func(*event.Answer) error) error {
	var one sync.Mutex
	last := newAnswers()
	tell := func(c *Container) error {
		a := c.Answer()
		one.Lock()
		defer one.Unlock()
		if !last.differs(a) {
			return nil
		}
		return answer(a)
	}
	g, ctx := errgroup.WithContext(ctx)
	news := make(chan Query, maxWaiting)
	g.Go(func() error { return r.work(ctx, news, tell) })
	for _, s := range r.cfg.Sources {
		if w, ok := s.(Watcher); ok {
			g.Go(func() error { return r.watch(ctx, w, news, tell) })
		}
	}
	return g.Wait()
}

// watch listens to a runtime as long as there is one.
func (r *Resolver) watch(ctx context.Context, w Watcher, news chan<- Query, tell func(*Container) error) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		var failed error
		watching, stop := context.WithCancel(ctx)
		err := w.Watch(watching, func(c *Container) {
			r.counters.Told.Add(1)
			r.mu.Lock()
			r.learn(c.ID, told)
			r.mu.Unlock()
			if failed = tell(c); failed != nil {
				stop()
				return
			}
			select {
			case news <- Query{ID: c.ID, Place: cgroup.Place{ID: c.ID, Manager: c.Runtime, Kube: c.Pod != ""}}:
			default: // it has a name, that is most of it
			}
		})
		stop()
		if failed != nil {
			return failed
		}
		if err != nil {
			r.cfg.Log.Debug("container runtime is not watched", "error", err)
		}
		t.Reset(watchAgain)
	}
}

// work answers questions one after another.
func (r *Resolver) work(ctx context.Context, news <-chan Query, tell func(*Container) error) error {
	var waiting []retry
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		var q retry
		select {
		case <-ctx.Done():
			return nil
		case q.Query = <-r.queue:
		case q.Query = <-news:
			q.told = true
		case <-t.C:
			i := due(waiting)
			if i < 0 {
				break
			}
			q, waiting = waiting[i], slices.Delete(waiting, i, i+1)
		}
		if q.ID != "" {
			c, err := r.lookup(ctx, q.Query)
			switch {
			case err == nil:
				if !q.told {
					r.counters.Answered.Add(1)
				}
				if err := tell(c); err != nil {
					return err
				}
			case ctx.Err() != nil:
				return nil
			case q.told:
			case q.try < len(tries) && len(waiting) < maxWaiting:
				q.at = time.Now().Add(tries[q.try])
				q.try++
				waiting = append(waiting, q)
			default:
				r.counters.Unknown.Add(1)
				r.cfg.Log.Debug("no runtime knows a container", "container", q.ID, "error", err)
			}
		}
		if i := due(waiting); i >= 0 {
			t.Reset(max(time.Until(waiting[i].at), 0))
		}
	}
}

// due is the question that is to be asked again first; -1 when there is none.
func due(waiting []retry) int {
	first := -1
	for i := range waiting {
		if first < 0 || waiting[i].at.Before(waiting[first].at) {
			first = i
		}
	}
	return first
}

// lookup asks the sources in turn.
func (r *Resolver) lookup(ctx context.Context, q Query) (*Container, error) {
	var errs []error
	for _, s := range r.cfg.Sources {
		if !s.Knows(q.Place) || time.Now().Before(r.rests[s]) {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, callTime)
		c, err := s.Lookup(asking, q)
		cancel()
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, ErrUnknown) {
			r.rests[s] = time.Now().Add(restTime)
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = append(errs, ErrUnknown)
	}
	return nil, errors.Join(errs...)
}

// answers are the last answers, so that none is given twice.
type answers struct {
	last  map[string][]string
	order []string
	next  int
}

func newAnswers() *answers { return &answers{last: map[string][]string{}} }

func (l *answers) differs(a *event.Answer) bool {
	old, ok := l.last[a.Key]
	if ok && slices.Equal(old, a.Values) {
		return false
	}
	l.last[a.Key] = a.Values
	switch {
	case ok:
	case len(l.order) < maxWaiting:
		l.order = append(l.order, a.Key)
	default:
		delete(l.last, l.order[l.next])
		l.order[l.next] = a.Key
		l.next = (l.next + 1) % maxWaiting
	}
	return true
}
