//go:build linux

package sensor

var see32Object = loadSee32
