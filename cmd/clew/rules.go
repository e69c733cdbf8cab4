package main

import (
	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/sensor"
)

func newRulesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Work with detection rules",
		Args:  args(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRulesBacktestCmd(), newRulesCheckCmd(), newRulesEvalCmd(), newRulesExplainCmd(), newRulesFmtCmd(), newRulesLintCmd(), newRulesLSPCmd(), newRulesSchemaCmd(), newRulesTestCmd())
	return cmd
}

func newRulesCheckCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check PATH…",
		Short: "Load policy files and say everything that is wrong with them",
		Args:  args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			files, err := policies.Read(paths...)
			if err != nil {
				return err
			}
			set, report, err := policies.Compile(policies.HostFacts(), files)
			if err != nil {
				return err
			}
			report.Unproduced(set, sensor.Produces)
			if asJSON {
				err = report.WriteJSON(cmd.OutOrStdout())
			} else {
				err = report.WriteText(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			if report.Failed() {
				return &exitError{code: exitFailure}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
