package agent

import (
	"context"

	"github.com/clewsec/clew/internal/cgroup"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/runtimes"
)

// Events of a container carry its id from the start. What it is called, the
// runtime is asked beside the stream, and its answer joins the stream whenever
// it comes: no event waits for it, and a recording has it where it came.

// askContainer asks for the container that a record shows for the first time.
func (e *engine) askContainer(rec *event.StreamRecord) {
	r := e.cfg.containers
	if r == nil {
		return
	}
	var p *event.Process
	switch {
	case rec.Snapshot != nil:
		p = rec.Snapshot
	case rec.Event == nil:
	case rec.Event.Exec != nil:
		p = rec.Event.Exec.Image
	case rec.Event.CgroupWrite != nil:
		if at := cgroup.Parse(rec.Event.CgroupWrite.Cgroup); at.ID != "" {
			r.Ask(at.ID, rec.Event.CgroupWrite.Cgroup)
		}
	}
	if p != nil && p.ContainerID != "" {
		r.Ask(p.ContainerID, p.Cgroup)
	}
}

// nameContainers puts what runtimes say into the stream.
func (e *engine) nameContainers(ctx context.Context, r *runtimes.Resolver) error {
	select {
	case <-e.begun:
	case <-ctx.Done():
		return nil
	}
	return r.Run(ctx, func(a *event.Answer) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.pushLocked(&event.StreamRecord{Answer: a})
	})
}
