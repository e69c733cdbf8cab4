// Package replay is a sensor that plays a recording instead of watching the
// kernel: for tests, demonstrations, and to look again at what was recorded
// elsewhere.
//
// A recording has no agent id of its own and gets one that is derived from
// its first record, so playing it twice tells the same twice.
package replay

import (
	"context"
	"errors"
	"io"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/stream"
)

// A Source plays one recording, once.
type Source struct {
	r     *stream.Reader
	start *event.RunStart
}

// New reads the beginning of a recording. Its errors are those of
// stream.NewReader.
func New(r io.Reader) (*Source, error) {
	rd, err := stream.NewReader(r)
	if err != nil {
		return nil, err
	}
	start := rd.Start()
	start.HostID = stream.HostID(start)
	start.Recording = true
	return &Source{r: rd, start: start}, nil
}

// Start is the run start that the stream will begin with. It must not be
// changed.
func (s *Source) Start() *event.RunStart { return s.start }

// Run passes the records to sink, which may keep them, and returns nil at the
// end of the recording, the cause when ctx ends before, and otherwise the
// error of sink or a *stream.CorruptError.
func (s *Source) Run(ctx context.Context, sink func(*event.StreamRecord) error) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rec, err := s.r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := sink(rec); err != nil {
			return err
		}
	}
}

// Close frees the source.
func (s *Source) Close() error {
	s.r.Close()
	return nil
}
