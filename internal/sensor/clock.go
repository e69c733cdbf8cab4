//go:build linux && (amd64 || arm64)

package sensor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// clockNS reads a clock. The call cannot block, so the runtime is not told of
// it, which would cost more than the call.
func clockNS(id int32) int64 {
	var t unix.Timespec
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0
	}
	return t.Nano()
}

// bootNS is the time since boot, sleep included: the kernel records' clock.
func bootNS() uint64 { return uint64(clockNS(unix.CLOCK_BOOTTIME)) }

// wallOffset is wall clock minus boot clock. The wall clock is read between two
// readings of the other; the narrowest of a few tries counts.
func wallOffset() int64 {
	best, offset := int64(1<<62), int64(0)
	for range 5 {
		a := clockNS(unix.CLOCK_BOOTTIME)
		w := clockNS(unix.CLOCK_REALTIME)
		b := clockNS(unix.CLOCK_BOOTTIME)
		if b-a < best {
			best, offset = b-a, w-(a+b)/2
		}
	}
	return offset
}
