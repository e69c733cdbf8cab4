// Package batch reads what an agent hands over at once, and lets nothing
// through that those who read stored records could stumble over.
package batch

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/store"
	"github.com/clewsec/clew/internal/wire"
)

// A Error says what is wrong with a batch beside its encoding.
type Error struct {
	Record int // number in the batch, from 0; -1: the batch itself
	Reason string
}

func (e *Error) Error() string {
	if e.Record < 0 {
		return "batch: " + e.Reason
	}
	return fmt.Sprintf("batch: record %d: %s", e.Record, e.Reason)
}

// Decode reads a batch and checks what the decoder cannot know: that every
// record is of the batch, says one thing, and says it whole.
func Decode(dec *wire.Decoder, b *clewv1.Batch) ([]*event.SpoolRecord, error) {
	switch {
	case b == nil || b.Id == "":
		return nil, &Error{-1, "has no id"}
	case len(b.Id) > store.MaxIDLen:
		return nil, &Error{-1, "its id is too long"}
	case b.AgentId != "" && uuid.Validate(b.AgentId) != nil:
		return nil, &Error{-1, "agent id is no UUID"}
	case b.LastSeq < b.FirstSeq:
		return nil, &Error{-1, "its last number is before its first"}
	}
	var recs []*event.SpoolRecord
	err := dec.Decode(b.Payload, func(r *event.SpoolRecord) error {
		i := len(recs)
		recs = append(recs, r)
		if r.Seq < b.FirstSeq || r.Seq > b.LastSeq {
			return &Error{i, "its number is not the batch's"}
		}
		if bodies(r) != 1 {
			return &Error{i, "has not one body"}
		}
		if r.Event != nil && !r.Event.Complete() {
			return &Error{i, "an event without the part of its kind"}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return recs, nil
}

// bodies counts the bodies of a record.
func bodies(r *event.SpoolRecord) (n int) {
	for _, there := range []bool{r.RunStart != nil, r.ProcessNode != nil, r.Event != nil, r.Context != nil, r.ContextHot != nil,
		r.Link != nil, r.Lost != nil, r.FilterPlan != nil, r.Canary != nil, r.FileFacts != nil} {
		if there {
			n++
		}
	}
	return n
}
