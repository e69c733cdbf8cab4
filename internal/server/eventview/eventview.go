// Package eventview shows stored events as the API does: a map of the field
// paths that rules use to values.
package eventview

import (
	"net/netip"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/apijson"
	"github.com/clewsec/clew/internal/server/graph"
	"github.com/clewsec/clew/internal/server/timeline"
	"github.com/clewsec/clew/internal/store"
)

// Lineage answers which process nodes, with their ancestors, refs name.
type Lineage interface {
	Nodes(agent string, refs []event.Ref) (map[event.Ref]*event.Process, error)
	// FileFacts returns what was found out about files of events.
	FileFacts(agent string, refs []event.Ref) (map[event.Ref][]*event.FileFacts, error)
}

// maxExact is the largest whole number that every reader of JSON keeps as it
// is; larger ones are written as strings.
const maxExact = 1 << 53

// Views turns stored events into what the API shows. host gives the name of an
// agent's host.
func Views(found []store.Found, lineage Lineage, host func(agent string) string) ([]*clewv1.EventView, error) {
	refs := map[string][]event.Ref{}
	ofFiles := map[string][]event.Ref{}
	for _, f := range found {
		if event.HasFiles(f.Event.Kind) {
			ofFiles[f.Agent] = append(ofFiles[f.Agent], f.Event.Ref())
		}
		refs[f.Agent] = append(refs[f.Agent], f.Event.ProcID)
		if t := f.Event.Target(); t != nil && !t.Node.IsZero() {
			refs[f.Agent] = append(refs[f.Agent], t.Node)
		}
	}
	nodes := map[string]map[event.Ref]*event.Process{}
	for agent, r := range refs {
		n, err := lineage.Nodes(agent, r)
		if err != nil {
			return nil, err
		}
		nodes[agent] = n
	}
	facts := map[string]map[event.Ref][]*event.FileFacts{}
	for agent, r := range ofFiles {
		x, err := lineage.FileFacts(agent, r)
		if err != nil {
			return nil, err
		}
		facts[agent] = x
	}
	out := make([]*clewv1.EventView, len(found))
	for i, f := range found {
		for _, x := range facts[f.Agent][f.Event.Ref()] {
			f.Event = event.Completed(f.Event, x)
		}
		n := nodes[f.Agent]
		proc := n[f.Event.ProcID]
		var parent *event.Process
		if proc != nil {
			parent = parentOf(proc, n)
		}
		if t := f.Event.Target(); t != nil {
			t.Proc = n[t.Node]
		}
		out[i] = View(f.Agent, host(f.Agent), f.Event, proc, parent)
	}
	return out, nil
}

// parentOf finds the process that started proc: the last image of another
// process among its ancestors.
func parentOf(proc *event.Process, nodes map[event.Ref]*event.Process) *event.Process {
	p := nodes[proc.ParentID]
	for range len(nodes) {
		if p == nil || p.PID != proc.PID || p.StartNS != proc.StartNS {
			return p
		}
		p = nodes[p.ParentID]
	}
	return nil
}

// View shows one event. proc is its process and parent the one that started
// it; both may be nil. Fields are named as rules name them; what is absent or
// zero is left out.
func View(agent, host string, e *event.Event, proc, parent *event.Process) *clewv1.EventView {
	v := &clewv1.EventView{
		Id: event.EventID(graph.AgentBytes(agent), e.Ref()), At: graph.Time(e.TimeNS), Kind: e.Kind.String(), Host: host,
		Fields: &structpb.Struct{Fields: map[string]*structpb.Value{}},
	}
	worst := graph.None
	for i := range e.Signals {
		v.RuleIds = append(v.RuleIds, e.Signals[i].RuleID)
		worst = max(worst, graph.SeverityRank(e.Signals[i].Severity))
	}
	if len(e.Signals) > 0 {
		v.Severity = graph.SeverityName(worst)
	}
	if len(e.ContextKeys) > 0 {
		v.ContextKey = e.ContextKeys[0]
	}
	v.Text = words(agent, e, proc, parent)
	f := fields(v.Fields.Fields)
	if proc != nil {
		collect(f, "process.", event.ProcessFields, proc)
	}
	for _, r := range event.ProcessRefs {
		if r.Kind != e.Kind {
			continue
		}
		of := proc
		if r.Context {
			of = r.Get(e)
		}
		if of != nil {
			collect(f, r.Path+".", event.ProcessFields, of)
		}
	}
	if parent != nil {
		collect(f, "process.parent.", event.ProcessFields, parent)
	}
	f.text("process.correlation_key", v.ContextKey)
	for i := range event.EventFields {
		if g := &event.EventFields[i]; g.Kind == e.Kind {
			put(f, g.Name, g, e)
		}
	}
	for _, r := range event.FileRefs {
		if r.Kind == e.Kind {
			f.file(r.Path+".", r.Get(e))
		}
	}
	for _, r := range event.AddressRefs {
		if r.Kind == e.Kind {
			collect(f, r.Path+".", event.AddressFields, r.Get(e))
		}
	}
	for _, r := range event.HeadersRefs {
		if r.Kind == e.Kind {
			collect(f, r.Path+".", event.HeadersFields, r.Get(e))
		}
	}
	for _, r := range event.FlowRefs {
		if r.Kind == e.Kind {
			f.flows(r.Path, *r.Get(e))
		}
	}
	apijson.Clean(v)
	return v
}

// words says in a sentence what the event is.
func words(agent string, e *event.Event, proc, parent *event.Process) []*clewv1.Span {
	p := graph.Placed{Item: graph.Item{Agent: agent, Event: e}}
	if proc != nil {
		p.Actor.Label = graph.ProgramName(proc)
		if e.Kind == event.KindExec {
			p.Actor.Label = graph.Short(proc.CommandLine(), 200)
		}
	}
	if parent != nil {
		p.Parent.Label = graph.ProgramName(parent)
	}
	return timeline.Describe(p, proc)
}

type fields map[string]*structpb.Value

func (f fields) text(name, s string) {
	if s != "" {
		f[name] = structpb.NewStringValue(clean(s))
	}
}

// file shows a file, with what was found out about it after the event.
func (f fields) file(prefix string, x *event.File) {
	collect(f, prefix, event.FileFields, x)
	f.text(prefix+"hash_state", x.HashState)
	f.text(prefix+"diff", x.Diff)
	if b := x.Before; b != nil {
		f[prefix+"before.mode"] = number(int64(b.Mode))
		f[prefix+"before.uid"] = number(int64(b.UID))
		f[prefix+"before.gid"] = number(int64(b.GID))
		f[prefix+"before.size"] = number(b.Size)
		f[prefix+"before.inode"] = number(int64(b.Inode))
		if b.ModificationTime != 0 {
			f[prefix+"before.modification_time"] = number(b.ModificationTime)
		}
		put(f, prefix+"before.hashes", &event.Getter[event.FileState]{Type: event.TypeStrings, Strs: func(s *event.FileState) []string { return s.Hashes }}, b)
	}
}

// clean makes a text valid UTF-8; the bytes of file names and arguments are
// the observed host's.
func clean(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	v := &clewv1.Span{T: s}
	apijson.Clean(v)
	return v.T
}

// flows shows a list of flows, each as the fields below the list's path.
func (f fields) flows(path string, flows []event.Flow) {
	l := &structpb.ListValue{}
	for i := range flows {
		one := fields{}
		collect(one, "", event.FlowFields, &flows[i])
		l.Values = append(l.Values, structpb.NewStructValue(&structpb.Struct{Fields: one}))
	}
	if len(l.Values) > 0 {
		f[path] = structpb.NewListValue(l)
	}
}

func collect[T any](f fields, prefix string, getters []event.Getter[T], x *T) {
	for i := range getters {
		put(f, prefix+getters[i].Name, &getters[i], x)
	}
}

func put[T any](f fields, name string, g *event.Getter[T], x *T) {
	switch g.Type {
	case event.TypeBool:
		if g.Bool(x) {
			f[name] = structpb.NewBoolValue(true)
		}
	case event.TypeInt:
		if n := g.Int(x); n != 0 {
			f[name] = number(n)
		}
	case event.TypeInts:
		if list := g.Ints(x); len(list) > 0 {
			l := &structpb.ListValue{}
			for _, n := range list {
				l.Values = append(l.Values, number(n))
			}
			f[name] = structpb.NewListValue(l)
		}
	case event.TypeString:
		f.text(name, g.Str(x))
	case event.TypeStrings:
		if list := g.Strs(x); len(list) > 0 {
			l := &structpb.ListValue{}
			for _, s := range list {
				l.Values = append(l.Values, structpb.NewStringValue(clean(s)))
			}
			f[name] = structpb.NewListValue(l)
		}
	case event.TypeIP:
		if ip := g.IP(x); ip != (netip.Addr{}) {
			f[name] = structpb.NewStringValue(ip.String())
		}
	}
}

func number(n int64) *structpb.Value {
	if n > maxExact || n < -maxExact {
		return structpb.NewStringValue(strconv.FormatInt(n, 10))
	}
	return structpb.NewNumberValue(float64(n))
}
