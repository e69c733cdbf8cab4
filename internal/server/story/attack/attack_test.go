package attack

import (
	"strings"
	"testing"
)

func TestTechniques(t *testing.T) {
	last := ""
	for i, line := range strings.Split(strings.TrimSpace(techniques), "\n") {
		f := strings.Split(line, "\t")
		if len(f) != 3 {
			t.Fatalf("line %d: %d columns", i+1, len(f))
		}
		if i == 0 {
			continue
		}
		if f[0] <= last {
			t.Errorf("%s is out of order", f[0])
		}
		last = f[0]
		for _, id := range strings.Split(f[2], ",") {
			if _, _, ok := Lookup(id); !ok {
				t.Errorf("%s: no tactic %q", f[0], id)
			}
		}
	}
}

func TestLookup(t *testing.T) {
	for _, s := range []string{"TA0006", "credential-access", "Credential access", "credential_access"} {
		if got, _, ok := Lookup(s); !ok || got.ID != "TA0006" {
			t.Errorf("%s: got %v, %v", s, got, ok)
		}
	}
	if _, _, ok := Lookup("gardening"); ok {
		t.Error("an unknown tactic was found")
	}
	if name, tactics, ok := Technique("T1059.004"); !ok || name != "Unix Shell" || tactics[0] != "TA0002" {
		t.Errorf("got %q %v %v", name, tactics, ok)
	}
	if name, _, ok := Technique("T1105.009"); !ok || name != "Ingress Tool Transfer" {
		t.Errorf("a sub-technique that is not listed: got %q %v", name, ok)
	}
	for _, id := range []string{"", "T", "T9999", "id", "."} {
		if _, _, ok := Technique(id); ok {
			t.Errorf("%q was found", id)
		}
	}
}

func TestGravity(t *testing.T) {
	seen := map[int]bool{}
	for _, tac := range tactics {
		g := Gravity(tac.ID)
		if g < 0 || seen[g] {
			t.Errorf("%s: %d", tac.ID, g)
		}
		seen[g] = true
	}
	if Gravity("TA0004") <= Gravity("TA0002") || Gravity("") != -1 {
		t.Error("order")
	}
}
