package graph

import (
	"strconv"
	"strings"
)

// SignalName names a signal of Linux on amd64 and arm64 (signal(7)).
func SignalName(n int64) string {
	names := [...]string{
		1: "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
		"CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
	}
	if n > 0 && n < int64(len(names)) {
		return "SIG" + names[n]
	}
	return "signal " + strconv.FormatInt(n, 10)
}

// PtraceVerb says what a request of ptrace(2) does to the other process.
func PtraceVerb(request int64) (did, infinitive string) {
	switch request {
	case 4, 5, 6: // POKETEXT, POKEDATA, POKEUSR
		return "wrote into the memory of", "write into the memory of"
	case 1, 2, 3: // PEEKTEXT, PEEKDATA, PEEKUSR
		return "read the memory of", "read the memory of"
	case 13, 15, 0x4205: // SETREGS, SETFPREGS, SETREGSET
		return "set the registers of", "set the registers of"
	case 16, 0x4206: // ATTACH, SEIZE
		return "attached to", "attach to"
	case 17: // DETACH
		return "detached from", "detach from"
	}
	return "traced", "trace"
}

// ProtectionText names the bits of PROT_READ, PROT_WRITE and PROT_EXEC.
func ProtectionText(prot int64) string {
	return bits(prot, "no access", []bit{{1, "readable"}, {2, "writable"}, {4, "executable"}})
}

// NamespaceText names the namespaces among the flags of unshare(2).
func NamespaceText(flags int64) string {
	return bits(flags, "no namespace", []bit{
		{0x10000000, "user"}, {0x00020000, "mount"}, {0x20000000, "process"}, {0x40000000, "network"}, {0x04000000, "host name"},
		{0x08000000, "IPC"}, {0x02000000, "control group"}, {0x00000080, "time"},
	})
}

// A bit is a flag and its name.
type bit struct {
	mask int64
	name string
}

// bits names the flags that are set, or says none.
func bits(v int64, none string, names []bit) string {
	var out []string
	for _, b := range names {
		if v&b.mask != 0 {
			out = append(out, b.name)
		}
	}
	switch len(out) {
	case 0:
		return none
	case 1:
		return out[0]
	}
	return strings.Join(out[:len(out)-1], ", ") + " and " + out[len(out)-1]
}

// BPFCommand says what a command of bpf(2) does.
func BPFCommand(cmd int64) string {
	switch cmd {
	case 0:
		return "made a BPF map"
	case 1, 2, 3, 4:
		return "used a BPF map"
	case 5:
		return "loaded a BPF program"
	case 8, 28:
		return "attached a BPF program"
	case 9, 34:
		return "detached a BPF program"
	case 6, 7:
		return "pinned or opened a BPF object"
	}
	return "used bpf(2), command " + strconv.FormatInt(cmd, 10)
}
