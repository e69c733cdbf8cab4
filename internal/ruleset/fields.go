// Package ruleset loads policies, compiles their rules as one set and evaluates
// events against it. It reads no files by itself and knows no clock: files come
// in as an fs.FS or as bytes, time is the event's.
package ruleset

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/secl"
	"github.com/clewsec/clew/internal/secl/check"
)

// Schema is the set of fields that rules can name: those of the event model
// at every place where an event has a process, a file or an address.
type Schema = secl.Schema[event.Event, event.Process]

type (
	field   = secl.Field[event.Event, event.Process]
	env     = secl.Env[event.Event, event.Process]
	program = secl.Program[event.Event, event.Process]
	evalCtx = secl.Ctx[event.Event, event.Process]
)

const ancestors = "process.ancestors"

// resolverWeight is what a field costs whose value must be computed, as a
// factor to the field's own.
const resolverWeight = 50

// NewSchema composes the schema. It fails only if the event model contradicts
// itself.
func NewSchema() (*Schema, error) {
	b := &schemaBuilder{}
	none := &event.Process{}
	self := func(e *event.Event) *event.Process {
		if e.Proc == nil {
			return none
		}
		return e.Proc
	}
	parent := func(e *event.Event) *event.Process {
		if p := self(e).Parent; p != nil {
			return p
		}
		return none
	}
	b.common()
	b.process("process", 0, self)
	b.process("process.parent", 0, parent)
	for _, r := range event.ProcessRefs {
		b.process(r.Path, r.Kind, self)
	}
	for _, g := range event.ProcessFields {
		// The container and control group of the process are the event's.
		if strings.HasPrefix(g.Name, "container.") || strings.HasPrefix(g.Name, "cgroup.") {
			b.add(place(g.Name, 0, g), through(g, self))
		}
		elem := getters(g)
		flagWalks(g.Name, &elem, func(p *event.Process) *event.Process { return p })
		f := place(ancestors+"."+g.Name, 0, g)
		f.Many, f.List, f.Iter = f.List, true, ancestors
		f.Elem = elem
		b.fields = append(b.fields, f)
	}
	for _, g := range event.EventFields {
		b.add(place(g.Name, g.Kind, g), getters(g))
	}
	for _, r := range event.FileRefs {
		for _, g := range event.FileFields {
			b.add(place(r.Path+"."+g.Name, r.Kind, g), through(g, r.Get))
		}
	}
	for _, r := range event.AddressRefs {
		for _, g := range event.AddressFields {
			b.add(place(r.Path+"."+g.Name, r.Kind, g), through(g, r.Get))
		}
	}
	roots := []secl.Root[event.Event, event.Process]{{
		Path: ancestors,
		First: func(e *event.Event) *event.Process {
			if e.Proc == nil {
				return nil
			}
			return e.Proc.Parent
		},
		Next: func(p *event.Process) *event.Process { return p.Parent },
	}}
	s, err := secl.NewSchema(b.fields, roots, aliases)
	if err != nil {
		return nil, fmt.Errorf("compose rule fields: %w", err)
	}
	return s, nil
}

type schemaBuilder struct {
	fields []field
}

func (b *schemaBuilder) add(f field, g secl.Getters[event.Event]) {
	f.Get = g
	b.fields = append(b.fields, f)
}

func (b *schemaBuilder) process(path string, kind event.Kind, ref func(*event.Event) *event.Process) {
	for _, g := range event.ProcessFields {
		get := through(g, ref)
		flagWalks(g.Name, &get, ref)
		b.add(place(path+"."+g.Name, kind, g), get)
	}
}

// place describes the field a getter reads, at a path.
func place[T any](path string, kind event.Kind, g event.Getter[T]) field {
	f := field{Field: check.Field{Name: path, Weight: g.Weight * resolverWeight}}
	if kind != 0 {
		f.Kind = kind.String()
	}
	switch g.Type {
	case event.TypeBool:
		f.Type = secl.Bool
	case event.TypeInt:
		f.Type = secl.Int
	case event.TypeString:
		f.Type = secl.String
	case event.TypeStrings:
		f.Type, f.List = secl.String, true
	case event.TypeIP:
		f.Type = secl.IP
	}
	return f
}

// getters turns a getter of the event model into one of the language.
func getters[T any](g event.Getter[T]) secl.Getters[T] {
	out := secl.Getters[T]{Bool: g.Bool, Int: g.Int, Str: g.Str, Strs: g.Strs}
	if g.IP != nil {
		ip := g.IP
		out.IP = func(t *T) netip.Prefix { return prefix(ip(t)) }
	}
	return out
}

// prefix is an address as a network of one. An address that is not set is the
// zero prefix, which overlaps nothing.
func prefix(a netip.Addr) netip.Prefix {
	if !a.IsValid() {
		return netip.Prefix{}
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen())
}

// through reads a field of an object that an event refers to.
func through[T any](g event.Getter[T], ref func(*event.Event) *T) secl.Getters[event.Event] {
	var out secl.Getters[event.Event]
	switch {
	case g.Bool != nil:
		out.Bool = func(e *event.Event) bool { return g.Bool(ref(e)) }
	case g.Int != nil:
		out.Int = func(e *event.Event) int64 { return g.Int(ref(e)) }
	case g.Str != nil:
		out.Str = func(e *event.Event) string { return g.Str(ref(e)) }
	case g.Strs != nil:
		out.Strs = func(e *event.Event) []string { return g.Strs(ref(e)) }
	case g.IP != nil:
		out.IP = func(e *event.Event) netip.Prefix { return prefix(g.IP(ref(e))) }
	}
	return out
}

// flagWalks replaces the getters that would build a list of an event's flags
// and options by walks over its arguments.
func flagWalks[T any](name string, g *secl.Getters[T], ref func(*T) *event.Process) {
	switch name {
	case "args_flags":
		g.Strs = nil
		g.Walk = func(t *T, yield func(string) bool) bool { return walkFlags(ref(t).Argv(), yield) }
	case "args_options":
		g.Strs = nil
		g.Walk = func(t *T, yield func(string) bool) bool { return walkOptions(ref(t).Argv(), yield) }
	}
}

// option takes the dashes off an argument: one or two.
func option(arg string) (name string, short, ok bool) {
	if len(arg) < 2 || arg[0] != '-' {
		return "", false, false
	}
	if arg[1] == '-' {
		return arg[2:], false, true
	}
	return arg[1:], true, true
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// walkFlags gives the flags among arguments: -la is l, a and la; --all is all.
func walkFlags(argv []string, yield func(string) bool) bool {
	for _, arg := range argv {
		name, short, ok := option(arg)
		if !ok {
			continue
		}
		letters := short
		for i := 0; letters && i < len(name); i++ {
			letters = alnum(name[i])
		}
		for i := 0; letters && i < len(name); i++ {
			if yield(name[i : i+1]) {
				return true
			}
		}
		if len(name) > 1 && !strings.Contains(name, "=") && yield(name) {
			return true
		}
	}
	return false
}

// walkOptions gives the options with their values: --file=x and --file x are
// file=x.
func walkOptions(argv []string, yield func(string) bool) bool {
	for i := 0; i < len(argv); i++ {
		name, _, ok := option(argv[i])
		if !ok || name == "" || !alnum(name[0]) {
			continue
		}
		if !strings.Contains(name, "=") {
			if i+1 == len(argv) || strings.HasPrefix(argv[i+1], "-") {
				continue
			}
			name += "=" + argv[i+1]
			i++
		}
		if yield(name) {
			return true
		}
	}
	return false
}

// common adds the fields of every event that are not its process's.
func (b *schemaBuilder) common() {
	str := func(name string, get func(*event.Event) string) {
		b.add(field{Field: check.Field{Name: name, Type: secl.String}}, secl.Getters[event.Event]{Str: get})
	}
	str("event.hostname", func(e *event.Event) string {
		if e.Host == nil {
			return ""
		}
		return e.Host.Name
	})
	str("event.origin", func(*event.Event) string { return "ebpf" })
	str("event.os", func(*event.Event) string { return "linux" })
	str("event.source", func(*event.Event) string { return "runtime" })
	str("event.service", service)
	b.fields[len(b.fields)-1].Weight = resolverWeight * 100
	b.add(field{Field: check.Field{Name: "event.timestamp", Type: secl.Int}},
		secl.Getters[event.Event]{Int: func(e *event.Event) int64 { return e.TimeNS }})
	b.add(field{Field: check.Field{Name: "event.async", Type: secl.Bool}},
		secl.Getters[event.Event]{Bool: func(e *event.Event) bool { return e.Flags&event.FlagAsync != 0 }})
}

// maxLineage bounds how far up a service's name is looked for.
const maxLineage = 256

// service is the name that the process or its nearest ancestor with one has in
// its environment.
func service(e *event.Event) string {
	p := e.Proc
	for range maxLineage {
		if p == nil {
			break
		}
		for _, v := range p.Envp {
			for _, name := range [...]string{"DD_SERVICE=", "OTEL_SERVICE_NAME="} {
				if s, ok := strings.CutPrefix(v, name); ok && s != "" {
					return s
				}
			}
		}
		p = p.Parent
	}
	return ""
}

// present tells whether an event has the payload of its kind, without which no
// field of the kind can be read.
func present(e *event.Event) bool {
	switch e.Kind {
	case event.KindExec:
		return e.Exec != nil
	case event.KindExit:
		return e.Exit != nil
	case event.KindOpen:
		return e.Open != nil
	case event.KindUnlink:
		return e.Unlink != nil
	case event.KindRename:
		return e.Rename != nil
	case event.KindChmod:
		return e.Chmod != nil
	case event.KindChown:
		return e.Chown != nil
	case event.KindLink:
		return e.Link != nil
	case event.KindSymlink:
		return e.Symlink != nil
	case event.KindConnect:
		return e.Connect != nil
	case event.KindAccept:
		return e.Accept != nil
	case event.KindBind:
		return e.Bind != nil
	case event.KindSetuid:
		return e.Setuid != nil
	case event.KindSetgid:
		return e.Setgid != nil
	case event.KindCgroupWrite:
		return e.CgroupWrite != nil
	case event.KindMkdir:
		return e.Mkdir != nil
	case event.KindRmdir:
		return e.Rmdir != nil
	}
	return false
}

// aliases are old names of fields that policies still have.
var aliases = map[string]string{
	"async":                      "event.async",
	"chmod.filename":             "chmod.file.path",
	"chmod.basename":             "chmod.file.name",
	"chmod.mode":                 "chmod.file.destination.mode",
	"chown.filename":             "chown.file.path",
	"chown.basename":             "chown.file.name",
	"chown.uid":                  "chown.file.destination.uid",
	"chown.user":                 "chown.file.destination.user",
	"chown.gid":                  "chown.file.destination.gid",
	"chown.group":                "chown.file.destination.group",
	"open.filename":              "open.file.path",
	"open.basename":              "open.file.name",
	"open.mode":                  "open.file.destination.mode",
	"mkdir.filename":             "mkdir.file.path",
	"mkdir.basename":             "mkdir.file.name",
	"mkdir.mode":                 "mkdir.file.destination.mode",
	"rmdir.filename":             "rmdir.file.path",
	"rmdir.basename":             "rmdir.file.name",
	"rename.old.filename":        "rename.file.path",
	"rename.old.basename":        "rename.file.name",
	"rename.new.filename":        "rename.file.destination.path",
	"rename.new.basename":        "rename.file.destination.name",
	"unlink.filename":            "unlink.file.path",
	"unlink.basename":            "unlink.file.name",
	"utimes.filename":            "utimes.file.path",
	"utimes.basename":            "utimes.file.name",
	"link.source.filename":       "link.file.path",
	"link.source.basename":       "link.file.name",
	"link.target.filename":       "link.file.destination.path",
	"link.target.basename":       "link.file.destination.name",
	"setxattr.filename":          "setxattr.file.path",
	"setxattr.basename":          "setxattr.file.name",
	"setxattr.namespace":         "setxattr.file.destination.namespace",
	"setxattr.name":              "setxattr.file.destination.name",
	"removexattr.filename":       "removexattr.file.path",
	"removexattr.basename":       "removexattr.file.name",
	"removexattr.namespace":      "removexattr.file.destination.namespace",
	"removexattr.name":           "removexattr.file.destination.name",
	"exec.filename":              "exec.file.path",
	"exec.overlay_numlower":      "exec.file.overlay_numlower",
	"exec.basename":              "exec.file.name",
	"exec.name":                  "exec.comm",
	"process.filename":           "process.file.path",
	"process.basename":           "process.file.name",
	"process.name":               "process.comm",
	"process.ancestors.filename": "process.ancestors.file.path",
	"process.ancestors.basename": "process.ancestors.file.name",
	"process.ancestors.name":     "process.ancestors.comm",
}
