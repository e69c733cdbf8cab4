package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/gen/clew/v1/clewv1connect"
)

// A Queue holds the batches that a Pusher sends. The Pusher calls it from one
// goroutine.
type Queue interface {
	// Next returns the oldest batch that was not handed out since the last
	// Rewind, nil when there is none. The batch is the caller's.
	Next() (*clewv1.Batch, error)
	// Ready receives a value when Next may have something after it had
	// nothing.
	Ready() <-chan struct{}
	// Ack says that the batch is durable elsewhere and may be forgotten. An
	// unknown id is ignored.
	Ack(id string) error
	// Refuse says that the server will never take the batch.
	Refuse(id string) error
	// Rewind makes Next begin with the oldest batch that was not
	// acknowledged.
	Rewind()
}

// Config is what a Pusher needs to know.
type Config struct {
	Client clewv1connect.IngestServiceClient
	Hello  func() *clewv1.Hello
	// Health is called with true for the first message of a session.
	Health func(first bool) *clewv1.Health
	// Resend is called when the server knows no node of this run.
	Resend func()

	Window      int           // batches under way; 8 when 0
	HealthEvery time.Duration // 2 s when 0
	MinWait     time.Duration // between two attempts; 50 ms when 0, doubling
	MaxWait     time.Duration // 5 s when 0
	Patience    time.Duration // for a welcome or an acknowledgement; 30 s when 0

	Log *slog.Logger
}

// A Pusher hands the batches of a queue to a server, in order, and sends them
// again until they are acknowledged.
type Pusher struct {
	cfg       Config
	queue     Queue
	connected atomic.Bool
	sessions  atomic.Uint64
	sent      atomic.Uint64
	acked     atomic.Uint64
	tell      chan struct{} // health is wanted now

	careful bool // the last session ended with a batch refused: one at a time
}

// New returns a Pusher; it does nothing before Run.
func New(cfg Config, queue Queue) *Pusher {
	cfg.Window = cmpOr(cfg.Window, 8)
	cfg.HealthEvery = cmpOr(cfg.HealthEvery, 2*time.Second)
	cfg.MinWait = cmpOr(cfg.MinWait, 50*time.Millisecond)
	cfg.MaxWait = cmpOr(cfg.MaxWait, 5*time.Second)
	cfg.Patience = cmpOr(cfg.Patience, 30*time.Second)
	return &Pusher{cfg: cfg, queue: queue, tell: make(chan struct{}, 1)}
}

func cmpOr[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Stats are what a Pusher did since it began.
type Stats struct {
	Connected bool
	Sessions  uint64 // connections that were welcomed
	Sent      uint64 // batches, repeated ones included
	Acked     uint64 // acknowledgements
}

// Stats may be called at any time.
func (p *Pusher) Stats() Stats {
	return Stats{
		Connected: p.connected.Load(), Sessions: p.sessions.Load(),
		Sent: p.sent.Load(), Acked: p.acked.Load(),
	}
}

// TellHealth sends health soon, and not only when it is due.
func (p *Pusher) TellHealth() {
	select {
	case p.tell <- struct{}{}:
	default: // it is under way
	}
}

// Run connects and pushes until ctx ends. It returns nil then, and an error
// only when the queue cannot be read.
func (p *Pusher) Run(ctx context.Context) error {
	wait := p.cfg.MinWait
	said := false
	for {
		welcomed, err := p.session(ctx)
		p.connected.Store(false)
		if ctx.Err() != nil {
			return nil
		}
		var broken *queueError
		if errors.As(err, &broken) {
			return err
		}
		if welcomed {
			wait, said = p.cfg.MinWait, false
		}
		// A server that is away is said once, and not before it has had a
		// moment to start.
		level := slog.LevelDebug
		if !said && wait >= sayFrom {
			level, said = slog.LevelInfo, true
		}
		p.cfg.Log.Log(ctx, level, "server not reached, trying again", "wait", wait, "error", err)
		// Agents that lost the same server do not come back all at once.
		timer := time.NewTimer(wait/2 + rand.N(wait/2+1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = min(2*wait, p.cfg.MaxWait)
	}
}

// sayFrom is how long the wait for the next attempt must be for a person to be
// told.
const sayFrom = 400 * time.Millisecond

// A queueError is a failure of this side that no reconnecting mends.
type queueError struct{ err error }

func (e *queueError) Error() string { return e.err.Error() }
func (e *queueError) Unwrap() error { return e.err }

// errSilent ends a session with a server that has stopped answering.
var errSilent = errors.New("no answer from the server")

// session is one connection, from hello to its end.
func (p *Pusher) session(ctx context.Context) (welcomed bool, err error) {
	ctx, cancelCause := context.WithCancelCause(ctx)
	cancel := func() { cancelCause(context.Canceled) }
	conn := p.cfg.Client.Push(ctx)
	answers := make(chan *clewv1.PushResponse)
	failed := make(chan error, 1)
	received := make(chan struct{})
	started := false
	defer func() {
		// What the two closings say is no more than what ended the session.
		// The transport looks at ctx only after the request's body has ended.
		cancel()
		_ = conn.CloseRequest()
		if started {
			<-received
		}
		_ = conn.CloseResponse()
	}()

	// The first Send opens the connection, so there is nothing to receive
	// before it.
	patience := time.AfterFunc(p.cfg.Patience, func() { cancelCause(errSilent) })
	defer patience.Stop()
	if err := send(conn, &clewv1.PushRequest{Body: &clewv1.PushRequest_Hello{Hello: p.cfg.Hello()}}); err != nil {
		if errors.Is(err, io.EOF) {
			_, err = conn.Receive() // tells why
		}
		return false, err
	}
	started = true
	go func() {
		defer close(received)
		for {
			answer, err := conn.Receive()
			if err != nil {
				failed <- err
				return
			}
			select {
			case answers <- answer:
			case <-ctx.Done():
				failed <- ctx.Err()
				return
			}
		}
	}()

	var welcome *clewv1.Welcome
	select {
	case answer := <-answers:
		if welcome = answer.GetWelcome(); welcome == nil {
			return false, errors.New("server's first message is no welcome")
		}
	case err := <-failed:
		return false, err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	p.sessions.Add(1)
	p.connected.Store(true)
	p.cfg.Log.InfoContext(ctx, "connected to the server")
	p.queue.Rewind()
	if welcome.ResendNodes {
		p.cfg.Resend()
	}

	health := time.NewTicker(p.cfg.HealthEvery)
	defer health.Stop()
	first := true
	sendHealth := func() error {
		h := p.cfg.Health(first)
		first = false
		return send(conn, &clewv1.PushRequest{Body: &clewv1.PushRequest_Health{Health: h}})
	}
	if err := sendHealth(); err != nil {
		return true, p.ended(ctx, err, answers, failed, nil)
	}

	window := p.cfg.Window
	if p.careful {
		window = 1
	}
	var under []string // ids sent and not acknowledged, oldest first
	for {
		empty := false
		for len(under) < window && !empty {
			batch, err := p.queue.Next()
			if err != nil {
				return true, &queueError{err}
			}
			if empty = batch == nil; empty {
				break
			}
			under = append(under, batch.Id)
			if err := send(conn, &clewv1.PushRequest{Body: &clewv1.PushRequest_Batch{Batch: batch}}); err != nil {
				return true, p.ended(ctx, err, answers, failed, under)
			}
			p.sent.Add(1)
		}
		// A server that neither acknowledges nor goes away is left.
		if len(under) == 0 {
			patience.Stop()
		} else {
			patience.Reset(p.cfg.Patience)
		}
		ready := p.queue.Ready()
		if !empty {
			ready = nil
		}
	waiting:
		for {
			select {
			case answer := <-answers:
				ack := answer.GetAck()
				if ack == nil {
					break
				}
				if err := p.queue.Ack(ack.BatchId); err != nil {
					return true, &queueError{err}
				}
				p.acked.Add(1)
				for i, id := range under {
					if id == ack.BatchId {
						under = append(under[:i], under[i+1:]...)
						break
					}
				}
				if p.careful && len(under) == 0 {
					p.careful, window = false, p.cfg.Window
				}
				break waiting
			case err := <-failed:
				return true, p.refused(err, under)
			case <-p.tell:
				if err := sendHealth(); err != nil {
					return true, p.ended(ctx, err, answers, failed, under)
				}
			case <-health.C:
				if err := sendHealth(); err != nil {
					return true, p.ended(ctx, err, answers, failed, under)
				}
			case <-ready:
				break waiting
			case <-ctx.Done():
				return true, context.Cause(ctx)
			}
		}
	}
}

// ended finds out why a Send failed: the reason comes with what is received.
func (p *Pusher) ended(ctx context.Context, err error, answers <-chan *clewv1.PushResponse, failed <-chan error, under []string) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	for {
		select {
		case err = <-failed:
			return p.refused(err, under)
		case <-answers: // the batch comes again, which does no harm
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// refused deals with a server that ended the session because of a batch. The
// next session sends one batch at a time; the one it refuses then will never
// be taken and must not keep the others waiting for ever.
func (p *Pusher) refused(err error, under []string) error {
	if connect.CodeOf(err) != connect.CodeInvalidArgument || len(under) == 0 {
		return err
	}
	if !p.careful {
		p.careful = true
		return err
	}
	p.cfg.Log.Error("server refuses a batch, it is left out", "batch", under[0], "error", err)
	if qerr := p.queue.Refuse(under[0]); qerr != nil {
		return &queueError{qerr}
	}
	p.careful = false
	return err
}

func send(conn *connect.BidiStreamForClient[clewv1.PushRequest, clewv1.PushResponse], req *clewv1.PushRequest) error {
	err := conn.Send(req)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("send: %w", err)
	}
	return err
}

// NewClient returns a client of the ingest service at base that speaks HTTP/2
// through rt.
func NewClient(rt http.RoundTripper, base string) clewv1connect.IngestServiceClient {
	return clewv1connect.NewIngestServiceClient(&http.Client{Transport: rt}, base,
		connect.WithReadMaxBytes(MaxPayload))
}
