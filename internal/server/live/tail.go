package live

import (
	"sync"

	"github.com/clewsec/clew/internal/store"
)

// tailBuffer is how many events a slow watcher may be behind before it misses
// some.
const tailBuffer = 4096

// A Tail hands newly stored events to those who watch. A watcher that is too
// slow misses events and is told how many; nobody waits for it.
type Tail struct {
	mu       sync.Mutex
	watchers map[*Watcher]bool
}

// NewTail returns a tail nobody watches.
func NewTail() *Tail { return &Tail{watchers: map[*Watcher]bool{}} }

// A Watcher is one who watches.
type Watcher struct {
	tail    *Tail
	keep    func(store.Found) bool
	ready   chan struct{} // one place: more than "there is something" is not said
	mu      sync.Mutex
	items   []store.Found
	skipped int64
}

// Watch begins to collect the events that keep accepts. keep runs on the path
// of ingest and must be quick. Close ends it.
func (t *Tail) Watch(keep func(store.Found) bool) *Watcher {
	w := &Watcher{tail: t, keep: keep, ready: make(chan struct{}, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers[w] = true
	return w
}

// Close ends the watch.
func (w *Watcher) Close() {
	w.tail.mu.Lock()
	defer w.tail.mu.Unlock()
	delete(w.tail.watchers, w)
}

// Ready receives a value when Take has something.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// Take returns what was collected since the last call and how many events were
// missed.
func (w *Watcher) Take() (items []store.Found, skipped int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	items, skipped = w.items, w.skipped
	w.items, w.skipped = nil, 0
	return items, skipped
}

// Publish hands on stored events. They are not changed any more.
func (t *Tail) Publish(items []store.Found) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range t.watchers {
		w.add(items)
	}
}

func (w *Watcher) add(items []store.Found) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range items {
		if !w.keep(f) {
			continue
		}
		if len(w.items) == tailBuffer {
			w.skipped++
			continue
		}
		w.items = append(w.items, f)
	}
	if len(w.items) == 0 && w.skipped == 0 {
		return
	}
	select {
	case w.ready <- struct{}{}:
	default:
	}
}
