package baseline

import (
	"bufio"
	"context"
	"crypto/md5"  // what dpkg has
	"crypto/sha1" // what apk has
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/filehash"
	"github.com/clewsec/clew/internal/pkgdb"
	"github.com/clewsec/clew/internal/secl/match"
)

// Limits of a scan where a configuration says nothing else.
const (
	DefaultMaxFiles = 100_000
	maxVisited      = 1_000_000 // names that are looked at, watched or not
	maxDepth        = 64
	maxProblems     = 50
)

// Config says what to scan.
type Config struct {
	// Root is the directory that paths are resolved in, / when empty.
	Root string
	// Globs are paths and globs of the rule language.
	Globs []string
	// MaxFiles bounds what is found, 0 for DefaultMaxFiles; MaxSize is of the
	// largest file that is read, 0 for filehash's own.
	MaxFiles int
	MaxSize  int64
	// BytesPerSecond is how fast files are read, 0 for as fast as may be.
	BytesPerSecond int64
	// Sum reads an open file and fills in what its content is: SHA256, and
	// Digest where that is wanted. An error's reason becomes that of the state.
	Sum func(f *os.File, s *State) error
	// Skip tells which files are of no interest, nil for none.
	Skip func(path string) bool
	// Now is the time that states are recorded at, ns since the epoch.
	Now int64
}

// A Result is what a scan found.
type Result struct {
	States []State // in the order of their paths
	// Complete tells that nothing was left out for want of room or time.
	Complete bool
	// Problems say what could not be looked at, at most 50 of them.
	Problems []string
	Unread   int // files whose content could not be read
}

// Scan finds the files that globs name and says what they are. Links are not
// followed: a link is a file by itself, and nothing is looked for behind one.
// File systems that another process or host serves are left out and told of.
// It stops when ctx ends, with what it has.
func Scan(ctx context.Context, cfg Config) (*Result, error) {
	if cfg.Root == "" {
		cfg.Root = "/"
	}
	if cfg.MaxFiles <= 0 {
		cfg.MaxFiles = DefaultMaxFiles
	}
	if cfg.MaxSize <= 0 {
		cfg.MaxSize = filehash.DefaultMaxSize
	}
	rootFD, err := unix.Open(cfg.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", cfg.Root, err)
	}
	defer unix.Close(rootFD)
	root, err := filehash.DirRoot(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	defer root.Close()
	s := &scan{ctx: ctx, cfg: cfg, root: root, seen: map[string]bool{}, skipped: map[uint32]bool{}, res: &Result{Complete: true}}
	if s.mounts, err = fileSystems(); err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	for _, g := range cfg.Globs {
		segs := strings.Split(strings.TrimPrefix(g, "/"), "/")
		deep := segs[len(segs)-1] == "**"
		if deep {
			segs = segs[:len(segs)-1]
		}
		if deep && len(segs) == 0 {
			s.below(rootFD, "", 0)
			continue
		}
		s.visit(rootFD, "", segs, deep)
	}
	slices.SortFunc(s.res.States, func(a, b State) int { return strings.Compare(a.Path, b.Path) })
	s.res.Complete = s.res.Complete && ctx.Err() == nil
	return s.res, nil
}

type scan struct {
	ctx     context.Context
	cfg     Config
	root    *filehash.Root
	mounts  map[uint32]string // type of the file system by device
	skipped map[uint32]bool   // devices that were told of
	seen    map[string]bool
	visited int
	res     *Result
}

func (s *scan) problem(format string, args ...any) {
	if len(s.res.Problems) < maxProblems {
		s.res.Problems = append(s.res.Problems, fmt.Sprintf(format, args...))
	}
}

// over tells whether it is enough.
func (s *scan) over() bool {
	if s.ctx.Err() != nil {
		return true
	}
	if s.visited >= maxVisited || len(s.res.States) >= s.cfg.MaxFiles {
		if s.res.Complete {
			s.problem("more than %d files; the rest is left out", s.cfg.MaxFiles)
		}
		s.res.Complete = false
		return true
	}
	return false
}

// visit goes down the segments of a glob.
func (s *scan) visit(dir int, parent string, segs []string, deep bool) {
	names := []string{segs[0]}
	if strings.Contains(segs[0], "*") {
		glob, err := match.NewPattern(segs[0], false)
		if err != nil {
			return
		}
		names = slices.DeleteFunc(s.list(dir, parent), func(n string) bool { return !glob.Match(n) })
	}
	for _, name := range names {
		if s.over() {
			return
		}
		fd, f, ok := s.at(dir, parent, name)
		if !ok {
			continue
		}
		switch last := len(segs) == 1; {
		case last && !deep:
			s.found(fd, f)
		case f.directory() && last:
			s.below(fd, f.Path, 0)
		case f.directory():
			s.visit(fd, f.Path, segs[1:], deep)
		}
		unix.Close(fd)
	}
}

// below takes all that is below a directory.
func (s *scan) below(dir int, parent string, depth int) {
	if depth == maxDepth {
		s.res.Complete = false
		s.problem("%s: is too deep", parent)
		return
	}
	for _, name := range s.list(dir, parent) {
		if s.over() {
			return
		}
		fd, f, ok := s.at(dir, parent, name)
		if !ok {
			continue
		}
		s.found(fd, f)
		if f.directory() {
			s.below(fd, f.Path, depth+1)
		}
		unix.Close(fd)
	}
}

// list returns the names in a directory, sorted.
func (s *scan) list(dir int, name string) []string {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		s.problem("%s: %v", cleanName(name), err)
		return nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	names, err := f.Readdirnames(maxVisited - s.visited + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		s.problem("%s: %v", cleanName(name), err)
	}
	slices.Sort(names)
	return names
}

func cleanName(p string) string {
	if p == "" {
		return "/"
	}
	return p
}

// at finds a file in a directory without opening it. What another process
// serves is left alone.
func (s *scan) at(dir int, parent, name string) (fd int, f State, ok bool) {
	s.visited++
	p := parent + "/" + name
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			s.problem("%s: %v", p, err)
		}
		return -1, f, false
	}
	var sx unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &sx)
	if err != nil {
		s.problem("%s: %v", p, err)
		unix.Close(fd)
		return -1, f, false
	}
	f = State{
		Path: p, Dev: sx.Dev_major<<20 | sx.Dev_minor, Inode: sx.Ino, Mode: uint32(sx.Mode), UID: sx.Uid, GID: sx.Gid,
		Size: int64(sx.Size), MtimeNS: sx.Mtime.Sec*1e9 + int64(sx.Mtime.Nsec), AtNS: s.cfg.Now,
	}
	if fstype := s.mounts[f.Dev]; filehash.Served(fstype) {
		if !s.skipped[f.Dev] && !own[fstype] {
			s.skipped[f.Dev] = true
			s.problem("%s: is on a file system of type %s, which is left out", p, fstype)
		}
		unix.Close(fd)
		return -1, f, false
	}
	return fd, f, true
}

// own are the kernel's own file systems, of which nobody expects files.
var own = map[string]bool{
	"proc": true, "sysfs": true, "debugfs": true, "tracefs": true, "securityfs": true, "configfs": true, "pstore": true, "efivarfs": true,
	"cgroup": true, "cgroup2": true, "bpf": true, "mqueue": true, "devpts": true, "selinuxfs": true, "binfmt_misc": true, "nsfs": true,
}

// found notes a file and reads it.
func (s *scan) found(fd int, f State) {
	if s.seen[f.Path] || s.cfg.Skip != nil && s.cfg.Skip(f.Path) {
		return
	}
	s.seen[f.Path] = true
	switch {
	case f.link():
		buf := make([]byte, unix.PathMax)
		if n, err := unix.Readlinkat(fd, "", buf); err == nil {
			f.Target = string(buf[:n])
		}
	case f.regular():
		if err := s.read(&f); err != nil {
			f.Reason = string(filehash.ReasonOf(err))
			s.res.Unread++
		}
	}
	s.res.States = append(s.res.States, f)
}

// read has the content of a file summed up.
func (s *scan) read(f *State) error {
	if f.Size > s.cfg.MaxSize {
		return &filehash.Error{Reason: filehash.ReasonSize, Path: f.Path}
	}
	file, st, err := filehash.Open(s.root, f.Path, filehash.ID{Dev: f.Dev, Inode: f.Inode, Filesystem: s.mounts[f.Dev]})
	if err != nil {
		return err
	}
	err = s.cfg.Sum(file, f)
	if err == nil {
		after, lerr := filehash.Look(file)
		if lerr != nil || after.Size != st.Size || after.MtimeNS != st.MtimeNS {
			f.SHA256, f.Digest = "", ""
			err = &filehash.Error{Reason: filehash.ReasonChanged, Path: f.Path, Err: lerr}
		}
	}
	err = errors.Join(err, file.Close())
	s.pace(st.Size)
	return err
}

// pace waits so long that files are read no faster than they may be.
func (s *scan) pace(n int64) {
	if s.cfg.BytesPerSecond <= 0 {
		return
	}
	t := time.NewTimer(time.Duration(float64(n+4096) / float64(s.cfg.BytesPerSecond) * float64(time.Second)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// Sum returns what reads files for Scan in this process: their SHA-256 and, for
// a file of a package, the digest that its database has.
func Sum(db *pkgdb.DB) func(*os.File, *State) error {
	return func(f *os.File, s *State) error {
		sum := sha256.New()
		w := io.Writer(sum)
		var other hash.Hash
		algorithm := ""
		for _, o := range db.Owners(s.Path) {
			if algorithm, _, _ = strings.Cut(o.Digest, ":"); algorithm != "" {
				break
			}
		}
		switch algorithm {
		case "md5":
			other = md5.New() // what dpkg has
		case "sha1":
			other = sha1.New() // what apk has
		}
		if other != nil {
			w = io.MultiWriter(sum, other)
		}
		if _, err := io.Copy(w, io.LimitReader(f, s.Size+1)); err != nil {
			return fmt.Errorf("read %s: %w", s.Path, err)
		}
		s.SHA256 = hex.EncodeToString(sum.Sum(nil))
		switch {
		case other != nil:
			s.Digest = algorithm + ":" + hex.EncodeToString(other.Sum(nil))
		case algorithm == "sha256":
			s.Digest = "sha256:" + s.SHA256
		}
		return nil
	}
}

// fileSystems are the types of the mounted file systems by their device.
func fileSystems() (map[uint32]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[uint32]string{}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		left, right, ok := strings.Cut(sc.Text(), " - ")
		fields, rest := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 3 || len(rest) == 0 {
			continue
		}
		a, b, _ := strings.Cut(fields[2], ":")
		major, err1 := strconv.ParseUint(a, 10, 12)
		minor, err2 := strconv.ParseUint(b, 10, 20)
		if err1 == nil && err2 == nil {
			out[uint32(major)<<20|uint32(minor)], _, _ = strings.Cut(rest[0], ".") // fuse.sshfs
		}
	}
	return out, sc.Err()
}

// Absent returns a function that tells whether a path below a root certainly
// leads nowhere. It opens nothing.
func Absent(root string) func(string) bool {
	return func(p string) bool {
		_, err := os.Lstat(filepath.Join(root, path.Clean("/"+p)))
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
	}
}
