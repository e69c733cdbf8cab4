package attack

import (
	"slices"
	"strings"
	"testing"
)

func TestLists(t *testing.T) {
	all := Techniques()
	if !slices.IsSortedFunc(all, func(a, b TechniqueName) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("techniques are not sorted")
	}
	if len(all) < 100 {
		t.Errorf("%d techniques", len(all))
	}
	for _, x := range all {
		if name, _, ok := Technique(x.ID); !ok || name != x.Name {
			t.Errorf("%s is %q here and %q there", x.ID, x.Name, name)
		}
	}
	if ts := Tactics(); len(ts) != len(tactics) || ts[0].ID != "TA0043" {
		t.Errorf("tactics %v", ts)
	}
}
