package record

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/clewsec/clew/internal/accounts"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/sensor"
	"github.com/clewsec/clew/internal/stream"
)

// endTime is how long the end of a command may take to come through the
// sensor, and how long a command may take to end when it is asked to.
const endTime = 2 * time.Second

// Config says what to record and where to.
type Config struct {
	Path    string
	Command []string // empty: everything, until ctx ends
	Mode    sensor.Mode
	See32   bool          // 32-bit system calls in tracepoint mode, too
	Plan    *kfilter.Plan // what to let through; everything when nil
	Version string        // of clew
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Log     *slog.Logger
}

// A Summary is what was written.
type Summary struct {
	Records uint64
	Lost    uint64 // events that the stream says are missing
	Bytes   int64
}

// everything lets all of every kind through: nobody knows yet what the
// recording will be asked.
func everything() kfilter.Plan {
	var p kfilter.Plan
	for k := range p.Kinds {
		p.Kinds[k].Mode = kfilter.All
	}
	return p
}

// Run records. The file appears when the recording is complete; of one that
// fails nothing is left. An error of the command itself is returned when the
// recording is in place.
func Run(ctx context.Context, cfg Config) (sum Summary, err error) {
	var id [8 + 32]byte
	rand.Read(id[:]) // never fails
	plan := everything()
	if cfg.Plan != nil {
		plan = *cfg.Plan
	}
	s, err := sensor.New(sensor.Config{
		Mode: cfg.Mode, See32: cfg.See32, Plan: plan, Log: cfg.Log,
		Start: event.RunStart{Run: binary.LittleEndian.Uint64(id[:8]) | 1, Seed: id[8:], Version: cfg.Version},
	})
	if err != nil {
		return sum, err
	}
	names := accounts.Host()
	if _, err := names.Changed(); err != nil {
		cfg.Log.Warn("users and groups have no names", "error", err)
	}
	f, err := os.CreateTemp(filepath.Dir(cfg.Path), "."+filepath.Base(cfg.Path)+"-*")
	if err != nil {
		return sum, fmt.Errorf("record: %w", err)
	}
	tmp := f.Name()
	defer func() {
		if f != nil {
			err = errors.Join(err, f.Close(), os.Remove(tmp))
		}
	}()
	w, err := stream.NewWriter(f)
	if err != nil {
		return sum, err
	}
	cerr, err := play(ctx, cfg, s, names, func(rec *event.StreamRecord) error {
		sum.Records++
		if rec.Lost != nil {
			sum.Lost += rec.Lost.Count
		}
		return w.Write(rec)
	})
	if err != nil {
		return Summary{}, err
	}
	if err := w.Close(); err != nil {
		return Summary{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return Summary{}, fmt.Errorf("record: %w", err)
	}
	sum.Bytes = info.Size()
	done := f
	f = nil
	if err := errors.Join(done.Close(), os.Rename(tmp, cfg.Path)); err != nil {
		return Summary{}, fmt.Errorf("record: %w", err)
	}
	return sum, cerr
}

// source is what of a sensor is needed here.
type source interface {
	Run(ctx context.Context, sink func(*event.StreamRecord) error) error
}

// play runs sensor and command side by side. cerr is the command's own error.
func play(ctx context.Context, cfg Config, s source, names Names, write func(*event.StreamRecord) error) (cerr, err error) {
	self := 0
	if len(cfg.Command) > 0 {
		self = os.Getpid()
	}
	filter := NewFilter(uint32(self), names, os.Environ())
	ready, ended := make(chan struct{}), make(chan struct{})
	sensing, stop := context.WithCancel(ctx)
	defer stop()
	sensed := make(chan error, 1)
	go func() {
		var isReady, isEnded bool
		sensed <- s.Run(sensing, func(rec *event.StreamRecord) error {
			if isEnded {
				return nil // what the command left behind is not recorded
			}
			if err := filter.Push(rec, write); err != nil {
				return err
			}
			if filter.Ready() && !isReady {
				isReady = true
				close(ready)
			}
			if filter.Ended() {
				isEnded = true
				close(ended)
			}
			return nil
		})
	}()
	if self == 0 {
		return nil, canceled(<-sensed)
	}
	select {
	case <-ready:
	case err := <-sensed:
		if err == nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	cerr = command(ctx, cfg)
	var notStarted *exec.Error
	if errors.As(cerr, &notStarted) {
		stop()
		<-sensed
		return nil, cerr
	}
	t := time.NewTimer(endTime)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
		cfg.Log.Warn("end of the command was not seen")
	case err := <-sensed:
		return cerr, err
	}
	stop()
	if err := canceled(<-sensed); err != nil {
		return cerr, err
	}
	if !filter.Begun() {
		if cerr == nil {
			cerr = errors.New("record: the command was not seen")
		}
		return nil, cerr // there is nothing to keep
	}
	return cerr, nil
}

func canceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// command runs the command to its end.
func command(ctx context.Context, cfg Config) error {
	cmd := exec.CommandContext(ctx, cfg.Command[0], cfg.Command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = cfg.Stdin, cfg.Stdout, cfg.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endTime
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", cfg.Command[0], err)
	}
	return nil
}
