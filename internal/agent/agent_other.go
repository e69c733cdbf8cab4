//go:build !linux

package agent

import "context"

// An Agent cannot be made here.
type Agent struct{}

// New returns ErrNotSupported.
func New(Config) (*Agent, error) { return nil, ErrNotSupported }

// Run returns ErrNotSupported.
func (*Agent) Run(context.Context) error { return ErrNotSupported }

// HostMemory is not known here.
func HostMemory() int64 { return 0 }

// CanBind says that there is nothing to bind.
func CanBind() (ok bool, reason string) { return false, ErrNotSupported.Error() }
