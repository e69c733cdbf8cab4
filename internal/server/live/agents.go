// Package live holds what the server knows at this moment: which agents are
// connected and how they are, the stories folded so far, and who watches.
package live

import (
	"cmp"
	"slices"
	"sync"
	"time"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

// An Agent is how an agent is, as far as the server knows.
type Agent struct {
	Hello     *clewv1.Hello  // as it said last; not to be changed
	Health    *clewv1.Health // nil before the first; not to be changed
	Connected int            // streams it has open
	LastSeen  time.Time
}

// Agents are the agents that have been here since the server began, and those
// it knew before. Its methods may be called from several goroutines.
type Agents struct {
	now func() time.Time

	mu   sync.Mutex
	byID map[string]*Agent
}

// NewAgents returns an empty set.
func NewAgents(now func() time.Time) *Agents {
	return &Agents{now: now, byID: map[string]*Agent{}}
}

// Known adds an agent that was here before the server began.
func (a *Agents) Known(h *clewv1.Hello, lastSeen time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byID[h.AgentId] == nil {
		a.byID[h.AgentId] = &Agent{Hello: h, LastSeen: lastSeen}
	}
}

// Connect notes that an agent has come; the function it returns notes that it
// has gone.
func (a *Agents) Connect(h *clewv1.Hello) (gone func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.byID[h.AgentId]
	if s == nil {
		s = &Agent{}
		a.byID[h.AgentId] = s
	}
	if s.Hello == nil || s.Hello.Run != h.Run {
		s.Health = nil
	}
	s.Hello, s.LastSeen = h, a.now()
	s.Connected++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		s.Connected--
		s.LastSeen = a.now()
	}
}

// Seen notes a sign of life, and how the agent says it is when h is not nil.
func (a *Agents) Seen(id string, h *clewv1.Health) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.byID[id]
	if s == nil {
		return
	}
	s.LastSeen = a.now()
	if h == nil {
		return
	}
	// What became of the rules is said once in a session.
	if old := s.Health; old != nil && len(h.Rules) == 0 {
		h.Rules = old.Rules
	}
	// Its numbers come less often.
	if old := s.Health; old != nil && len(h.Metrics) == 0 {
		h.Metrics = old.Metrics
	}
	s.Health = h
}

// List returns the agents by id.
func (a *Agents) List() []Agent {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Agent, 0, len(a.byID))
	for _, s := range a.byID {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(x, y Agent) int { return cmp.Compare(x.Hello.AgentId, y.Hello.AgentId) })
	return out
}

// Host is the name of an agent's host, its id when the name is not known.
func (a *Agents) Host(id string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.byID[id]; s != nil && s.Hello.Hostname != "" {
		return s.Hello.Hostname
	}
	return id
}
