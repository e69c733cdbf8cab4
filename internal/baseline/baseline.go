// Package baseline knows what the files that are watched should be: it records
// what they were (a baseline), compares what they are with that and with what
// the packages of the operating system installed, and says what differs.
//
// A baseline is written once: what is in it stays as it was recorded until a
// person accepts what is there now, so that a restart does not make an intruder's
// file one that was always there.
package baseline

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A State is what a file is, or was.
type State struct {
	Path    string `json:"path"`
	Dev     uint32 `json:"dev"`
	Inode   uint64 `json:"inode"`
	Mode    uint32 `json:"mode"` // type and permissions, as stat has them
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Size    int64  `json:"size"`
	MtimeNS int64  `json:"mtime"`
	// SHA256 is that of a regular file's content, in hexadecimal; where there
	// is none Reason says why, in the words of filehash.
	SHA256 string `json:"sha256,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Target is what a symbolic link says.
	Target string `json:"target,omitempty"`
	// AtNS is when this was recorded, ns since the epoch.
	AtNS int64 `json:"at"`
	// Digest is algorithm:hex of the content, by another algorithm, when that
	// was asked for. It is not stored.
	Digest string `json:"-"`
}

func (s *State) format() uint32  { return s.Mode & unix.S_IFMT }
func (s *State) regular() bool   { return s.format() == unix.S_IFREG }
func (s *State) link() bool      { return s.format() == unix.S_IFLNK }
func (s *State) directory() bool { return s.format() == unix.S_IFDIR }

// A Baseline is what files were, by path.
type Baseline struct {
	// Globs are what was recorded to the end, in the form of the rule language,
	// sorted: what they name and is not among Files was not there.
	Globs []string
	Files map[string]State
}

// Lacks returns those of globs that were not recorded to the end.
func (b *Baseline) Lacks(globs []string) []string {
	return slices.DeleteFunc(slices.Clone(globs), func(g string) bool { return slices.Contains(b.Globs, g) })
}

// Has returns a function that tells whether a file was recorded, or was not
// there when files of its place were.
func (b *Baseline) Has() func(path string) bool {
	m := newMatcher(b.Globs)
	return func(p string) bool {
		_, ok := b.Files[p]
		return ok || m.match(p)
	}
}

// The format of a stored baseline: JSON, one value a line; the first is the
// header, then one State for each file.
const (
	formatName    = "clew-baseline"
	formatVersion = 1

	maxStored = 1 << 20  // files that are read
	maxLine   = 64 << 10 // bytes of a line
)

type header struct {
	Format  string   `json:"format"`
	Version int      `json:"version"`
	Globs   []string `json:"globs"`
}

// ErrNewer means that a baseline was written by a later version.
var ErrNewer = errors.New("was written by a newer clew")

// Read reads a stored baseline.
func Read(r io.Reader) (*Baseline, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20) // the header has all globs
	var h header
	if !sc.Scan() {
		return nil, fmt.Errorf("read baseline: %w", errors.Join(sc.Err(), io.ErrUnexpectedEOF))
	}
	if err := json.Unmarshal(sc.Bytes(), &h); err != nil || h.Format != formatName {
		return nil, errors.New("read baseline: this is none")
	}
	if h.Version > formatVersion {
		return nil, fmt.Errorf("read baseline: %w", ErrNewer)
	}
	b := &Baseline{Globs: h.Globs, Files: map[string]State{}}
	slices.Sort(b.Globs)
	for line := 2; sc.Scan(); line++ {
		var s State
		if len(sc.Bytes()) > maxLine || json.Unmarshal(sc.Bytes(), &s) != nil || !strings.HasPrefix(s.Path, "/") {
			return nil, fmt.Errorf("read baseline: line %d makes no sense", line)
		}
		if len(b.Files) == maxStored {
			return nil, fmt.Errorf("read baseline: more than %d files", maxStored)
		}
		b.Files[s.Path] = s
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read baseline: %w", err)
	}
	return b, nil
}

// Write stores a baseline, always in the same order.
func (b *Baseline) Write(w io.Writer) error {
	buf := bufio.NewWriter(w)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	globs := slices.Clone(b.Globs)
	slices.Sort(globs)
	if err := enc.Encode(header{formatName, formatVersion, globs}); err != nil {
		return fmt.Errorf("write baseline: %w", err)
	}
	paths := make([]string, 0, len(b.Files))
	for p := range b.Files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		if err := enc.Encode(b.Files[p]); err != nil {
			return fmt.Errorf("write baseline: %w", err)
		}
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("write baseline: %w", err)
	}
	return nil
}

// Load reads a baseline from a file. That there is none is fs.ErrNotExist.
func Load(name string) (*Baseline, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read baseline: %w", err)
	}
	defer f.Close()
	b, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// Store writes a baseline to a file, which is whole or not there.
func (b *Baseline) Store(name string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".baseline-")
	if err != nil {
		return fmt.Errorf("write baseline: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = b.Write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write baseline %s: %w", name, err)
	}
	if err = os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("write baseline: %w", err)
	}
	return nil
}

// Merge adds what was found now to what was recorded before: files that are
// recorded stay as they are, unless accept is set. complete tells that all that
// globs name was found. It tells how many are new, or changed.
func (b *Baseline) Merge(globs []string, found []State, complete, accept bool) int {
	if b.Files == nil {
		b.Files = map[string]State{}
	}
	changed := 0
	seen := make(map[string]bool, len(found))
	for _, s := range found {
		seen[s.Path] = true
		old, ok := b.Files[s.Path]
		if ok && !accept {
			continue
		}
		if !ok || !same(&old, &s) {
			changed++
		}
		s.Digest = ""
		b.Files[s.Path] = s
	}
	if accept && complete {
		m := newMatcher(globs)
		for p := range b.Files {
			if !seen[p] && m.match(p) {
				delete(b.Files, p)
				changed++
			}
		}
	}
	if complete {
		b.Globs = append(b.Globs, b.Lacks(globs)...)
		slices.Sort(b.Globs)
		b.Globs = slices.Compact(b.Globs)
	}
	return changed
}
