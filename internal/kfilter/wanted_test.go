package kfilter_test

import (
	"math/rand/v2"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/kfilter"
)

var someNames = []string{"a", "b", "c", "shadow", "passwd", "a-name-of-more-than-sixty-three-bytes-which-no-filter-of-the-kernel-can-hold"}

func somePlan(r *rand.Rand) kfilter.Plan {
	var p kfilter.Plan
	for k := range p.Kinds {
		switch r.IntN(4) {
		case 0:
			p.Kinds[k] = kfilter.Kind{Mode: kfilter.All}
		case 1, 2:
			f := kfilter.Kind{Mode: kfilter.Filtered, FlagsAny: r.Uint64() & r.Uint64() & 0xff}
			for _, n := range someNames[:r.IntN(len(someNames)+1)] {
				if r.IntN(2) == 0 {
					f.Names = append(f.Names, n)
				}
			}
			p.Wants(event.Kind(k), f)
		}
	}
	return p
}

// TestWanted holds what shaping rests on, for random plans: joining and fitting
// lose nothing, what a rule wants is wanted, and what is wanted is let through.
func TestWanted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		base, rules, more := somePlan(r), somePlan(r), somePlan(r)
		p := kfilter.Compose(base, rules)
		if r.IntN(2) == 0 {
			p.Join(more)
		} else {
			more = kfilter.Plan{}
		}
		if r.IntN(2) == 0 {
			p.Fit()
		}
		for range 50 {
			kind := event.Kind(r.IntN(event.NumKinds))
			flags := r.Uint64() & r.Uint64() & 0xff
			name := someNames[r.IntN(len(someNames))]
			asked := rules.Lets(kind, flags, name) || more.Lets(kind, flags, name)
			if asked && !p.Wanted(kind, flags, name) {
				t.Fatalf("a rule wants %s %#x %q, the plan does not know: %+v", kind, flags, name, p.Rules[kind])
			}
			if p.Wanted(kind, flags, name) && !p.Lets(kind, flags, name) {
				t.Fatalf("%s %#x %q is wanted and not let through: %+v, %+v", kind, flags, name, p.Rules[kind], p.Kinds[kind])
			}
			if base.Lets(kind, flags, name) && !p.Lets(kind, flags, name) {
				t.Fatalf("%s %#x %q of the base is not let through", kind, flags, name)
			}
		}
	}
}

// TestSpare says of which events a flood may be thinned out.
func TestSpare(t *testing.T) {
	var rules kfilter.Plan
	rules.Kinds[event.KindOpen] = kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"shadow"}}
	rules.Kinds[event.KindUnlink] = kfilter.Kind{Mode: kfilter.Filtered, Names: []string{"shadow"}}
	rules.Kinds[event.KindConnect] = kfilter.Kind{Mode: kfilter.All}
	shaped := kfilter.Compose(kfilter.Baseline(), rules)
	plain := kfilter.Baseline()
	for _, tc := range []struct {
		plan   *kfilter.Plan
		kind   event.Kind
		flags  uint64
		name   string
		lets   bool
		wanted bool
	}{
		{&shaped, event.KindOpen, 0, "shadow", true, true},
		{&shaped, event.KindOpen, 1, "shadow", true, true},
		{&shaped, event.KindOpen, 1, "x", true, false},
		{&shaped, event.KindOpen, 0, "x", false, false},
		{&shaped, event.KindUnlink, 0, "x", true, false},
		{&shaped, event.KindUnlink, 0, "shadow", true, true},
		{&shaped, event.KindRename, 0, "shadow", true, false},
		{&shaped, event.KindConnect, 0, "", true, true},
		{&plain, event.KindOpen, 1, "x", true, true},
		{&plain, event.KindOpen, 0, "x", false, false},
	} {
		if got := tc.plan.Lets(tc.kind, tc.flags, tc.name); got != tc.lets {
			t.Errorf("%s %#x %q: let through %t", tc.kind, tc.flags, tc.name, got)
		}
		if got := tc.plan.Wanted(tc.kind, tc.flags, tc.name); got != tc.wanted {
			t.Errorf("%s %#x %q: wanted %t", tc.kind, tc.flags, tc.name, got)
		}
	}
}
