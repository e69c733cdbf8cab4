package sensor

import (
	"time"

	"github.com/clewsec/clew/internal/event"
)

// A Status says how well something can be watched.
type Status string

// The statuses.
const (
	OK         Status = "ok"
	Degraded   Status = "degraded"
	Impossible Status = "impossible"
)

// An Answer says whether this kernel has something.
type Answer string

// The answers. Unknown means that the question itself could not be asked.
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

// A Feature is something of the kernel that watching it takes, and whether it
// is there.
type Feature struct {
	Name   string
	Answer Answer
	Reason string // in words, empty when it is there
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
	Mode     Mode // what Auto would choose, empty if nothing can be watched
	Kernel   string
	Features []Feature
	Kinds    []KindCheck
}

// KindStats says what became of the observations of a kind.
// Seen = Sent + Filtered + Ignored + sum of Lost.
type KindStats struct {
	Seen     uint64
	Sent     uint64            // put on a ring
	Filtered uint64            // not wanted by the plan
	Ignored  uint64            // failed calls that are not reported, our own, or no change
	Lost     map[string]uint64 // by reason
}

// DepthStats count depth hints and what the flight recorder gave.
type DepthStats struct {
	Hinted      uint64 // processes of hot contexts now
	Missed      uint64 // hints for which the kernel's table had no room
	Recorded    uint64 // moments that were read from the flight recorder
	Overwritten uint64 // moments that younger ones had replaced by then
	Torn        uint64 // moments that two CPUs wrote at once
}

// Stats counts since the sensor runs.
type Stats struct {
	Depth     DepthStats
	Mode      Mode
	Kinds     map[event.Kind]KindStats
	Decoded   map[event.Kind]uint64 // records read from the rings and passed on
	Malformed uint64                // records that could not be read
	Unparsed  uint64                // messages on a name server's port that are no DNS
	Late      uint64                // events passed on after younger ones
	Canaries  uint64
	Missing   map[string]string // places that could not be attached to, with the reason
	Programs  int
	Links     int
	Rings     []RingStats // while it runs
}

// RingStats says how full a ring is, in bytes.
type RingStats struct {
	Name string // critical or bulk
	Size uint64
	Used uint64 // waits to be read
	High uint64 // the most that waited when it was read, since the start
}

// ProgramStats says what a BPF program cost since it was loaded.
type ProgramStats struct {
	Name string // object/name
	Runs uint64
	Time time.Duration
}
