package proc

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// graceForFreeing bounds the wait for what the kernel frees after the last
// user is gone: programs after a grace period, mounts and cgroups by workers.
const graceForFreeing = 30 * time.Second

// Clean calls run, which is a test main's m.Run, with a directory for
// temporary files of its own, and then looks at what is left: processes below
// this one, BPF programs, maps and links that nobody holds or that this process
// still does, mounts, cgroups and files. It returns run's status, or 1 where
// something is left, which it says on w.
//
// Other programs of the host come and go meanwhile. What cannot be told from
// theirs counts only under continuous integration (CI=true), where there are
// none.
func Clean(w io.Writer, run func() int) int {
	dir, err := os.MkdirTemp("", "clew-test-")
	if err == nil {
		// The server under test is somebody else.
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(w, "clean:", err)
		return 1
	}
	old, had := os.LookupEnv("TMPDIR")
	if err := os.Setenv("TMPDIR", dir); err != nil {
		fmt.Fprintln(w, "clean:", err)
		return 1
	}
	before, err := takeInventory()
	if err != nil {
		fmt.Fprintln(w, "clean:", err)
	}
	status := run()
	if err == nil {
		left := before.left(dir, os.Getenv("CI") == "true")
		for _, line := range left {
			fmt.Fprintln(w, "left behind:", line)
		}
		if len(left) > 0 && status == 0 {
			status = 1
		}
	}
	if had {
		err = os.Setenv("TMPDIR", old)
	} else {
		err = os.Unsetenv("TMPDIR")
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(w, "clean:", err)
		return max(status, 1)
	}
	return status
}

// An inventory is what there was before.
type inventory struct {
	objects map[string]bool // nil where they cannot be listed
	places  Places
	events  int // perf events of this process
}

func takeInventory() (inventory, error) {
	inv := inventory{events: perfEvents()}
	// Without privileges nothing can be listed, and nothing was made.
	if objects, err := bpfObjects(); err == nil {
		inv.objects = objects
	}
	var err error
	inv.places, err = ReadPlaces()
	return inv, err
}

// left waits until nothing is left, and else returns what is.
func (inv inventory) left(dir string, strict bool) []string {
	for deadline := time.Now().Add(graceForFreeing); ; {
		left := inv.now(dir, strict)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (inv inventory) now(dir string, strict bool) (left []string) {
	if pids, err := Descendants(os.Getpid()); err != nil {
		left = append(left, err.Error())
	} else {
		for _, pid := range pids {
			if Alive(pid) {
				exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
				left = append(left, fmt.Sprintf("process %d %s", pid, exe))
			}
		}
	}
	if n := perfEvents(); n > inv.events {
		left = append(left, fmt.Sprintf("%d perf events", n-inv.events))
	}
	if inv.objects != nil {
		lines, err := orphans(inv.objects)
		if err != nil {
			left = append(left, err.Error())
		}
		left = append(left, lines...)
	}
	places, err := ReadPlaces()
	if err != nil {
		left = append(left, err.Error())
	}
	pid := strconv.Itoa(os.Getpid())
	for _, line := range places.Since(inv.places) {
		if strict || strings.Contains(line, dir) || strings.Contains(line, "clew") && strings.Contains(line, pid) {
			left = append(left, line)
		}
	}
	err = filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if name != dir && err == nil {
			left = append(left, "file "+name)
		}
		return err
	})
	if err != nil {
		left = append(left, err.Error())
	}
	slices.Sort(left)
	return left
}

func perfEvents() (n int) {
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.Contains(target, "perf_event") {
			n++
		}
	}
	return n
}

// bpfObjects lists all programs, maps and links of the machine.
func bpfObjects() (map[string]bool, error) {
	all := map[string]bool{}
	err := errors.Join(ids(all, "program", ebpf.ProgramGetNextID), ids(all, "map", ebpf.MapGetNextID))
	links := new(link.Iterator)
	defer links.Close()
	for links.Next() {
		all[fmt.Sprintf("link %d", links.ID)] = true
	}
	return all, errors.Join(err, links.Err())
}

// orphans returns what is new and held by no process, or by this one.
func orphans(before map[string]bool) ([]string, error) {
	// Who holds is read after what there is: what came to be held between is
	// not taken for an orphan.
	now, err := bpfObjects()
	if err != nil {
		return nil, err
	}
	own, others := Held{}, Held{}
	infos, err := filepath.Glob("/proc/[0-9]*/fdinfo")
	if err != nil {
		return nil, err
	}
	for _, dir := range infos {
		h := others
		if dir == fmt.Sprintf("/proc/%d/fdinfo", os.Getpid()) {
			h = own
		}
		h.descriptors(dir)
	}
	others.implied()
	var left []string
	for line := range now {
		switch {
		case before[line] || others[line]:
		case own[line]:
			left = append(left, line+" held by the tests")
		default:
			if text, ok := describe(line); ok {
				left = append(left, text)
			}
		}
	}
	return left, nil
}

// implied adds the programs of the links and the maps of the programs in h.
func (h Held) implied() {
	for line := range h {
		var id uint32
		if n, _ := fmt.Sscanf(line, "link %d", &id); n == 1 {
			if l, err := link.NewFromID(link.ID(id)); err == nil {
				if info, err := l.Info(); err == nil {
					h[fmt.Sprintf("program %d", info.Program)] = true
				}
				l.Close()
			}
		}
	}
	for line := range h {
		var id uint32
		if n, _ := fmt.Sscanf(line, "program %d", &id); n != 1 {
			continue
		}
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		if err != nil {
			continue
		}
		if info, err := p.Info(); err == nil {
			maps, _ := info.MapIDs()
			for _, m := range maps {
				h[fmt.Sprintf("map %d", m)] = true
			}
		}
		p.Close()
	}
}

// describe adds a name to an object that nobody holds; false if it is gone, or
// cannot be of a clew: service managers and container runtimes attach programs
// for devices to cgroups and let go of them.
func describe(line string) (string, bool) {
	var kind string
	var id uint32
	if n, _ := fmt.Sscanf(line, "%s %d", &kind, &id); n != 2 {
		return line, true
	}
	switch kind {
	case "program":
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		if err != nil {
			return "", false
		}
		defer p.Close()
		if p.Type() == ebpf.CGroupDevice {
			return "", false
		}
		if info, err := p.Info(); err == nil {
			line += " " + info.Name
		}
	case "map":
		m, err := ebpf.NewMapFromID(ebpf.MapID(id))
		if err != nil {
			return "", false
		}
		defer m.Close()
		if info, err := m.Info(); err == nil {
			line += " " + info.Name
		}
	}
	return line + ", held by nobody", true
}
