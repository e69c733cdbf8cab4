//go:build !linux

package agent

import "context"

// An Agent cannot be made here.
type Agent struct{}

// New returns ErrNotSupported.
func New(Config) (*Agent, error) { return nil, ErrNotSupported }

// Run returns ErrNotSupported.
func (*Agent) Run(context.Context) error { return ErrNotSupported }
