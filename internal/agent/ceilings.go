package agent

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Ceilings are how much of the host clew may take. 0 means none.
type Ceilings struct {
	Memory int64   // bytes
	CPUs   float64 // processors
}

// The least that is let through: with less, clew does not start, or dies while
// it loads its programs.
const (
	minMemory = 128 << 20
	minCPUs   = 0.05
)

// Limits say how much of the host agent and server may take, and whether they
// may have control groups of their own for it.
type Limits struct {
	Agent, Server Ceilings
	// NoCgroup leaves clew in the control group it was started in. The ceilings
	// are then only what it keeps to by itself.
	NoCgroup bool
}

// DefaultLimits are what is sensible on a host with so much memory and so many
// processors: the agent is small, wherever it runs, and the server grows with
// what it holds.
func DefaultLimits(memory int64, cpus int) Limits {
	n := float64(cpus)
	l := Limits{
		Agent:  Ceilings{Memory: 256 << 20, CPUs: min(max(1, 0.75*n), 4)},
		Server: Ceilings{Memory: max(512<<20, min(memory/2, 16<<30)), CPUs: max(1, 0.75*n)},
	}
	if memory > 0 {
		l.Agent.Memory = max(minMemory, min(l.Agent.Memory, memory/2))
	}
	return l
}

// validate reports what cannot be worked with.
func (l Limits) validate() error {
	var errs []error
	for _, c := range []struct {
		who string
		Ceilings
	}{{"agent", l.Agent}, {"server", l.Server}} {
		if c.Memory < 0 || c.Memory > 0 && c.Memory < minMemory {
			errs = append(errs, fmt.Errorf("memory ceiling of the %s: %d MiB; it needs %d MiB", c.who, c.Memory>>20, minMemory>>20))
		}
		if c.CPUs != 0 && !(c.CPUs >= minCPUs && c.CPUs <= 1<<16) {
			errs = append(errs, fmt.Errorf("processor ceiling of the %s: %g; want %g or more", c.who, c.CPUs, minCPUs))
		}
	}
	return errors.Join(errs...)
}

// ParseBytes reads a size: bytes, or with a unit as in 512MiB, 2GiB, 1g.
// "none" is 0.
func ParseBytes(s string) (int64, error) {
	if s == "none" {
		return 0, nil
	}
	text := strings.ToLower(strings.TrimSpace(s))
	unit := int64(1)
	for _, u := range []struct {
		suffixes []string
		size     int64
	}{
		{[]string{"kib", "k"}, 1 << 10}, {[]string{"mib", "m"}, 1 << 20}, {[]string{"gib", "g"}, 1 << 30},
		{[]string{"kb"}, 1e3}, {[]string{"mb"}, 1e6}, {[]string{"gb"}, 1e9},
	} {
		for _, suffix := range u.suffixes {
			if rest, ok := strings.CutSuffix(text, suffix); ok && unit == 1 {
				text, unit = strings.TrimSpace(rest), u.size
			}
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("size %q: want a number of bytes, with KiB, MiB or GiB if you like, or none", s)
	}
	return n * unit, nil
}

// softLimit is how much of a memory ceiling the Go runtime is told to keep to:
// the rest is for what the kernel holds for the process, as maps and programs,
// and counts against the ceiling, too.
func softLimit(ceiling, kernel int64) int64 {
	return max(ceiling/4, ceiling*9/10-kernel)
}

// Pressure is how near the agent is to its memory ceiling.
type Pressure int64

// The levels. From PressureNear on the agent gives up depth, never events.
const (
	PressureNone Pressure = iota
	PressureNear
	PressureAt
)

// A Relenter gives up depth while memory is short: a source may be one. It is
// told of every change of the level, from one goroutine.
type Relenter interface {
	SetPressure(Pressure)
}

// A pressureGauge turns what is used of a ceiling into a level. To go down
// takes more than to go up, so that it does not swing.
type pressureGauge struct{ level Pressure }

// Shares of the ceiling at which the level rises, and how far below it falls.
var pressureAt = [...]float64{PressureNear: 0.80, PressureAt: 0.92}

const pressureSlack = 0.08

func (g *pressureGauge) read(used, ceiling int64) Pressure {
	if ceiling <= 0 {
		g.level = PressureNone
		return g.level
	}
	share := float64(used) / float64(ceiling)
	for g.level < PressureAt && share >= pressureAt[g.level+1] {
		g.level++
	}
	for g.level > PressureNone && share < pressureAt[g.level]-pressureSlack {
		g.level--
	}
	return g.level
}
