package backtest

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/ruleset"
)

// severities of problems on the wire.
const (
	severityError   = "error"
	severityWarning = "warning"
)

func timestamp(ns int64) *timestamppb.Timestamp {
	if ns == 0 {
		return nil
	}
	return timestamppb.New(time.Unix(0, ns))
}

func nanoseconds(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return t.AsTime().UnixNano()
}

// ReportMessage is what became of rules, as a server says it.
func ReportMessage(r *ruleset.Report) *clewv1.BacktestRules {
	m := &clewv1.BacktestRules{}
	for _, s := range r.Rules {
		m.Items = append(m.Items, &clewv1.BacktestRuleStatus{
			Id: s.ID, Status: string(s.Status), Reason: s.Reason, File: s.At.File, Line: int32(s.At.Line), Column: int32(s.At.Column),
		})
	}
	for _, p := range r.Problems {
		severity := severityError
		if p.Warning {
			severity = severityWarning
		}
		m.Problems = append(m.Problems, &clewv1.BacktestProblem{
			Severity: severity, Message: p.Msg, File: p.At.File, Line: int32(p.At.Line), Column: int32(p.At.Column),
			Source: p.Source, Carets: p.Carets, RuleId: p.Rule, Macro: p.Macro,
		})
	}
	return m
}

// ReportOf reads what ReportMessage wrote.
func ReportOf(m *clewv1.BacktestRules) *ruleset.Report {
	r := &ruleset.Report{}
	for _, s := range m.GetItems() {
		r.Rules = append(r.Rules, ruleset.RuleStatus{
			ID: s.Id, Status: ruleset.Status(s.Status), Reason: s.Reason, At: ruleset.Position{File: s.File, Line: int(s.Line), Column: int(s.Column)},
		})
	}
	for _, p := range m.GetProblems() {
		r.Problems = append(r.Problems, ruleset.Problem{
			Warning: p.Severity == severityWarning, Msg: p.Message, At: ruleset.Position{File: p.File, Line: int(p.Line), Column: int(p.Column)},
			Source: p.Source, Carets: p.Carets, Rule: p.RuleId, Macro: p.Macro,
		})
	}
	return r
}

func intervalMessages(list []Interval) (out []*clewv1.BacktestInterval) {
	for _, iv := range list {
		out = append(out, &clewv1.BacktestInterval{
			AgentId: iv.Agent, Kind: iv.Kind, From: timestamp(iv.From), To: timestamp(iv.To), Coverage: string(iv.Coverage), Why: iv.Why,
			RuleIds: iv.RuleIDs, Lost: int64(iv.Lost),
		})
	}
	return out
}

func intervalsOf(list []*clewv1.BacktestInterval) []Interval {
	out := make([]Interval, 0, len(list))
	for _, iv := range list {
		out = append(out, Interval{
			Agent: iv.AgentId, Kind: iv.Kind, From: nanoseconds(iv.From), To: nanoseconds(iv.To), Coverage: Coverage(iv.Coverage), Why: iv.Why,
			RuleIDs: iv.RuleIds, Lost: uint64(iv.Lost),
		})
	}
	return out
}

// Message is the result as a server says it.
func (r *Result) Message(asOf time.Time) *clewv1.BacktestResult {
	m := &clewv1.BacktestResult{
		From: timestamp(r.From), To: timestamp(r.To), AsOf: timestamppb.New(asOf), Events: int64(r.Events), Coverage: intervalMessages(r.Coverage),
		Incomplete: r.Incomplete, NsPerEvent: r.NsPerEvent, UnknownProcesses: int64(r.UnknownProcesses),
	}
	for _, h := range r.Hosts {
		m.Hosts = append(m.Hosts, &clewv1.BacktestHost{AgentId: h.Agent, Name: h.Name, Events: int64(h.Events)})
	}
	for i := range r.Rules {
		x := &r.Rules[i]
		v := &clewv1.BacktestRule{
			Id: x.ID, Status: string(x.Status), Reason: x.Reason, Collected: x.Collected, Matches: int64(x.Matches), Bound: string(x.Bound),
			Signals: int64(x.Signals), First: timestamp(x.First), Last: timestamp(x.Last), EventIds: x.Examples,
			Tried: int64(x.Tried), Cost: int64(x.Cost), Share: x.CostShare, NsPerEvent: x.NsPerEvent, Coverage: intervalMessages(x.Coverage),
		}
		for c, s := range x.Shares {
			v.Shares = append(v.Shares, &clewv1.BacktestShare{Coverage: string(c), Share: s})
		}
		slices.SortFunc(v.Shares, func(a, b *clewv1.BacktestShare) int { return strings.Compare(a.Coverage, b.Coverage) })
		for agent, n := range x.Hosts {
			v.Hosts = append(v.Hosts, &clewv1.BacktestCount{AgentId: agent, Matches: int64(n)})
		}
		slices.SortFunc(v.Hosts, func(a, b *clewv1.BacktestCount) int { return strings.Compare(a.AgentId, b.AgentId) })
		m.Items = append(m.Items, v)
	}
	return m
}

// ResultOf reads what Message wrote.
func ResultOf(m *clewv1.BacktestResult) *Result {
	r := &Result{
		Events: uint64(m.Events), From: nanoseconds(m.From), To: nanoseconds(m.To), Hosts: []Host{}, Rules: []Rule{}, Coverage: intervalsOf(m.Coverage),
		Incomplete: m.Incomplete, NsPerEvent: m.NsPerEvent, UnknownProcesses: uint64(m.UnknownProcesses),
	}
	for _, h := range m.Hosts {
		r.Hosts = append(r.Hosts, Host{Agent: h.AgentId, Name: h.Name, Events: uint64(h.Events)})
	}
	for _, v := range m.Items {
		x := Rule{
			ID: v.Id, Status: ruleset.Status(v.Status), Reason: v.Reason, Collected: v.Collected, Matches: uint64(v.Matches), Bound: Bound(v.Bound),
			Signals: uint64(v.Signals), First: nanoseconds(v.First), Last: nanoseconds(v.Last), Examples: v.EventIds,
			Tried: uint64(v.Tried), Cost: uint64(v.Cost), CostShare: v.Share, NsPerEvent: v.NsPerEvent, Coverage: intervalsOf(v.Coverage),
			Shares: map[Coverage]float64{}, Hosts: map[string]uint64{},
		}
		for _, s := range v.Shares {
			x.Shares[Coverage(s.Coverage)] = s.Share
		}
		for _, h := range v.Hosts {
			x.Hosts[h.AgentId] = uint64(h.Matches)
		}
		r.Rules = append(r.Rules, x)
	}
	return r
}
