//go:build !linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Config says how to play.
type Config struct {
	Root    string
	Pace    time.Duration
	Started func(Plan)
	Played  func(Step)
}

// IsHelper reports whether this process was started to play a part of the
// attack, which never happens here.
func IsHelper() bool { return false }

// Helper plays no part here.
func Helper() int { return 1 }

// Play plays the attack on Linux only.
func Play(context.Context, Config) (Plan, error) {
	return Plan{}, fmt.Errorf("play the attack: %w", errors.ErrUnsupported)
}
