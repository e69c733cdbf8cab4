//go:build linux && (amd64 || arm64)

package sensor

import "errors"

var errNo32 = errors.New("32-bit system calls can be watched on amd64 from Linux 5.15 only")

// canSee32 tells whether tracepoint mode could watch 32-bit calls here.
func canSee32() error {
	if see32Object == nil || before515() {
		return errNo32
	}
	return nil
}

// see32Kinds are those that bpf/see32.bpf.c reports.
var see32Kinds = kinds{
	procRecKindREC_OPEN, procRecKindREC_TRUNCATE, procRecKindREC_UNLINK, procRecKindREC_RMDIR, procRecKindREC_MKDIR,
	procRecKindREC_RENAME, procRecKindREC_CHMOD, procRecKindREC_CHOWN, procRecKindREC_LINK, procRecKindREC_SYMLINK,
	procRecKindREC_CONNECT, procRecKindREC_BIND, procRecKindREC_ACCEPT, procRecKindREC_CRED, procRecKindREC_PTRACE,
	procRecKindREC_PRCTL, procRecKindREC_UNSHARE, procRecKindREC_MPROTECT, procRecKindREC_BPF, procRecKindREC_LOAD_MODULE,
	procRecKindREC_UNLOAD_MODULE,
}

// see32Hooks are on every system call of the host, so only when asked for.
func see32Hooks() []hook {
	return []hook{
		{object: "see32", prog: "enter32", kinds: see32Kinds},
		{object: "see32", prog: "exit32", kinds: see32Kinds},
	}
}
