// Fields that are computed from others when a rule or a reader asks.

package event

import (
	"net/netip"
	"strings"
)

// Name is the last component of the path.
func (f *File) Name() string {
	return f.Path[strings.LastIndexByte(f.Path, '/')+1:]
}

// Extension is the last extension with its dot, empty when there is none.
func (f *File) Extension() string {
	name := f.Name()
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		return name[i:]
	}
	return ""
}

// Rights are the permission bits.
func (f *File) Rights() int64 { return int64(f.Mode & 0o7777) }

// DestinationRights are the permission bits asked for.
func (c *Chmod) DestinationRights() int64 { return c.DestinationMode & 0o7777 }

// DestinationRights are the permission bits asked for.
func (m *Mkdir) DestinationRights() int64 { return m.DestinationMode & 0o7777 }

// SyscallMode is the mode as the caller gave it.
func (m *Mkdir) SyscallMode() int64 { return m.DestinationMode }

// SyscallFlags are the flags as the caller gave them.
func (o *Open) SyscallFlags() int64 { return o.Flags }

// SyscallMode is the mode as the caller gave it.
func (o *Open) SyscallMode() int64 { return o.DestinationMode }

// SyscallFlags are the flags as the caller gave them.
func (u *Unlink) SyscallFlags() int64 { return u.Flags }

// Visible tells whether a path of its namespace leads to the mount.
func (m *Mount) Visible() bool { return !m.Hidden }

// MountVisible tells whether a path of its namespace leads to the mount that
// holds the file.
func (f *File) MountVisible() bool { return !f.MountHidden }

// PID is the process id of the receiver.
func (s *SignalSent) PID() int64 { return int64(s.Target.PID) }

// Args are the parameters joined by one space.
func (m *LoadModule) Args() string { return strings.Join(m.Argv, " ") }

// QuestionLength is the length of the question in bytes.
func (d *DNS) QuestionLength() int64 { return d.QuestionSize }

// DestinationNamespace is the namespace of the attribute.
func (x *Setxattr) DestinationNamespace() string { return xattrNamespace(x.DestinationName) }

// DestinationNamespace is the namespace of the attribute.
func (x *Removexattr) DestinationNamespace() string { return xattrNamespace(x.DestinationName) }

// xattrNamespace is the part of an attribute's name that says who may set it
// (xattr(7)); empty where the name has none.
func xattrNamespace(name string) string {
	ns, _, ok := strings.Cut(name, ".")
	if !ok {
		return ""
	}
	return ns
}

// IsPublic tells whether the address is neither private nor local.
func (a *Address) IsPublic() bool { return IsPublic(a.IP) }

// notPublic are the ranges beside those netip knows that no public host has
// (RFC 6890 and the IANA special-purpose registries).
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001:db8::/32"),
}

// IsPublic tells whether ip is neither private, local, multicast nor reserved.
func IsPublic(ip netip.Addr) bool {
	ip = ip.Unmap()
	if !ip.IsValid() || !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// Argv0 is the first argument as given.
func (p *Process) Argv0() string {
	if len(p.AllArgs) == 0 {
		return ""
	}
	return p.AllArgs[0]
}

// Argv are the arguments without the first. The slice belongs to the process.
func (p *Process) Argv() []string {
	if len(p.AllArgs) == 0 {
		return nil
	}
	return p.AllArgs[1:]
}

// Args are the arguments without the first, joined by one space.
func (p *Process) Args() string { return strings.Join(p.Argv(), " ") }

// CommandLine is what a shell would show: all arguments, or the command name.
func (p *Process) CommandLine() string {
	if len(p.AllArgs) == 0 {
		return p.Comm
	}
	return strings.Join(p.AllArgs, " ")
}

// argName takes the leading dashes off a candidate argument. It tells the name,
// whether only one dash was there, and whether the argument is a candidate.
func argName(arg string) (name string, short, ok bool) {
	if len(arg) < 2 || arg[0] != '-' {
		return "", false, false
	}
	name = arg[1:]
	if name[0] == '-' {
		return name[1:], false, true
	}
	return name, true, true
}

func alnum(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return false
		}
	}
	return true
}

// ArgsFlags are the flags among the arguments: "-la" gives "l", "a" and "la",
// "--all" gives "all".
func (p *Process) ArgsFlags() []string {
	var out []string
	for _, arg := range p.Argv() {
		name, short, ok := argName(arg)
		if !ok {
			continue
		}
		if short && alnum(name) {
			for i := range len(name) {
				out = append(out, name[i:i+1])
			}
		}
		if len(name) > 1 && !strings.Contains(name, "=") {
			out = append(out, name)
		}
	}
	return out
}

// ArgsOptions are the options with their values: "--file=x" and "--file x"
// give "file=x".
func (p *Process) ArgsOptions() []string {
	var out []string
	argv := p.Argv()
	for i := 0; i < len(argv); i++ {
		name, _, ok := argName(argv[i])
		if !ok || name == "" || !alnum(name[:1]) {
			continue
		}
		if strings.Contains(name, "=") {
			out = append(out, name)
			continue
		}
		if i+1 < len(argv) && !strings.HasPrefix(argv[i+1], "-") {
			out = append(out, name+"="+argv[i+1])
			i++
		}
	}
	return out
}

// ContainerTag is the value of a tag of the process's container, the first if
// there are more; empty when it has none of that key.
func (p *Process) ContainerTag(key string) string {
	for _, t := range p.ContainerTags {
		if v, ok := strings.CutPrefix(t, key); ok && strings.HasPrefix(v, ":") {
			return v[1:]
		}
	}
	return ""
}

// Service is the service a process belongs to, by its environment, by its
// container's labels or by the systemd unit in its control group; empty when
// none says.
func (p *Process) Service() string {
	if p == nil {
		return ""
	}
	for _, name := range []string{"DD_SERVICE=", "OTEL_SERVICE_NAME="} {
		for _, e := range p.Envp {
			if v, ok := strings.CutPrefix(e, name); ok && v != "" {
				return v
			}
		}
	}
	for _, e := range p.Envp {
		v, ok := strings.CutPrefix(e, "OTEL_RESOURCE_ATTRIBUTES=")
		if !ok {
			continue
		}
		for _, kv := range strings.Split(v, ",") {
			if s, ok := strings.CutPrefix(kv, "service.name="); ok && s != "" {
				return s
			}
		}
	}
	if s := p.ContainerTag("service"); s != "" {
		return s
	}
	parts := strings.Split(p.Cgroup, "/")
	for i := len(parts) - 1; i >= 0; i-- {
		if s, ok := strings.CutSuffix(parts[i], ".service"); ok {
			return s
		}
	}
	return ""
}
