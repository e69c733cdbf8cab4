package ruleset

import (
	"testing"

	"github.com/clewsec/clew/internal/secl/ast"
)

func TestMacroList(t *testing.T) {
	if got := ast.Print(MacroList([]string{"sh", `~"/tmp/*"`, `r"^a"`})); got != `[ "sh", ~"/tmp/*", r"^a" ]` {
		t.Error(got)
	}
}
