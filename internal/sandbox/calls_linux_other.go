//go:build linux && !amd64

package sandbox

// archCalls are the calls of a working process that not all machines have.
var archCalls []uintptr
