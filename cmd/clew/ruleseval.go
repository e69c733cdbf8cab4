package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/rulebench"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/evalfile"
)

// loadForEval loads the rules at paths for events that lines give. What is
// wrong with them goes to stderr; failed tells whether anything is.
func loadForEval(cmd *cobra.Command, paths []string) (d *evalfile.Decoder, set *ruleset.Set, failed bool, err error) {
	files, err := policies.Read(paths...)
	if err != nil {
		return nil, nil, false, err
	}
	cfg, err := policies.Config(policies.HostFacts())
	if err != nil {
		return nil, nil, false, err
	}
	if d, err = evalfile.New(); err != nil {
		return nil, nil, false, err
	}
	cfg.Schema, cfg.OwnRatesOnly = d.Schema(), true
	set, report, err := ruleset.Load(cfg, files)
	if err != nil {
		return nil, nil, false, err
	}
	if report.Failed() {
		err = report.WriteText(cmd.ErrOrStderr())
	}
	return d, set, report.Failed(), err
}

// openEvents opens a file of events; - is standard input.
func openEvents(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	return os.Open(name)
}

func sayUnknown(cmd *cobra.Command, d *evalfile.Decoder) {
	if names := d.Unknown(); len(names) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "not known to rules and left out: %s\n", strings.Join(names, ", "))
	}
}

// A verdict is one line of what eval prints.
type verdict struct {
	Event      int    `json:"event"`
	Rule       string `json:"rule"`
	Suppressed uint64 `json:"suppressed,omitempty"`
}

func newRulesEvalCmd() *cobra.Command {
	var events string
	cmd := &cobra.Command{
		Use:   "eval --events FILE.jsonl PATH…",
		Short: "Evaluate rules on events from a file, one JSON object a line",
		Long: `Evaluate rules on events from a file, one JSON object a line:

  {"kind":"exec","at":"2026-01-02T15:04:05Z","fields":{"exec.file.path":"/usr/bin/curl","process.uid":0}}

clew events --json prints such lines. Each match is printed as one line,
{"event":0,"rule":"id"}; events count from 0. Only rates that rules state are
applied.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			if events == "" {
				return usageError(cmd, errors.New("--events is missing"))
			}
			d, set, failed, err := loadForEval(cmd, paths)
			if err != nil {
				return err
			}
			in, err := openEvents(cmd, events)
			if err != nil {
				return err
			}
			defer in.Close()
			w := bufio.NewWriter(cmd.OutOrStdout())
			enc := json.NewEncoder(w)
			var matches []ruleset.Match
			err = d.Read(in, func(n int, e *event.Event) error {
				matches = set.Eval(e, matches[:0])
				for _, m := range matches {
					if err := enc.Encode(verdict{Event: n, Rule: m.Rule.ID, Suppressed: m.Suppressed}); err != nil {
						return err
					}
				}
				d.Forget(e)
				return nil
			})
			if err = errors.Join(err, w.Flush()); err != nil {
				return fmt.Errorf("%s: %w", events, err)
			}
			sayUnknown(cmd, d)
			if failed {
				return &exitError{code: exitFailure}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&events, "events", "", "the file of events; - is standard input")
	return cmd
}

// maxBenchEvents bounds how many events a measurement holds in memory.
const maxBenchEvents = 1_000_000

func newBenchRulesCmd() *cobra.Command {
	var (
		events string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "rules --events FILE.jsonl PATH…",
		Short: "Measure what rules cost an event",
		Args:  args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			if events == "" {
				return usageError(cmd, errors.New("--events is missing"))
			}
			d, set, failed, err := loadForEval(cmd, paths)
			if err != nil {
				return err
			}
			in, err := openEvents(cmd, events)
			if err != nil {
				return err
			}
			defer in.Close()
			var list []*event.Event
			err = d.Read(in, func(_ int, e *event.Event) error {
				if len(list) == maxBenchEvents {
					return fmt.Errorf("more than %d events", maxBenchEvents)
				}
				list = append(list, e)
				return nil
			})
			if err != nil {
				return fmt.Errorf("%s: %w", events, err)
			}
			sayUnknown(cmd, d)
			res, err := rulebench.Run(cmd.Context(), set, list)
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(res)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d rules, %d events, %d matches: %.0f ns and %.3f allocations per event, median %d ns, 99 %% below %d ns\n",
					res.Rules, res.Events, res.Matches, res.NsPerEvent, res.AllocsPerEvent, res.P50Ns, res.P99Ns)
			}
			if err == nil && failed {
				return &exitError{code: exitFailure}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&events, "events", "", "the file of events; - is standard input")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
