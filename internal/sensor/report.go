package sensor

import "github.com/clewsec/clew/internal/event"

// A Status says how well something can be watched.
type Status string

// The statuses. Unknown means that the question itself could not be asked.
const (
	OK         Status = "ok"
	Degraded   Status = "degraded"
	Impossible Status = "impossible"
	Unknown    Status = "unknown"
)

// A Check is the answer to one question about this kernel.
type Check struct {
	Name   string
	Status Status
	Reason string // in words, empty when all is well
}

// A KindCheck says how well one kind of event can be watched in the mode that
// would be chosen.
type KindCheck struct {
	Kind   event.Kind
	Status Status
	Reason string
}

// A Report says what this kernel lets us watch, by trying.
type Report struct {
	Mode   Mode // what Auto would choose, empty if nothing can be watched
	Kernel string
	Checks []Check
	Kinds  []KindCheck
}
