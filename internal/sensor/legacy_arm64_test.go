//go:build linux

package sensor

// legacyCalls are system calls that newer architectures do not have.
var legacyCalls map[string]uintptr
