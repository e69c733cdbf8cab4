package story

import (
	"cmp"
	"maps"
	"slices"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/server/graph"
)

// A Source answers what a story's picture needs beside the fold.
type Source interface {
	// ContextEvents returns the events of an agent whose correlation key is one
	// of keys and whose time lies between fromNS and toNS, both included: the
	// oldest limit of them, in order of time. truncated tells that there are more.
	ContextEvents(agent string, keys []string, fromNS, toNS int64, limit int) (events []*event.Event, truncated bool, err error)
	// Nodes returns process images by reference, with all their ancestors that
	// are stored. What is not stored is left out.
	Nodes(agent string, refs []event.Ref) (map[event.Ref]*event.Process, error)
	// FileFacts returns what was found out about files of events. An event
	// without is left out.
	FileFacts(agent string, refs []event.Ref) (map[event.Ref][]*event.FileFacts, error)
}

// Memory is a Source that holds all records it was given, for replay and
// tests. It is not safe for concurrent use.
type Memory struct {
	agents map[string]*memoryAgent
}

type memoryAgent struct {
	byKey  map[string][]*event.Event
	seen   map[event.Ref]bool
	nodes  map[event.Ref]*event.Process
	facts  map[event.Ref]map[string]*event.FileFacts // by field
	sorted bool
}

// NewMemory returns a source without records.
func NewMemory() *Memory { return &Memory{agents: map[string]*memoryAgent{}} }

// Add takes a record in. It copies what the process table goes on changing.
func (m *Memory) Add(agent string, rec *event.SpoolRecord) {
	a := m.agents[agent]
	if a == nil {
		a = &memoryAgent{byKey: map[string][]*event.Event{}, seen: map[event.Ref]bool{}, nodes: map[event.Ref]*event.Process{}, facts: map[event.Ref]map[string]*event.FileFacts{}}
		m.agents[agent] = a
	}
	switch {
	case rec.ProcessNode != nil:
		n := *rec.ProcessNode
		n.Parent, n.Contexts = nil, nil
		a.nodes[n.ID] = &n
	case rec.FileFacts != nil:
		f := rec.FileFacts
		if a.facts[f.Event] == nil {
			a.facts[f.Event] = map[string]*event.FileFacts{}
		}
		a.facts[f.Event][f.Field] = f
	case rec.Event != nil:
		e := *rec.Event
		if len(e.ContextKeys) == 0 || a.seen[e.Ref()] {
			return
		}
		e.Proc, e.Contexts, e.Host = nil, nil, nil
		a.seen[e.Ref()] = true
		a.byKey[e.ContextKeys[0]] = append(a.byKey[e.ContextKeys[0]], &e)
		a.sorted = false
	}
}

// ContextEvents implements Source.
func (m *Memory) ContextEvents(agent string, keys []string, fromNS, toNS int64, limit int) ([]*event.Event, bool, error) {
	a := m.agents[agent]
	if a == nil {
		return nil, false, nil
	}
	if !a.sorted {
		for _, list := range a.byKey {
			slices.SortFunc(list, compareEvents)
		}
		a.sorted = true
	}
	var out []*event.Event
	for _, k := range keys {
		list := a.byKey[k]
		i, _ := slices.BinarySearchFunc(list, fromNS, func(e *event.Event, at int64) int { return cmp.Compare(e.TimeNS, at) })
		for ; i < len(list) && list[i].TimeNS <= toNS; i++ {
			out = append(out, list[i])
		}
	}
	slices.SortFunc(out, compareEvents)
	if len(out) > limit {
		return out[:limit], true, nil
	}
	return out, false, nil
}

// Nodes implements Source.
func (m *Memory) Nodes(agent string, refs []event.Ref) (map[event.Ref]*event.Process, error) {
	out := map[event.Ref]*event.Process{}
	a := m.agents[agent]
	if a == nil {
		return out, nil
	}
	for _, ref := range refs {
		for !ref.IsZero() && out[ref] == nil {
			n := a.nodes[ref]
			if n == nil {
				break
			}
			out[ref] = n
			ref = n.ParentID
		}
	}
	return out, nil
}

// FileFacts implements Source.
func (m *Memory) FileFacts(agent string, refs []event.Ref) (map[event.Ref][]*event.FileFacts, error) {
	out := map[event.Ref][]*event.FileFacts{}
	a := m.agents[agent]
	if a == nil {
		return out, nil
	}
	for _, ref := range refs {
		if out[ref] != nil {
			continue
		}
		for _, field := range slices.Sorted(maps.Keys(a.facts[ref])) {
			out[ref] = append(out[ref], a.facts[ref][field])
		}
	}
	return out, nil
}

// keyed gives the nodes of an agent the keys that a graph wants.
func keyed(agent string, nodes map[event.Ref]*event.Process, into map[graph.Key]*event.Process) {
	for ref, n := range nodes {
		into[graph.Key{Agent: agent, Ref: ref}] = n
	}
}
