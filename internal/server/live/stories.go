package live

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/clewsec/clew/internal/control"
	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/story"
	"github.com/clewsec/clew/internal/store"
)

// Stories are the stories that stored records make. Its methods may be called
// from several goroutines.
type Stories struct {
	src *Source
	now func() time.Time

	mu       sync.Mutex
	fold     *story.Fold
	watchers map[*StoryWatcher]bool
}

// NewStories returns the stories of no records.
func NewStories(src *Source, now func() time.Time) *Stories {
	return &Stories{src: src, now: now, fold: story.NewFold(story.Config{}), watchers: map[*StoryWatcher]bool{}}
}

// Load folds in what is stored.
func (s *Stories) Load(ctx context.Context, st store.Store, ctl *control.DB) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := st.Replay(ctx, func(agent string, rec *event.SpoolRecord) error {
		s.fold.Add(agent, rec)
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("fold stored records: %w", err)
	}
	if err := ctl.Triages(ctx, func(t control.Triage) { s.fold.AddTriage(story.Triage(t)) }); err != nil {
		return fmt.Errorf("fold triage: %w", err)
	}
	return nil
}

// Fold folds in records of an agent that have been stored.
func (s *Stories) Fold(agent string, recs []*event.SpoolRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := map[string]bool{}
	for _, r := range recs {
		if r.ProcessNode != nil {
			s.src.Put(agent, r.ProcessNode)
		}
		for _, id := range s.fold.Add(agent, r) {
			changed[id] = true
		}
	}
	s.notify(changed)
}

// Triage folds in a decision that has been stored.
func (s *Stories) Triage(t control.Triage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := map[string]bool{}
	for _, id := range s.fold.AddTriage(story.Triage(t)) {
		changed[id] = true
	}
	s.notify(changed)
}

// AsOf is the present for stories: now, or for what was recorded the time of
// its last record.
func (s *Stories) AsOf(recording bool) int64 {
	if !recording {
		return s.now().UnixNano()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fold.LastRecord()
}

// Heads lists the stories, highest score first.
func (s *Stories) Heads(asOf int64) []story.Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fold.Heads(asOf)
}

// Len is how many stories there are.
func (s *Stories) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fold.Len()
}

// Build draws a story whole. It returns story.ErrNotFound for an unknown id.
// Records can be folded in while it is drawn.
func (s *Stories) Build(id string, opt story.Options) (*clewv1.Story, error) {
	s.mu.Lock()
	sketch, err := s.fold.Sketch(id, opt)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return sketch.Draw(s.src)
}

// Keys are the keys of a story's contexts, and its agent.
func (s *Stories) Keys(id string) (agent string, keys []string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.fold.Find(id)
	if !ok {
		return "", nil, false
	}
	for _, c := range h.Story.Contexts {
		keys = append(keys, c.Key)
	}
	return h.Agent, keys, true
}

// Version is the id of the story that id leads to, and its version.
func (s *Stories) Version(id string) (now, version string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.fold.Find(id)
	if !ok {
		return "", "", false
	}
	return h.Story.Id, h.Story.Version, true
}

// A StoryWatcher is told which stories change.
type StoryWatcher struct {
	stories *Stories
	changed map[string]bool
	ready   chan struct{}
}

// Watch begins to note changes. Close ends it.
func (s *Stories) Watch() *StoryWatcher {
	w := &StoryWatcher{stories: s, changed: map[string]bool{}, ready: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers[w] = true
	return w
}

func (s *Stories) notify(changed map[string]bool) {
	if len(changed) == 0 {
		return
	}
	for w := range s.watchers {
		for id := range changed {
			w.changed[id] = true
		}
		select {
		case w.ready <- struct{}{}:
		default:
		}
	}
}

// Close ends the watch.
func (w *StoryWatcher) Close() {
	w.stories.mu.Lock()
	defer w.stories.mu.Unlock()
	delete(w.stories.watchers, w)
}

// Ready receives a value when Take has something.
func (w *StoryWatcher) Ready() <-chan struct{} { return w.ready }

// Take returns the ids of stories that changed since the last call.
func (w *StoryWatcher) Take() []string {
	w.stories.mu.Lock()
	defer w.stories.mu.Unlock()
	out := make([]string, 0, len(w.changed))
	for id := range w.changed {
		out = append(out, id)
	}
	clear(w.changed)
	return out
}
