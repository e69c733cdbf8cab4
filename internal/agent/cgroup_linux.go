package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A hierarchy is one place where control groups of this process live: the
// unified hierarchy, or one of version 1 with the controllers named.
type hierarchy struct {
	v2          bool
	controllers []string // memory, cpu, or both
	base        string   // directory of the group that clew was started in
}

// locate finds the control groups of this process that can limit memory and
// processors, from /proc/self/cgroup and /proc/self/mountinfo. A host that has
// version 1 and the unified hierarchy side by side has its controllers in
// version 1.
func locate(self, mounts []byte) []hierarchy {
	type entry struct{ controllers, path string }
	var own []entry
	for line := range strings.Lines(string(self)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 {
			own = append(own, entry{f[1], f[2]})
		}
	}
	pathIn := func(controller string) (string, bool) {
		i := slices.IndexFunc(own, func(e entry) bool {
			return e.controllers == controller || controller != "" && slices.Contains(strings.Split(e.controllers, ","), controller)
		})
		if i < 0 {
			return "", false
		}
		return own[i].path, true
	}
	var unified *hierarchy
	var out []hierarchy
	taken := map[string]bool{}
	for line := range strings.Lines(string(mounts)) {
		// ID PARENT MAJ:MIN ROOT POINT OPTIONS … - TYPE SOURCE SUPEROPTIONS
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(g) < 3 {
			continue
		}
		below := func(path string) (string, bool) {
			rel, err := filepath.Rel(unescape(f[3]), path)
			if err != nil || strings.HasPrefix(rel, "..") {
				return "", false
			}
			return filepath.Join(unescape(f[4]), rel), true
		}
		switch g[0] {
		case "cgroup2":
			if path, ok := pathIn(""); ok && unified == nil {
				if base, ok := below(path); ok {
					unified = &hierarchy{v2: true, controllers: []string{"memory", "cpu"}, base: base}
				}
			}
		case "cgroup":
			h := hierarchy{}
			options := strings.Split(g[2], ",")
			for _, c := range []string{"memory", "cpu"} {
				if !slices.Contains(options, c) || taken[c] {
					continue
				}
				if path, ok := pathIn(c); ok {
					if base, ok := below(path); ok {
						taken[c] = true
						h.controllers, h.base = append(h.controllers, c), base
					}
				}
			}
			if len(h.controllers) > 0 {
				out = append(out, h)
			}
		}
	}
	if len(out) == 0 && unified != nil {
		out = append(out, *unified)
	}
	return out
}

// unescape reads a path of mountinfo, in which white space is octal.
func unescape(s string) string {
	for _, c := range []string{" ", "\t", "\n", `\`} {
		s = strings.ReplaceAll(s, fmt.Sprintf(`\%03o`, c[0]), c)
	}
	return s
}

// groupPrefix begins the names of clew's own groups; the agent's process id and
// the part follow.
const groupPrefix = "clew-"

// cpuPeriod is the time within which a group may use up its share. Short,
// because an agent that is held for longer than its rings take loses events.
const cpuPeriod = 20 * time.Millisecond

// groups are clew's own control groups: one for the agent and one beside it for
// the server.
type groups struct {
	log     *slog.Logger
	name    string // without the part
	places  []hierarchy
	enabled []string // groups that controllers were enabled in, for the end
	memory  string   // the agent's group with the memory controller
	cpu     string   // the agent's group with the processor controller
}

// errNoGroups is why clew stays in the control group that it was started in.
type errNoGroups struct{ reason string }

func (e *errNoGroups) Error() string { return "no control group of its own: " + e.reason }

// ownGroups moves this process into a control group of its own, and makes one
// for the server, as far as the host lets it. On failure everything is as
// before.
func ownGroups(l Limits, log *slog.Logger) (_ *groups, err error) {
	if os.Geteuid() != 0 {
		return nil, &errNoGroups{"that takes root"}
	}
	places, err := findGroups()
	if err != nil {
		return nil, err
	}
	return enterGroups(places, os.Getpid(), l, log)
}

// findGroups looks where this process is and whether it may make groups there.
func findGroups() ([]hierarchy, error) {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, &errNoGroups{cause(err).Error()}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, &errNoGroups{cause(err).Error()}
	}
	places := locate(self, mounts)
	if len(places) == 0 {
		return nil, &errNoGroups{"no memory or processor controller is mounted where clew could reach it"}
	}
	for _, h := range places {
		if unit := unitOf(h.base); unit != "" && !delegated(h.base) {
			return nil, &errNoGroups{fmt.Sprintf("%s belongs to systemd, which has not delegated it (Delegate=memory cpu in the unit does)", unit)}
		}
	}
	return places, nil
}

// unitOf names the unit that systemd made a group for.
func unitOf(dir string) string {
	name := filepath.Base(dir)
	for _, suffix := range []string{".service", ".scope", ".slice"} {
		if strings.HasSuffix(name, suffix) {
			return name
		}
	}
	return ""
}

// delegated tells whether systemd leaves a group to whoever lives in it.
func delegated(dir string) bool {
	var b [8]byte
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if n, err := unix.Getxattr(dir, name, b[:]); err == nil && string(b[:n]) == "1" {
			return true
		}
	}
	return false
}

// unitCeiling is the memory that a unit's own settings leave to clew; 0 when
// they set no bound.
func unitCeiling() int64 {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return 0
	}
	for _, h := range locate(self, mounts) {
		file := "memory.limit_in_bytes"
		if h.v2 {
			file = "memory.max"
		}
		if n, err := readInt(filepath.Join(h.base, file)); err == nil && n < 1<<50 {
			return n
		}
	}
	return 0
}

func (g *groups) dir(h hierarchy, part string) string {
	return filepath.Join(h.base, g.name+"-"+part)
}

func enterGroups(places []hierarchy, pid int, l Limits, log *slog.Logger) (_ *groups, err error) {
	g := &groups{log: log, name: groupPrefix + strconv.Itoa(pid)}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	for _, h := range places {
		sweep(h.base)
		g.places = append(g.places, h)
		for _, part := range []string{"agent", "server"} {
			if err := os.Mkdir(g.dir(h, part), 0o755); err != nil {
				return nil, &errNoGroups{fmt.Sprintf("cannot be made in %s: %v", h.base, cause(err))}
			}
		}
		if err := writeFileIn(g.dir(h, "agent"), "cgroup.procs", strconv.Itoa(pid)); err != nil {
			return nil, &errNoGroups{fmt.Sprintf("cannot be entered in %s: %v", h.base, cause(err))}
		}
		if h.v2 {
			if err := g.enable(h); err != nil {
				return nil, err
			}
		}
		for part, c := range map[string]Ceilings{"agent": l.Agent, "server": l.Server} {
			if err := h.limit(g.dir(h, part), c); err != nil {
				// A kernel without one of the two still has the other.
				log.Warn("a ceiling cannot be set", "error", err)
			}
		}
		if slices.Contains(h.controllers, "memory") {
			g.memory = g.dir(h, "agent")
		}
		if slices.Contains(h.controllers, "cpu") {
			g.cpu = g.dir(h, "agent")
		}
	}
	return g, nil
}

// enable gives the groups of the unified hierarchy their controllers. That is
// refused while processes live in the group above, unless it is the root.
func (g *groups) enable(h hierarchy) error {
	have, err := os.ReadFile(filepath.Join(h.base, "cgroup.subtree_control"))
	if err != nil {
		return &errNoGroups{fmt.Sprintf("%s: %v", h.base, cause(err))}
	}
	var want []string
	for _, c := range h.controllers {
		if !slices.Contains(strings.Fields(string(have)), c) {
			want = append(want, c)
		}
	}
	if len(want) == 0 {
		return nil
	}
	if err := writeFileIn(h.base, "cgroup.subtree_control", "+"+strings.Join(want, " +")); err != nil {
		if errors.Is(err, unix.EBUSY) {
			return &errNoGroups{fmt.Sprintf("other processes live in %s", h.base)}
		}
		return &errNoGroups{fmt.Sprintf("controllers of %s: %v", h.base, cause(err))}
	}
	g.enabled = append(g.enabled, h.base+" -"+strings.Join(want, " -"))
	return nil
}

// limit sets what ceilings there are.
func (h hierarchy) limit(dir string, c Ceilings) error {
	var errs []error
	set := func(name, value string) {
		if err := writeFileIn(dir, name, value); err != nil {
			errs = append(errs, err)
		}
	}
	quota := strconv.FormatInt(int64(c.CPUs*float64(cpuPeriod.Microseconds())), 10)
	period := strconv.FormatInt(cpuPeriod.Microseconds(), 10)
	for _, controller := range h.controllers {
		switch {
		case controller == "memory" && c.Memory > 0 && h.v2:
			set("memory.max", strconv.FormatInt(c.Memory, 10))
		case controller == "memory" && c.Memory > 0:
			set("memory.limit_in_bytes", strconv.FormatInt(c.Memory, 10))
		case controller == "cpu" && c.CPUs > 0 && h.v2:
			set("cpu.max", quota+" "+period)
		case controller == "cpu" && c.CPUs > 0:
			set("cpu.cfs_period_us", period)
			set("cpu.cfs_quota_us", quota)
		}
	}
	return errors.Join(errs...)
}

// server moves the server's process into its group.
func (g *groups) server(pid int) error {
	var errs []error
	for _, h := range g.places {
		errs = append(errs, writeFileIn(g.dir(h, "server"), "cgroup.procs", strconv.Itoa(pid)))
	}
	return errors.Join(errs...)
}

// close takes this process back to where it was started and removes the groups.
// The server has ended by then.
func (g *groups) close() error {
	var errs []error
	for _, e := range g.enabled {
		base, controllers, _ := strings.Cut(e, " ")
		// Another clew may use them as well, and needs them longer.
		if err := writeFileIn(base, "cgroup.subtree_control", controllers); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, err)
		}
	}
	g.enabled = nil
	for _, h := range g.places {
		if err := writeFileIn(h.base, "cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
			errs = append(errs, fmt.Errorf("leave the control group: %w", err))
		}
		for _, part := range []string{"server", "agent"} {
			if err := removeGroup(g.dir(h, part)); err != nil {
				errs = append(errs, err)
			}
		}
	}
	g.places = nil
	return errors.Join(errs...)
}

// removeGroup removes a group, also one whose last process is just ending.
func removeGroup(dir string) error {
	for until := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(until) {
			return fmt.Errorf("remove control group %s: %w", dir, err)
		}
	}
}

// sweep removes the groups of agents that were killed.
func sweep(base string) {
	for _, part := range []string{"-agent", "-server"} {
		left, err := filepath.Glob(filepath.Join(base, groupPrefix+"*"+part))
		if err != nil {
			continue
		}
		for _, dir := range left {
			name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(dir), groupPrefix), part)
			pid, err := strconv.Atoi(name)
			if err != nil || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
				continue
			}
			_ = unix.Rmdir(dir) // refused while somebody lives there, which is as well
		}
	}
}

// memoryUsed is what counts against the agent's ceiling and cannot be given
// back: not the page cache, of which the spool makes much.
func (g *groups) memoryUsed() (int64, error) {
	if g.memory == "" {
		return 0, fs.ErrNotExist
	}
	used, err := readInt(filepath.Join(g.memory, "memory.current"))
	if errors.Is(err, fs.ErrNotExist) {
		used, err = readInt(filepath.Join(g.memory, "memory.usage_in_bytes"))
	}
	if err != nil {
		return 0, err
	}
	stat, err := readStat(filepath.Join(g.memory, "memory.stat"))
	if err != nil {
		return 0, err
	}
	return max(0, used-stat["active_file"]-stat["inactive_file"]), nil
}

// throttled is for how long threads of the agent were held at the ceiling.
func (g *groups) throttled() (time.Duration, error) {
	if g.cpu == "" {
		return 0, fs.ErrNotExist
	}
	stat, err := readStat(filepath.Join(g.cpu, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	return time.Duration(stat["throttled_time"]) + time.Duration(stat["throttled_usec"])*time.Microsecond, nil
}

// writeFileIn writes a file of a control group, in one call.
func writeFileIn(dir, name, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// readInt reads a number; "max" is the largest.
func readInt(name string) (int64, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	text := string(bytes.TrimSpace(b))
	if text == "max" {
		return 1<<63 - 1, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return n, nil
}

// readStat reads lines of a name and a number.
func readStat(name string) (map[string]int64, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			out[key] = n
		}
	}
	return out, nil
}
