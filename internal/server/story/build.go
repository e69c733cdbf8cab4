package story

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/apijson"
	"github.com/clewsec/clew/internal/server/graph"
	"github.com/clewsec/clew/internal/server/timeline"
)

// ErrNotFound says that there is no story with the id asked for.
var ErrNotFound = errors.New("no such story")

// Options say how a story is drawn.
type Options struct {
	AsOf   int64    // the present, ns since the epoch; 0: the time of the newest record
	Budget int      // nodes shown at most: 150 when 0, 20 to 500
	Open   []string // folds to open, by their expand token
}

const (
	maxEvents  = 20000 // of one story's picture
	maxKeys    = 2000  // contexts that are asked for all their events
	maxDerived = 10000 // looked at in a context with a derived key
	maxEntries = 16    // contexts of which it is asked where they came from
	before     = 10 * 1e9
	acceptedIn = 30 * 1e9 // a connection this long before a process started may have led to it
)

// Build draws a story whole. The answer depends on the fold's records, on what
// the source holds and on the options alone.
func Build(f *Fold, src Source, id string, opt Options) (*clewv1.Story, error) {
	p, err := f.Sketch(id, opt)
	if err != nil {
		return nil, err
	}
	return p.Draw(src)
}

// A Sketch is what a fold knows of a story, as of one moment. It does not
// change any more: it may be drawn while records are added to the fold.
type Sketch struct {
	opt       Options
	head      *Head
	agent     *Agent
	contexts  []*event.Context // those whose record is known
	units     []sketchUnit
	links     []event.ContextLink
	signals   []graph.Item
	lost      []event.Lost
	decisions []Triage
}

// A sketchUnit is an episode of a context with a derived key.
type sketchUnit struct {
	key         string
	first, last int64
	signals     []*event.Event
}

// Sketch returns what is known of a story. An id from before it was joined
// with others answers with the story it went into; ErrNotFound says that there
// is none.
func (f *Fold) Sketch(id string, opt Options) (*Sketch, error) {
	s := f.resolve(id)
	if s == nil {
		return nil, fmt.Errorf("story %.40q: %w", id, ErrNotFound)
	}
	if opt.AsOf == 0 {
		opt.AsOf = f.last
	}
	s.sort()
	p := &Sketch{opt: opt, head: f.headOf(s, opt.AsOf), agent: f.describe(s.agent()), signals: s.signals(), decisions: s.decisions()}
	for _, c := range s.contexts {
		if c.rec != nil {
			p.contexts = append(p.contexts, c.rec)
		}
	}
	for _, u := range s.units {
		if u.ctx.episodic() {
			continue
		}
		v := sketchUnit{key: u.ctx.id.key, first: u.first, last: u.last}
		for _, list := range u.kept {
			v.signals = append(v.signals, list...)
		}
		p.units = append(p.units, v)
	}
	for _, l := range s.links {
		p.links = append(p.links, l.rec)
	}
	if a := f.agents[s.agent()]; a != nil {
		p.lost = slices.Clone(a.lost)
	}
	return p, nil
}

// Draw makes the whole story out of the sketch and of what the source holds.
func (p *Sketch) Draw(src Source) (*clewv1.Story, error) {
	st := proto.CloneOf(p.head.Story)
	fail := func(err error) (*clewv1.Story, error) { return nil, fmt.Errorf("draw story %s: %w", st.Id, err) }

	items, truncated, err := p.events(src)
	if err != nil {
		return fail(err)
	}
	procs, err := nodesOf(src, items)
	if err != nil {
		return fail(err)
	}
	items, procs, err = p.entries(src, items, procs)
	if err != nil {
		return fail(err)
	}

	var links []graph.Link
	for i := range p.links {
		links = append(links, graph.Link{Agent: p.agent.ID, ContextLink: &p.links[i]})
	}
	contexts, whole := map[string]*event.Context{}, map[string]bool{}
	for _, c := range p.contexts {
		contexts[c.Key] = c
		whole[c.Key] = c.Episodic && !truncated
	}
	g := graph.Build(graph.Input{
		StoryID: st.Id, Version: st.Version, AsOf: p.opt.AsOf, Agents: map[string]*graph.Agent{p.agent.ID: p.agent},
		Items: items, Procs: procs, Links: links, Whole: whole, Budget: p.opt.Budget, Open: p.opt.Open,
	})
	st.Graph = g.Graph

	first, last := items[0].Event.TimeNS, items[len(items)-1].Event.TimeNS
	st.Gaps = gapsIn(p.agent.ID, p.lost, first, last)
	if truncated {
		st.Gaps = append(st.Gaps, &clewv1.Gap{LaneId: graph.LaneID(p.agent.ID), From: graph.Time(last), To: graph.Time(max(last, p.head.Last)), Reason: "limit",
			Text: "the story's contexts hold more events than are drawn; all of them can be searched"})
	}
	st.Graph.Gaps = st.Gaps
	st.Counts.Lost = 0
	for _, gap := range st.Gaps {
		st.Counts.Lost += gap.Lost
	}
	st.Recommended = recommended(g, procs)

	var decisions []timeline.Triage
	for _, t := range p.decisions {
		decisions = append(decisions, timeline.Triage{At: t.At, Actor: t.Actor, State: t.State, Verdict: t.Verdict, Assignee: t.Assignee, Comment: t.Comment})
	}
	tl := timeline.Build(timeline.Input{AsOf: p.opt.AsOf, Items: g.Items, Procs: procs, Contexts: contexts, Gaps: st.Gaps, Triage: decisions, Recommended: st.Recommended})
	st.Timeline = tl.Timeline

	st.AsOf = graph.Time(p.opt.AsOf)
	st.Signals = signalViews(g, procs)
	st.Sentence = sentence(g, procs)
	st.ScoreParts = withEntries(p.head.parts, items, tl)
	st.Counts.Events, st.Counts.Processes, st.Counts.Containers = int64(len(items)), int64(g.Processes), int64(len(g.Containers))
	st.Where.Users, st.Where.Containers = g.Users, g.Containers
	st.Active = g.Alive
	apijson.Clean(st)
	return st, nil
}

// events collects what happened in the story's contexts. A context that was
// opened once gives all its events; of one with a derived key only those of
// processes that had signals and of what they started.
func (p *Sketch) events(src Source) (items []graph.Item, truncated bool, err error) {
	agent := p.agent.ID
	add := func(list []*event.Event) {
		for _, e := range list {
			items = append(items, graph.Item{Agent: agent, Event: e})
		}
	}
	var keys []string
	from := p.head.First
	contexts := slices.Clone(p.contexts)
	slices.SortStableFunc(contexts, func(x, y *event.Context) int { return cmp.Compare(x.At, y.At) })
	for _, c := range contexts {
		if c.Episodic {
			keys = append(keys, c.Key)
			from = min(from, c.At)
		}
	}
	if len(keys) > maxKeys {
		// Those that were opened first; the signals of the others are known.
		keys, truncated = keys[:maxKeys], true
	}
	if len(keys) > 0 {
		list, more, err := src.ContextEvents(agent, keys, max(from-before, 0), latestTime, maxEvents)
		if err != nil {
			return nil, false, err
		}
		truncated = truncated || more
		add(list)
	}
	for i := range p.units {
		u := &p.units[i]
		if u.key == "" {
			continue
		}
		list, more, err := src.ContextEvents(agent, []string{u.key}, max(u.first-before, 0), min(u.last+before, latestTime), maxDerived)
		if err != nil {
			return nil, false, err
		}
		truncated = truncated || more
		if list, err = concerned(src, agent, u, list); err != nil {
			return nil, false, err
		}
		add(list)
	}
	items = append(items, p.signals...)
	items = slices.DeleteFunc(items, func(it graph.Item) bool { return it.Event.TimeNS < 0 || it.Event.TimeNS > latestTime })
	slices.SortFunc(items, graph.CompareItems)
	items = slices.CompactFunc(items, func(x, y graph.Item) bool { return graph.CompareItems(x, y) == 0 })
	return items, truncated, complete(src, agent, items)
}

// complete puts what was found out about files into the events they are of.
func complete(src Source, agent string, items []graph.Item) error {
	var refs []event.Ref
	for _, it := range items {
		if event.HasFiles(it.Event.Kind) {
			refs = append(refs, it.Event.Ref())
		}
	}
	facts, err := src.FileFacts(agent, refs)
	if err != nil || len(facts) == 0 {
		return err
	}
	for i := range items {
		for _, f := range facts[items[i].Event.Ref()] {
			items[i].Event = event.Completed(items[i].Event, f)
		}
	}
	return nil
}

type process struct {
	pid   uint32
	start uint64
}

// concerned keeps the events of processes that had signals in the episode, and
// of their descendants.
func concerned(src Source, agent string, u *sketchUnit, list []*event.Event) ([]*event.Event, error) {
	had := map[process]bool{}
	for _, e := range u.signals {
		had[process{e.PID, e.StartNS}] = true
	}
	var refs []event.Ref
	for _, e := range list {
		refs = append(refs, e.ProcID)
	}
	nodes, err := src.Nodes(agent, distinct(refs))
	if err != nil {
		return nil, err
	}
	known := map[event.Ref]bool{}
	var below func(ref event.Ref, depth int) bool
	below = func(ref event.Ref, depth int) bool {
		if v, ok := known[ref]; ok {
			return v
		}
		n := nodes[ref]
		v := n != nil && (had[process{n.PID, n.StartNS}] || depth < 256 && n.ParentID != ref && below(n.ParentID, depth+1))
		known[ref] = v
		return v
	}
	return slices.DeleteFunc(slices.Clone(list), func(e *event.Event) bool {
		return !had[process{e.PID, e.StartNS}] && !below(e.ProcID, 0)
	}), nil
}

func distinct(refs []event.Ref) []event.Ref {
	slices.SortFunc(refs, compareRefs)
	refs = slices.Compact(refs)
	return slices.DeleteFunc(refs, event.Ref.IsZero)
}

func nodesOf(src Source, items []graph.Item) (map[graph.Key]*event.Process, error) {
	refs := map[string][]event.Ref{}
	for _, it := range items {
		refs[it.Agent] = append(refs[it.Agent], it.Event.ProcID)
		if t := it.Event.Target(); t != nil {
			refs[it.Agent] = append(refs[it.Agent], t.Node)
		}
	}
	out := map[graph.Key]*event.Process{}
	for agent, list := range refs {
		nodes, err := src.Nodes(agent, distinct(list))
		if err != nil {
			return nil, err
		}
		keyed(agent, nodes, out)
	}
	return out, nil
}

// entries adds the connections that a service accepted shortly before it
// started the first process of one of the story's contexts: where the story
// came from. They belong to the service's own context.
func (p *Sketch) entries(src Source, items []graph.Item, procs map[graph.Key]*event.Process) ([]graph.Item, map[graph.Key]*event.Process, error) {
	agent := p.agent.ID
	opened := map[event.Ref]*event.Context{}
	inside := map[string]bool{} // all their events are here
	for _, c := range p.contexts {
		inside[c.Key] = c.Episodic
	}
	for _, c := range p.contexts {
		if c.ParentKey != "" && !inside[c.ParentKey] && !c.OpenedBy.IsZero() {
			opened[c.OpenedBy] = c
		}
	}
	asked := 0
	n := len(items)
	for _, it := range items[:n] {
		c := opened[it.Event.Ref()]
		if c == nil {
			continue
		}
		image := procs[graph.Key{Agent: agent, Ref: it.Event.ProcID}]
		if image == nil {
			continue
		}
		// The service is the nearest ancestor that is another process.
		var service *event.Process
		for n, depth := image, 0; n != nil && depth < 64; depth++ {
			if n.PID != image.PID || n.StartNS != image.StartNS {
				service = n
				break
			}
			n = procs[graph.Key{Agent: agent, Ref: n.ParentID}]
		}
		if service == nil {
			continue
		}
		if asked++; asked > maxEntries {
			break
		}
		list, _, err := src.ContextEvents(agent, []string{c.ParentKey}, max(it.Event.TimeNS-acceptedIn, 0), it.Event.TimeNS, maxDerived)
		if err != nil {
			return nil, nil, err
		}
		var last *event.Event
		for _, e := range list {
			if e.Accept != nil && e.PID == service.PID && e.StartNS == service.StartNS {
				last = e
			}
		}
		if last != nil {
			items = append(items, graph.Item{Agent: agent, Event: last})
		}
	}
	if len(items) == n {
		return items, procs, nil
	}
	slices.SortFunc(items, graph.CompareItems)
	items = slices.CompactFunc(items, func(x, y graph.Item) bool { return graph.CompareItems(x, y) == 0 })
	procs, err := nodesOf(src, items)
	return items, procs, err
}

// signalViews lists the signals, one for each rule that an event matched.
func signalViews(g *graph.Result, procs map[graph.Key]*event.Process) (out []*clewv1.StorySignal) {
	for _, it := range g.Items {
		e := it.Event
		if len(e.Signals) == 0 {
			continue
		}
		text := timeline.Describe(it, procs[graph.Key{Agent: it.Agent, Ref: e.ProcID}])
		var ids []string
		for _, n := range []string{it.Actor.ID, it.Object.ID} {
			if n != "" && !slices.Contains(ids, n) {
				ids = append(ids, n)
			}
		}
		sorted := slices.Clone(e.Signals)
		slices.SortStableFunc(sorted, func(x, y event.Signal) int {
			return cmp.Or(cmp.Compare(graph.SeverityRank(y.Severity), graph.SeverityRank(x.Severity)), strings.Compare(x.RuleID, y.RuleID))
		})
		for i := range sorted {
			s := &sorted[i]
			v := &clewv1.StorySignal{
				EventId: graph.EventID(it.Item), At: graph.Time(e.TimeNS), RuleId: s.RuleID, Title: cmp.Or(s.Title, s.RuleID), Type: s.Type,
				Severity: graph.SeverityName(graph.SeverityRank(s.Severity)), Techniques: graph.Techniques(s), NodeIds: ids, Text: text,
				Kind: e.Kind.String(), Policy: s.Policy, Version: s.Version, Suppressed: int64(min(s.Suppressed, math.MaxInt64)),
			}
			if len(e.ContextKeys) > 0 {
				v.ContextKey = e.ContextKeys[0]
			}
			out = append(out, v)
		}
	}
	return out
}

// withEntries tells for each part of the score which timeline entries it rests on.
func withEntries(parts []scorePart, items []graph.Item, tl *timeline.Result) (out []*clewv1.ScorePart) {
	for _, p := range parts {
		if p.points == 0 {
			continue
		}
		v := &clewv1.ScorePart{Points: int32(p.points), Text: p.text}
		for _, it := range p.items {
			i, ok := slices.BinarySearchFunc(items, it, graph.CompareItems)
			if id := tl.EntryOf[i]; ok && id != "" && !slices.Contains(v.EntryIds, id) && len(v.EntryIds) < 20 {
				v.EntryIds = append(v.EntryIds, id)
			}
		}
		out = append(out, v)
	}
	return out
}

// recommended collects what the rules say to do, and what it is to be done to.
// The worst signals' come first.
func recommended(g *graph.Result, procs map[graph.Key]*event.Process) (out []*clewv1.RecommendedAction) {
	state := map[string]string{}
	files := map[string]string{} // nodes of files, by path
	for _, n := range g.Graph.Nodes {
		state[n.Id] = n.State
		if n.Kind == "file" {
			files[n.Label] = n.Id
		}
	}
	peers := map[string][]string{} // nodes of addresses that a process node spoke to
	for _, e := range g.Graph.Edges {
		if e.Kind == "network" {
			peers[e.Source] = append(peers[e.Source], e.Target)
		}
	}
	service := ""
	if i := rootOf(g); i >= 0 {
		service = g.Items[i].Parent.ID
	}
	targets := func(id string, it graph.Placed) []string {
		file, program := "", ""
		if strings.HasPrefix(it.Object.ID, "f_") {
			file = it.Object.ID
		}
		if img := procs[graph.Key{Agent: it.Agent, Ref: it.Event.ProcID}]; img != nil {
			program = files[graph.Short(img.File.Path, 400)]
		}
		switch id {
		case "isolate_host", "collect_evidence", "isolate_container", "kill_container":
			return []string{it.Actor.Lane}
		case "kill_process", "kill_process_tree":
			if state[it.Actor.ID] == "ended" {
				return nil // nothing is left to be ended
			}
			return []string{it.Actor.ID}
		case "patch_service":
			return []string{cmp.Or(service, it.Actor.ID)}
		case "block_address":
			if it.Object.ID != "" && file == "" {
				return []string{it.Object.ID}
			}
			return peers[it.Actor.ID]
		case "remove_file", "restore_file", "inspect_program":
			return []string{cmp.Or(file, program)}
		}
		return []string{cmp.Or(it.Object.ID, it.Actor.ID)}
	}

	type rec struct {
		rank int
		*clewv1.RecommendedAction
	}
	var all []rec
	at := map[string]int{}
	for _, it := range g.Items {
		for i := range it.Event.Signals {
			s := &it.Event.Signals[i]
			for _, r := range s.Recommended {
				to := targets(r.ID, it)
				if len(to) == 0 && strings.HasPrefix(r.ID, "kill") {
					continue
				}
				label := cmp.Or(r.Label, strings.ReplaceAll(r.ID, "_", " "))
				key := r.ID + "\x00" + label
				j, ok := at[key]
				if !ok {
					j = len(all)
					at[key] = j
					all = append(all, rec{graph.SeverityRank(s.Severity), &clewv1.RecommendedAction{Id: r.ID, Label: label, Why: r.Why, Permission: permission(r.ID), Reversible: reversible(r.ID)}})
				}
				all[j].rank = max(all[j].rank, graph.SeverityRank(s.Severity))
				for _, t := range to {
					if t != "" && len(all[j].Targets) < 20 && !slices.Contains(all[j].Targets, t) {
						all[j].Targets = append(all[j].Targets, t)
					}
				}
			}
		}
	}
	slices.SortStableFunc(all, func(x, y rec) int { return cmp.Compare(y.rank, x.rank) })
	for _, r := range all[:min(len(all), 12)] {
		out = append(out, r.RecommendedAction)
	}
	return out
}

func permission(id string) string {
	for _, p := range []string{"kill", "isolate", "remove", "restore", "quarantine", "block", "release"} {
		if strings.HasPrefix(id, p) {
			return "response.execute"
		}
	}
	return ""
}

func reversible(id string) bool {
	for _, p := range []string{"isolate", "quarantine", "block", "release"} {
		if strings.HasPrefix(id, p) {
			return true
		}
	}
	return permission(id) == ""
}
