//go:build !(linux && (amd64 || arm64))

package sensor

import "github.com/clewsec/clew/internal/event"

// Produces tells whether this sensor makes events of a kind at all. Here it
// makes none.
func Produces(event.Kind) bool { return false }
