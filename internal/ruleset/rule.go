package ruleset

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/secl"
	"github.com/clewsec/clew/internal/secl/ast"
	"go.yaml.in/yaml/v3"
)

// Tag is a key with a value.
type Tag struct{ Key, Value string }

// Rule is what is known of a rule beside how to evaluate it. The slices belong
// to the set and must not be changed.
type Rule struct {
	ID            string
	Version       string
	Title         string
	Policy        string
	PolicyVersion string
	// Expression is the text as it stands in the file.
	Expression string
	// Kinds are the kinds of event it is evaluated for.
	Kinds       []event.Kind
	Type        string
	Severity    string
	Techniques  []string
	Tactics     []string
	Tags        []Tag
	ProductTags []string
	Recommended []event.Recommendation
	Sees        string
	Misses      string
	Silent      bool
	// Every is the shortest time between two signals, 0 for the default rate.
	Every        time.Duration
	LimiterToken []string
	GroupID      string
	Priority     int
	Actions      []Action
	// Watch is what the rule watches, nil for a rule with an expression.
	Watch *Watch
	At    Position

	// own is true for a rule in a folder of its own.
	own bool
	// conditions are the texts that a watch stands for.
	conditions []string
	signalTags []string
	token      []*secl.Value[eventT, Element]
}

// Types and Severities are the closed lists of what rules can be, severities
// in rising order.
var (
	Types      = []string{"process", "file", "network", "kernel", "anomaly", "malware", "k8s_audit", "cloud_audit", "health"}
	Severities = []string{"info", "low", "medium", "high", "critical"}
)

// Signal makes the signal that an event carries for this rule. Its slices are
// shared.
func (r *Rule) Signal(suppressed uint64) event.Signal {
	id := r.ID
	if r.GroupID != "" {
		id = r.GroupID
	}
	return event.Signal{
		RuleID: id, Version: r.Version, Policy: r.Policy, Title: r.Title, Type: r.Type, Severity: r.Severity,
		Techniques: r.Techniques, Tactics: r.Tactics, Suppressed: suppressed, Recommended: r.Recommended, Tags: r.signalTags,
	}
}

func (r *reader) recommendation(n *yaml.Node) event.Recommendation {
	var out event.Recommendation
	r.keys(n, "recommendation", []string{"id", "label", "why"}, func(key string, v *yaml.Node) {
		s := r.text(v, key).s
		switch key {
		case "id":
			out.ID = s
		case "label":
			out.Label = s
		case "why":
			out.Why = s
		}
	})
	if out.ID == "" || out.Label == "" {
		r.note(n, false, "a recommendation needs an id and a label")
	}
	return out
}

// validate checks what does not depend on the expression.
func (d *ruleDef) validate(r *reader) {
	if d.typ.s != "" && !slices.Contains(Types, d.typ.s) {
		r.closed(d.typ, "type", Types)
	}
	if d.severity.s != "" && !slices.Contains(Severities, d.severity.s) {
		r.closed(d.severity, "severity", Severities)
	}
	for _, t := range d.Techniques {
		if !technique(t) {
			r.note(d.id.node, false, "%q is not an ATT&CK technique such as T1059 or T1059.004", t)
		}
	}
	for _, t := range d.Tactics {
		if !tactic(t) {
			r.note(d.id.node, false, "%q is not an ATT&CK tactic such as TA0002", t)
		}
	}
	if d.own && d.Title == "" {
		r.note(d.id.node, false, "rule has no description")
	}
}

// finish fills in what follows from the rest: type, severity, ATT&CK ids and
// the tags of signals.
func (d *ruleDef) finish() {
	d.Type, d.Severity = d.typ.s, d.severity.s
	if d.Type == "" {
		d.Type = "process"
		if len(d.Kinds) > 0 {
			if c := d.Kinds[0].Info().Category; slices.Contains(Types, c) {
				d.Type = c
			}
		}
	}
	if d.Severity == "" {
		d.Severity = d.mappedSeverity()
	}
	d.mapTags()
	d.signalTags = nil
	for _, t := range d.Tags {
		d.signalTags = append(d.signalTags, t.Key+":"+t.Value)
	}
	d.signalTags = append(d.signalTags, d.ProductTags...)
}

func (r *reader) closed(t text, what string, list []string) {
	msg := fmt.Sprintf("%q is no %s; there are %s", t.s, what, strings.Join(list, ", "))
	if near := ast.Nearest(t.s, list); near != "" {
		msg += fmt.Sprintf("; did you mean %q?", near)
	}
	r.note(t.node, false, "%s", msg)
}

// mappedSeverity is the severity of a rule whose format has none: by its
// threat score where it has one, else by the policy it belongs to.
func (d *ruleDef) mappedSeverity() string {
	for _, t := range d.Tags {
		if t.Key != "threat_score" {
			continue
		}
		score, err := strconv.Atoi(t.Value)
		switch {
		case err != nil:
		case score >= 9:
			return "critical"
		case score >= 7:
			return "high"
		case score >= 5:
			return "medium"
		default:
			return "low"
		}
	}
	switch {
	case slices.Contains(d.ProductTags, "policy:threat-detection"):
		return "medium"
	case slices.Contains(d.ProductTags, "policy:compliance"), slices.Contains(d.ProductTags, "policy:best-practice"):
		return "info"
	}
	return "low"
}

// mapTags takes tactics and techniques out of tags such as
// tactic:TA0003-persistence.
func (d *ruleDef) mapTags() {
	for _, t := range d.ProductTags {
		key, value, _ := strings.Cut(t, ":")
		id, _, _ := strings.Cut(value, "-")
		switch key {
		case "tactic":
			if tactic(id) && !slices.Contains(d.Tactics, id) {
				d.Tactics = append(d.Tactics, id)
			}
		case "technique", "subtechnique":
			if technique(id) && !slices.Contains(d.Techniques, id) {
				d.Techniques = append(d.Techniques, id)
			}
		}
	}
}

func technique(s string) bool {
	base, sub, has := strings.Cut(s, ".")
	return len(base) == 5 && base[0] == 'T' && digits(base[1:]) && (!has || len(sub) == 3 && digits(sub))
}

func tactic(s string) bool {
	return len(s) == 6 && s[:2] == "TA" && digits(s[2:])
}

func digits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}
