// Package agent is the part of clew that runs on a watched host: it lets a
// sensor's stream through the pipeline, keeps what comes out in a spool on
// disk and hands it to a server. On a single machine it also starts that
// server, as its child and without privileges, and starts it again when it
// dies.
//
// The agent accepts no connection. What it needs of the server it asks over
// the server's socket.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

// The kinds of sensor that a Config may name, beside "replay:FILE".
const (
	SensorAuto       = "auto"
	SensorTrampoline = "trampoline"
	SensorTracepoint = "tracepoint"
	SensorNone       = "none"
	replayPrefix     = "replay:"
)

// ErrNotSupported means that this system has no agent.
var ErrNotSupported = errors.New("agent: not supported on this system")

// Config says what to watch and where to keep it.
type Config struct {
	Data     string   // data directory; made when it is not there
	Listen   string   // HOST:PORT of the server's page and API
	Sensor   string   // auto, trampoline, tracepoint, none or replay:FILE
	See32    bool     // 32-bit system calls in tracepoint mode, too
	Policies []string // files and directories, beside the shipped ones
	// MetricsListen is HOST:PORT of the server's metrics; empty: none.
	MetricsListen string
	// MetricsEvery is how often the agent sends its numbers; ten seconds when 0.
	MetricsEvery time.Duration
	// NoShippedRules leaves only the rules of Policies.
	NoShippedRules bool
	// Limits are how much of the host clew may take.
	Limits Limits
	// Recording is played, and marked as one, when the kernel cannot be
	// watched and the sensor is auto. Empty: that is an error.
	Recording []byte
	Version   string
	LogLevel  slog.Level // handed on to the server
	Out       io.Writer  // where a person is told how it started
	Log       *slog.Logger
}

// Validate reports everything that is wrong.
func (c *Config) Validate() error {
	var errs []error
	if c.Data == "" {
		errs = append(errs, errors.New("no data directory"))
	}
	switch c.Sensor {
	case SensorAuto, SensorTrampoline, SensorTracepoint, SensorNone:
	default:
		if file, ok := strings.CutPrefix(c.Sensor, replayPrefix); !ok || file == "" {
			errs = append(errs, fmt.Errorf("sensor %q: want auto, trampoline, tracepoint, none or replay:FILE", c.Sensor))
		}
	}
	errs = append(errs, c.Limits.validate())
	return errors.Join(errs...)
}

// A Source gives a stream. It is called once.
type Source interface {
	// Run passes records to sink, in order and from one goroutine, until ctx
	// ends, the stream does, or sink fails. sink may keep and change them.
	Run(ctx context.Context, sink func(*event.StreamRecord) error) error
}

// A Deepener is a Source that can be told which processes are hot, so that it
// gives all that they do. It must not wait: it is called from its own sink.
type Deepener interface {
	SetDepth([]kfilter.Task)
}

// A Prober is a Source that can send a probe through the whole of its path. It
// comes out as a Canary record with the same nonce.
type Prober interface {
	Canary(nonce uint64) error
}
