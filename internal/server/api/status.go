package api

import (
	"cmp"
	"context"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clewsec/clew/internal/event"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/live"
	"github.com/clewsec/clew/internal/store"
)

// silentAfter is how long a connected agent may say nothing: several times the
// interval in which it tells how it is.
const silentAfter = 15 * time.Second

// What an agent can be.
const (
	agentOK     = "ok"
	agentSilent = "silent"
	agentDown   = "down"
)

// recording tells whether what is shown comes from a recording: from the
// agents that are connected, or, when there are none, from the last one that
// was.
func (a *API) recording() bool {
	var last live.Agent
	connected, recorded := 0, 0
	for _, g := range a.cfg.Agents.List() {
		if g.Connected > 0 {
			connected++
			if g.Hello.Recording {
				recorded++
			}
		}
		if last.Hello == nil || g.LastSeen.After(last.LastSeen) {
			last = g
		}
	}
	if connected > 0 {
		return recorded == connected
	}
	return last.Hello != nil && last.Hello.Recording
}

// GetStatus implements clewv1connect.FleetServiceHandler.
func (a *API) GetStatus(ctx context.Context, _ *connect.Request[clewv1.GetStatusRequest]) (*connect.Response[clewv1.GetStatusResponse], error) {
	runs, err := a.cfg.Store.Runs(ctx)
	if err != nil {
		return nil, internalError(err)
	}
	stats, err := a.cfg.Store.Stats(ctx)
	if err != nil {
		return nil, internalError(err)
	}
	byRun := map[string]*store.Run{}
	for i := range runs {
		byRun[runID(runs[i].Agent, runs[i].Run)] = &runs[i]
	}
	now := a.cfg.Now()
	resp := &clewv1.GetStatusResponse{
		Version: a.cfg.Version, AsOf: timestamppb.New(now), Recording: a.recording(),
		Server: &clewv1.ServerStatus{
			Pid: int32(a.cfg.PID), Uid: a.cfg.UID, StartedAt: timestamppb.New(a.cfg.StartedAt), Listen: a.cfg.Listen,
			Events: stats.Events, Stories: int64(a.cfg.Stories.Len()), StoreBytes: stats.Bytes,
		},
	}
	var reasons []string
	if err := a.cfg.Trouble(); errors.Is(err, store.ErrFull) {
		reasons = append(reasons, "nothing more can be stored: the disk is full")
	} else if err != nil {
		reasons = append(reasons, "nothing more can be stored: "+err.Error())
	}
	good := 0
	for _, g := range a.cfg.Agents.List() {
		s := agentStatus(&g, byRun[runID(g.Hello.AgentId, g.Hello.Run)], now)
		resp.Agents = append(resp.Agents, s)
		if g.Connected == 0 {
			continue
		}
		if why := notGood(s); why != "" {
			reasons = append(reasons, s.Host+": "+why)
		} else {
			good++
		}
	}
	slices.SortStableFunc(resp.Agents, func(x, y *clewv1.AgentStatus) int { return cmp.Compare(rank(x.Status), rank(y.Status)) })
	resp.Ok = good > 0 && len(reasons) == 0
	switch {
	case len(reasons) > 0:
		resp.Reason = strings.Join(reasons, "; ")
	case good == 0 && len(resp.Agents) == 0:
		resp.Reason = "no agent has been here yet"
	case good == 0:
		resp.Reason = "no agent is connected"
	}
	return connect.NewResponse(resp), nil
}

func rank(status string) int { return slices.Index([]string{agentOK, agentSilent, agentDown}, status) }

func runID(agent string, run uint64) string { return fmt.Sprintf("%s/%016x", agent, run) }

// agentStatus says how an agent is. run is what is stored of its present run,
// nil when that is nothing.
func agentStatus(g *live.Agent, run *store.Run, now time.Time) *clewv1.AgentStatus {
	h := g.Hello
	s := &clewv1.AgentStatus{
		Id: h.AgentId, Host: cmp.Or(h.Hostname, h.AgentId), Pid: h.Pid, Mode: h.Mode, Kernel: h.Kernel, Version: h.Version,
		LastSeen: timestamppb.New(g.LastSeen), Run: fmt.Sprintf("%016x", h.Run), Recording: h.Recording, Reason: h.Reason, Status: agentOK,
	}
	switch {
	case g.Connected == 0:
		s.Status = agentDown
	case now.Sub(g.LastSeen) > silentAfter:
		s.Status = agentSilent
	}
	if run != nil {
		if run.Start != nil && run.Start.Mode != "" && !h.Recording {
			s.Mode = run.Start.Mode // what it found out; a recording has that of its host
		}
		if run.CanaryAt != 0 {
			s.CanaryAt = timestamp(run.CanaryAt)
		}
		s.Lost = int64(min(run.Lost, 1<<62))
	}
	if p := g.Health; p != nil {
		s.Lost = max(s.Lost, int64(min(p.Lost, 1<<62)))
		s.SpoolRecords = int64(min(p.SpoolRecords, 1<<62))
		s.RulesLoaded = p.RulesLoaded
		for _, r := range p.Rules {
			if r.Reason != "" {
				s.RuleProblems = append(s.RuleProblems, &clewv1.RuleProblem{Id: r.Id, Status: r.Status, Reason: r.Reason})
			}
		}
		// Everything was played, and nothing of it waits to be stored.
		s.Done = p.Done && p.SpoolRecords == 0 && run != nil
	}
	return s
}

// notGood says why a connected agent does not count as good; empty when it
// does.
func notGood(s *clewv1.AgentStatus) string {
	switch {
	case s.Status != agentOK:
		return "the agent is " + s.Status
	case s.Recording && !s.Done:
		return "the recording has not been stored to its end yet"
	case !s.Recording && s.Mode == "none":
		return cmp.Or(s.Reason, "the agent runs without a sensor")
	case !s.Recording && s.CanaryAt == nil:
		return "no canary has gone from the kernel to the store yet"
	}
	return ""
}

// ListRules implements clewv1connect.RuleServiceHandler: the rules that
// connected agents say they run, each once.
func (a *API) ListRules(context.Context, *connect.Request[clewv1.ListRulesRequest]) (*connect.Response[clewv1.ListRulesResponse], error) {
	resp := &clewv1.ListRulesResponse{}
	type key struct{ id, expression, status string }
	seen := map[key]bool{}
	for _, g := range a.cfg.Agents.List() {
		if g.Connected == 0 || g.Health == nil {
			continue
		}
		for _, r := range g.Health.Rules {
			k := key{r.Id, r.Expression, r.Status}
			if seen[k] {
				continue
			}
			seen[k] = true
			resp.Items = append(resp.Items, &clewv1.RuleView{
				Id: r.Id, Title: r.Title, Type: r.Type, Severity: r.Severity, Expression: r.Expression, Policy: r.Policy, Status: r.Status, Reason: r.Reason,
			})
		}
	}
	slices.SortStableFunc(resp.Items, func(x, y *clewv1.RuleView) int {
		return cmp.Or(cmp.Compare(x.Policy, y.Policy), cmp.Compare(x.Id, y.Id))
	})
	return connect.NewResponse(resp), nil
}

var base32hex = base32.HexEncoding.WithPadding(base32.NoPadding)

// parseEventID reads an event's id.
func parseEventID(id string) (store.EventID, bool) {
	text, ok := strings.CutPrefix(id, "ev_")
	if !ok {
		return store.EventID{}, false
	}
	b, err := base32hex.DecodeString(strings.ToUpper(text))
	if err != nil || len(b) != 32 {
		return store.EventID{}, false
	}
	return store.EventID{
		Agent: uuid.UUID(b[:16]).String(),
		Ref:   event.Ref{Run: binary.BigEndian.Uint64(b[16:24]), Seq: binary.BigEndian.Uint64(b[24:])},
	}, true
}
