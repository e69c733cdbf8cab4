// Package ingest takes in what agents send: the server's half of
// clew.v1.IngestService/Push. A batch is acknowledged when it is durable, and
// only then handed on to stories and watchers.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/gen/clew/v1/clewv1connect"
	"github.com/clewsec/clew/internal/server/batch"
	"github.com/clewsec/clew/internal/server/live"
	"github.com/clewsec/clew/internal/store"
	"github.com/clewsec/clew/internal/wire"
)

// Bounds of what is set aside for someone to look at.
const (
	maxAside      = 16
	maxStringLen  = 4096 // of a text in a hello
	readMaxBytes  = wire.MaxPayload + 64<<10
	maxRuleStates = 100_000
)

// A Folder takes records that have been stored.
type Folder interface {
	// Fold folds records of an agent into the stories. It may keep them.
	Fold(agent string, recs []*event.SpoolRecord)
}

// Config joins the handler with what it feeds.
type Config struct {
	Store  store.Store
	Fold   Folder
	Tail   *live.Tail
	Agents *live.Agents
	// Aside is a folder for payloads that could not be decoded.
	Aside string
	Log   *slog.Logger
	// Seen is called when an agent has come, after Agents knows it.
	Seen func(ctx context.Context, h *clewv1.Hello)
}

// Counters count what came in.
type Counters struct {
	Batches    atomic.Uint64 // stored
	Duplicates atomic.Uint64 // came again
	Records    atomic.Uint64 // in stored batches
	Malformed  atomic.Uint64 // batches refused because of their content
	Failed     atomic.Uint64 // batches that the store did not take; they come again
}

// A Handler serves agents. It implements clewv1connect.IngestServiceHandler.
type Handler struct {
	cfg      Config
	Counters Counters

	trouble atomic.Pointer[error] // of the last batch, nil when it was stored

	mu    sync.Mutex
	aside int // files set aside
}

// Trouble is why the last batch could not be stored; nil when it could.
func (h *Handler) Trouble() error {
	if p := h.trouble.Load(); p != nil {
		return *p
	}
	return nil
}

var _ clewv1connect.IngestServiceHandler = (*Handler)(nil)

// New returns a handler.
func New(cfg Config) *Handler { return &Handler{cfg: cfg} }

// Route returns the path of the service and its handler.
func (h *Handler) Route() (string, http.Handler) {
	return clewv1connect.NewIngestServiceHandler(h, connect.WithReadMaxBytes(readMaxBytes))
}

// Push implements clewv1connect.IngestServiceHandler.
func (h *Handler) Push(ctx context.Context, conn *connect.BidiStream[clewv1.PushRequest, clewv1.PushResponse]) error {
	first, err := conn.Receive()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if err := checkHello(hello); err != nil {
		return err
	}
	dec, err := wire.NewDecoder()
	if err != nil {
		return connect.NewError(connect.CodeInternal, err)
	}
	defer dec.Close()
	gone := h.cfg.Agents.Connect(hello)
	defer gone()
	if h.cfg.Seen != nil {
		h.cfg.Seen(ctx, hello)
	}
	log := h.cfg.Log.With("agent", hello.AgentId, "host", hello.Hostname)
	log.Info("agent connected", "mode", hello.Mode, "version", hello.Version)
	defer log.Info("agent gone")

	known, err := h.knows(ctx, hello)
	if err != nil {
		return connect.NewError(connect.CodeUnavailable, err)
	}
	if err := conn.Send(&clewv1.PushResponse{Body: &clewv1.PushResponse_Welcome{Welcome: &clewv1.Welcome{ResendNodes: !known}}}); err != nil {
		return err
	}
	// Receive knows no context; it ends when this method has returned.
	type received struct {
		req *clewv1.PushRequest
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	incoming := make(chan received)
	go func() {
		for {
			req, err := conn.Receive()
			select {
			case incoming <- received{req, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		var req *clewv1.PushRequest
		select {
		case <-ctx.Done():
			return connect.NewError(connect.CodeUnavailable, errors.New("the server is stopping"))
		case r := <-incoming:
			if errors.Is(r.err, io.EOF) {
				return nil
			}
			if r.err != nil {
				return r.err
			}
			req = r.req
		}
		switch body := req.Body.(type) {
		case *clewv1.PushRequest_Health:
			if len(body.Health.GetRules()) > maxRuleStates {
				return connect.NewError(connect.CodeInvalidArgument, errors.New("more rules than anyone can have"))
			}
			h.cfg.Agents.Seen(hello.AgentId, body.Health)
		case *clewv1.PushRequest_Batch:
			h.cfg.Agents.Seen(hello.AgentId, nil)
			dup, err := h.take(ctx, dec, hello, body.Batch)
			if err != nil {
				log.Warn("batch not taken", "batch", fmt.Sprintf("%.80q", body.Batch.GetId()), "error", err)
				return err
			}
			if err := conn.Send(&clewv1.PushResponse{Body: &clewv1.PushResponse_Ack{Ack: &clewv1.Ack{BatchId: body.Batch.Id, Duplicate: dup}}}); err != nil {
				return err
			}
		default:
			return connect.NewError(connect.CodeInvalidArgument, errors.New("neither batch nor health"))
		}
	}
}

func checkHello(h *clewv1.Hello) error {
	switch {
	case h == nil:
		return connect.NewError(connect.CodeInvalidArgument, errors.New("the first message must be a hello"))
	case h.Protocol > wire.Protocol:
		return connect.NewError(connect.CodeFailedPrecondition,
			fmt.Errorf("the agent speaks version %d of the protocol, this server knows versions up to %d: update the server first", h.Protocol, wire.Protocol))
	case uuid.Validate(h.AgentId) != nil:
		return connect.NewError(connect.CodeInvalidArgument, errors.New("agent id is no UUID"))
	}
	for _, s := range []string{h.Hostname, h.Version, h.Mode, h.Kernel, h.Reason} {
		if len(s) > maxStringLen {
			return connect.NewError(connect.CodeInvalidArgument, errors.New("hello is too long"))
		}
	}
	return nil
}

// knows tells whether records of the agent's run are stored.
func (h *Handler) knows(ctx context.Context, hello *clewv1.Hello) (bool, error) {
	runs, err := h.cfg.Store.Runs(ctx)
	if err != nil {
		return false, err
	}
	for _, r := range runs {
		if r.Agent == hello.AgentId && r.Run == hello.Run {
			return true, nil
		}
	}
	return false, nil
}

// take decodes a batch, stores it and hands it on.
func (h *Handler) take(ctx context.Context, dec *wire.Decoder, hello *clewv1.Hello, b *clewv1.Batch) (dup bool, err error) {
	recs, err := batch.Decode(dec, b)
	if err != nil {
		h.Counters.Malformed.Add(1)
		h.setAside(b)
		return false, connect.NewError(connect.CodeInvalidArgument, err)
	}
	agent := b.AgentId
	if agent == "" {
		agent = hello.AgentId
	}
	sb := &store.Batch{ID: b.Id, Agent: agent, Run: b.Run, FirstSeq: b.FirstSeq, LastSeq: b.LastSeq, Records: recs}
	dup, err = h.cfg.Store.Append(ctx, sb)
	switch {
	case errors.Is(err, store.ErrBatch):
		h.Counters.Malformed.Add(1)
		h.setAside(b)
		return false, connect.NewError(connect.CodeInvalidArgument, err)
	case err != nil:
		h.Counters.Failed.Add(1)
		code := connect.CodeUnavailable
		if errors.Is(err, store.ErrFull) {
			code = connect.CodeResourceExhausted
		}
		h.trouble.Store(&err)
		return false, connect.NewError(code, err)
	case dup:
		h.Counters.Duplicates.Add(1)
		return true, nil
	}
	h.trouble.Store(nil)
	h.Counters.Batches.Add(1)
	h.Counters.Records.Add(uint64(len(recs)))
	h.cfg.Fold.Fold(agent, recs)
	found := make([]store.Found, 0, len(recs))
	for _, r := range recs {
		if r.Event != nil {
			found = append(found, store.Found{Agent: agent, Event: r.Event})
		}
	}
	h.cfg.Tail.Publish(found)
	return false, nil
}

// setAside keeps the payload of a batch that was refused, the first few of
// them, for someone to find out why.
func (h *Handler) setAside(b *clewv1.Batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.aside >= maxAside || len(b.GetPayload()) == 0 {
		return
	}
	if err := os.MkdirAll(h.cfg.Aside, 0o700); err != nil {
		h.cfg.Log.Warn("set batch aside", "error", err)
		return
	}
	entries, err := os.ReadDir(h.cfg.Aside)
	if err != nil {
		h.cfg.Log.Warn("set batch aside", "error", err)
		return
	}
	if h.aside = len(entries); h.aside >= maxAside {
		return
	}
	name := filepath.Join(h.cfg.Aside, fmt.Sprintf("batch-%02d.zst", h.aside+1))
	if err := os.WriteFile(name, b.Payload, 0o600); err != nil {
		h.cfg.Log.Warn("set batch aside", "error", err)
		return
	}
	h.aside++
}
