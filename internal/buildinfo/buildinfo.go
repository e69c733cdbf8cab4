// Package buildinfo tells which clew this is.
package buildinfo

import (
	"runtime"
	"runtime/debug"
)

// version is set by the linker in releases.
var version = ""

// Info describes the running program.
type Info struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// Read returns the version set at link time, else the one of the module, else
// "devel".
func Read() Info {
	v := version
	if v == "" {
		v = "devel"
		if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
			v = bi.Main.Version
		}
	}
	return Info{Version: v, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
}
