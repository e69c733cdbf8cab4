package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/kfilter"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/ruleset"
)

// rules is a compiled rule set and what follows from it.
type rules struct {
	pipeline pipeline.Config
	plan     kfilter.Plan
	states   []*clewv1.RuleState // never changed
	loaded   int32
	named    map[string]bool // files that rules watch by their full path
	watched  []string        // files whose changes rules are about, as globs
}

// logLevels are the levels of the log action.
var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// loadRules compiles the shipped policies and those at paths. A rule that
// cannot be loaded is reported and leaves the others alone; a file that cannot
// be read as a policy is an error, because nobody knows which rules are
// missing then.
func loadRules(facts ruleset.Facts, paths []string, log *slog.Logger) (*rules, error) {
	set, report, err := policies.Load(facts, paths...)
	if err != nil {
		return nil, err
	}
	return useRules(set, report, log)
}

// loadOwnRules is loadRules without the shipped policies.
func loadOwnRules(facts ruleset.Facts, paths []string, log *slog.Logger) (*rules, error) {
	files, err := policies.Read(paths...)
	if err != nil {
		return nil, err
	}
	set, report, err := policies.Compile(facts, files)
	if err != nil {
		return nil, err
	}
	return useRules(set, report, log)
}

// useRules makes what an engine needs of a compiled set.
func useRules(set *ruleset.Set, report *ruleset.Report, log *slog.Logger) (*rules, error) {
	var unreadable []error
	for _, p := range report.Unreadable() {
		unreadable = append(unreadable, p)
	}
	for _, p := range report.Problems {
		switch {
		case p.Warning:
			log.Debug("policy", "warning", p.Error())
		case p.Macro != "":
			log.Warn("macro cannot be loaded", "macro", p.Macro, "at", p.At.String(), "reason", p.Msg)
		}
	}
	if err := errors.Join(unreadable...); err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	r := &rules{plan: kfilter.Compose(kfilter.Baseline(), ruleset.DerivePlan(set)), watched: set.WatchedPaths()}
	var err error
	if r.pipeline, err = pipeline.Standard(set); err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	r.pipeline.Effect = func(x ruleset.Effect) {
		if x.Log != nil {
			log.Log(context.Background(), logLevels[x.Log.Level], x.Log.Message, "rule", x.Rule.ID, "event", x.Event.Ref().String())
		}
	}
	r.named = namedFiles(set.Rules())
	byID := map[string]*ruleset.Rule{}
	for _, rule := range set.Rules() {
		byID[rule.ID] = rule
	}
	for _, st := range report.Rules {
		state := &clewv1.RuleState{Id: st.ID, Status: string(st.Status), Reason: st.Reason, Policy: st.Policy}
		if rule := byID[st.ID]; rule != nil && st.Status == ruleset.Loaded {
			state.Title, state.Type, state.Severity, state.Expression = rule.Title, rule.Type, rule.Severity, rule.Expression
			r.loaded++
		}
		if st.Status == ruleset.Failed {
			log.Warn("rule cannot be loaded", "rule", st.ID, "at", st.At.String(), "reason", st.Reason)
		}
		r.states = append(r.states, state)
	}
	return r, nil
}
