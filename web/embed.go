//go:build !no_ui

// Package web holds the built page of clew.
package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// Dist returns the built files, index.html at the top. ok is false in a binary
// that was built without the page.
func Dist() (files fs.FS, ok bool) {
	sub, err := fs.Sub(dist, "dist")
	return sub, err == nil
}
