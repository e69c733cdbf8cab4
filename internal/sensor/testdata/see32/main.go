// Command see32 is built for 386 and does in 32-bit system calls what the test
// watches.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

func call(what string, nr uintptr, args ...uintptr) {
	a := append(args, 0, 0, 0)
	if _, _, errno := syscall.Syscall(nr, a[0], a[1], a[2]); errno != 0 {
		fmt.Println(what, errno)
		os.Exit(1)
	}
}

func text(s string) uintptr {
	p, err := syscall.BytePtrFromString(s)
	if err != nil {
		panic(err)
	}
	keep = append(keep, p)
	return uintptr(unsafe.Pointer(p))
}

var keep []*byte

// All is done by the main thread: another one that is traced when it ends stays
// behind, and who waits for the process waits for ever.
func init() { runtime.LockOSThread() }

func main() {
	dir, addr := os.Args[1], os.Args[2]
	secret, victim := dir+"/secret", dir+"/victim"
	call("open", syscall.SYS_OPEN, text(secret), syscall.O_RDONLY)
	call("chmod", syscall.SYS_CHMOD, text(secret), 0o600)
	call("rename", syscall.SYS_RENAME, text(victim), text(dir+"/moved"))
	call("rename", syscall.SYS_RENAME, text(dir+"/moved"), text(victim))
	call("unlink", syscall.SYS_UNLINK, text(victim))
	c, err := net.Dial("tcp", addr) // by socketcall
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	c.Close()
	call("ptrace", syscall.SYS_PTRACE, syscall.PTRACE_TRACEME)
	call("setgid", syscall.SYS_SETRESGID32, 12345, 12345, 12345)
}
