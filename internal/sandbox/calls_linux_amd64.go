package sandbox

import "golang.org/x/sys/unix"

// archCalls are the calls of a working process that not all machines have.
var archCalls = []uintptr{unix.SYS_EPOLL_WAIT, unix.SYS_ARCH_PRCTL}
