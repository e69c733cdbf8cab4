// Package pkgdb reads what the package managers of a host say it should have:
// which package a file belongs to, of which version, and which digest, mode and
// owner it was installed with. It reads the databases of dpkg and apk as they
// lie on disk and runs no program. It does not look at the files themselves.
//
// The databases belong to root, but of a container that is somebody else's
// root, and a disk fills up in the middle of a line: any bytes are read without
// a panic, in memory that is bounded by their length and by the limits below,
// and what cannot be understood is left out and said in Problems.
//
// The database of rpm is not read: its files are SQLite, BerkeleyDB or ndb by
// the release of the distribution. A host that has one is told so in Problems.
package pkgdb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Limits of what is read.
const (
	maxDatabase = 128 << 20 // bytes of one file of a database
	maxPackages = 100_000
	maxFiles    = 4_000_000 // entries of all packages together
	maxProblems = 100
)

// A Package is an installed package. Version has epoch and release as the
// package manager writes them.
type Package struct {
	Manager string // dpkg or apk
	Name    string
	Version string
	Arch    string
	// Source and SourceVersion are the package it was built from; the version
	// is empty where it is the same.
	Source        string
	SourceVersion string
}

// A File is a file as a package installed it.
type File struct {
	Package *Package
	// Digest is algorithm:hex of the content, of a link that of its target
	// (sha1). Empty: the database has none.
	Digest string
	// Config tells that it is a configuration file, which an operator may change.
	Config bool
	// Optional tells that it need not be there.
	Optional bool
	// Mode has the permission bits where HasMode is set, with the owner in UID
	// and GID or, in Owner and Group, by name.
	Mode         uint32
	HasMode      bool
	UID, GID     uint32
	Owner, Group string
}

// A DB is what the databases below one root say. It is read once and not
// changed; any number of goroutines may ask it.
type DB struct {
	// Managers are those whose database was found.
	Managers []string
	// Problems say what could not be read, or understood, at most 100 of them.
	Problems []string

	packages []Package
	files    map[string]int32 // the first entry of a path
	entries  []entry
	merged   merged
	diverted map[string]diversion
	override map[string]override
}

// entry is a file of a package. It is small, because a host has some hundred
// thousand of them.
type entry struct {
	pkg   int32
	next  int32 // another package with the same path; -1 for none
	flags uint8
	alg   uint8
	sum   [32]byte
	mode  uint32
	uid   uint32
	gid   uint32
}

const (
	flagConfig = 1 << iota
	flagMode
	flagOptional
)

// The algorithms of digests, with their length in bytes.
var algorithms = [...]struct {
	name string
	size int
}{{"", 0}, {"md5", 16}, {"sha1", 20}, {"sha256", 32}}

const (
	algMD5 = iota + 1
	algSHA1
	algSHA256
)

type diversion struct{ to, by string }

type override struct {
	owner, group string
	mode         uint32
}

// Read reads the databases of a host whose root directory fsys is. want chooses
// the paths that are remembered, nil for all; a host has some hundred thousand,
// at about a hundred bytes each. That no package manager is known on the host
// is no error.
func Read(fsys fs.FS, want func(path string) bool) *DB {
	db := &DB{files: map[string]int32{}, diverted: map[string]diversion{}, override: map[string]override{}}
	db.merged = mergedBelow(fsys)
	r := &reader{DB: db, fsys: fsys, want: want, seen: map[string]bool{}}
	if r.want == nil {
		r.want = func(string) bool { return true }
	}
	r.dpkg()
	r.apk()
	for _, name := range [...]string{"usr/lib/sysimage/rpm", "var/lib/rpm"} {
		if list, err := fs.ReadDir(fsys, name); err == nil && len(list) > 0 {
			r.problem("/%s: the database of rpm is not read by this version", name)
			break
		}
	}
	return db
}

// Packages returns how many packages are installed.
func (db *DB) Packages() int { return len(db.packages) }

// merged are the directories below the root that are links into usr.
type merged []string

func mergedBelow(fsys fs.FS) merged {
	var out merged
	for _, d := range [...]string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		if to, err := fs.ReadLink(fsys, d); err == nil && path.Clean("/"+to) == "/usr/"+d {
			out = append(out, "/"+d)
		}
	}
	return out
}

// Canonical returns a function that gives the path by which the kernel knows a
// file: where /bin is a link to /usr/bin, as on most hosts today, packages and
// people still say /bin.
func Canonical(fsys fs.FS) func(string) string { return mergedBelow(fsys).canonical }

func (m merged) canonical(p string) string {
	for _, d := range m {
		if rest, ok := strings.CutPrefix(p, d); ok && (rest == "" || rest[0] == '/') {
			return "/usr" + p
		}
	}
	return p
}

// Owners returns what packages say of a path, those that know its content
// first. Nothing means that no package has it, or that it was not wanted.
func (db *DB) Owners(p string) []File {
	p = db.merged.canonical(p)
	var out []File
	i, ok := db.files[p]
	for n := 0; ok && i >= 0 && n < len(db.entries); n++ {
		e := &db.entries[i]
		f := File{Package: &db.packages[e.pkg], Config: e.flags&flagConfig != 0, Optional: e.flags&flagOptional != 0}
		if a := algorithms[e.alg]; a.size > 0 {
			f.Digest = fmt.Sprintf("%s:%x", a.name, e.sum[:a.size])
		}
		if e.flags&flagMode != 0 {
			f.HasMode, f.Mode, f.UID, f.GID = true, e.mode, e.uid, e.gid
		}
		if o, ok := db.override[p]; ok {
			f.HasMode, f.Mode, f.Owner, f.Group = true, o.mode, o.owner, o.group
		}
		out = append(out, f)
		i = e.next
	}
	slices.SortStableFunc(out, func(a, b File) int {
		return boolInt(b.Digest != "") - boolInt(a.Digest != "")
	})
	return out
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Each calls f for each path that is remembered, in no order.
func (db *DB) Each(f func(path string)) {
	for p := range db.files {
		f(p)
	}
}

type reader struct {
	*DB
	fsys fs.FS
	want func(string) bool
	full bool
	seen map[string]bool // packages of dpkg
}

func (r *reader) problem(format string, args ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// file reads one file of a database. It is empty where there is none, or where
// it cannot be read, which is noted.
func (r *reader) file(name string) []byte {
	f, err := r.fsys.Open(name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.problem("/%s: %v", name, plain(err))
		}
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		r.problem("/%s: %v", name, plain(err))
		return nil
	case !st.Mode().IsRegular():
		r.problem("/%s: is not a file", name)
		return nil
	case st.Size() > maxDatabase:
		r.problem("/%s: is larger than %d bytes", name, maxDatabase)
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxDatabase))
	if err != nil {
		r.problem("/%s: %v", name, plain(err))
	}
	return data
}

// plain takes the path, which is named already, out of an error.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// addPackage notes a package; false where there are too many.
func (r *reader) addPackage(p Package) (int32, bool) {
	if len(r.packages) >= maxPackages {
		if !r.full {
			r.full = true
			r.problem("more than %d packages", maxPackages)
		}
		return 0, false
	}
	// The strings are parts of a file that is not kept.
	for _, s := range [...]*string{&p.Name, &p.Version, &p.Arch, &p.Source, &p.SourceVersion} {
		*s = strings.Clone(*s)
	}
	r.packages = append(r.packages, p)
	return int32(len(r.packages) - 1), true
}

// addFile notes a file of a package, by its path on the host.
func (r *reader) addFile(p string, e entry) {
	p = r.merged.canonical(p)
	if !strings.HasPrefix(p, "/") || path.Clean(p) != p || !r.want(p) {
		return
	}
	if len(r.entries) >= maxFiles {
		if !r.full {
			r.full = true
			r.problem("packages have more than %d files", maxFiles)
		}
		return
	}
	e.next = -1
	if first, ok := r.files[p]; ok {
		e.next = first
		r.files[p] = int32(len(r.entries))
	} else {
		r.files[strings.Clone(p)] = int32(len(r.entries))
	}
	r.entries = append(r.entries, e)
}

// digest reads hexadecimal digits of the algorithm's length.
func digest(alg uint8, hex string) (sum [32]byte, ok bool) {
	n := algorithms[alg].size
	if len(hex) != 2*n {
		return sum, false
	}
	for i := range n {
		hi, lo := nibble(hex[2*i]), nibble(hex[2*i+1])
		if hi > 15 || lo > 15 {
			return sum, false
		}
		sum[i] = hi<<4 | lo
	}
	return sum, true
}

func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
