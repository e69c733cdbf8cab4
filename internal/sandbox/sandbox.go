// Package sandbox takes from a process what it does not need.
//
// The server is made harmless by Enter: a process without root, without
// capabilities and without a way to get any, that sees few files and may not
// make the system calls that attacks need. It reads what agents on hostile
// hosts send and answers browsers; if someone takes it over, what they have is
// the server's own data.
//
// Seal is narrower still, for a process that works on nothing but the
// descriptors it is handed.
//
// The agent must stay root to watch. Reduce leaves it the capabilities and
// system calls that watching takes.
package sandbox

import "errors"

// Config says what the process keeps.
type Config struct {
	UID uint32 // whom to become when started as root
	GID uint32

	ReadWrite []string // folders; they must exist
	ReadOnly  []string // files and folders; what does not exist is left out
}

// A Reduction says what a process that stays root keeps.
type Reduction struct {
	Capabilities []uintptr // numbers, as CAP_BPF; all others go for good
	Calls        []uintptr // system calls of those that are otherwise refused
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

// ReaderUID is the user and group of the process that reads files of others for
// the agent. No account of a distribution has it, and neither has the server.
const ReaderUID = 61845

// ErrNotSupported means that this system has no such sandbox.
var ErrNotSupported = errors.New("not supported on this system")
