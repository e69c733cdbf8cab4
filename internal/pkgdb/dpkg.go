package pkgdb

import (
	"crypto/sha1"
	"io/fs"
	"strconv"
	"strings"
)

// The database of dpkg, as dpkg 1.15 and later write it: a file status with a
// paragraph for each package, and below info, for each, the paths it installed
// (NAME.list, or NAME:ARCH.list where several architectures may be installed)
// and the MD5 of its files (NAME.md5sums). Configuration files have theirs in
// status. A path of another package can be diverted (diversions), and mode and
// owner of a path can be set for good (statoverride); otherwise they are not in
// the database.
const dpkgDir = "var/lib/dpkg"

func (r *reader) dpkg() {
	status := r.file(dpkgDir + "/status")
	if len(status) == 0 {
		return
	}
	r.Managers = append(r.Managers, "dpkg")
	r.diversions(string(r.file(dpkgDir + "/diversions")))
	r.overrides(string(r.file(dpkgDir + "/statoverride")))
	paragraphs(string(status), r.dpkgPackage)
	r.alternatives()
}

// paragraphs calls f for each paragraph of a control file.
func paragraphs(text string, f func(lines []string)) {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line != "" {
			lines = append(lines, line)
			continue
		}
		if len(lines) > 0 {
			f(lines)
		}
		lines = lines[:0]
	}
	if len(lines) > 0 {
		f(lines)
	}
}

// dpkgPackage reads one paragraph of status and the files of its package.
func (r *reader) dpkgPackage(lines []string) {
	p := Package{Manager: "dpkg"}
	state, multi, key := "", "", ""
	var conf []string
	for _, line := range lines {
		if line[0] == ' ' || line[0] == '\t' {
			if key == "conffiles" {
				conf = append(conf, line[1:])
			}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		key, value = strings.ToLower(name), strings.TrimSpace(value)
		switch key {
		case "package":
			p.Name = value
		case "status":
			state = value
		case "version":
			p.Version = value
		case "architecture":
			p.Arch = value
		case "multi-arch":
			multi = value
		case "source":
			p.Source = value
			if i := strings.IndexByte(value, ' '); i > 0 {
				p.Source, p.SourceVersion = value[:i], strings.Trim(value[i:], " ()")
			}
		}
	}
	if !unpacked(state) || !validName(p.Name) || p.Arch != "" && !validName(p.Arch) {
		return
	}
	// Twice in one file, its list would be read again and again.
	key = p.Name
	if multi == "same" {
		key += ":" + p.Arch
	}
	if r.seen[key] {
		return
	}
	r.seen[key] = true
	id, ok := r.addPackage(p)
	if !ok {
		return
	}
	base := dpkgDir + "/info/" + p.Name
	list := r.info(base, p.Arch, multi, ".list")
	if list == "" {
		return // a package without a single file has /.
	}
	sums := md5sums(r.info(base, p.Arch, multi, ".md5sums"))
	configs := conffiles(conf)
	for line := range strings.Lines(list) {
		name := strings.TrimRight(line, "\r\n")
		if name == "/." || name == "" {
			continue
		}
		e := entry{pkg: id}
		if c, ok := configs[name]; ok {
			e.flags |= flagConfig
			e.alg, e.sum = c.alg, c.sum
		} else if sum, ok := sums[strings.TrimPrefix(name, "/")]; ok {
			e.alg, e.sum = algMD5, sum
		}
		if d, ok := r.diverted[name]; ok && d.by != p.Name {
			name = d.to
		}
		r.addFile(name, e)
	}
}

// unpacked tells whether the files of a package in this state are on disk.
func unpacked(status string) bool {
	words := strings.Fields(status)
	if len(words) != 3 {
		return false
	}
	switch words[2] {
	case "unpacked", "half-configured", "triggers-awaited", "triggers-pending", "installed":
		return true
	}
	return false
}

// validName tells whether a name can be part of a file's name here.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == '/' || c == '\\' || c == ':' {
			return false
		}
	}
	return s != "" && s[0] != '.' && len(s) < 200
}

// info reads a file about a package.
func (r *reader) info(base, arch, multi, suffix string) string {
	if multi == "same" && arch != "" {
		base += ":" + arch
	}
	return string(r.file(base + suffix))
}

// md5sums reads lines of a digest, two spaces, and a path without its slash.
func md5sums(text string) map[string][32]byte {
	out := map[string][32]byte{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		hex, name, ok := strings.Cut(line, " ")
		if !ok || len(name) < 2 {
			continue
		}
		if sum, ok := digest(algMD5, hex); ok {
			out[strings.TrimPrefix(name[1:], "./")] = sum
		}
	}
	return out
}

type conffile struct {
	alg uint8
	sum [32]byte
}

// conffiles reads lines of a path, a digest and perhaps the word obsolete. A
// package that is not configured yet has newconffile for a digest.
func conffiles(lines []string) map[string]conffile {
	out := map[string]conffile{}
	for _, line := range lines {
		line = strings.TrimSuffix(line, " remove-on-upgrade")
		if rest, obsolete := strings.CutSuffix(line, " obsolete"); obsolete {
			line = rest
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 1 {
			continue
		}
		var c conffile
		if sum, ok := digest(algMD5, line[i+1:]); ok {
			c = conffile{algMD5, sum}
		}
		out[line[:i]] = c
	}
	return out
}

// diversions reads groups of three lines: the path, where it is put instead,
// and the package that is excepted, or : for one that nobody has.
func (r *reader) diversions(text string) {
	var group []string
	for line := range strings.Lines(text) {
		if group = append(group, strings.TrimRight(line, "\r\n")); len(group) == 3 {
			if len(r.diverted) < maxPackages {
				r.diverted[strings.Clone(group[0])] = diversion{strings.Clone(group[1]), strings.Clone(group[2])}
			}
			group = group[:0]
		}
	}
}

// overrides reads lines of owner, group, mode in octal, and a path. An owner
// can be #number.
func (r *reader) overrides(text string) {
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimRight(line, "\r\n"), " ", 4)
		if len(f) != 4 || len(r.override) >= maxPackages {
			continue
		}
		mode, err := strconv.ParseUint(f[2], 8, 12)
		if err != nil {
			continue
		}
		r.override[r.merged.canonical(strings.Clone(f[3]))] = override{
			strings.Clone(strings.TrimPrefix(f[0], "#")), strings.Clone(strings.TrimPrefix(f[1], "#")), uint32(mode),
		}
	}
}

// alternatives reads the links that update-alternatives makes: a file for each
// name, with the mode, the link, pairs of a further name and its link up to an
// empty line, and then for each choice its path, its priority, and a path for
// each of the further names. A link leads to /etc/alternatives/NAME, and that
// one to a choice.
func (r *reader) alternatives() {
	const dir = dpkgDir + "/alternatives"
	list, err := fs.ReadDir(r.fsys, dir)
	if err != nil || len(list) == 0 {
		return
	}
	id, ok := r.addPackage(Package{Manager: "dpkg", Name: "update-alternatives"})
	if !ok {
		return
	}
	link := func(p, to string) {
		r.addFile(p, entry{pkg: id, flags: flagOptional, alg: algSHA1, sum: targetSum(to)})
	}
	for _, d := range list {
		lines := strings.Split(string(r.file(dir+"/"+d.Name())), "\n")
		if len(lines) < 3 {
			continue
		}
		names, links := []string{d.Name()}, []string{lines[1]}
		i := 2
		for ; i+1 < len(lines) && lines[i] != ""; i += 2 {
			names, links = append(names, lines[i]), append(links, lines[i+1])
		}
		for n, name := range names {
			link(links[n], "/etc/alternatives/"+name)
		}
		// A choice: its path, the priority, a path for each further name.
		for i++; i+len(names) < len(lines) && lines[i] != ""; i += len(names) + 1 {
			link("/etc/alternatives/"+names[0], lines[i])
			for n, name := range names[1:] {
				if to := lines[i+2+n]; to != "" {
					link("/etc/alternatives/"+name, to)
				}
			}
		}
	}
}

// targetSum is the digest of where a link leads.
func targetSum(to string) (sum [32]byte) {
	s := sha1.Sum([]byte(to))
	copy(sum[:], s[:])
	return sum
}
