package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/replay"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/server/apijson"
	"github.com/clewsec/clew/internal/server/storytext"
)

func newReplayCmd() *cobra.Command {
	var (
		asJSON bool
		dirs   []string
	)
	cmd := &cobra.Command{
		Use:   "replay FILE.clewrec",
		Short: "Play a recording and print its stories; needs no privilege",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			f, err := os.Open(a[0])
			if err != nil {
				return err
			}
			defer f.Close()
			res, err := replay.Run(f, func(facts ruleset.Facts) (*ruleset.Set, error) {
				set, report, err := policies.Load(facts, dirs...)
				if err != nil {
					return nil, err
				}
				if report.Failed() {
					if err := report.WriteText(cmd.ErrOrStderr()); err != nil {
						return nil, err
					}
				}
				return set, nil
			})
			if err != nil {
				return fmt.Errorf("replay %s: %w", a[0], err)
			}
			return printStories(cmd.OutOrStdout(), res, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, `print {"items":[story…]}, each with signals, graph and timeline`)
	cmd.Flags().StringArrayVar(&dirs, "policies", nil, "rules beside the shipped ones: a file or directory (may be repeated)")
	return cmd
}

func printStories(w io.Writer, res *replay.Result, asJSON bool) error {
	if asJSON {
		b, err := apijson.List(res.Stories)
		if err != nil {
			return err
		}
		_, err = w.Write(append(b, '\n'))
		return err
	}
	if len(res.Stories) == 0 {
		_, err := fmt.Fprintf(w, "no story in this recording: %d records, %d events, %d signals\n", res.Stats.Records, res.Stats.Events, res.Stats.Signals)
		return err
	}
	for i, s := range res.Stories {
		if i > 0 {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(w, storytext.Text(s, storytext.Options{})); err != nil {
			return err
		}
	}
	return nil
}
