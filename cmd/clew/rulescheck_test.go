package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/testkit/ruleshapes"
)

// TestCheckShapes holds that clew rules check takes rules of every shape on
// every field, more than a thousand of them, and names each.
func TestCheckShapes(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	text, rules := ruleshapes.Policy(schema)
	if rules < 1000 {
		t.Fatalf("%d rules are no thousand", rules)
	}
	file := filepath.Join(t.TempDir(), "shapes.policy")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := newRootCmd()
	var out, problems bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&problems)
	cmd.SetArgs([]string{"rules", "check", "--json", file})
	if err := cmd.Execute(); err != nil {
		t.Fatalf("%v\n%.2000s", err, problems.String())
	}
	var report struct {
		Items []struct{ ID, Status, Reason string }
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, it := range report.Items {
		if it.Status != "loaded" {
			t.Errorf("rule %s is %s: %s", it.ID, it.Status, it.Reason)
		}
		seen[it.ID] = true
	}
	if len(seen) != rules {
		t.Errorf("%d of %d rules are named", len(seen), rules)
	}
}
