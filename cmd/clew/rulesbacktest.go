package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/backtest"
	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/ruleset"
)

func newRulesBacktestCmd() *cobra.Command {
	var (
		recording string
		asJSON    bool
	)
	cmd := &cobra.Command{
		Use:   "backtest --recording FILE.clewrec PATH…",
		Short: "Say what rules would have matched in a recording, and at what cost",
		Args:  args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			if recording == "" {
				return usageError(cmd, errors.New("--recording is missing"))
			}
			files, err := policies.Read(paths...)
			if err != nil {
				return err
			}
			f, err := os.Open(recording)
			if err != nil {
				return err
			}
			defer f.Close()
			failed := false
			res, err := backtest.Run(f, func(facts ruleset.Facts) (*ruleset.Set, error) {
				cfg, err := policies.Config(facts)
				if err != nil {
					return nil, err
				}
				cfg.OwnRatesOnly = true
				set, report, err := ruleset.Load(cfg, files)
				if err == nil && report.Failed() {
					failed = true
					err = report.WriteText(cmd.ErrOrStderr())
				}
				return set, err
			})
			if err != nil {
				return fmt.Errorf("%s: %w", recording, err)
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(res)
			} else {
				err = writeBacktest(cmd.OutOrStdout(), res)
			}
			if err != nil {
				return err
			}
			return failIf(failed)
		},
	}
	cmd.Flags().StringVar(&recording, "recording", "", "the recording to play")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func writeBacktest(w io.Writer, res *backtest.Result) error {
	at := func(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02 15:04:05Z") }
	var b strings.Builder
	fmt.Fprintf(&b, "%d events, %s to %s\n", res.Events, at(res.From), at(res.To))
	for _, r := range res.Rules {
		if r.Collected {
			fmt.Fprintf(&b, "%s: %d matches, tried %d times, cost %d\n", r.ID, r.Matches, r.Tried, r.Cost)
		} else {
			fmt.Fprintf(&b, "%s: not collected then\n", r.ID)
		}
		for _, c := range r.Coverage {
			if c.Coverage == backtest.All {
				continue
			}
			what := map[backtest.Coverage]string{
				backtest.Part: "collected in part", backtest.None: "not collected", backtest.Unknown: "not known to be collected",
			}[c.Coverage]
			fmt.Fprintf(&b, "  %s events %s from %s to %s\n", c.Kind, what, at(c.From), at(c.To))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
