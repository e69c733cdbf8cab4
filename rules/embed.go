// Package rules holds the detection rules that clew comes with, a folder each.
package rules

import "embed"

// FS holds the folders of the rules.
//
//go:embed *
var FS embed.FS
