package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/sensor"
)

func newDoctorCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what can be watched on this host",
		Long: `Find out what can be watched on this host, by trying.

The status is 1 when it cannot be watched at all.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := sensor.Probe()
			write := writeDoctorText
			if asJSON {
				write = writeDoctorJSON
			}
			if err := write(cmd.OutOrStdout(), &report); err != nil {
				return err
			}
			if report.Mode == "" {
				return &exitError{code: exitFailure}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// doctorCheck is one answer as JSON shows it.
type doctorCheck struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Reason string `json:"reason"`
}

func writeDoctorJSON(w io.Writer, r *sensor.Report) error {
	doc := struct {
		OK     bool          `json:"ok"`
		Mode   string        `json:"mode"`
		Kernel string        `json:"kernel"`
		Checks []doctorCheck `json:"checks"`
		Kinds  []doctorCheck `json:"kinds"`
	}{OK: r.Mode != "", Mode: string(r.Mode), Kernel: r.Kernel, Checks: []doctorCheck{}, Kinds: []doctorCheck{}}
	for _, c := range r.Checks {
		doc.Checks = append(doc.Checks, doctorCheck{c.Name, string(c.Status), c.Reason})
	}
	for _, k := range r.Kinds {
		doc.Kinds = append(doc.Kinds, doctorCheck{k.Kind.String(), string(k.Status), k.Reason})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

func writeDoctorText(w io.Writer, r *sensor.Report) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name string, s sensor.Status, reason string) {
		if reason == "" {
			fmt.Fprintf(tw, "  %s\t%s\n", name, s)
			return
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\n", name, s, reason)
	}
	if r.Mode == "" {
		fmt.Fprintf(tw, "This host cannot be watched (kernel %s).\n", r.Kernel)
	} else {
		fmt.Fprintf(tw, "This host can be watched in %s mode (kernel %s).\n", r.Mode, r.Kernel)
	}
	fmt.Fprintln(tw, "\nThe kernel:")
	for _, c := range r.Checks {
		line(c.Name, c.Status, c.Reason)
	}
	fmt.Fprintln(tw, "\nKinds of event:")
	for _, k := range r.Kinds {
		line(k.Kind.String(), k.Status, k.Reason)
	}
	return tw.Flush()
}
