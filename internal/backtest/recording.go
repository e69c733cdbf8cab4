package backtest

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/replay"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/stream"
)

// Run plays the recording in r. loaded, where it is not nil, is told what
// became of the rules before the first event. now measures what evaluation
// takes.
func Run(r io.Reader, load Load, loaded func(*ruleset.Report) error, now func() time.Time) (*Result, error) {
	sr, err := stream.NewReader(r)
	if err != nil {
		return nil, err
	}
	defer sr.Close()
	start := sr.Start()
	agent := stream.HostID(start)
	eval, report, err := newEvaluation(load, replay.Facts(start), agent, now)
	if err != nil {
		return nil, err
	}
	if loaded != nil {
		if err := loaded(report); err != nil {
			return nil, err
		}
	}
	cfg, err := pipeline.Standard(nil)
	if err != nil {
		return nil, err
	}
	cfg.Rules = eval
	p, err := pipeline.New(cfg)
	if err != nil {
		return nil, err
	}
	tl := &timeline{from: start.At}
	spans := []span{{from: start.At, up: true}}
	var lost []*event.Lost
	for {
		rec, err := sr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if rec.RunStart != nil {
			rec.RunStart.HostID = agent
		}
		err = p.Push(rec, func(out *event.SpoolRecord) error {
			switch {
			case out.FilterPlan != nil:
				f := *out.FilterPlan
				if p.Stats().Events == 0 {
					// Nothing was collected by what was in force before.
					spans, f.At = nil, start.At
				}
				spans = append(spans, span{from: f.At, up: true, plan: &f})
			case out.Lost != nil:
				l := *out.Lost
				lost = append(lost, &l)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("play record %d: %w", rec.Seq, err)
		}
	}
	tl.to = max(start.At, p.LastNS())
	for i, s := range spans {
		if s.to = tl.to; i+1 < len(spans) {
			s.to = spans[i+1].from
		}
		if s.to > s.from || len(spans) == 1 {
			tl.spans = append(tl.spans, s)
		}
	}
	tl.lose(lost)
	t := newTally(tl.from, tl.to)
	t.report(report)
	t.host(Host{Agent: agent, Name: start.Hostname}, eval, tl)
	return t.result(), nil
}
