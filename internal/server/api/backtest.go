package api

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"github.com/clewsec/clew/internal/backtest"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/server/apijson"
)

// Bounds of back-tests. Their policies are larger than other questions.
const (
	maxBacktests     = 2 // at once
	maxBacktestTime  = 10 * time.Minute
	maxPolicies      = 16 << 20
	maxPolicyFiles   = 20_000
	progressInterval = 250 * time.Millisecond
)

// backtests implements clewv1connect.BacktestServiceHandler.
type backtests struct {
	cfg   Config
	slots chan struct{} // as many as may run
}

func newBacktests(cfg Config) *backtests {
	return &backtests{cfg: cfg, slots: make(chan struct{}, maxBacktests)}
}

// RunBacktest implements clewv1connect.BacktestServiceHandler.
func (b *backtests) RunBacktest(ctx context.Context, req *connect.Request[clewv1.RunBacktestRequest], stream *connect.ServerStream[clewv1.RunBacktestResponse]) error {
	files, q, err := b.request(req.Msg)
	if err != nil {
		return err
	}
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	default:
		return connect.NewError(connect.CodeResourceExhausted, errors.New("two back-tests are running: try again when one of them has ended"))
	}
	var told time.Time
	cfg := backtest.Config{
		Store: b.cfg.Store, Load: backtest.Compile(files), Now: b.cfg.Now, MaxTime: maxBacktestTime,
		Pause: backtest.Pace(b.stored, b.cfg.Now),
		Loaded: func(r *ruleset.Report) error {
			m := backtest.ReportMessage(r)
			apijson.Clean(m)
			return stream.Send(&clewv1.RunBacktestResponse{Body: &clewv1.RunBacktestResponse_Rules{Rules: m}})
		},
		Progress: func(p backtest.Progress) error {
			now := b.cfg.Now()
			if now.Sub(told) < progressInterval {
				return nil
			}
			told = now
			m := &clewv1.BacktestProgress{Host: p.Host, At: timestamp(p.At), Events: int64(p.Events), Done: p.Done}
			apijson.Clean(m)
			return stream.Send(&clewv1.RunBacktestResponse{Body: &clewv1.RunBacktestResponse_Progress{Progress: m}})
		},
	}
	res, err := backtest.Stored(ctx, cfg, q)
	var host *backtest.HostError
	switch {
	case errors.As(err, &host):
		return connect.NewError(connect.CodeNotFound, host)
	case err != nil:
		return internalError(err)
	}
	m := res.Message(b.cfg.Now())
	apijson.Clean(m)
	return stream.Send(&clewv1.RunBacktestResponse{Body: &clewv1.RunBacktestResponse_Result{Result: m}})
}

// stored is how many events there are.
func (b *backtests) stored(ctx context.Context) (int64, error) {
	s, err := b.cfg.Store.Stats(ctx)
	return s.Events, err
}

func (b *backtests) request(m *clewv1.RunBacktestRequest) (files []ruleset.File, q backtest.Request, err error) {
	switch {
	case len(m.Files) == 0:
		return nil, q, invalid("which rules? files is empty")
	case len(m.Files) > maxPolicyFiles:
		return nil, q, invalid("more than %d files of rules", maxPolicyFiles)
	case len(m.Host) > maxText:
		return nil, q, invalid("the host's name is too long")
	}
	for _, f := range m.Files {
		if len(f.Name) > maxText {
			return nil, q, invalid("a file's name is too long")
		}
		files = append(files, ruleset.File{Name: f.Name, Data: []byte(f.Text)})
	}
	q.Host = m.Host
	if q.From, err = nanoseconds(m.From); err != nil {
		return nil, q, err
	}
	if q.To, err = nanoseconds(m.To); err != nil {
		return nil, q, err
	}
	if m.To == nil {
		q.To = b.cfg.Now().UnixNano()
	}
	if m.From == nil || q.From < 0 || q.From >= q.To {
		return nil, q, invalid("since when? from must be there, and before to")
	}
	return files, q, nil
}
