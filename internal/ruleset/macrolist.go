package ruleset

import "github.com/clewsec/clew/internal/secl/ast"

// MacroList is what a macro with values stands for: texts, where ~"…" and
// r"…" are patterns and regular expressions.
func MacroList(values []string) *ast.List {
	texts := make([]text, 0, len(values))
	for _, v := range values {
		texts = append(texts, text{s: v})
	}
	return valueList(texts)
}
