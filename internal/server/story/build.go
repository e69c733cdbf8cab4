package story

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

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
	maxDerived = 5000  // looked at in a context with a derived key
	before     = 60 * 1e9
	acceptedIn = 30 * 1e9 // a connection this long before a process started may have led to it
)

// Build draws a story whole. The answer depends on the fold's records, on what
// the source holds and on the options alone.
func Build(f *Fold, src Source, id string, opt Options) (*clewv1.Story, error) {
	s := f.resolve(id)
	if s == nil {
		return nil, fmt.Errorf("build story %.40q: %w", id, ErrNotFound)
	}
	if opt.AsOf == 0 {
		opt.AsOf = f.last
	}
	head := f.headOf(s, opt.AsOf)
	st := head.Story
	agentID := s.agent()

	items, truncated, err := s.events(src)
	if err != nil {
		return nil, fmt.Errorf("build story %s: %w", s.id, err)
	}
	procs, err := nodesOf(src, items)
	if err != nil {
		return nil, fmt.Errorf("build story %s: %w", s.id, err)
	}
	items, procs, err = s.entries(src, items, procs)
	if err != nil {
		return nil, fmt.Errorf("build story %s: %w", s.id, err)
	}

	agent := f.describe(agentID)
	var links []graph.Link
	for _, l := range s.links {
		links = append(links, graph.Link{Agent: agentID, ContextLink: &l.rec})
	}
	whole := map[string]bool{}
	for _, c := range s.contexts {
		if c.episodic() && !truncated {
			whole[c.id.key] = true
		}
	}
	g := graph.Build(graph.Input{
		StoryID: s.id, Version: st.Version, AsOf: opt.AsOf, Agents: map[string]*graph.Agent{agentID: agent},
		Items: items, Procs: procs, Links: links, Whole: whole, Budget: opt.Budget, Open: opt.Open,
	})
	st.Graph = g.Graph

	first, last := items[0].Event.TimeNS, items[len(items)-1].Event.TimeNS
	st.Gaps = f.gapsIn(agentID, first, last)
	if truncated {
		st.Gaps = append(st.Gaps, &clewv1.Gap{LaneId: graph.LaneID(agentID), From: graph.Time(last), To: graph.Time(max(last, head.Last)), Reason: "limit",
			Text: fmt.Sprintf("more than %d events: what came later is searched under events and not drawn here", maxEvents)})
	}
	st.Graph.Gaps = st.Gaps
	st.Counts.Lost = 0
	for _, gap := range st.Gaps {
		st.Counts.Lost += gap.Lost
	}
	st.Recommended = recommended(g, procs)

	contexts := map[string]*event.Context{}
	for _, c := range s.contexts {
		if c.rec != nil {
			contexts[c.id.key] = c.rec
		}
	}
	var decisions []timeline.Triage
	for _, t := range s.decisions() {
		decisions = append(decisions, timeline.Triage{At: t.At, Actor: t.Actor, State: t.State, Verdict: t.Verdict, Assignee: t.Assignee, Comment: t.Comment})
	}
	tl := timeline.Build(timeline.Input{AsOf: opt.AsOf, Items: g.Items, Procs: procs, Contexts: contexts, Gaps: st.Gaps, Triage: decisions, Recommended: st.Recommended})
	st.Timeline = tl.Timeline

	st.Signals = signalViews(g, procs)
	st.Sentence = sentence(g, procs)
	st.ScoreParts = withEntries(head.parts, items, tl)
	st.Counts.Events, st.Counts.Processes, st.Counts.Containers = int64(len(items)), int64(g.Processes), int64(len(g.Containers))
	st.Where.Users, st.Where.Containers = g.Users, g.Containers
	st.Active = g.Alive
	apijson.Clean(st)
	return st, nil
}

// events collects what happened in the story's contexts. A context that was
// opened once gives all its events; of one with a derived key only those of
// processes that had signals and of what they started.
func (s *storyState) events(src Source) (items []graph.Item, truncated bool, err error) {
	agent := s.agent()
	add := func(list []*event.Event) {
		for _, e := range list {
			items = append(items, graph.Item{Agent: agent, Event: e})
		}
	}
	var keys []string
	from := int64(math.MaxInt64)
	for _, c := range s.contexts {
		if c.episodic() {
			keys = append(keys, c.id.key)
			from = min(from, c.rec.At)
		}
	}
	for _, u := range s.units {
		from = min(from, u.first)
	}
	if len(keys) > 0 {
		list, more, err := src.ContextEvents(agent, keys, max(from-before, 0), latestTime, maxEvents)
		if err != nil {
			return nil, false, err
		}
		truncated = more
		add(list)
	}
	for _, u := range s.units {
		if u.ctx.episodic() {
			continue
		}
		list, _, err := src.ContextEvents(agent, []string{u.ctx.id.key}, max(u.first-before, 0), min(u.last+before, latestTime), maxDerived)
		if err != nil {
			return nil, false, err
		}
		if list, err = concerned(src, agent, u, list); err != nil {
			return nil, false, err
		}
		add(list)
	}
	items = append(items, s.signals()...)
	items = slices.DeleteFunc(items, func(it graph.Item) bool { return it.Event.TimeNS < 0 || it.Event.TimeNS > latestTime })
	slices.SortFunc(items, graph.CompareItems)
	items = slices.CompactFunc(items, func(x, y graph.Item) bool { return graph.CompareItems(x, y) == 0 })
	return items, truncated, nil
}

type process struct {
	pid   uint32
	start uint64
}

// concerned keeps the events of processes that had signals in the episode, and
// of their descendants.
func concerned(src Source, agent string, u *unit, list []*event.Event) ([]*event.Event, error) {
	had := map[process]bool{}
	for _, kept := range u.kept {
		for _, e := range kept {
			had[process{e.PID, e.StartNS}] = true
		}
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
func (s *storyState) entries(src Source, items []graph.Item, procs map[graph.Key]*event.Process) ([]graph.Item, map[graph.Key]*event.Process, error) {
	agent := s.agent()
	opened := map[event.Ref]*contextState{}
	for _, c := range s.contexts {
		if c.rec != nil && c.rec.ParentKey != "" && !c.rec.OpenedBy.IsZero() {
			opened[c.rec.OpenedBy] = c
		}
	}
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
		for p, depth := image, 0; p != nil && depth < 64; depth++ {
			if p.PID != image.PID || p.StartNS != image.StartNS {
				service = p
				break
			}
			p = procs[graph.Key{Agent: agent, Ref: p.ParentID}]
		}
		if service == nil {
			continue
		}
		list, _, err := src.ContextEvents(agent, []string{c.rec.ParentKey}, max(it.Event.TimeNS-acceptedIn, 0), it.Event.TimeNS, maxDerived)
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
