// Package wiretest is a server that takes batches in memory, for tests of what
// sends them.
package wiretest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/gen/clew/v1/clewv1connect"
	"github.com/clewsec/clew/internal/wire"
)

// A Server keeps what comes. It knows a batch that comes twice by its id, as
// the real one does.
type Server struct {
	t  testing.TB
	ln *listener

	mu      sync.Mutex
	away    bool
	hello   *clewv1.Hello
	health  *clewv1.Health
	batches []*clewv1.Batch
	ids     map[string]bool
	records []*event.SpoolRecord
	again   int
	changed chan struct{}
}

// New returns a server that serves until the test ends.
func New(t testing.TB) *Server {
	s := &Server{
		t: t, ids: map[string]bool{}, changed: make(chan struct{}, 1),
		ln: &listener{conns: make(chan net.Conn), end: make(chan struct{})},
	}
	mux := http.NewServeMux()
	mux.Handle(clewv1connect.NewIngestServiceHandler(s))
	srv := &http.Server{Handler: mux, Protocols: h2c()}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(s.ln) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-served
	})
	return s
}

func h2c() *http.Protocols {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &p
}

// Client returns a client of the server.
func (s *Server) Client() clewv1connect.IngestServiceClient {
	rt := &http.Transport{Protocols: h2c(), DialContext: s.ln.dial}
	s.t.Cleanup(rt.CloseIdleConnections)
	return wire.NewClient(rt, "http://test")
}

// SetAway makes the server refuse, or take again, what comes.
func (s *Server) SetAway(away bool) {
	s.mu.Lock()
	s.away = away
	s.mu.Unlock()
}

var errAway = connect.NewError(connect.CodeUnavailable, errors.New("away"))

// Push implements clewv1connect.IngestServiceHandler.
func (s *Server) Push(_ context.Context, conn *connect.BidiStream[clewv1.PushRequest, clewv1.PushResponse]) error {
	dec, err := wire.NewDecoder()
	if err != nil {
		return err
	}
	defer dec.Close()
	for {
		req, err := conn.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer, err := s.take(dec, req)
		if err != nil {
			return err
		}
		if answer != nil {
			if err := conn.Send(answer); err != nil {
				return err
			}
		}
	}
}

func (s *Server) take(dec *wire.Decoder, req *clewv1.PushRequest) (*clewv1.PushResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}()
	if s.away {
		return nil, errAway
	}
	switch body := req.Body.(type) {
	case *clewv1.PushRequest_Hello:
		s.hello = body.Hello
		known := slices.ContainsFunc(s.batches, func(b *clewv1.Batch) bool { return b.Run == body.Hello.Run })
		return &clewv1.PushResponse{Body: &clewv1.PushResponse_Welcome{Welcome: &clewv1.Welcome{ResendNodes: !known}}}, nil
	case *clewv1.PushRequest_Health:
		s.health = body.Health
	case *clewv1.PushRequest_Batch:
		b := body.Batch
		ack := &clewv1.Ack{BatchId: b.Id, Duplicate: s.ids[b.Id]}
		if s.ids[b.Id] {
			s.again++
		} else {
			err := dec.Decode(b.Payload, func(r *event.SpoolRecord) error {
				s.records = append(s.records, r)
				return nil
			})
			if err != nil {
				return nil, connect.NewError(connect.CodeInvalidArgument, err)
			}
			s.ids[b.Id] = true
			s.batches = append(s.batches, b)
		}
		return &clewv1.PushResponse{Body: &clewv1.PushResponse_Ack{Ack: ack}}, nil
	}
	return nil, nil
}

// A State is what has come so far. Nothing in it is to be changed.
type State struct {
	Hello   *clewv1.Hello
	Health  *clewv1.Health
	Batches []*clewv1.Batch // without those that came again
	Records []*event.SpoolRecord
	Again   int // batches that came again
}

// State returns what has come so far.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return State{
		Hello: s.hello, Health: s.health, Batches: slices.Clone(s.batches), Records: slices.Clone(s.records), Again: s.again,
	}
}

// Until waits until the condition holds and returns the state in which it did.
func (s *Server) Until(what string, cond func(State) bool) State {
	s.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for {
		if st := s.State(); cond(st) {
			return st
		}
		select {
		case <-s.changed:
		case <-deadline.C:
			s.t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// A listener joins client and server without a network.
type listener struct {
	conns chan net.Conn
	once  sync.Once
	end   chan struct{}
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
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "test", Net: "unix"} }
