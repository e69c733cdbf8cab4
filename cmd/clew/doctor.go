package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/agent"
	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/sensor"
)

func newDoctorCmd() *cobra.Command {
	var (
		asJSON bool
		paths  []string
	)
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what can be watched on this host",
		Long: `Find out what can be watched on this host, by trying, and which rules can
therefore never fire: of those that are shipped, and of those given with --rules.

The status is 1 when it cannot be watched at all.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := sensor.Probe()
			report.Features = append(report.Features, ownCgroup())
			silent, err := silentRules(&report, paths)
			if err != nil {
				return err
			}
			write := writeDoctorText
			if asJSON {
				write = writeDoctorJSON
			}
			if err := write(cmd.OutOrStdout(), &report, silent); err != nil {
				return err
			}
			if report.Mode == "" {
				return &exitError{code: exitFailure}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringArrayVar(&paths, "rules", nil, "also look at the rules at `PATH` (may be repeated)")
	return cmd
}

// silentRule is a rule that can never fire on this host.
type silentRule struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// silentRules finds the rules that wait for kinds of event that do not occur
// here. Where nothing can be watched there is no use in naming them all.
func silentRules(r *sensor.Report, paths []string) ([]silentRule, error) {
	out := []silentRule{}
	set, report, err := policies.Load(policies.HostFacts(), paths...)
	if err != nil {
		return nil, err
	}
	for _, st := range report.Rules {
		if st.Status == ruleset.Failed {
			out = append(out, silentRule{st.ID, "it is not loaded: " + st.Reason})
		}
	}
	if r.Mode == "" {
		return out, nil
	}
	missing := missingKinds(r)
	for _, rule := range set.Rules() {
		why := set.CannotFire(rule, missing)
		if why != "" {
			out = append(out, silentRule{rule.ID, why})
		}
	}
	return out, nil
}

// doctorFeature and doctorKind are the lists' items as JSON shows them.
type (
	doctorFeature struct {
		Name   string `json:"name"`
		Answer string `json:"answer"` // yes, no, unknown
		Reason string `json:"reason"` // why not
	}
	doctorKind struct {
		Kind   string `json:"kind"`
		Status string `json:"status"` // ok, degraded, impossible
		Reason string `json:"reason"` // what is missing
	}
)

// missingKinds tells why events of a kind do not occur on a host; the empty
// string for those that do.
func missingKinds(r *sensor.Report) func(event.Kind) string {
	checks := map[event.Kind]sensor.KindCheck{}
	for _, k := range r.Kinds {
		checks[k.Kind] = k
	}
	return func(k event.Kind) string {
		c, ok := checks[k]
		switch {
		case r.Mode == "":
			return "this host cannot be watched"
		case ok && c.Status == sensor.Impossible && c.Reason != "":
			return fmt.Sprintf("%s events: %s", k, c.Reason)
		case ok && c.Status == sensor.Impossible:
			return fmt.Sprintf("%s events cannot be watched in %s mode", k, r.Mode)
		case !ok && sensor.Produces(k):
			return fmt.Sprintf("%s events are not produced in %s mode", k, r.Mode)
		case !ok:
			return fmt.Sprintf("%s events are not produced by this version", k)
		}
		return ""
	}
}

func writeDoctorJSON(w io.Writer, r *sensor.Report, silent []silentRule) error {
	doc := struct {
		OK       bool            `json:"ok"`
		Mode     string          `json:"mode"` // trampoline, tracepoint; empty where nothing can be watched
		Kernel   string          `json:"kernel"`
		Features []doctorFeature `json:"features"`
		Kinds    []doctorKind    `json:"kinds"`
		Silent   []silentRule    `json:"silentRules"` // that can never fire here
	}{OK: r.Mode != "", Mode: string(r.Mode), Kernel: r.Kernel, Features: []doctorFeature{}, Kinds: []doctorKind{}, Silent: silent}
	for _, f := range r.Features {
		doc.Features = append(doc.Features, doctorFeature{f.Name, string(f.Answer), f.Reason})
	}
	for _, k := range r.Kinds {
		doc.Kinds = append(doc.Kinds, doctorKind{k.Kind.String(), string(k.Status), k.Reason})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

func writeDoctorText(w io.Writer, r *sensor.Report, silent []silentRule) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	// The status is padded by hand: a line without a reason has one cell less,
	// which would end the column for the lines around it.
	line := func(name, status, reason string) {
		if reason != "" {
			status = fmt.Sprintf("%-10s  %s", status, reason)
		}
		fmt.Fprintf(tw, "  %s\t%s\n", name, status)
	}
	if r.Mode == "" {
		fmt.Fprintf(tw, "This host cannot be watched (kernel %s).\n", r.Kernel)
	} else {
		fmt.Fprintf(tw, "This host can be watched in %s mode (kernel %s).\n", r.Mode, r.Kernel)
	}
	fmt.Fprintln(tw, "\nThe kernel:")
	for _, f := range r.Features {
		line(f.Name, string(f.Answer), f.Reason)
	}
	fmt.Fprintln(tw, "\nKinds of event:")
	for _, k := range r.Kinds {
		line(k.Kind.String(), string(k.Status), k.Reason)
	}
	fmt.Fprintln(tw, "\nRules that cannot fire here:")
	for _, s := range silent {
		fmt.Fprintf(tw, "  %s\t%s\n", s.ID, s.Reason)
	}
	switch {
	case r.Mode == "":
		fmt.Fprintln(tw, "  all of them: nothing can be watched")
	case len(silent) == 0:
		fmt.Fprintln(tw, "  none")
	}
	return tw.Flush()
}

// ownCgroup tells whether clew would get control groups of its own, with
// ceilings that the kernel enforces.
func ownCgroup() sensor.Feature {
	f := sensor.Feature{Name: "own control group", Answer: sensor.Yes}
	if ok, reason := agent.CanBind(); !ok {
		f.Answer, f.Reason = sensor.No, reason+"; clew keeps to its ceilings by itself"
	}
	return f
}
