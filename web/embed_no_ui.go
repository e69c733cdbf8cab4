//go:build no_ui

// Package web holds the built page of clew; this binary was built without it.
package web

import "io/fs"

// Dist returns no files.
func Dist() (files fs.FS, ok bool) { return nil, false }
