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
	for i := range fitting {
		f := &fitting[i]
		if f.kind != "" && f.kind != kind || !slices.ContainsFunc(f.ends, func(e string) bool { return strings.HasSuffix(field, "."+e) }) {
			continue
		}
		var out []string
		for _, name := range n.constants {
			if f.fits(name) {
				out = append(out, name)
			}
		}
		return out
	}
	return nil
}

// fit says which constants some fields are compared with: those that begin
// with a prefix, or those of a list.
type fit struct {
	kind     string // of event, empty for all
	ends     []string
	prefixes []string
	// except are prefixes, too.
	except []string
	names  []string
}

func (f *fit) fits(name string) bool {
	// A prefix by itself is another name: SIG is a kind of DNS record.
	has := func(p string) bool { return strings.HasPrefix(name, p) }
	return slices.Contains(f.names, name) || slices.ContainsFunc(f.prefixes, has) && !slices.Contains(f.prefixes, name) && !slices.ContainsFunc(f.except, has)
}

// signals are what processes are sent.
var signals = fit{kind: "signal", ends: []string{"type"}, prefixes: []string{"SIG"}, except: []string{"SIGNALED"}}

// fitting goes by the end of a field's name; the first that fits counts.
var fitting = []fit{
	signals,
	{kind: "open", ends: []string{"flags"}, prefixes: []string{"O_"}},
	{kind: "unlink", ends: []string{"flags"}, prefixes: []string{"AT_"}},
	{kind: "mmap", ends: []string{"flags"}, prefixes: []string{"MAP_"}},
	{kind: "unshare", ends: []string{"flags"}, prefixes: []string{"CLONE_"}},
	{kind: "splice", ends: []string{"pipe_entry_flag", "pipe_exit_flag"}, prefixes: []string{"PIPE_"}},
	{ends: []string{"req_protection", "mmap.protection"}, prefixes: []string{"PROT_"}},
	{ends: []string{"vm_protection"}, prefixes: []string{"VM_"}},
	{kind: "ptrace", ends: []string{"request"}, prefixes: []string{"PTRACE_"}},
	{kind: "sysctl", ends: []string{"action"}, prefixes: []string{"SYSCTL_"}},
	{ends: []string{"map.type"}, prefixes: []string{"BPF_MAP_TYPE_"}},
	{ends: []string{"prog.type"}, prefixes: []string{"BPF_PROG_TYPE_"}},
	{kind: "bpf", ends: []string{"cmd", "attach_type", "helpers"}, prefixes: []string{"BPF_"}, except: []string{"BPF_MAP_TYPE_", "BPF_PROG_TYPE_"}},
	{kind: "prctl", ends: []string{"option"}, prefixes: []string{"PR_"}},
	{kind: "setrlimit", ends: []string{"resource"}, prefixes: []string{"RLIMIT_"}},
	{kind: "setsockopt", ends: []string{"level"}, prefixes: []string{"SOL_", "IPPROTO_"}},
	{kind: "setsockopt", ends: []string{"optname"}, prefixes: []string{"SO_", "IP_", "IPV6_", "TCP_", "MCAST_"}, except: []string{"IP_PROTO_"}},
	{kind: "exit", ends: []string{"exit.cause"}, names: []string{"EXITED", "COREDUMPED", "SIGNALED"}},
	{ends: []string{"family", "domain"}, prefixes: []string{"AF_"}},
	{ends: []string{"socket.type", "socket_type"}, prefixes: []string{"SOCK_"}},
	{ends: []string{"l3_protocol"}, prefixes: []string{"ETH_P_"}},
	{ends: []string{"l4_protocol"}, prefixes: []string{"IP_PROTO_"}},
	{ends: []string{"protocol"}, prefixes: []string{"IPPROTO_"}},
	{ends: []string{"network_direction"}, names: []string{"INGRESS", "EGRESS"}},
	{ends: []string{"mode", "rights"}, prefixes: []string{"S_I"}},
	{ends: []string{"retval"}, prefixes: []string{"E"}, except: []string{"ETH_", "EXITED", "EGRESS", "EUI", "EID"}},
	{ends: []string{"auid"}, names: []string{"AUDIT_AUID_UNSET"}},
	{ends: []string{"cap_effective", "cap_permitted", "caps_attempted", "caps_used", "attempted", "used"}, prefixes: []string{"CAP_"}},
	{ends: []string{"question.class"}, prefixes: []string{"CLASS_"}},
	{ends: []string{"question.type"}, names: []string{
		"A", "AAAA", "ANY", "AXFR", "CAA", "CNAME", "DNSKEY", "DS", "HINFO", "HTTPS", "IXFR", "MX", "NAPTR", "NS", "NULL", "PTR", "RRSIG",
		"SOA", "SPF", "SRV", "SVCB", "TLSA", "TXT",
	}},
	{ends: []string{"response.code"}, names: []string{
		"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE",
	}},
	{ends: []string{"tls.version"}, prefixes: []string{"TLS_", "SSL_"}},
	{ends: []string{"ssh_auth_method"}, prefixes: []string{"SSH_AUTH_METHOD_"}},
}
