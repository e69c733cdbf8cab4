package policies_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/ruleset"
)

// TestShippedMacros holds that rules that are checked by themselves know the
// shipped macros, and that a macro of the same name takes its place.
func TestShippedMacros(t *testing.T) {
	for name, text := range map[string]string{
		"alone":    "rules:\n  - {id: a, expression: exec.file.name in CLEW_SHELLS}\n",
		"replaced": "macros:\n  - {id: CLEW_SHELLS, values: [myshell]}\nrules:\n  - {id: a, expression: exec.file.name in CLEW_SHELLS}\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "own.policy")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			files, err := policies.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			_, report, err := policies.Compile(ruleset.Facts{}, files)
			if err != nil {
				t.Fatal(err)
			}
			if report.Failed() || report.Count(ruleset.Loaded) != 1 {
				t.Errorf("got %+v", report)
			}
		})
	}
}
