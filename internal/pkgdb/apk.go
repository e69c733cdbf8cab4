package pkgdb

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// The database of apk: a paragraph for each package, of lines with a letter and
// a value. F names a directory, the R after it files in it; a has the owner and
// mode of the file before it (without it root and 0644), M those of a directory,
// Z its digest: Q1 and SHA-1, or Q2 and SHA-256, in base64; of a link that of
// its target. What lies in /etc is treated as configuration.
var apkDatabases = [...]string{"lib/apk/db/installed", "usr/lib/apk/db/installed"}

func (r *reader) apk() {
	for _, name := range apkDatabases {
		data := r.file(name)
		if len(data) == 0 {
			continue
		}
		r.Managers = append(r.Managers, "apk")
		paragraphs(string(data), r.apkPackage)
		return
	}
}

func (r *reader) apkPackage(lines []string) {
	p := Package{Manager: "apk"}
	files := 0
	for i, line := range lines {
		if len(line) < 2 || line[1] != ':' {
			continue
		}
		if line[0] == 'F' {
			files = i
			break
		}
		files = i + 1
		switch value := line[2:]; line[0] {
		case 'P':
			p.Name = value
		case 'V':
			p.Version = value
		case 'A':
			p.Arch = value
		case 'o':
			p.Source = value
		}
	}
	if p.Name == "" {
		return
	}
	id, ok := r.addPackage(p)
	if !ok {
		return
	}
	dir, name := "", ""
	e := entry{}
	flush := func() {
		if name != "" {
			r.addFile(name, e)
		}
		name = ""
	}
	begin := func(p string, mode uint32) {
		flush()
		name, e = p, entry{pkg: id, flags: flagMode, mode: mode}
		if strings.HasPrefix(p, "/etc/") {
			e.flags |= flagConfig
		}
	}
	for _, line := range lines[files:] {
		if len(line) < 2 || line[1] != ':' {
			continue
		}
		switch value := line[2:]; line[0] {
		case 'F':
			if dir = "/" + value; value == "" {
				dir = ""
			}
			flush()
			if dir != "" {
				begin(dir, 0o755)
			}
		case 'R':
			begin(dir+"/"+value, 0o644)
		case 'a', 'M':
			f := strings.Split(value, ":") // the fourth is a digest of attributes
			if len(f) < 3 {
				continue
			}
			uid, err1 := strconv.ParseUint(f[0], 10, 32)
			gid, err2 := strconv.ParseUint(f[1], 10, 32)
			mode, err3 := strconv.ParseUint(f[2], 8, 12)
			if err1 == nil && err2 == nil && err3 == nil {
				e.uid, e.gid, e.mode = uint32(uid), uint32(gid), uint32(mode)
			}
		case 'Z':
			e.alg, e.sum = apkDigest(value)
		}
	}
	flush()
}

func apkDigest(s string) (alg uint8, sum [32]byte) {
	switch {
	case strings.HasPrefix(s, "Q1"):
		alg = algSHA1
	case strings.HasPrefix(s, "Q2"):
		alg = algSHA256
	default:
		return 0, sum
	}
	raw, err := base64.StdEncoding.DecodeString(s[2:])
	if err != nil || len(raw) != algorithms[alg].size {
		return 0, sum
	}
	copy(sum[:], raw)
	return alg, sum
}
