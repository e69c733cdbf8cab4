//go:build linux && (amd64 || arm64)

package sensor

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// openRootCgroup opens the root of the unified hierarchy, which every kernel
// with control groups has, mounted or not: it is mounted where nobody sees it.
// Inside a namespace of control groups it is the root of that.
func openRootCgroup() (int, error) {
	ctx, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open root control group: %w", err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, fmt.Errorf("create root control group's mount: %w", err)
	}
	mnt, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("mount root control group: %w", err)
	}
	defer unix.Close(mnt)
	fd, err := unix.Openat(mnt, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open root control group: %w", err)
	}
	return fd, nil
}

// attachPackets puts a program on the packets of all control groups. Programs
// that others put there, or on groups below, run as before.
func attachPackets(root int, p *ebpf.Program, at ebpf.AttachType) (io.Closer, error) {
	l, err := link.AttachCgroup(link.CgroupOptions{Path: fmt.Sprintf("/proc/self/fd/%d", root), Attach: at, Program: p})
	if err != nil {
		return nil, fmt.Errorf("attach to the root control group: %w", err)
	}
	return l, nil
}

// initCgroupNS is the inode of the first namespace of control groups
// (PROC_CGROUP_INIT_INO).
const initCgroupNS = 0xeffffffb

var errCgroupNS = errors.New("only packets of processes in the same namespace of control groups are seen")

// tryPackets loads and attaches a program that lets every packet pass.
func tryPackets() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: license,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("load a packet program: %w", brief(err))
	}
	defer p.Close()
	root, err := openRootCgroup()
	if err != nil {
		return err
	}
	defer unix.Close(root)
	l, err := attachPackets(root, p, ebpf.AttachCGroupInetEgress)
	if err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("detach a packet program: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/cgroup", &st); errors.Is(err, os.ErrNotExist) {
		return nil // a kernel without such namespaces
	} else if err != nil {
		return fmt.Errorf("namespace of control groups: %w", err)
	}
	if st.Ino != initCgroupNS {
		return errCgroupNS
	}
	return nil
}
