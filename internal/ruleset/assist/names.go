package assist

import (
	"slices"
	"strings"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/schema"
	"github.com/clewsec/clew/internal/secl/check"
)

// names is what the words of the language mean.
type names struct {
	fields *ruleset.Schema
	// kinds are those that rules can be about, by name.
	kinds map[string]schema.Kind
	// tops are the first words of fields, sorted.
	tops      []string
	messages  map[string]schema.Message
	at        map[string]string // objects at a path of their own: their message
	constants []string
	// host are the fields of filters.
	host []check.Field
}

func newNames(cfg Config) (*names, error) {
	s, err := schema.Load()
	if err != nil {
		return nil, err
	}
	n := &names{
		fields: cfg.Rules.Schema, kinds: map[string]schema.Kind{}, messages: map[string]schema.Message{}, at: map[string]string{},
		constants: check.ConstantNames(),
	}
	if n.host, err = ruleset.HostFields(); err != nil {
		return nil, err
	}
	for _, m := range s.Messages {
		n.messages[m.Name] = m
	}
	for _, k := range s.Kinds {
		if !k.Hidden {
			n.kinds[k.Name] = k
			for _, f := range k.Fields {
				if f.At != "" {
					n.at[f.At] = strings.TrimLeft(f.Type, "*[]")
				}
			}
		}
	}
	for _, f := range n.fields.Names() {
		top, _, _ := strings.Cut(f, ".")
		if len(n.tops) == 0 || n.tops[len(n.tops)-1] != top {
			n.tops = append(n.tops, top)
		}
	}
	slices.Sort(n.tops)
	n.tops = slices.Compact(n.tops)
	return n, nil
}

// bare takes registers and indexes out of a field's name.
func bare(name string) string {
	for {
		i := strings.IndexByte(name, '[')
		if i < 0 {
			return name
		}
		j := strings.IndexByte(name[i:], ']')
		if j < 0 {
			return name[:i]
		}
		name = name[:i] + name[i+j+1:]
	}
}

// field finds what a name in a condition reads.
func (n *names) field(name string) (*check.Field, bool) {
	name = bare(name)
	if f, ok := n.fields.Field(name); ok {
		return &f.Field, true
	}
	if owner, cut := strings.CutSuffix(name, ".length"); cut {
		if f, ok := n.fields.Field(owner); ok && (f.Type == check.String || f.List) {
			return &check.Field{Name: name, Type: check.Int, Kind: f.Kind, Weight: f.Weight}, true
		}
		if r, ok := n.fields.Root(owner); ok {
			return &check.Field{Name: name, Type: check.Int, Kind: r.Kind}, true
		}
	}
	return nil, false
}

// describe finds what is written about a field.
func (n *names) describe(name string) (doc schema.Field, ok bool) {
	name = strings.TrimSuffix(bare(n.fields.Canonical(name)), ".length")
	top, rest, dotted := strings.Cut(name, ".")
	if doc, ok := eventDocs[name]; ok {
		return schema.Field{Name: name, Doc: doc}, true
	}
	if !dotted {
		return schema.Field{}, false
	}
	for at := name; ; {
		if m, found := n.at[at]; found {
			return n.member(n.messages[m].Fields, strings.TrimPrefix(name, at+"."), 0)
		}
		i := strings.LastIndexByte(at, '.')
		if i < 0 {
			break
		}
		at = at[:i]
	}
	if k, isKind := n.kinds[top]; isKind {
		if f, found := n.member(k.Fields, rest, 0); found {
			return f, true
		}
		return n.member(n.messages[k.Object].Fields, rest, 0)
	}
	switch top {
	case "process":
		return n.member(n.messages["Process"].Fields, rest, 0)
	case "event":
		return n.member(n.messages["Event"].Fields, rest, 0)
	}
	return n.member(n.messages["Process"].Fields, name, 0)
}

// member finds a field among those of an object, or of the objects it has.
func (n *names) member(fields []schema.Field, name string, depth int) (schema.Field, bool) {
	for {
		// What is said of a process is true of those above it.
		rest, ok := strings.CutPrefix(name, "parent.")
		if !ok {
			rest, ok = strings.CutPrefix(name, "ancestors.")
		}
		if !ok {
			break
		}
		name = rest
	}
	for _, f := range fields {
		if f.Name == name {
			return f, true
		}
	}
	if depth > 8 {
		return schema.Field{}, false
	}
	for _, f := range fields {
		rest, ok := strings.CutPrefix(name, f.Name+".")
		if !ok {
			continue
		}
		m, isMessage := n.messages[strings.TrimLeft(f.Type, "*[]")]
		if !isMessage {
			continue
		}
		if found, ok := n.member(m.Fields, rest, depth+1); ok {
			return found, true
		}
	}
	return schema.Field{}, false
}

// eventDocs are the fields of every event that are not in the schema.
var eventDocs = map[string]string{
	"event.hostname":  "Name of the host.",
	"event.origin":    "Where the event is from: ebpf.",
	"event.os":        "Operating system: linux.",
	"event.source":    "How the event was seen: runtime.",
	"event.service":   "Name of the service: DD_SERVICE or OTEL_SERVICE_NAME in the environment of the process or the nearest ancestor with one.",
	"event.timestamp": "When it happened, ns since the epoch.",
	"event.async":     "The event was made by the kernel on behalf of the process, not by a system call of it.",
}

// constantsFor returns the constants that a field is compared with, nil where
// nobody knows.
func (n *names) constantsFor(field string) []string {
	field = bare(n.fields.Canonical(field))
	kind, _, _ := strings.Cut(field, ".")
	last := field[strings.LastIndexByte(field, '.')+1:]
	for i := range fitting {
		c := &fitting[i]
		if c.kind != "" && c.kind != kind || !slices.Contains(c.last, last) {
			continue
		}
		var out []string
		for _, name := range n.constants {
			if c.fits(name) {
				out = append(out, name)
			}
		}
		return out
	}
	return nil
}

// fit says by which prefixes the constants of some fields are known.
type fit struct {
	kind     string // of event, empty for all
	last     []string
	prefixes []string
	except   []string
}

func (c *fit) fits(name string) bool {
	has := func(p string) bool { return strings.HasPrefix(name, p) }
	return slices.ContainsFunc(c.prefixes, has) && !slices.ContainsFunc(c.except, has)
}

// fitting goes by the last word of a field's name.
var fitting = []fit{
	{"open", []string{"flags"}, []string{"O_"}, nil},
	{"unlink", []string{"flags"}, []string{"AT_"}, nil},
	{"mmap", []string{"flags"}, []string{"MAP_"}, nil},
	{"splice", []string{"pipe_entry_flag", "pipe_exit_flag"}, []string{"PIPE_"}, nil},
	{"mmap", []string{"protection"}, []string{"PROT_"}, nil},
	{"mprotect", []string{"req_protection", "vm_protection"}, []string{"PROT_", "VM_"}, nil},
	{"ptrace", []string{"request"}, []string{"PTRACE_"}, nil},
	{"signal", []string{"type"}, []string{"SIG"}, []string{"SIGNALED"}},
	{"sysctl", []string{"action"}, []string{"SYSCTL_"}, nil},
	{"bpf", []string{"cmd"}, []string{"BPF_"}, []string{"BPF_MAP_TYPE_", "BPF_PROG_TYPE_", "BPF_CGROUP_", "BPF_TRACE_", "BPF_SK_"}},
	{"bpf", []string{"type"}, []string{"BPF_MAP_TYPE_", "BPF_PROG_TYPE_"}, nil},
	{"bpf", []string{"attach_type"}, []string{"BPF_"}, []string{"BPF_MAP_", "BPF_PROG_"}},
	{"bpf", []string{"helpers"}, []string{"BPF_"}, []string{"BPF_MAP_TYPE_", "BPF_PROG_"}},
	{"prctl", []string{"option"}, []string{"PR_"}, nil},
	{"setrlimit", []string{"resource"}, []string{"RLIMIT_"}, nil},
	{"setsockopt", []string{"level"}, []string{"SOL_", "IPPROTO_"}, nil},
	{"exit", []string{"cause"}, []string{"EXITED", "COREDUMPED", "SIGNALED"}, nil},
	{"", []string{"family", "domain", "socket_family"}, []string{"AF_"}, nil},
	{"socket", []string{"type"}, []string{"SOCK_"}, nil},
	{"", []string{"socket_type"}, []string{"SOCK_"}, nil},
	{"socket", []string{"protocol"}, []string{"IPPROTO_"}, nil},
	{"", []string{"socket_protocol"}, []string{"IPPROTO_"}, nil},
	{"", []string{"l3_protocol"}, []string{"ETH_P_"}, nil},
	{"", []string{"l4_protocol"}, []string{"IP_PROTO_"}, nil},
	{"", []string{"network_direction"}, []string{"INGRESS", "EGRESS"}, nil},
	{"", []string{"mode", "rights"}, []string{"S_I"}, nil},
	{"", []string{"retval"}, []string{"E"}, []string{"ETH_", "EXITED", "EGRESS", "EUI"}},
	{"", []string{"auid"}, []string{"AUDIT_AUID_UNSET"}, nil},
	{"", []string{"cap_effective", "cap_permitted", "caps_attempted", "caps_used", "attempted", "used"}, []string{"CAP_"}, nil},
	{"", []string{"class"}, []string{"CLASS_"}, nil},
	{"", []string{"version"}, []string{"TLS_", "SSL_"}, nil},
}
