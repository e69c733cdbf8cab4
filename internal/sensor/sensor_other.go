//go:build !(linux && (amd64 || arm64))

package sensor

import (
	"context"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// A Sensor cannot be made here.
type Sensor struct{}

// New returns ErrNotSupported.
func New(Config) (*Sensor, error) { return nil, ErrNotSupported }

// Run returns ErrNotSupported.
func (*Sensor) Run(context.Context, func(*event.StreamRecord) error) error { return ErrNotSupported }

// SetPlan returns ErrNotSupported.
func (*Sensor) SetPlan(kfilter.Plan) error { return ErrNotSupported }

// SetDepth does nothing.
func (*Sensor) SetDepth([]kfilter.Task) {}

// Canary returns ErrNotSupported.
func (*Sensor) Canary(uint64) error { return ErrNotSupported }

// Stats returns ErrNotSupported.
func (*Sensor) Stats() (Stats, error) { return Stats{}, ErrNotSupported }

// ProgramStats returns none.
func (*Sensor) ProgramStats() []ProgramStats { return nil }

// Close does nothing.
func (*Sensor) Close() error { return nil }

// Probe says that nothing can be watched.
func Probe() Report {
	return Report{Features: []Feature{{Name: "operating system", Answer: No, Reason: ErrNotSupported.Error()}}}
}
