package story

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/graph"
	"github.com/clewsec/clew/internal/server/timeline"
)

// A clause is a part of the sentence: one thing that was done, to one or more
// objects.
type clause struct {
	at      int64
	rank    int
	verb    string
	objects []*clewv1.Span
	more    int
	tail    []*clewv1.Span
}

const (
	maxClauses = 9
	maxObjects = 4
)

// sentence says what happened, in order of time. Each clause rests on events
// of the story; what no event shows is not said.
func sentence(g *graph.Result, procs map[graph.Key]*event.Process) []*clewv1.Span {
	image := func(it graph.Placed) *event.Process { return procs[graph.Key{Agent: it.Agent, Ref: it.Event.ProcID}] }
	root := rootOf(g)
	if root < 0 {
		root = firstSignal(g)
	}
	rootPath := ""
	if img := image(g.Items[root]); img != nil {
		rootPath = img.File.Path
	}
	clauses := map[string]*clause{}
	started := map[process]string{} // programs that a clause says were run
	implied := map[string]bool{}    // of these, what a download says as well
	var order []*clause
	told := map[string]bool{}       // objects of which a clause says that they ran
	connected := map[process]bool{} // who has connected somewhere
	fetcher := map[process]bool{}   // who is there to fetch files
	put := func(it graph.Placed, key, verb string, obj *clewv1.Span, tail ...*clewv1.Span) {
		c := clauses[key]
		if c == nil {
			c = &clause{at: it.Event.TimeNS, rank: graph.None, verb: verb, tail: tail}
			clauses[key] = c
			order = append(order, c)
		}
		c.rank = max(c.rank, graph.SeverityOf(it.Event))
		for _, o := range c.objects {
			if o.T == obj.T {
				return
			}
		}
		if len(c.objects) == maxObjects {
			c.more++
			return
		}
		c.objects = append(c.objects, obj)
	}

	for i, it := range g.Items {
		e := it.Event
		who := process{e.PID, e.StartNS}
		if e.Connect != nil && (e.Retval() >= 0 || e.Retval() == -115) {
			connected[who] = true
		}
		if fetches(e, image(it)) {
			fetcher[who] = true
		}
		f := graph.FileOf(e)
		obj := &clewv1.Span{T: it.Object.Label, Node: it.Object.ID}
		if f != nil {
			obj.T = shortPath(f.Path)
		}
		if r, ran := g.Ran[i]; ran {
			verb := "wrote"
			if connected[who] && fetcher[who] && !r.Scheduled {
				verb = "downloaded"
			}
			told[obj.Node] = true
			if verb == "downloaded" && started[who] != "" {
				implied[started[who]] = true
			}
			rank := graph.SeverityOf(e)
			switch {
			case r.Scheduled:
				by := &clewv1.Span{T: cmp.Or(r.By, "a scheduler"), Node: r.Proc.ID}
				put(it, "scheduled "+obj.T, verb, obj, &clewv1.Span{T: ", which "}, by, &clewv1.Span{T: " ran"})
				clauses["scheduled "+obj.T].rank = max(rank, graph.Medium)
			default:
				put(it, verb+" and ran", verb+" and ran", obj)
				c := clauses[verb+" and ran"]
				c.rank = max(c.rank, graph.Medium)
			}
			continue
		}
		if i == root || len(e.Signals) == 0 || e.Retval() < 0 && e.Retval() != -115 && e.Connect == nil {
			continue
		}
		switch {
		case e.Kind == event.KindExec:
			img := image(it)
			if img == nil || told[fileNodeOf(g, img.File.Path)] || img.File.Path == rootPath || i < root && graph.SeverityOf(e) < graph.Medium {
				continue
			}
			verb := "ran"
			if discovers(e) {
				verb = "looked around with"
			}
			name := &clewv1.Span{T: graph.Short(graph.ProgramName(img), 40), Node: it.Actor.ID}
			put(it, verb, verb, name)
			started[who] = name.T
		case e.Open != nil:
			op, changes := graph.Op(e)
			switch {
			case told[obj.Node]:
			case op == "truncate":
				put(it, "emptied", "emptied", obj)
			case changes:
				put(it, "wrote", "wrote", obj)
			case op == "read":
				put(it, "read", "read", obj)
			}
		case e.Connect != nil:
			verb := "connected to"
			if r := e.Retval(); r < 0 && r != -115 {
				verb = "tried to connect to"
			}
			put(it, verb, verb, &clewv1.Span{T: graph.Short(graph.AddrText(&e.Connect.Addr), 60), Node: it.Object.ID})
		case e.Chmod != nil:
			verb := "changed the mode of"
			if user, group := graph.SetsID(e.Chmod); user {
				verb = "set the set-user-ID bit on"
			} else if group {
				verb = "set the set-group-ID bit on"
			}
			put(it, verb, verb, obj)
		case e.Chown != nil:
			put(it, "chown", "changed the owner of", obj)
		case e.Unlink != nil, e.Rmdir != nil:
			put(it, "removed", "removed", obj)
		case e.Rename != nil:
			put(it, "renamed", "renamed", obj)
		case e.Link != nil, e.Symlink != nil:
			put(it, "linked", "made a link", obj)
		case e.Bind != nil:
			put(it, "bind", "listened on", &clewv1.Span{T: graph.Short(graph.AddrText(&e.Bind.Addr), 60), Node: it.Object.ID})
		case e.Ptrace != nil:
			did, _ := graph.PtraceVerb(e.Ptrace.Request)
			put(it, did, did, other(it))
		case e.SignalSent != nil:
			put(it, "signalled", "sent "+graph.SignalName(e.SignalSent.Type)+" to", other(it))
		case e.LoadModule != nil:
			put(it, "module", "loaded kernel module", &clewv1.Span{T: graph.Short(e.LoadModule.Name, 40), Node: it.Object.ID})
		case e.BPF != nil && e.BPF.Cmd == 5:
			put(it, "bpf", "loaded BPF program", &clewv1.Span{T: graph.Short(cmp.Or(e.BPF.ProgName, "without a name"), 40), Node: it.Object.ID})
		case e.Sysctl != nil && e.Sysctl.Action == 2:
			put(it, "sysctl", "set kernel parameter", &clewv1.Span{T: graph.Short(e.Sysctl.Name, 60), Node: it.Object.ID})
		case e.Mount != nil, e.Umount != nil:
			verb := "mounted"
			if e.Umount != nil {
				verb = "unmounted"
			}
			put(it, verb, verb, obj)
		case e.DNS != nil:
			put(it, "resolved", "looked up", &clewv1.Span{T: graph.Short(e.DNS.QuestionName, 60), Node: it.Object.ID})
		case e.IMDS != nil:
			put(it, "imds", "asked", &clewv1.Span{T: "the metadata service", Node: it.Object.ID})
		case e.Setxattr != nil, e.Removexattr != nil, e.Utimes != nil:
			put(it, "attributes", "changed the attributes of", obj)
		case e.Setuid != nil:
			user := e.Setuid.EUser
			if user == "" {
				user = "user " + strconv.FormatUint(uint64(e.Setuid.EUID), 10)
			}
			put(it, "became", "became", &clewv1.Span{T: graph.Short(user, 40), Node: it.Actor.ID})
		}
	}

	if c := clauses["ran"]; c != nil {
		c.objects = slices.DeleteFunc(c.objects, func(o *clewv1.Span) bool { return implied[o.T] })
	}
	order = slices.DeleteFunc(order, func(c *clause) bool { return len(c.objects) == 0 })
	// Too many: the least severe are left out, and the sentence says so.
	left := 0
	if len(order) > maxClauses-1 {
		slices.SortStableFunc(order, func(x, y *clause) int { return cmp.Compare(y.rank, x.rank) })
		left = len(order) - (maxClauses - 1)
		order = order[:maxClauses-1]
	}
	slices.SortStableFunc(order, func(x, y *clause) int { return cmp.Compare(x.at, y.at) })

	out := opening(g, root, procs)
	for i, c := range order {
		sep := "; "
		if i == 0 {
			sep = "; it "
		}
		out = append(out, &clewv1.Span{T: sep + c.verb + " "})
		for j, o := range c.objects {
			switch {
			case j > 0 && j == len(c.objects)-1 && c.more == 0:
				out = append(out, &clewv1.Span{T: " and "})
			case j > 0:
				out = append(out, &clewv1.Span{T: ", "})
			}
			out = append(out, o)
		}
		if c.more > 0 {
			out = append(out, &clewv1.Span{T: " and " + strconv.Itoa(c.more) + " more"})
		}
		out = append(out, c.tail...)
	}
	if left > 0 {
		out = append(out, &clewv1.Span{T: "; and more"})
	}
	return joinPlain(append(out, &clewv1.Span{T: "."}))
}

// other is the process that another one did something to.
func other(it graph.Placed) *clewv1.Span {
	label := it.Object.Label
	if t := it.Event.Target(); t != nil && label == "" {
		label = "process " + strconv.FormatUint(uint64(t.PID), 10)
	}
	return &clewv1.Span{T: graph.Short(label, 40), Node: it.Object.ID}
}

// fetches tells whether an event's actor is there to fetch files: a rule says
// so, or it is a well-known program for it.
func fetches(e *event.Event, image *event.Process) bool {
	for i := range e.Signals {
		if slices.Contains(e.Signals[i].Techniques, "T1105") {
			return true
		}
	}
	return image != nil && slices.Contains([]string{"curl", "wget", "scp", "sftp", "ftp", "rsync", "aria2c"}, graph.ProgramName(image))
}

// fileNodeOf is the node that shows a file.
func fileNodeOf(g *graph.Result, path string) string {
	for _, n := range g.Graph.Nodes {
		if n.Kind == "file" && n.Ref != nil && strings.HasSuffix(n.Ref.Id, ":"+path) {
			return n.Id
		}
	}
	return ""
}

// discovers tells whether an event's signals say that somebody looks around.
func discovers(e *event.Event) bool {
	for i := range e.Signals {
		if slices.Contains(graph.Tactics(&e.Signals[i]), "TA0007") {
			return true
		}
	}
	return false
}

// shortPath keeps the beginning and the end of a long path.
func shortPath(path string) string {
	if utf8.RuneCountInString(path) <= 36 {
		return graph.Short(path, 36)
	}
	parts := strings.Split(path, "/")
	if len(parts) < 6 {
		return graph.Short(path, 60)
	}
	return graph.Short(strings.Join(parts[:2], "/")+"/…/"+strings.Join(parts[len(parts)-2:], "/"), 60)
}

// rootOf is the exec that the story begins with: the first with a signal of
// weight; -1 when there is no exec.
func rootOf(g *graph.Result) int {
	first, rank := -1, graph.None-1
	for i, it := range g.Items {
		if it.Event.Kind != event.KindExec {
			continue
		}
		if r := min(graph.SeverityOf(it.Event), graph.Medium); r > rank {
			first, rank = i, r
		}
	}
	return first
}

func firstSignal(g *graph.Result) int {
	for i, it := range g.Items {
		if len(it.Event.Signals) > 0 {
			return i
		}
	}
	return 0
}

// opening says how it began.
func opening(g *graph.Result, at int, procs map[graph.Key]*event.Process) []*clewv1.Span {
	it := g.Items[at]
	img := procs[graph.Key{Agent: it.Agent, Ref: it.Event.ProcID}]
	if it.Event.Kind != event.KindExec || img == nil {
		return timeline.Describe(it, img)
	}
	program := &clewv1.Span{T: graph.Short(graph.ProgramName(img), 40), Node: it.Actor.ID}
	if it.Parent.Label == "" {
		return within(it, img, []*clewv1.Span{program, {T: " was started"}})
	}
	parent := &clewv1.Span{T: graph.Short(it.Parent.Label, 40), Node: it.Parent.ID}
	for _, n := range g.Graph.Nodes {
		if n.Id == g.Graph.EntryId && n.Kind == "actor" {
			return within(it, img, []*clewv1.Span{{T: n.Label, Node: n.Id}, {T: " made "}, parent, {T: " start "}, program})
		}
	}
	return within(it, img, []*clewv1.Span{parent, {T: " started "}, program})
}

// within adds the container that it was in.
func within(it graph.Placed, img *event.Process, spans []*clewv1.Span) []*clewv1.Span {
	if img.ContainerID == "" {
		return spans
	}
	spans = append(spans, &clewv1.Span{T: " in container "},
		&clewv1.Span{T: graph.ContainerName(img), Lane: graph.ContainerLaneID(it.Agent, img.ContainerID)})
	if image := graph.ContainerImage(img); image != "" {
		spans = append(spans, &clewv1.Span{T: " (" + graph.Short(image, 60) + ")"})
	}
	return spans
}

// joinPlain puts neighbouring spans that name nothing together.
func joinPlain(spans []*clewv1.Span) (out []*clewv1.Span) {
	for _, s := range spans {
		if n := len(out); n > 0 && s.Node == "" && s.Lane == "" && out[n-1].Node == "" && out[n-1].Lane == "" {
			out[n-1] = &clewv1.Span{T: out[n-1].T + s.T}
			continue
		}
		out = append(out, s)
	}
	return out
}
