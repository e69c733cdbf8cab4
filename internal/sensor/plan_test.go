//go:build linux && (amd64 || arm64)

package sensor

import (
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

func TestCompilePlan(t *testing.T) {
	var p kfilter.Plan
	p.Kinds[event.KindOpen] = kfilter.Kind{Mode: kfilter.Filtered, FlagsAny: 3, Names: []string{"a", "shadow"}}
	p.Kinds[event.KindUnlink] = kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"shadow"}}
	p.Kinds[event.KindSetgid] = kfilter.Kind{Mode: kfilter.All}
	p.Kinds[event.KindExec] = kfilter.Kind{Mode: kfilter.Off}
	k := compilePlan(p)
	for rec, want := range map[procRecKind]procPlanMode{
		procRecKindREC_OPEN: procPlanModePLAN_FILTERED, procRecKindREC_TRUNCATE: procPlanModePLAN_FILTERED,
		procRecKindREC_UNLINK: procPlanModePLAN_FILTERED, procRecKindREC_CHMOD: procPlanModePLAN_OFF,
		// One record for both kinds of credentials, and life cannot be turned off.
		procRecKindREC_CRED: procPlanModePLAN_ALL, procRecKindREC_EXEC: procPlanModePLAN_ALL,
	} {
		if got := k.data.Mode[rec]; got != want || k.wanted[rec] != (want != procPlanModePLAN_OFF) {
			t.Errorf("record %d: mode %d, want %d", rec, got, want)
		}
	}
	if k.data.FlagsAny[procRecKindREC_OPEN] != 3 || k.data.FlagsAny[procRecKindREC_UNLINK] != 0 {
		t.Errorf("flags %v", k.data.FlagsAny)
	}
	open := uint64(1<<procRecKindREC_OPEN | 1<<procRecKindREC_TRUNCATE)
	if got := k.names[nameKey("shadow")]; got != open|1<<procRecKindREC_UNLINK {
		t.Errorf("shadow is wanted by %b", got)
	}
	if got := k.names[nameKey("a")]; got != open {
		t.Errorf("a is wanted by %b", got)
	}
	for _, n := range []string{"a", "shadow"} {
		if word, bit := bloomBit(n); k.data.Bloom[word]>>bit&1 == 0 {
			t.Errorf("%s is not in the bloom filter", n)
		}
	}

	// What the maps cannot hold is not cut: its kind lets everything through.
	p.Kinds[event.KindUnlink].Names = []string{strings.Repeat("x", kfilter.MaxNameLen+1)}
	if k := compilePlan(p); k.data.Mode[procRecKindREC_UNLINK] != procPlanModePLAN_ALL {
		t.Error("a name too long for the kernel is filtered by")
	}
}

func TestRingSize(t *testing.T) {
	for n, want := range map[int]uint32{0: 8 << 20, 1: 4096, 4097: 8192, 1 << 20: 1 << 20, 1 << 40: 1 << 30} {
		if got := ringSize(n, 8<<20); got != want {
			t.Errorf("ringSize(%d) = %d, want %d", n, got, want)
		}
	}
}
