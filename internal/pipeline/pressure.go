package pipeline

import "github.com/clewsec/clew/internal/event"

// ReasonPressure is why events of hot contexts are missing that would have been
// kept had the agent had more memory.
const ReasonPressure = "memory_pressure"

// pressure is what the stream said last of the agent's memory, and what was
// given up since then. Events that have a signal, and those that are kept
// whatever their context is, are never given up.
type pressure struct {
	level  int64
	since  int64 // time of the last record
	gaveUp [event.NumKinds]uint64
}

// pressed takes a Pressure record: what was given up since the last one is
// said, by kind, and the new level holds from here on.
func (p *Pipeline) pressed(rec *event.StreamRecord, emit Emit) error {
	now := p.at(rec, rec.Pressure.At)
	from := p.press.since
	if p.press.level == 0 {
		from = now
	}
	// What is not kept need not leave the kernel.
	p.depth = p.depth || (p.press.level > 0) != (rec.Pressure.Level > 0)
	p.press.level, p.press.since = rec.Pressure.Level, now
	for kind, n := range p.press.gaveUp {
		if n == 0 {
			continue
		}
		p.press.gaveUp[kind] = 0
		p.stats.GivenUp += n
		l := &event.Lost{Kind: event.Kind(kind), Reason: ReasonPressure, Count: n, From: from, To: now, Where: "agent"}
		if err := p.send(emit, event.SpoolRecord{Lost: l}); err != nil {
			return err
		}
	}
	return nil
}
