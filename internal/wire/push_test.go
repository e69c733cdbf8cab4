package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/gen/clew/v1/clewv1connect"
)

// A server takes batches in memory. Its answer to each is up to onBatch.
type server struct {
	mu       sync.Mutex
	hellos   []*clewv1.Hello
	batches  []string // ids in the order they came, repeated ones included
	healths  int
	changed  chan struct{}
	resend   bool
	onHello  func(n int) error                                  // n-th session, from 1
	onBatch  func(n int, b *clewv1.Batch) (ack bool, err error) // n-th batch, from 1
	sessions int
}

func (s *server) note(f func()) {
	s.mu.Lock()
	f()
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *server) Push(_ context.Context, conn *connect.BidiStream[clewv1.PushRequest, clewv1.PushResponse]) error {
	first, err := conn.Receive()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("no hello"))
	}
	var n int
	s.note(func() { s.hellos = append(s.hellos, hello); s.sessions++; n = s.sessions })
	if s.onHello != nil {
		if err := s.onHello(n); err != nil {
			return err
		}
	}
	if err := conn.Send(&clewv1.PushResponse{Body: &clewv1.PushResponse_Welcome{
		Welcome: &clewv1.Welcome{ResendNodes: s.resend}}}); err != nil {
		return err
	}
	for {
		req, err := conn.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if req.GetHealth() != nil {
			s.note(func() { s.healths++ })
		}
		b := req.GetBatch()
		if b == nil {
			continue
		}
		var n int
		s.note(func() { s.batches = append(s.batches, b.Id); n = len(s.batches) })
		ack := true
		if s.onBatch != nil {
			if ack, err = s.onBatch(n, b); err != nil {
				return err
			}
		}
		if !ack {
			continue
		}
		if err := conn.Send(&clewv1.PushResponse{Body: &clewv1.PushResponse_Ack{Ack: &clewv1.Ack{BatchId: b.Id}}}); err != nil {
			return err
		}
	}
}

// A memQueue is a Queue in memory.
type memQueue struct {
	mu      sync.Mutex
	batches []string
	next    int
	refused []string
	ready   chan struct{}
}

func newQueue(n int) *memQueue {
	q := &memQueue{ready: make(chan struct{}, 1)}
	for i := range n {
		q.batches = append(q.batches, fmt.Sprint("b", i))
	}
	return q
}

func (q *memQueue) add(id string) {
	q.mu.Lock()
	q.batches = append(q.batches, id)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *memQueue) Next() (*clewv1.Batch, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == len(q.batches) {
		return nil, nil
	}
	q.next++
	return &clewv1.Batch{Id: q.batches[q.next-1]}, nil
}

func (q *memQueue) Ready() <-chan struct{} { return q.ready }

func (q *memQueue) remove(id string) {
	if i := slices.Index(q.batches, id); i >= 0 {
		q.batches = slices.Delete(q.batches, i, i+1)
		if i < q.next {
			q.next--
		}
	}
}

func (q *memQueue) Ack(id string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remove(id)
	return nil
}

func (q *memQueue) Refuse(id string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remove(id)
	q.refused = append(q.refused, id)
	return nil
}

func (q *memQueue) Rewind() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.next = 0
}

func (q *memQueue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.batches)
}

// connected runs a Pusher against the server and stops both at the end.
func connected(t *testing.T, s *server, q *memQueue, change func(*Config)) *Pusher {
	t.Helper()
	s.changed = make(chan struct{}, 1)
	ln := newListener()
	mux := http.NewServeMux()
	mux.Handle(clewv1connect.NewIngestServiceHandler(s))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: mux, Protocols: &protocols}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(ln) }()

	rt := &http.Transport{Protocols: &protocols, DialContext: ln.dial}
	cfg := Config{
		Client:  NewClient(rt, "http://agent.sock"),
		Hello:   func() *clewv1.Hello { return &clewv1.Hello{AgentId: "a", Protocol: Protocol} },
		Health:  func(bool) *clewv1.Health { return &clewv1.Health{SpoolRecords: uint64(q.left())} },
		Resend:  func() {},
		MinWait: time.Millisecond, MaxWait: 5 * time.Millisecond,
		Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	p := New(cfg, q)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		_ = srv.Close()
		<-served
		rt.CloseIdleConnections()
	})
	return p
}

// until waits for the condition, which is looked at after each change.
func (s *server) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		ok := cond()
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-s.changed:
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// A listener joins client and server by net.Pipe.
type listener struct {
	conns chan net.Conn
	once  sync.Once
	end   chan struct{}
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), end: make(chan struct{})}
}

func (l *listener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case l.conns <- a:
		return b, nil
	case <-l.end:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.end:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.end) }); return nil }
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "agent.sock", Net: "unix"} }

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPushInOrder(t *testing.T) {
	s, q := &server{}, newQueue(20)
	p := connected(t, s, q, nil)
	s.until(t, "all acknowledged", func() bool { return q.left() == 0 })
	q.add("late")
	s.until(t, "the late one acknowledged", func() bool { return q.left() == 0 })
	want := newQueue(20).batches
	if want = append(want, "late"); !slices.Equal(s.batches, want) {
		t.Errorf("batches %v, want %v", s.batches, want)
	}
	if st := p.Stats(); st.Sent != 21 || st.Acked != 21 || st.Sessions != 1 || !st.Connected {
		t.Errorf("stats %+v", st)
	}
	if s.hellos[0].AgentId != "a" {
		t.Errorf("hello %v", s.hellos[0])
	}
}

func TestWindow(t *testing.T) {
	s, q := &server{}, newQueue(10)
	s.onBatch = func(int, *clewv1.Batch) (bool, error) { return false, nil }
	connected(t, s, q, func(c *Config) { c.Window = 3; c.HealthEvery = time.Millisecond })
	// Three come; then only health does, however long we look.
	s.until(t, "window full", func() bool { return len(s.batches) == 3 })
	var before int
	s.until(t, "health", func() bool { before = s.healths; return true })
	s.until(t, "more health", func() bool { return s.healths > before+5 })
	s.until(t, "no more batches", func() bool { return len(s.batches) == 3 })
}

// What was not acknowledged comes again after the connection broke, what was
// does not.
func TestBreaks(t *testing.T) {
	s, q := &server{}, newQueue(30)
	s.onBatch = func(n int, _ *clewv1.Batch) (bool, error) {
		if n%7 == 0 {
			return false, connect.NewError(connect.CodeUnavailable, errors.New("going down"))
		}
		return true, nil
	}
	connected(t, s, q, func(c *Config) { c.Window = 2 })
	s.until(t, "all acknowledged", func() bool { return q.left() == 0 })
	if s.sessions < 4 {
		t.Errorf("%d sessions", s.sessions)
	}
	seen := slices.Clone(s.batches)
	slices.Sort(seen)
	if got := len(slices.Compact(seen)); got != 30 {
		t.Errorf("%d different batches, want 30", got)
	}
}

// A server that takes batches and says nothing is left after a while.
func TestPatience(t *testing.T) {
	s, q := &server{}, newQueue(1)
	s.onBatch = func(n int, _ *clewv1.Batch) (bool, error) { return n > 1, nil }
	connected(t, s, q, func(c *Config) { c.Patience = 30 * time.Millisecond })
	s.until(t, "acknowledged at last", func() bool { return q.left() == 0 })
	if s.sessions < 2 {
		t.Errorf("%d sessions, want another", s.sessions)
	}
}

func TestResend(t *testing.T) {
	s, q := &server{resend: true}, newQueue(1)
	asked := make(chan struct{}, 1)
	connected(t, s, q, func(c *Config) { c.Resend = func() { asked <- struct{}{} } })
	select {
	case <-asked:
	case <-time.After(10 * time.Second):
		t.Fatal("not asked to send nodes again")
	}
}

// A batch that the server will never take does not keep the others waiting.
func TestRefusedBatch(t *testing.T) {
	s, q := &server{}, newQueue(12)
	s.onBatch = func(_ int, b *clewv1.Batch) (bool, error) {
		if b.Id == "b5" {
			return false, connect.NewError(connect.CodeInvalidArgument, errors.New("no batch"))
		}
		return true, nil
	}
	connected(t, s, q, nil)
	s.until(t, "all others acknowledged", func() bool { return q.left() == 0 })
	if want := []string{"b5"}; !slices.Equal(q.refused, want) {
		t.Errorf("refused %v, want %v", q.refused, want)
	}
}

// A server that refuses the agent is asked again, nothing is thrown away.
func TestRefusedAgent(t *testing.T) {
	s, q := &server{}, newQueue(3)
	s.onHello = func(n int) error {
		if n < 4 {
			return connect.NewError(connect.CodeInvalidArgument, errors.New("speaks another protocol"))
		}
		return nil
	}
	connected(t, s, q, nil)
	s.until(t, "all acknowledged", func() bool { return q.left() == 0 })
	if len(q.refused) != 0 {
		t.Errorf("refused %v", q.refused)
	}
}
