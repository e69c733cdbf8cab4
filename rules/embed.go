// Package rules holds the rules that clew ships: a folder per rule, with the
// rule itself, a page about it, and cases that must and must not fire it.
package rules

import "embed"

// FS has the rule files and the macros they use.
//
//go:embed macros.policy */rule.yaml
var FS embed.FS
