package proc

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"sync"
)

// tinyCode is exit(0) in machine code.
var tinyCode = map[string][]byte{
	"amd64": {0x31, 0xff, 0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05},                            // xor edi,edi; mov eax,60; syscall
	"arm64": {0x00, 0x00, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4}, // mov x0,#0; mov x8,#93; svc #0
}

// WriteTiny writes the smallest program there is: static, one page, ends at
// once with status 0. With it tens of thousands of executions cost seconds.
func WriteTiny(name string) error {
	code, ok := tinyCode[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("no program in machine code for %s", runtime.GOARCH)
	}
	const (
		base   = 0x400000
		header = 64
		phdr   = 56
	)
	machine := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]
	size := uint64(header + phdr + len(code))
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	le := binary.LittleEndian
	b = le.AppendUint16(b, 2) // an executable
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+header+phdr) // entry
	b = le.AppendUint64(b, header)           // program headers
	b = le.AppendUint64(b, 0)                // no sections
	b = le.AppendUint32(b, 0)
	b = le.AppendUint16(b, header)
	b = le.AppendUint16(b, phdr)
	b = le.AppendUint16(b, 1)
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = le.AppendUint32(b, 1) // loaded
	b = le.AppendUint32(b, 5) // readable, executable
	for _, v := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return os.WriteFile(name, append(b, code...), 0o755)
}

// Marker is the argument of execution i of a burst.
func Marker(prefix string, i int) string { return fmt.Sprintf("%s-%06d", prefix, i) }

// Burst runs program n times, as fast as two at a time go, each with one
// argument: Marker(prefix, i). It calls each with the number of executions
// that have ended, one call at a time; nil is allowed.
func Burst(ctx context.Context, program, prefix string, n int, each func(done int)) error {
	const workers = 2
	var (
		mu   sync.Mutex
		next int
		done int
		errs = make(chan error, workers)
	)
	take := func() int {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1
	}
	work := func() error {
		for i := take(); i < n; i = take() {
			if err := ctx.Err(); err != nil {
				return err
			}
			p, err := os.StartProcess(program, []string{program, Marker(prefix, i)}, &os.ProcAttr{})
			if err != nil {
				return err
			}
			if st, err := p.Wait(); err != nil || !st.Success() {
				return fmt.Errorf("execution %d: %v, %w", i, st, err)
			}
			mu.Lock()
			done++
			if each != nil {
				each(done)
			}
			mu.Unlock()
		}
		return nil
	}
	for range workers {
		go func() { errs <- work() }()
	}
	var first error
	for range workers {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
