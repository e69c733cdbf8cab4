//go:build linux && (amd64 || arm64)

package sensor

import "github.com/clewsec/clew/internal/event"

// Produces tells whether this sensor makes events of a kind at all, on any
// kernel. Probe tells what it can do on this one.
func Produces(k event.Kind) bool { return int(k) < len(recKinds) && recKinds[k] != nil }
