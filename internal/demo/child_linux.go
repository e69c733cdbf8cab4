package demo

import "syscall"

// childAttr puts the clew that the demo starts in a process group of its own
// and has the kernel end it should the demo be killed.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
