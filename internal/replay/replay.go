// Package replay plays a recording through the pipeline and folds what comes
// out into stories, all in memory and without any privilege. The answer is a
// function of the recording and the rules: no clock, no host, no order of
// threads has a part in it.
package replay

import (
	"errors"
	"fmt"
	"io"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/server/story"
	"github.com/clewsec/clew/internal/stream"
)

// Result is what a recording told.
type Result struct {
	Start   *event.RunStart
	Stories []*clewv1.Story // highest score first, as of the last record
	Stats   pipeline.Stats
}

// Facts are what rules may ask about the host, as the recording knows it.
func Facts(start *event.RunStart) ruleset.Facts {
	return ruleset.Facts{
		Kernel: start.Kernel, Hostname: start.Hostname, CORE: true, AgentPID: start.AgentPID, AgentFiles: start.AgentFiles,
	}
}

// Rules loads the rules for the host that a recording was made on.
type Rules func(ruleset.Facts) (*ruleset.Set, error)

// Run plays the recording in r.
func Run(r io.Reader, load Rules) (*Result, error) {
	sr, err := stream.NewReader(r)
	if err != nil {
		return nil, err
	}
	defer sr.Close()
	res := &Result{Start: sr.Start()}
	set, err := load(Facts(res.Start))
	if err != nil {
		return nil, err
	}
	cfg, err := pipeline.Standard(set)
	if err != nil {
		return nil, err
	}
	p, err := pipeline.New(cfg)
	if err != nil {
		return nil, err
	}
	agent := stream.HostID(res.Start)
	fold, mem := story.NewFold(story.Config{}), story.NewMemory()
	add := func(rec *event.SpoolRecord) error {
		// Records are valid during the call only.
		kept := new(event.SpoolRecord)
		if err := event.ConsumeSpoolRecord(event.AppendSpoolRecord(nil, rec), kept); err != nil {
			return err
		}
		fold.Add(agent, kept)
		mem.Add(agent, kept)
		return nil
	}
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
			rec.RunStart.Recording = true
		}
		if err := p.Push(rec, add); err != nil {
			return nil, fmt.Errorf("play record %d: %w", rec.Seq, err)
		}
	}
	res.Stats = p.Stats()
	for _, h := range fold.Heads(0) {
		s, err := story.Build(fold, mem, h.ID(), story.Options{})
		if err != nil {
			return nil, err
		}
		res.Stories = append(res.Stories, s)
	}
	return res, nil
}
