//go:build linux && (amd64 || arm64)

package sensor

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// fill tells what waits on the ring, and the most that ever did when it was
// read.
func (r *ring) fill() (used, high uint64) {
	used = atomic.LoadUint64(r.prodPos) - atomic.LoadUint64(r.consPos)
	if used > r.mask+1 { // read while both moved
		used = 0
	}
	return used, max(used, r.high.Load())
}

// setRings makes the rings known to Stats; before they are closed they are
// taken away again.
func (s *Sensor) setRings(rings ...*ring) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rings = rings
}

func (s *Sensor) ringStats() []RingStats {
	var out []RingStats
	for i, r := range s.rings {
		used, high := r.fill()
		out = append(out, RingStats{Name: [...]string{"critical", "bulk"}[i], Size: r.mask + 1, Used: used, High: high})
	}
	return out
}

// ProgramStats says what the kernel counted for each loaded program, by name:
// 0 where the sysctl kernel.bpf_stats_enabled is off. A program that cannot be
// asked is left out.
func (s *Sensor) ProgramStats() []ProgramStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.k == nil {
		return nil
	}
	out := make([]ProgramStats, 0, len(s.k.progs))
	for name, p := range s.k.progs {
		st, err := p.Stats()
		if err != nil {
			continue
		}
		out = append(out, ProgramStats{Name: name, Runs: st.RunCount, Time: st.Runtime})
	}
	slices.SortFunc(out, func(a, b ProgramStats) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
