//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A ring reads a BPF ring buffer (kernel/bpf/ringbuf.c, v5.8). It differs from
// the library's reader in two ways that count when a few records come many
// times a second: records are decoded where they lie, and nobody blocks in a
// system call. The runtime watches a thread that blocks, every 20 µs at first,
// and that watch used to cost as much as decoding did.
type ring struct {
	cons, prod       []byte
	consPos, prodPos *uint64
	data             []byte // the buffer
	wrapped          []byte // a record that lay around the buffer's end, in one piece
	mask             uint64
	file             *os.File
	conn             syscall.RawConn // of file
	high             atomic.Uint64   // the most that waited at the begin of a drain
}

// Header of a record in a ring buffer (include/uapi/linux/bpf.h).
const (
	ringHeader  = 8
	ringBusy    = 1 << 31
	ringDiscard = 1 << 30
)

var errRing = errors.New("ring buffer is damaged")

func newRing(m *ebpf.Map) (_ *ring, err error) {
	size, page := int(m.MaxEntries()), os.Getpagesize()
	r := &ring{mask: uint64(size - 1)}
	defer func() {
		if err != nil {
			_ = r.Close()
		}
	}()
	if r.cons, err = unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map consumer page: %w", err)
	}
	// The kernel offers the buffer twice in a row, so that no record has an end
	// in sight. Both would count as resident, and few records lie there.
	if r.prod, err = unix.Mmap(m.FD(), int64(page), page+size, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map data pages: %w", err)
	}
	r.consPos = (*uint64)(unsafe.Pointer(&r.cons[0]))
	r.prodPos = (*uint64)(unsafe.Pointer(&r.prod[0]))
	r.data = r.prod[page:]
	// A descriptor of its own: the runtime's poller owns what it watches.
	fd, err := unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make descriptor non-blocking: %w", err)
	}
	r.file = os.NewFile(uintptr(fd), "ring buffer")
	if r.conn, err = r.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("wait for ring: %w", err)
	}
	return r, nil
}

// size is how many bytes the ring holds.
func (r *ring) size() uint64 { return r.mask + 1 }

// Close gives the memory back.
func (r *ring) Close() error {
	var errs []error
	if r.file != nil {
		errs = append(errs, r.file.Close())
	}
	for _, m := range [][]byte{r.cons, r.prod} {
		if m != nil {
			errs = append(errs, unix.Munmap(m))
		}
	}
	return errors.Join(errs...)
}

// drain calls take for every record on the ring. The bytes are take's only
// until it returns.
func (r *ring) drain(take func([]byte)) error {
	cons := atomic.LoadUint64(r.consPos)
	if waiting := atomic.LoadUint64(r.prodPos) - cons; waiting > r.high.Load() {
		r.high.Store(waiting)
	}
	spins := 0
	for {
		avail := atomic.LoadUint64(r.prodPos) - cons
		if avail == 0 {
			return nil
		}
		if avail < ringHeader || avail > r.mask+1 {
			return errRing
		}
		at := cons & r.mask
		head := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[at])))
		if head&ringBusy != 0 {
			// Another CPU is copying it in: that takes less than a
			// microsecond, unless the CPU itself was taken away.
			if spins++; spins > 1000 {
				runtime.Gosched()
			}
			continue
		}
		spins = 0
		n := uint64(head &^ (ringBusy | ringDiscard))
		next := ringHeader + (n+7)&^7
		if next > avail {
			return errRing
		}
		if head&ringDiscard == 0 {
			take(r.bytes(at+ringHeader, n))
		}
		cons += next
		atomic.StoreUint64(r.consPos, cons)
	}
}

// bytes are n bytes of the buffer from a position on, until the next call.
func (r *ring) bytes(from, n uint64) []byte {
	from &= r.mask
	if from+n <= uint64(len(r.data)) {
		return r.data[from : from+n]
	}
	r.wrapped = append(r.wrapped[:0], r.data[from:]...)
	r.wrapped = append(r.wrapped, r.data[:n-uint64(len(r.wrapped))]...)
	return r.wrapped
}

// wait returns after d, or earlier when the ring's writers woke it.
func (r *ring) wait(d time.Duration) error {
	if err := r.file.SetReadDeadline(time.Now().Add(d)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	woken := false
	err := r.conn.Read(func(uintptr) bool {
		defer func() { woken = true }()
		return woken
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}
