package live

import (
	"context"
	"math"
	"slices"
	"sync"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/store"
)

// nodeCache is how many process nodes a generation of the cache has. A node
// takes about a kilobyte.
const nodeCache = 8192

// maxDepth bounds the ancestors that are looked up: more than any lineage has.
const maxDepth = 256

// A Source answers what stories and event lists need of the store. It keeps
// process nodes that were seen lately. Its methods may be called from several
// goroutines.
type Source struct {
	store store.Store

	mu       sync.Mutex
	new, old map[nodeKey]*event.Process
}

type nodeKey struct {
	agent string
	ref   event.Ref
}

// NewSource returns a source that asks s.
func NewSource(s store.Store) *Source {
	return &Source{store: s, new: map[nodeKey]*event.Process{}}
}

// Put remembers a node that has been stored.
func (s *Source) Put(agent string, n *event.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(nodeKey{agent, n.ID}, n)
}

func (s *Source) put(k nodeKey, n *event.Process) {
	if len(s.new) >= nodeCache {
		s.old, s.new = s.new, map[nodeKey]*event.Process{}
	}
	s.new[k] = n
}

func (s *Source) get(k nodeKey) *event.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.new[k]; n != nil {
		return n
	}
	n := s.old[k]
	if n != nil {
		s.put(k, n)
	}
	return n
}

// ContextEvents returns the events of an agent whose correlation key is one of
// keys and whose time lies between fromNS and toNS, both included: the oldest
// limit of them, in order of time. truncated tells that there are more.
func (s *Source) ContextEvents(agent string, keys []string, fromNS, toNS int64, limit int) (events []*event.Event, truncated bool, err error) {
	// keys may be more than one statement takes; then parts are merged.
	for part := range slices.Chunk(keys, 500) {
		q := store.Query{Agent: agent, Correlation: part, From: fromNS}
		if toNS < math.MaxInt64 {
			q.To = toNS + 1
		}
		for n := 0; n <= limit; {
			q.Limit = min(limit+1-n, store.MaxLimit)
			page, err := s.store.Search(context.Background(), q)
			if err != nil {
				return nil, false, err
			}
			for _, f := range page.Items {
				events = append(events, f.Event)
			}
			n += len(page.Items)
			if q.After = page.Next; q.After == "" {
				break
			}
		}
	}
	slices.SortFunc(events, func(a, b *event.Event) int {
		switch {
		case a.TimeNS != b.TimeNS:
			return int(max(-1, min(1, a.TimeNS-b.TimeNS)))
		case a.Run != b.Run && a.Run < b.Run, a.Run == b.Run && a.Seq < b.Seq:
			return -1
		}
		return 1
	})
	if len(events) > limit {
		return events[:limit], true, nil
	}
	return events, false, nil
}

// FileFacts returns what was found out about files of an agent's events.
func (s *Source) FileFacts(agent string, refs []event.Ref) (map[event.Ref][]*event.FileFacts, error) {
	return s.store.FileFacts(context.Background(), agent, refs)
}

// Nodes returns process images by reference, with all their ancestors that are
// stored. What is not stored is left out. The images are not to be changed.
func (s *Source) Nodes(agent string, refs []event.Ref) (map[event.Ref]*event.Process, error) {
	out := map[event.Ref]*event.Process{}
	level := refs
	for range maxDepth {
		var missing []event.Ref
		var next []event.Ref
		asked := map[event.Ref]bool{}
		add := func(n *event.Process) {
			out[n.ID] = n
			if p := n.ParentID; !p.IsZero() && out[p] == nil {
				next = append(next, p)
			}
		}
		for _, r := range level {
			if r.IsZero() || out[r] != nil || asked[r] {
				continue
			}
			asked[r] = true
			if n := s.get(nodeKey{agent, r}); n != nil {
				add(n)
			} else {
				missing = append(missing, r)
			}
		}
		if len(missing) > 0 {
			got, err := s.store.Nodes(context.Background(), agent, missing)
			if err != nil {
				return nil, err
			}
			for _, n := range got {
				s.Put(agent, n)
				add(n)
			}
		}
		if len(next) == 0 {
			break
		}
		level = next
	}
	return out, nil
}
