// Package ruleset loads policies, compiles their rules as one set and evaluates
// events against it. It reads no files by itself and knows no clock: files come
// in as an fs.FS or as bytes, time is the event's.
package ruleset

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/secl"
	"github.com/clewsec/clew/internal/secl/check"
	"golang.org/x/net/publicsuffix"
)

// Schema is the set of fields that rules can name: those of the event model
// at every place where an event has a process, a file or an address.
type Schema = secl.Schema[event.Event, Element]

type (
	field   = secl.Field[event.Event, Element]
	env     = secl.Env[event.Event, Element]
	program = secl.Program[event.Event, Element]
	evalCtx = secl.Ctx[event.Event, Element]
	root    = secl.Root[event.Event, Element]
)

// An Element is one object of a list that rules can look through: a process
// of a lineage, or a flow of a report. The zero Element is none.
type Element struct {
	Process *event.Process
	flows   *[]event.Flow
	index   int
}

// Flow is the flow that the element is.
func (e Element) Flow() *event.Flow { return &(*e.flows)[e.index] }

const ancestors = "process.ancestors"

// resolverWeight is what a field costs whose value must be computed, as a
// factor to the field's own.
const resolverWeight = 50

// NewSchema composes the schema. It fails only if the event model contradicts
// itself.
func NewSchema() (*Schema, error) {
	b := &schemaBuilder{}
	self := func(e *event.Event) *event.Process { return e.Proc }
	b.common()
	b.processContext("process", 0, self)
	for _, g := range event.ProcessFields {
		// The container and control group of the process are the event's.
		if strings.HasPrefix(g.Name, "container.") || strings.HasPrefix(g.Name, "cgroup.") {
			b.add(place(g.Name, 0, g), getters(g, orNone(self)))
		}
	}
	for _, r := range event.ProcessRefs {
		if r.Context {
			b.processContext(r.Path, r.Kind, r.Get)
		} else {
			b.process(r.Path, r.Kind, r.Get)
		}
	}
	for _, g := range event.EventFields {
		b.add(place(g.Name, g.Kind, g), getters(g, same))
	}
	for _, r := range event.FileRefs {
		for _, g := range event.FileFields {
			b.add(place(r.Path+"."+g.Name, r.Kind, g), getters(g, r.Get))
		}
	}
	for _, r := range event.AddressRefs {
		for _, g := range event.AddressFields {
			b.add(place(r.Path+"."+g.Name, r.Kind, g), getters(g, r.Get))
		}
	}
	b.headers()
	for _, r := range event.FlowRefs {
		b.flows(r)
	}
	b.rootDomains()
	s, err := secl.NewSchema(b.fields, b.roots, aliases)
	if err != nil {
		return nil, fmt.Errorf("compose rule fields: %w", err)
	}
	return s, nil
}

type schemaBuilder struct {
	fields []field
	roots  []root
}

func (b *schemaBuilder) add(f field, g secl.Getters[*event.Event]) {
	f.Get = g
	b.fields = append(b.fields, f)
}

// orNone makes a process that is not known one without any value.
func orNone(ref func(*event.Event) *event.Process) func(*event.Event) *event.Process {
	none := &event.Process{}
	return func(e *event.Event) *event.Process {
		if p := ref(e); p != nil {
			return p
		}
		return none
	}
}

func (b *schemaBuilder) process(path string, kind event.Kind, ref func(*event.Event) *event.Process) {
	ref = orNone(ref)
	for _, g := range event.ProcessFields {
		get := getters(g, ref)
		flagWalks(g.Name, &get, ref)
		otherPaths(g.Name, &get, ref)
		joinedArgs(g.Name, &get, ref)
		b.add(place(path+"."+g.Name, kind, g), get)
	}
}

// processContext adds a process with its parent and its ancestors.
func (b *schemaBuilder) processContext(path string, kind event.Kind, ref func(*event.Event) *event.Process) {
	parent := func(e *event.Event) *event.Process {
		if p := ref(e); p != nil {
			return p.Parent
		}
		return nil
	}
	b.process(path, kind, ref)
	b.process(path+".parent", kind, parent)
	list := path + ".ancestors"
	of := func(el Element) *event.Process { return el.Process }
	for _, g := range event.ProcessFields {
		get := getters(g, of)
		flagWalks(g.Name, &get, of)
		otherPaths(g.Name, &get, of)
		joinedArgs(g.Name, &get, of)
		f := place(list+"."+g.Name, kind, g)
		f.All = lineage(g, get, parent)
		b.element(list, kind, f, get)
	}
	b.roots = append(b.roots, root{
		Path: list, Kind: kindName(kind),
		First: func(e *event.Event) Element { return Element{Process: parent(e)} },
		Next:  func(el Element) Element { return Element{Process: el.Process.Parent} },
	})
}

// lineage reads a field of a process and all those before it, which is what
// rules about ancestors do with every event.
func lineage(g event.Getter[event.Process], each secl.Getters[Element], first func(*event.Event) *event.Process) secl.Lists[event.Event] {
	var all secl.Lists[event.Event]
	switch {
	case each.Append != nil:
	case each.Str != nil:
		all.Strs = func(e *event.Event, out []string) []string {
			i := 0
			for p := first(e); p != nil && i < secl.MaxElements; p = p.Parent {
				// Forks repeat what their parent runs.
				if v := g.Str(p); len(out) == 0 || out[len(out)-1] != v {
					out = append(out, v)
				}
				i++
				if each.Others == nil || len(p.File.OtherPaths)+len(p.Interpreter.OtherPaths) == 0 {
					continue
				}
				for j := range each.Others(Element{Process: p}) {
					out = append(out, each.Other(Element{Process: p}, j))
				}
			}
			return out
		}
	case each.Int != nil:
		all.Ints = func(e *event.Event, out []int64) []int64 {
			i := 0
			for p := first(e); p != nil && i < secl.MaxElements; p = p.Parent {
				if v := g.Int(p); len(out) == 0 || out[len(out)-1] != v {
					out = append(out, v)
				}
				i++
			}
			return out
		}
	}
	return all
}

// element adds a field of the objects of a list.
func (b *schemaBuilder) element(list string, kind event.Kind, f field, get secl.Getters[Element]) {
	f.Many, f.List, f.Iter = f.List, true, list
	f.Elem = get
	b.fields = append(b.fields, f)
}

// headers adds the fields of packets, which several kinds have at one path.
func (b *schemaBuilder) headers() {
	for i, r := range event.HeadersRefs {
		same := func(o event.ObjectRef[event.Headers]) bool { return o.Path == r.Path }
		if slices.IndexFunc(event.HeadersRefs, same) != i {
			continue
		}
		var of [event.NumKinds]func(*event.Event) *event.Headers
		var kinds []string
		for _, o := range event.HeadersRefs {
			if same(o) {
				of[o.Kind] = o.Get
				kinds = append(kinds, o.Kind.String())
			}
		}
		none := &event.Headers{}
		get := func(e *event.Event) *event.Headers {
			if get := of[e.Kind]; get != nil {
				return get(e)
			}
			return none
		}
		for _, g := range event.HeadersFields {
			f := place(r.Path+"."+g.Name, r.Kind, g)
			if len(kinds) > 1 {
				f.Kind, f.Kinds = "", kinds
			}
			b.add(f, getters(g, get))
		}
	}
}

func (b *schemaBuilder) flows(r event.ListRef[event.Flow]) {
	for _, g := range event.FlowFields {
		b.element(r.Path, r.Kind, place(r.Path+"."+g.Name, r.Kind, g), getters(g, Element.Flow))
	}
	b.roots = append(b.roots, root{
		Path: r.Path, Kind: r.Kind.String(),
		First: func(e *event.Event) Element {
			if list := r.Get(e); len(*list) > 0 {
				return Element{flows: list}
			}
			return Element{}
		},
		Next: func(el Element) Element {
			if el.index++; el.index < len(*el.flows) {
				return el
			}
			return Element{}
		},
	})
}

func kindName(k event.Kind) string {
	if k == 0 {
		return ""
	}
	return k.String()
}

// place describes the field a getter reads, at a path.
func place[T any](path string, kind event.Kind, g event.Getter[T]) field {
	f := field{Field: check.Field{
		Name: path, Kind: kindName(kind), Weight: g.Weight * resolverWeight, Fold: g.Fold, MaxLen: g.Max,
	}}
	switch g.Type {
	case event.TypeBool:
		f.Type = secl.Bool
	case event.TypeInt:
		f.Type = secl.Int
	case event.TypeString:
		f.Type = secl.String
	case event.TypeStrings:
		f.Type, f.List = secl.String, true
	case event.TypeInts:
		f.Type, f.List = secl.Int, true
	case event.TypeIP:
		f.Type = secl.IP
	}
	return f
}

func same[T any](x *T) *T { return x }

// getters turns a getter of the event model into one of the language that
// reads the T which of finds.
func getters[S, T any](g event.Getter[T], of func(S) *T) secl.Getters[S] {
	var out secl.Getters[S]
	switch {
	case g.Bool != nil:
		out.Bool = func(s S) bool { return g.Bool(of(s)) }
	case g.Int != nil:
		out.Int = func(s S) int64 { return g.Int(of(s)) }
	case g.Str != nil:
		out.Str = func(s S) string { return g.Str(of(s)) }
	case g.Strs != nil:
		out.Strs = func(s S) []string { return g.Strs(of(s)) }
	case g.Ints != nil:
		out.Ints = func(s S) []int64 { return g.Ints(of(s)) }
	case g.IP != nil:
		out.IP = func(s S) netip.Prefix { return prefix(g.IP(of(s))) }
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

// flagWalks replaces the getters that would build a list of an event's flags
// and options by walks over its arguments.
func flagWalks[S any](name string, g *secl.Getters[S], ref func(S) *event.Process) {
	switch name {
	case "args_flags":
		g.Strs = nil
		g.Walk = func(s S, yield func(string) bool) bool { return walkFlags(ref(s).Argv(), yield) }
	case "args_options":
		g.Strs = nil
		g.Walk = func(s S, yield func(string) bool) bool { return walkOptions(ref(s).Argv(), yield) }
	}
}

// joinedArgs lets conditions look at an event's arguments as one line without
// a new string for each event.
func joinedArgs[S any](name string, g *secl.Getters[S], ref func(S) *event.Process) {
	if name != "args" {
		return
	}
	g.Append = func(s S, buf []byte) []byte {
		for i, a := range ref(s).Argv() {
			if i > 0 {
				buf = append(buf, ' ')
			}
			buf = append(buf, a...)
		}
		return buf
	}
}

// otherPaths lets a rule on the path, or the name, of what a process runs
// accept the other paths it was reached by.
func otherPaths[S any](name string, g *secl.Getters[S], ref func(S) *event.Process) {
	of := func(s S) *event.File { return &ref(s).File }
	switch name {
	case "interpreter.file.path", "interpreter.file.name":
		of = func(s S) *event.File { return &ref(s).Interpreter }
	case "file.path", "file.name":
	default:
		return
	}
	g.Others = func(s S) int { return len(of(s).OtherPaths) }
	g.Other = func(s S, i int) string { return of(s).OtherPaths[i] }
	if strings.HasSuffix(name, ".name") {
		g.Other = func(s S, i int) string {
			p := of(s).OtherPaths[i]
			return p[strings.LastIndexByte(p, '/')+1:]
		}
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

// rootDomains adds, to the fields that are names of hosts, the name that was
// registered: www.example.co.uk belongs to example.co.uk.
func (b *schemaBuilder) rootDomains() {
	const suffix = ".root_domain"
	for _, f := range b.fields {
		switch f.Name {
		case "dns.question.name":
			get := f.Get.Str
			f.Get = secl.Getters[*event.Event]{Str: func(e *event.Event) string { return rootDomain(get(e)) }}
		case "connect.addr.hostname", "accept.addr.hostname":
			get := f.Get.Strs
			f.Get = secl.Getters[*event.Event]{Walk: func(e *event.Event, yield func(string) bool) bool {
				for _, n := range get(e) {
					if yield(rootDomain(n)) {
						return true
					}
				}
				return false
			}}
		default:
			continue
		}
		f.Name += suffix
		f.Weight = resolverWeight * 10
		b.fields = append(b.fields, f)
	}
}

// rootDomain is the registrable part of a name in lower case: one label more
// than a suffix under which anybody can register names. It is empty for a name
// that is such a suffix itself, and for an address.
func rootDomain(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if _, err := netip.ParseAddr(name); err == nil {
		return ""
	}
	root, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		return ""
	}
	return root
}

// ruleTags are the product tags of the rule that asks; the loader knows them.
const ruleTags = "event.rule.tags"

// common adds the fields of every event that are not its process's.
func (b *schemaBuilder) common() {
	str := func(name string, get func(*event.Event) string) {
		b.add(field{Field: check.Field{Name: name, Type: secl.String}}, secl.Getters[*event.Event]{Str: get})
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
	str("event.signature", func(*event.Event) string { return "" })
	str("event.service", service)
	b.fields[len(b.fields)-1].Weight = resolverWeight * 100
	b.add(field{Field: check.Field{Name: ruleTags, Type: secl.String, List: true}},
		secl.Getters[*event.Event]{Strs: func(*event.Event) []string { return nil }})
	b.add(field{Field: check.Field{Name: "event.timestamp", Type: secl.Int}},
		secl.Getters[*event.Event]{Int: func(e *event.Event) int64 { return e.TimeNS }})
	b.add(field{Field: check.Field{Name: "event.async", Type: secl.Bool}},
		secl.Getters[*event.Event]{Bool: func(e *event.Event) bool { return e.Flags&event.FlagAsync != 0 }})
}

// maxLineage bounds how far up a service's name is looked for.
const maxLineage = 256

// service is the name that the process or its nearest ancestor with one has in
// its environment, else the one that its container's labels say.
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
	if e.Proc == nil {
		return ""
	}
	return e.Proc.ContainerTag("service")
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
