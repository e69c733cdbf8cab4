package baseline

import (
	"crypto/sha1" // what apk has
	"fmt"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/pkgdb"
	"github.com/clewsec/clew/internal/secl/match"
)

// A Status says how a file stands to one of the things it is compared with.
type Status string

// How a file stands to its package.
const (
	OK         Status = "ok"         // as it was installed, as far as the database tells
	Modified   Status = "modified"   // another content, or another kind of file
	Attributes Status = "attributes" // another mode or owner
	Missing    Status = "missing"    // installed and not there
	Unowned    Status = "unowned"    // of no package
	Unreadable Status = "unreadable" // could not be looked at; Detail says why
	NoDatabase Status = "none"       // no package database is known
)

// How a file stands to the baseline; also NoBaseline and OK.
const (
	Changed    Status = "changed" // other than recorded
	New        Status = "new"     // not there when it was recorded
	Gone       Status = "gone"    // recorded and not there
	NoBaseline Status = "none"
)

// A Finding is what there is to say of one file.
type Finding struct {
	Path string `json:"path"`
	// Package and Recorded are how it stands to its package and the baseline.
	Package  Status `json:"package"`
	Recorded Status `json:"recorded"`
	// Expected tells that one of the two explains the file as it is.
	Expected bool `json:"expected"`
	// Owner and Version name the package, Config tells that the file is one
	// that an operator may change.
	Owner   string `json:"owner,omitempty"`
	Version string `json:"version,omitempty"`
	Config  bool   `json:"config,omitempty"`
	// Detail says what differs, in words.
	Detail []string `json:"detail,omitempty"`
	// sure tells that the database knows the content, or where a link leads.
	sure bool
	// By is the last process known to have changed the file, where that was
	// asked and is known.
	By string `json:"by,omitempty"`
}

// Differs tells whether the file is other than its package or the baseline has
// it.
func (f *Finding) Differs() bool {
	return f.Package != OK && f.Package != NoDatabase || f.Recorded != OK && f.Recorded != NoBaseline
}

// matcher matches paths with globs.
type matcher struct {
	plain map[string]bool
	globs []*match.Glob
}

func newMatcher(globs []string) *matcher {
	m := &matcher{plain: map[string]bool{}}
	for _, g := range globs {
		if !strings.Contains(g, "*") {
			m.plain[g] = true
		} else if glob, err := match.NewGlob(g); err == nil {
			m.globs = append(m.globs, glob)
		}
	}
	return m
}

func (m *matcher) match(p string) bool {
	return m.plain[p] || slices.ContainsFunc(m.globs, func(g *match.Glob) bool { return g.Match(p) })
}

// Match returns a function that tells whether a path is one of globs.
func Match(globs []string) func(string) bool { return newMatcher(globs).match }

// Compare says what differs between files as they are and as they should be, in
// the order of their paths. db and base may be nil. gone tells whether a path
// certainly leads nowhere; what cannot be told is no file that is missing.
func Compare(found []State, globs []string, db *pkgdb.DB, base *Baseline, gone func(string) bool) []Finding {
	if db != nil && len(db.Managers) == 0 {
		db = nil
	}
	recorded := func(string) bool { return false }
	if base != nil {
		recorded = base.Has()
	}
	var out []Finding
	seen := make(map[string]bool, len(found))
	for i := range found {
		s := &found[i]
		seen[s.Path] = true
		f := Finding{Path: s.Path, Package: NoDatabase, Recorded: NoBaseline}
		if db != nil {
			f.packaged(s, db)
		}
		if base != nil {
			f.recorded(s, base, recorded)
		}
		f.judge()
		out = append(out, f)
	}
	m := newMatcher(globs)
	missing := map[string]Finding{}
	if db != nil {
		db.Each(func(p string) {
			owners := db.Owners(p)
			if seen[p] || len(owners) == 0 || owners[0].Digest == "" || owners[0].Optional || !m.match(p) || !gone(p) {
				return
			}
			f := Finding{Path: p, Package: Missing, Recorded: NoBaseline}
			f.name(&owners[0])
			missing[p] = f
		})
	}
	if base != nil {
		for p := range base.Files {
			if seen[p] || !m.match(p) || !gone(p) {
				continue
			}
			f, ok := missing[p]
			if !ok {
				f = Finding{Path: p, Package: NoDatabase}
				if db != nil {
					f.Package = Unowned
					if owners := db.Owners(p); len(owners) > 0 {
						f.Package = OK
						f.name(&owners[0])
					}
				}
			}
			f.Recorded = Gone
			missing[p] = f
		}
	}
	for _, f := range missing {
		f.judge()
		// What was missing when the baseline was taken is as it was then.
		if f.Package == Missing && f.Recorded == NoBaseline && recorded(f.Path) {
			f.Recorded, f.Expected = OK, true
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b Finding) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// judge decides whether the file is explained: by its package, or by having
// been as it is when the baseline was taken. A file that its package explains
// but that is new or other than recorded was installed or upgraded since.
func (f *Finding) judge() {
	switch {
	case f.Recorded == OK:
		f.Expected = true
	case f.Package == OK && f.Recorded == Changed:
		f.Expected = f.sure
	case f.Package == OK:
		f.Expected = f.Recorded != Gone
	default:
		f.Expected = f.Package == NoDatabase && f.Recorded == NoBaseline
	}
}

func (f *Finding) name(o *pkgdb.File) {
	f.Owner, f.Version, f.Config = o.Package.Name, o.Package.Version, o.Config
}

// packaged compares a file with what packages say of it.
func (f *Finding) packaged(s *State, db *pkgdb.DB) {
	owners := db.Owners(s.Path)
	if len(owners) == 0 {
		f.Package = Unowned
		if s.directory() {
			f.Package = OK // directories are made by whoever needs them
		}
		return
	}
	f.name(&owners[0])
	f.Package = OK
	if s.Reason != "" && owners[0].Digest != "" {
		f.Package = Unreadable
		f.Detail = append(f.Detail, "content not read: "+s.Reason)
		return
	}
	var details [][]string
	for i := range owners {
		d := differences(s, &owners[i])
		if len(d) == 0 {
			f.sure = owners[i].Digest != "" || s.link() && leadsHome(s, db, owners[i].Package)
			return
		}
		details = append(details, d)
	}
	f.Detail = append(f.Detail, details[0]...)
	f.Package = Attributes
	if strings.HasPrefix(details[0][0], contentDiffers) {
		f.Package = Modified
	}
}

// leadsHome tells whether a link leads to a file of its own package: the
// database of dpkg does not say where links lead, and upgrades change it.
func leadsHome(s *State, db *pkgdb.DB, p *pkgdb.Package) bool {
	to := s.Target
	if !strings.HasPrefix(to, "/") {
		to = path.Join(path.Dir(s.Path), to)
	}
	return slices.ContainsFunc(db.Owners(path.Clean(to)), func(o pkgdb.File) bool { return o.Package == p && o.Digest != "" })
}

// contentDiffers begins what is said of another content.
const contentDiffers = "content"

func differences(s *State, o *pkgdb.File) []string {
	var out []string
	digest := s.Digest
	if s.link() {
		digest = fmt.Sprintf("sha1:%x", sha1.Sum([]byte(s.Target))) // what apk has
	}
	switch {
	case o.Digest == "":
	case s.directory():
		out = append(out, contentDiffers+": a directory, installed was a file")
	case digest != o.Digest:
		what := contentDiffers + " is not what was installed"
		if s.link() && !strings.HasPrefix(o.Digest, "sha1:") {
			what = contentDiffers + ": a link to " + strconv.Quote(s.Target) + ", installed was a file"
		}
		out = append(out, what)
	}
	if !o.HasMode {
		return out
	}
	if have := s.Mode & 0o7777; have != o.Mode && !s.link() {
		out = append(out, fmt.Sprintf("mode %04o, installed %04o", have, o.Mode))
	}
	uid, gid, known := o.UID, o.GID, true
	if o.Owner != "" {
		uid, gid, known = ids(o.Owner, o.Group)
	}
	if known && (uid != s.UID || gid != s.GID) {
		out = append(out, fmt.Sprintf("owner %d:%d, installed %d:%d", s.UID, s.GID, uid, gid))
	}
	return out
}

// ids are the numbers of a user and a group by name.
func ids(owner, group string) (uid, gid uint32, known bool) {
	number := func(s string, look func(string) (string, error)) (uint32, bool) {
		if n, err := strconv.ParseUint(s, 10, 32); err == nil {
			return uint32(n), true
		}
		id, err := look(s)
		if err != nil {
			return 0, false
		}
		n, err := strconv.ParseUint(id, 10, 32)
		return uint32(n), err == nil
	}
	uid, ok1 := number(owner, func(s string) (string, error) {
		u, err := user.Lookup(s)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	gid, ok2 := number(group, func(s string) (string, error) {
		g, err := user.LookupGroup(s)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	return uid, gid, ok1 && ok2
}

// same tells whether two states are those of an unchanged file. A file that
// was replaced by one of the same content, mode and owner is unchanged.
func same(a, b *State) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Target == b.Target &&
		(!a.regular() || a.SHA256 == b.SHA256 && a.Size == b.Size)
}

// recorded compares a file with the baseline.
func (f *Finding) recorded(s *State, base *Baseline, looked func(string) bool) {
	was, ok := base.Files[s.Path]
	if !ok {
		f.Recorded = New
		if !looked(s.Path) {
			f.Recorded = NoBaseline // nobody looked there
		}
		return
	}
	f.Recorded = OK
	if same(&was, s) {
		return
	}
	since := time.Unix(0, was.AtNS).UTC().Format("2006-01-02 15:04Z")
	var what []string
	switch {
	case was.format() != s.format():
		what = append(what, "another kind of file")
	case was.Target != s.Target:
		what = append(what, fmt.Sprintf("led to %q", was.Target))
	case s.regular() && (was.SHA256 == "" || s.SHA256 == "") && was.Size == s.Size && was.MtimeNS == s.MtimeNS:
		// Of one of the two the content is not known; the rest is the same.
	case s.regular() && (was.SHA256 != s.SHA256 || was.Size != s.Size):
		what = append(what, fmt.Sprintf("content, %d bytes were %d", s.Size, was.Size))
	}
	if a, b := was.Mode&0o7777, s.Mode&0o7777; a != b {
		what = append(what, fmt.Sprintf("mode %04o was %04o", b, a))
	}
	if was.UID != s.UID || was.GID != s.GID {
		what = append(what, fmt.Sprintf("owner %d:%d was %d:%d", s.UID, s.GID, was.UID, was.GID))
	}
	if len(what) > 0 {
		f.Recorded = Changed
		f.Detail = append(f.Detail, "since "+since+": "+strings.Join(what, ", "))
	}
}
