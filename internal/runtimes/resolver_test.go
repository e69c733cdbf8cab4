package runtimes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/cgroup"
	"github.com/clewsec/clew/internal/event"
)

// A source that has what it is given.
type source struct {
	mu    sync.Mutex
	has   map[string]*Container
	after int // questions that it cannot answer first
	asked []string
	kube  bool
	news  chan *Container
}

func (s *source) String() string          { return "test" }
func (s *source) Knows(cgroup.Place) bool { return true }
func (s *source) questions() int          { s.mu.Lock(); defer s.mu.Unlock(); return len(s.asked) }

func (s *source) Lookup(_ context.Context, q Query) (*Container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, q.ID)
	s.kube = q.Place.Kube
	if s.after--; s.after >= 0 {
		return nil, errors.New("not now")
	}
	if c := s.has[q.ID]; c != nil {
		return c, nil
	}
	return nil, ErrUnknown
}

func (s *source) Watch(ctx context.Context, tell func(*Container)) error {
	for {
		select {
		case c := <-s.news:
			tell(c)
		case <-ctx.Done():
			return nil
		}
	}
}

// resolve runs a resolver and returns what it answers.
func resolve(t *testing.T, sources ...Source) (*Resolver, <-chan *event.Answer) {
	t.Helper()
	r := New(Config{Sources: sources})
	out := make(chan *event.Answer, 100)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- r.Run(ctx, func(a *event.Answer) error { out <- a; return nil })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r, out
}

func next(t *testing.T, out <-chan *event.Answer) *event.Answer {
	t.Helper()
	select {
	case a := <-out:
		return a
	case <-time.After(time.Minute):
		t.Fatal("no answer")
		return nil
	}
}

func TestResolver(t *testing.T) {
	s := &source{has: map[string]*Container{id: {ID: id, Runtime: "docker", Name: "web"}}}
	r, out := resolve(t, s)
	for range 3 {
		r.Ask(id, "/docker/"+id)
	}
	r.Ask(other, "/user.slice/user-7.slice/user@7.service/user.slice/docker-"+other+".scope")
	r.Ask("web", "/lxc/web")
	r.Ask(id[:63], "/docker/"+id) // not what the path says
	if a := next(t, out); a.Key != id || a.Values[2] != "container_name:web" {
		t.Errorf("answer %+v", a)
	}
	c := r.Counters()
	if n := s.questions(); n != 1 || c.Asked.Load() != 1 || c.Answered.Load() != 1 || c.Refused.Load() != 1 {
		t.Errorf("%d questions; asked %d, answered %d, refused %d", n, c.Asked.Load(), c.Answered.Load(), c.Refused.Load())
	}
}

// TestResolverAgain holds that a runtime on its way up is asked again, and one
// that fails is left alone for a while.
func TestResolverAgain(t *testing.T) {
	s := &source{has: map[string]*Container{id: {ID: id, Runtime: "docker"}}, after: 0}
	late := &source{has: map[string]*Container{other: {ID: other, Runtime: "podman"}}}
	r, out := resolve(t, s, late)
	r.Ask(other, "/docker/"+other)
	if a := next(t, out); a.Values[0] != "podman" {
		t.Errorf("the second source was to answer: %+v", a)
	}
	s.mu.Lock()
	s.has[other] = nil
	s.mu.Unlock()
	missing := fmt.Sprintf("%064x", 1)
	r.Ask(missing, "/docker/"+missing)
	late.mu.Lock()
	late.has[missing] = &Container{ID: missing, Runtime: "docker"}
	late.mu.Unlock()
	if a := next(t, out); a.Key != missing {
		t.Errorf("answer %+v", a)
	}
}

// TestResolverTold holds that a name comes before the first process, and the
// rest after it.
func TestResolverTold(t *testing.T) {
	s := &source{has: map[string]*Container{id: {ID: id, Runtime: "docker", Name: "web", Digest: digest}}, news: make(chan *Container)}
	r, out := resolve(t, s)
	s.news <- &Container{ID: id, Runtime: "docker", Name: "web"}
	if a := next(t, out); len(a.Values) != 3 {
		t.Errorf("told %+v", a)
	}
	if a := next(t, out); a.Values[2] != "image_digest:"+digest {
		t.Errorf("found %+v", a)
	}
	r.Ask(id, "/docker/"+id) // known
	// One that is gone when it is looked up keeps what was told of it.
	s.news <- &Container{ID: other, Runtime: "docker", Name: "gone"}
	if a := next(t, out); a.Key != other || a.Values[2] != "container_name:gone" {
		t.Errorf("told %+v", a)
	}
	s.news <- &Container{ID: other, Runtime: "docker", Name: "gone"} // no news
	s.news <- &Container{ID: id, Runtime: "docker", Name: "new"}
	if a := next(t, out); a.Key != id {
		t.Errorf("the same is told twice: %+v", a)
	}
	if c := r.Counters(); c.Unknown.Load() != 0 || c.Asked.Load() != 0 || c.Told.Load() != 4 {
		t.Errorf("unknown %d, asked %d, told %d", c.Unknown.Load(), c.Asked.Load(), c.Told.Load())
	}
	// Of a pod there is more to ask, once its control group says that it is one.
	r.Ask(other, "/kubepods/pod1/"+other)
	if n := r.Counters().Asked.Load(); n != 1 {
		t.Errorf("a pod was asked for %d times", n)
	}
}

// TestResolverFull holds that nobody waits for a resolver, and that it forgets
// the oldest.
func TestResolverFull(t *testing.T) {
	r := New(Config{})
	name := func(i int) string { return fmt.Sprintf("%064x", i) }
	for i := range maxWaiting + 5 {
		r.Ask(name(i), "/docker/"+name(i))
	}
	c := r.Counters()
	if c.Asked.Load() != maxWaiting || c.Dropped.Load() != 5 {
		t.Errorf("asked %d, dropped %d", c.Asked.Load(), c.Dropped.Load())
	}
	<-r.queue
	r.Ask(name(maxWaiting), "/docker/"+name(maxWaiting))
	if c.Asked.Load() != maxWaiting+1 {
		t.Error("what was dropped is not asked for again")
	}
	for i := range maxKnown {
		r.learn(fmt.Sprint("x", i), asked)
	}
	if len(r.known) != maxKnown || r.known[name(0)] != 0 {
		t.Errorf("%d are known", len(r.known))
	}
}

func TestResolverStops(t *testing.T) {
	s := &source{has: map[string]*Container{id: {ID: id}}}
	r := New(Config{Sources: []Source{s}})
	r.Ask(id, "/docker/"+id)
	failed := errors.New("stream ended")
	if err := r.Run(t.Context(), func(*event.Answer) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
}

func BenchmarkAsk(b *testing.B) {
	r := New(Config{})
	r.Ask(id, "/docker/"+id)
	b.ReportAllocs()
	for b.Loop() {
		r.Ask(id, "/docker/"+id)
	}
}
