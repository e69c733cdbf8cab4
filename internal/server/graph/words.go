package graph

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clewsec/clew/internal/event"
)

// Severity ranks.
const (
	None = iota - 1
	Info
	Low
	Medium
	High
	Critical
)

// SeverityName is the name of a rank, empty for None.
func SeverityName(rank int) string {
	switch rank {
	case Info:
		return "info"
	case Low:
		return "low"
	case Medium:
		return "medium"
	case High:
		return "high"
	case Critical:
		return "critical"
	}
	return ""
}

// SeverityRank is the rank of a name. A severity that is not known counts as
// low: it came from a rule that somebody wrote.
func SeverityRank(name string) int {
	switch name {
	case "info":
		return Info
	case "medium":
		return Medium
	case "high":
		return High
	case "critical":
		return Critical
	}
	return Low
}

// SeverityOf is the highest severity of an event's signals.
func SeverityOf(e *event.Event) int {
	rank := None
	for i := range e.Signals {
		rank = max(rank, SeverityRank(e.Signals[i].Severity))
	}
	return rank
}

// base32hex is the alphabet of base32hex in small letters.
var base32hex = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// hashID makes a short id out of what identifies a thing.
func hashID(prefix string, parts ...string) string {
	b := make([]byte, 0, 256)
	for _, p := range parts {
		b = strconv.AppendInt(b, int64(len(p)), 10)
		b = append(b, ':')
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	var text [16]byte
	base32hex.Encode(text[:], sum[:10])
	return prefix + string(text[:10])
}

// Base is the last part of a path.
func Base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// Dir is a path without its last part.
func Dir(path string) string {
	switch i := strings.LastIndexByte(path, '/'); i {
	case -1:
		return ""
	case 0:
		return "/"
	default:
		return path[:i]
	}
}

// Short cuts s to at most n characters, keeping head and tail, and shows
// characters that would move a cursor or hide others as a space.
func Short(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	head := (n - 1) * 2 / 3
	return string(r[:head]) + "…" + string(r[len(r)-(n-1-head):])
}

// ProgramName is the name of what an image runs.
func ProgramName(p *event.Process) string {
	if name := Base(p.File.Path); name != "" {
		return name
	}
	if p.Comm != "" {
		return p.Comm
	}
	return "process " + strconv.FormatUint(uint64(p.PID), 10)
}

// commandLabel is a command as a card shows it.
func commandLabel(p *event.Process, n int) string {
	name := ProgramName(p)
	if p.IsThread {
		return Short(name, n-7) + " (fork)"
	}
	var b strings.Builder
	b.WriteString(name)
	for _, a := range p.Argv() {
		b.WriteByte(' ')
		if a == "" || strings.ContainsAny(a, " \t\n\"'|&;<>$") {
			b.WriteString(strconv.Quote(a))
		} else {
			b.WriteString(a)
		}
		if b.Len() > 4*n {
			break
		}
	}
	return Short(b.String(), n)
}

// Template puts placeholders where a text holds a number, a hexadecimal string
// of six digits and more, a UUID, an address or a temporary name, so that two
// texts that differ in nothing else become equal.
func Template(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		c := s[i]
		if !alnum(c) || i > 0 && alnum(s[i-1]) {
			b.WriteByte(c)
			i++
			continue
		}
		if n := uuidLen(s[i:]); n > 0 {
			b.WriteString("{uuid}")
			i += n
			continue
		}
		if n := addrLen(s[i:]); n > 0 {
			b.WriteString("{addr}")
			i += n
			continue
		}
		n := 1
		for i+n < len(s) && alnum(s[i+n]) {
			n++
		}
		word := s[i : i+n]
		switch {
		case i >= 4 && s[i-4:i] == "tmp." && n >= 6:
			b.WriteString("{tmp}")
		case n >= 6 && isHex(word) && strings.ContainsAny(word, "0123456789") && !isDigits(word):
			b.WriteString("{hex}")
		default:
			for j := 0; j < n; {
				if word[j] < '0' || word[j] > '9' {
					b.WriteByte(word[j])
					j++
					continue
				}
				for j < n && word[j] >= '0' && word[j] <= '9' {
					j++
				}
				b.WriteString("{n}")
			}
		}
		i += n
	}
	return b.String()
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isHex(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func uuidLen(s string) int {
	const n = 36
	if len(s) < n || len(s) > n && alnum(s[n]) {
		return 0
	}
	for i := range n {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if s[i] != '-' {
				return 0
			}
		} else if !isHex(s[i : i+1]) {
			return 0
		}
	}
	return n
}

func addrLen(s string) int {
	n := 0
	for n < len(s) && n <= 15 && (s[n] >= '0' && s[n] <= '9' || s[n] == '.') {
		n++
	}
	if n < 7 || n < len(s) && alnum(s[n]) {
		return 0
	}
	for n > 0 && s[n-1] == '.' {
		n--
	}
	if a, err := netip.ParseAddr(s[:n]); err != nil || !a.Is4() {
		return 0
	}
	return n
}

// AddrText is an address as people write it.
func AddrText(a *event.Address) string {
	if a.UnixPath != "" {
		return a.UnixPath
	}
	host := a.IP.Unmap().WithZone("").String()
	if len(a.Hostname) > 0 {
		host = a.Hostname[0]
	}
	if a.Port == 0 {
		return host
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.FormatUint(uint64(a.Port), 10)
}

// Flags of open(2) that tell a write from a read.
const (
	oAccMode = 0o3
	oTrunc   = 0o1000
)

// Refused tells whether a return value says that the kernel refused.
func Refused(retval int64) bool { return retval == -1 || retval == -13 }

// failed tells whether a return value is an error. A connection that is under
// way is none.
func failed(retval int64) bool { return retval < 0 && retval != -115 }

// Op is the operation an event stands for, in one word, and whether it changes
// its object.
func Op(e *event.Event) (op string, changes bool) {
	switch {
	case e.Open != nil:
		switch {
		case e.Open.Created:
			return "create", true
		case e.Open.Flags&oTrunc != 0:
			return "truncate", true
		case e.Open.Flags&oAccMode != 0:
			return "write", true
		}
		return "read", false
	case e.Unlink != nil, e.Rmdir != nil:
		return "remove", true
	case e.Rename != nil:
		return "rename", true
	case e.Chmod != nil:
		return "chmod", true
	case e.Chown != nil:
		return "chown", true
	case e.Link != nil:
		return "link", true
	case e.Symlink != nil:
		return "symlink", true
	case e.Mkdir != nil:
		return "mkdir", true
	case e.Mount != nil, e.Umount != nil, e.Setxattr != nil, e.Removexattr != nil, e.Utimes != nil:
		return e.Kind.String(), true
	case e.Splice != nil:
		return "splice", false
	case e.Mmap != nil:
		return "map", false
	}
	return e.Kind.String(), false
}

// FileOf is the file an event is about; nil when it is about none. A mount is
// about the directory it is at.
func FileOf(e *event.Event) *event.File {
	switch {
	case e.Link != nil:
		return &e.Link.Destination
	case e.Mount != nil:
		return &event.File{Path: e.Mount.MountpointPath, Filesystem: e.Mount.FSType, Mode: modeDir}
	case e.Umount != nil:
		return &event.File{Path: e.Umount.MountpointPath, Mode: modeDir}
	case e.CgroupWrite != nil, e.LoadModule != nil, !e.Complete():
		return nil
	}
	for _, r := range event.FileRefs {
		if r.Kind == e.Kind {
			return r.Get(e)
		}
	}
	return nil
}

// modeDir is the type of a directory in a file's mode.
const modeDir = 0o040000

// sysctlWrite is the action of a sysctl event that set a parameter.
const sysctlWrite = 2

// kernelObject names the part of the kernel that an event changed.
func kernelObject(e *event.Event) (name string, ok bool) {
	switch {
	case e.LoadModule != nil:
		return "module " + e.LoadModule.Name, true
	case e.UnloadModule != nil:
		return "module " + e.UnloadModule.Name, true
	case e.Sysctl != nil:
		return "parameter " + e.Sysctl.Name, true
	case e.SELinux != nil:
		return "SELinux", true
	case e.BPF != nil && e.BPF.ProgName != "":
		return "BPF program " + e.BPF.ProgName, true
	case e.BPF != nil && e.BPF.MapName != "":
		return "BPF map " + e.BPF.MapName, true
	}
	return "", false
}

// IsDevice tells whether a file is a terminal, the null device or the like, as
// everybody uses them.
func IsDevice(f *event.File) bool { return f.Mode&0o170000 == 0o020000 }

// IsPlumbing tells whether reading a file says nothing about who reads it:
// libraries, locales, what the kernel tells of itself. Whether a rule asks for
// it is another question.
func IsPlumbing(path string) bool {
	for _, dir := range []string{"/usr/", "/lib/", "/lib32/", "/lib64/", "/bin/", "/sbin/", "/proc/", "/sys/", "/dev/", "/run/systemd/", "/etc/ld.so.", "/etc/ssl/certs/", "/etc/alternatives/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	switch path {
	case "/", "/etc/nsswitch.conf", "/etc/localtime", "/etc/locale.alias", "/etc/host.conf", "/etc/resolv.conf", "/etc/gai.conf", "/etc/mime.types":
		return true
	}
	return false
}

// SetsID tells whether a chmod leaves a set-user-ID or set-group-ID bit.
func SetsID(c *event.Chmod) (user, group bool) {
	return c.DestinationMode&0o4000 != 0, c.DestinationMode&0o2000 != 0
}

// failedOp ends the name of an operation that did not succeed.
const failedOp = "_failed"

// opWord is an operation as an edge's label says it.
func opWord(op string) string {
	if op, failed := strings.CutSuffix(op, failedOp); failed {
		if w, known := map[string]string{"create": "create", "truncate": "write", "write": "write", "read": "read", "remove": "remove", "rename": "rename",
			"connect": "connect", "bind": "listen", "accept": "accept", "ptrace": "trace", "signal": "signal", "mount": "mount", "umount": "unmount",
			"load_module": "load", "unload_module": "remove", "sysctl": "read", "sysctl_write": "set"}[op]; known {
			return "tried to " + w
		}
		return "tried " + op
	}
	switch op {
	case "exec":
		return "started"
	case "create":
		return "created"
	case "truncate", "write":
		return "wrote"
	case "read":
		return "read"
	case "remove":
		return "removed"
	case "rename":
		return "renamed"
	case "chmod":
		return "changed mode"
	case "chown":
		return "changed owner"
	case "link", "symlink":
		return "linked"
	case "mkdir":
		return "created"
	case "connect":
		return "connected"
	case "accept":
		return "connected"
	case "bind":
		return "listens"
	}
	if w, known := opWords[op]; known {
		return w
	}
	return op
}

// opWords are operations on other processes, the kernel and names.
var opWords = map[string]string{
	"ptrace": "traced", "signal": "signalled", "setrlimit": "limited", "chdir": "went to", "mount": "mounted", "umount": "unmounted",
	"setxattr": "set attribute", "removexattr": "removed attribute", "utimes": "set times", "splice": "spliced", "map": "mapped",
	"bpf": "bpf", "load_module": "loaded", "unload_module": "removed", "sysctl": "read", "sysctl_write": "set", "selinux": "changed",
	"dns": "looked up", "imds": "asked",
}

func hashed(id string) (out [16]byte) {
	sum := sha256.Sum256([]byte(id))
	copy(out[:], sum[:])
	return out
}
