package proc

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Held is what processes hold of the kernel at one moment: a set of lines as
// "program 12", "map 7", "link 3", "process 4711 at 815".
type Held map[string]bool

// Add adds what process pid holds: itself, its descendants, and the BPF
// objects behind their descriptors. A descendant that ends meanwhile is not an
// error.
func (h Held) Add(pid int) error {
	pids, err := Descendants(pid)
	if err != nil {
		return err
	}
	for _, p := range append([]int{pid}, pids...) {
		start, err := startTime(p)
		if err != nil {
			continue
		}
		h[fmt.Sprintf("process %d at %d", p, start)] = true
		h.descriptors(fmt.Sprintf("/proc/%d/fdinfo", p))
	}
	return nil
}

// descriptors adds the BPF objects that a folder of descriptors' facts names.
func (h Held) descriptors(dir string) {
	// Descriptors, and whole processes, come and go meanwhile.
	infos, _ := os.ReadDir(dir)
	for _, info := range infos {
		text, err := os.ReadFile(filepath.Join(dir, info.Name()))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if kind, ok := map[string]string{"prog_id": "program", "map_id": "map", "link_id": "link"}[key]; ok {
				h[kind+" "+strings.TrimSpace(value)] = true
			}
		}
	}
}

// Remaining returns what of h still exists, sorted. It needs root.
func (h Held) Remaining() ([]string, error) {
	alive := map[string]bool{}
	if err := ids(alive, "program", ebpf.ProgramGetNextID); err != nil {
		return nil, err
	}
	if err := ids(alive, "map", ebpf.MapGetNextID); err != nil {
		return nil, err
	}
	links := new(link.Iterator)
	defer links.Close()
	for links.Next() {
		alive[fmt.Sprintf("link %d", links.ID)] = true
	}
	if err := links.Err(); err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var left []string
	for line := range h {
		var pid int
		var start uint64
		if n, _ := fmt.Sscanf(line, "process %d at %d", &pid, &start); n == 2 {
			now, err := startTime(pid)
			alive[line] = err == nil && now == start
		}
		if alive[line] {
			left = append(left, line)
		}
	}
	sort.Strings(left)
	return left, nil
}

// Kinds counts the lines of h by their first word.
func (h Held) Kinds() map[string]int {
	n := map[string]int{}
	for line := range h {
		kind, _, _ := strings.Cut(line, " ")
		n[kind]++
	}
	return n
}

func ids[T ~uint32](alive map[string]bool, kind string, next func(T) (T, error)) error {
	var id T
	for {
		var err error
		if id, err = next(id); errors.Is(err, os.ErrNotExist) {
			return nil
		} else if err != nil {
			return fmt.Errorf("list %ss: %w", kind, err)
		}
		alive[fmt.Sprintf("%s %d", kind, id)] = true
	}
}

// Descendants returns the processes below pid, nearest first.
func Descendants(pid int) ([]int, error) {
	children := map[int][]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		p, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		f, err := stat(p)
		if err != nil {
			continue
		}
		parent, err := strconv.Atoi(f[1])
		if err != nil {
			return nil, fmt.Errorf("parent of process %d: %w", p, err)
		}
		children[parent] = append(children[parent], p)
	}
	var all []int
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		all = append(all, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return all, nil
}

// stat returns the fields of /proc/PID/stat from the state on: what proc(5)
// calls field n is at n-3.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(f) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	return f, nil
}

// startTime tells two processes with one number apart. A zombie counts as
// gone: only its parent can end it.
func startTime(pid int) (uint64, error) {
	f, err := stat(pid)
	if err != nil {
		return 0, err
	}
	if f[0] == "Z" {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(f[19], 10, 64)
}

// Alive reports whether a process runs.
func Alive(pid int) bool {
	_, err := startTime(pid)
	return err == nil
}

// Places are what a program can leave in file systems of the kernel.
type Places struct{ Mounts, Cgroups []string }

// ReadPlaces lists the mounts of this mount namespace and the cgroups of every
// hierarchy.
func ReadPlaces() (Places, error) {
	var p Places
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return p, err
	}
	defer f.Close()
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		// Without the ids, which a remount may change: the root in its
		// file system, the mount point, and after " - " the type.
		fields := strings.Fields(scan.Text())
		if i := slices.Index(fields, "-"); i > 4 && i+1 < len(fields) {
			p.Mounts = append(p.Mounts, fields[i+1]+" "+fields[3]+" "+fields[4])
		}
	}
	if err := scan.Err(); err != nil {
		return p, err
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			p.Cgroups = append(p.Cgroups, name)
		}
		return nil
	})
	return p, err
}

// Since returns what p has and earlier had not.
func (p Places) Since(earlier Places) []string {
	var more []string
	for _, s := range []struct {
		what        string
		now, before []string
	}{{"mount", p.Mounts, earlier.Mounts}, {"cgroup", p.Cgroups, earlier.Cgroups}} {
		for _, line := range s.now {
			if !slices.Contains(s.before, line) {
				more = append(more, s.what+" "+line)
			}
		}
	}
	return more
}
