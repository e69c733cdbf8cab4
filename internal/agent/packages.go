package agent

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/enrich"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pkgdb"
)

// programs are where packages put what is executed.
var programs = [...]string{"/usr/bin/", "/usr/sbin/", "/usr/libexec/", "/usr/lib/systemd/", "/bin/", "/sbin/"}

// maxPrograms bounds what the stream is told of.
const maxPrograms = 20_000

// packageFiles are those that every change of a database writes anew.
var packageFiles = [...]string{"/var/lib/dpkg/status", "/lib/apk/db/installed"}

// packageLook is how often it is looked whether packages changed.
const packageLook = 30 * time.Second

// A packager knows which packages the programs below a root belong to. It is
// not safe for concurrent use.
type packager struct {
	root  string
	stamp string
	known map[string]string // the values of an answer, joined, by path
}

// changed returns what is new or different since the last call, in the order
// of the paths.
func (p *packager) changed() []*event.Answer {
	stamp := ""
	for _, name := range packageFiles {
		if st, err := os.Stat(filepath.Join(p.root, name)); err == nil {
			stamp += name + strconv.FormatInt(st.ModTime().UnixNano(), 10) + " "
		}
	}
	if stamp == p.stamp {
		return nil
	}
	p.stamp = stamp
	db := pkgdb.Read(os.DirFS(p.root), func(path string) bool {
		return slices.ContainsFunc(programs[:], func(d string) bool { return strings.HasPrefix(path, d) })
	})
	var paths []string
	db.Each(func(path string) { paths = append(paths, path) })
	for path := range p.known {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	var out []*event.Answer
	known := map[string]string{}
	for _, path := range paths {
		var values []string
		if owners := db.Owners(path); len(owners) > 0 && len(known) < maxPrograms {
			values = packageValues(filepath.Join(p.root, path), owners[0].Package)
		}
		joined := strings.Join(values, "\x00")
		if joined != "" {
			known[path] = joined
		}
		if joined != p.known[path] {
			out = append(out, &event.Answer{Question: enrich.QuestionPackage, Key: path, Values: values})
		}
	}
	p.known = known
	// Reading takes far more memory than what is kept.
	debug.FreeOSMemory()
	return out
}

// packageValues are those of an answer about a file; nil for one that is not
// executed.
func packageValues(file string, p *pkgdb.Package) []string {
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil || uint32(st.Mode)&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
		return nil
	}
	epoch, version, release := splitVersion(p.Version)
	sepoch, sversion, srelease := epoch, version, release
	if p.SourceVersion != "" {
		sepoch, sversion, srelease = splitVersion(p.SourceVersion)
	}
	return []string{p.Name, epoch, version, release, sepoch, sversion, srelease, strconv.FormatUint(st.Ino, 10)}
}

// splitVersion takes 1:2.3-4 apart.
func splitVersion(v string) (epoch, version, release string) {
	epoch = "0"
	if e, rest, ok := strings.Cut(v, ":"); ok {
		epoch, v = e, rest
	}
	if i := strings.LastIndexByte(v, '-'); i > 0 {
		return epoch, v[:i], v[i+1:]
	}
	return epoch, v, ""
}

// namePackages tells the stream which packages the host's programs belong to,
// now and whenever that changes, until ctx ends.
func (e *engine) namePackages(ctx context.Context, p *packager) error {
	select {
	case <-e.begun:
	case <-ctx.Done():
		return nil
	}
	tick := time.NewTicker(packageLook)
	defer tick.Stop()
	for {
		for _, a := range p.changed() {
			if err := e.take(&event.StreamRecord{Answer: a}); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
