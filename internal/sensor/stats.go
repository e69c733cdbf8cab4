//go:build linux && (amd64 || arm64)

package sensor

import (
	"fmt"

	"github.com/clewsec/clew/internal/event"
)

// fateNames are the reasons as they appear in lost records and metrics. What
// is no loss has none.
var fateNames = map[procFate]string{
	procFateFATE_SCRATCH_BUSY:             "scratch_busy",
	procFateFATE_TOO_BIG:                  "record_too_big",
	procFateFATE_NO_ENTRY:                 "call_entry_missed",
	procFateFATE_NO_FILE:                  "descriptor_gone",
	procFate(flowFlowFateFATE_TABLE_FULL): "flow_table_full",
	procFateFATE_SHAPED:                   "shaped",
	procFateFATE_SHAPED_CGROUP:            "shaped_cgroup",
}

// lossName names a fate that is a loss of a kind, "" if it is none.
func lossName(kind procRecKind, f procFate) string {
	if f == procFateFATE_RING_FULL {
		if critical(kind) {
			return "ring_full_critical"
		}
		return "ring_full_bulk"
	}
	return fateNames[f]
}

func critical(k procRecKind) bool {
	switch k {
	case procRecKindREC_MOUNT, procRecKindREC_UMOUNT, procRecKindREC_SELINUX:
		return true
	case procRecKindREC_LOAD_MODULE, procRecKindREC_UNLOAD_MODULE:
		return true
	case procRecKindREC_FORK, procRecKindREC_EXEC, procRecKindREC_EXIT, procRecKindREC_CRED, procRecKindREC_CGROUP:
		return true
	}
	return false
}

// fates reads the kernel's counters, summed over CPUs.
func (k *kernel) fates() (*procFateCounts, error) {
	var per []procFateCounts
	if err := k.maps[procMapCounters].Lookup(uint32(0), &per); err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	var sum procFateCounts
	for i := range per {
		for b := range sum.Beside {
			sum.Beside[b] += per[i].Beside[b]
		}
		for kind := range sum.N {
			for f := range sum.N[kind] {
				sum.N[kind][f] += per[i].N[kind][f]
			}
		}
	}
	return &sum, nil
}

func kindStats(c *procFateCounts) map[event.Kind]KindStats {
	out := make(map[event.Kind]KindStats)
	for rec := range c.N {
		kind, ok := eventKinds[procRecKind(rec)]
		if !ok {
			continue
		}
		n := c.N[rec]
		s := out[kind]
		s.Seen += n[procFateFATE_SEEN]
		s.Sent += n[procFateFATE_SENT]
		s.Filtered += n[procFateFATE_FILTERED]
		s.Ignored += n[procFateFATE_RESULT] + n[procFateFATE_SELF] + n[procFateFATE_UNCHANGED]
		for f := range n {
			if name := lossName(procRecKind(rec), procFate(f)); name != "" && n[f] > 0 {
				if s.Lost == nil {
					s.Lost = make(map[string]uint64)
				}
				s.Lost[name] += n[f]
			}
		}
		out[kind] = s
	}
	return out
}
