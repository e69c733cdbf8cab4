// Package sandbox makes the server harmless: a process without root, without
// capabilities and without a way to get any, that sees few files and may not
// make the system calls that attacks need.
//
// The server reads what agents on hostile hosts send and answers browsers. If
// someone takes it over, what they have is the server's own data.
package sandbox

import "errors"

// Config says what the process keeps.
type Config struct {
	UID uint32 // whom to become when started as root
	GID uint32

	ReadWrite []string // folders; they must exist
	ReadOnly  []string // files and folders; what does not exist is left out
}

// A Report says what is in force.
type Report struct {
	UID        uint32
	Landlock   int      // version of the interface used, 0: not in this kernel
	Seccomp    bool     // the filter is on
	Weaknesses []string // what is not in force, in words
}

// FallbackUID is the user and group the server runs as on hosts that have no
// user "clew". No account of a distribution has it.
const FallbackUID = 61844

// ErrNotSupported means that this system has no such sandbox.
var ErrNotSupported = errors.New("not supported on this system")
