package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/buildinfo"
	"github.com/clewsec/clew/internal/lsp"
	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/ruleset/assist"
	"github.com/clewsec/clew/internal/sensor"
	"github.com/clewsec/clew/internal/server/story/attack"
)

func newRulesLSPCmd() *cobra.Command {
	var (
		quiet time.Duration
		stdio bool
	)
	cmd := &cobra.Command{
		Use:   "lsp",
		Short: "Help an editor with rules: a language server on standard input and output",
		Long: `Help an editor with rules: a language server (LSP 3.17) on standard input and
output, for policy files (*.policy), rules in folders of their own (rule.yaml)
and documents that are nothing but a condition (*.secl). It shows problems as
clew rules check and clew rules lint find them, completes, explains names, finds
definitions and uses, formats, and offers corrections. docs/rules.md says how
editors are told to start it.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			space, err := newAssistant()
			if err != nil {
				return err
			}
			cfg := lsp.Config{
				Version: buildinfo.Read().Version,
				Read:    policies.ReadWorkspace,
				Load:    policies.ReadOne,
				Log:     slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)),
			}
			if quiet > 0 {
				cfg.Quiet = func() <-chan time.Time { return time.After(quiet) }
			}
			err = lsp.New(cfg, space).Run(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	cmd.Flags().DurationVar(&quiet, "quiet", 150*time.Millisecond, "how long a change waits for the next one before problems are looked for")
	cmd.Flags().BoolVar(&stdio, "stdio", true, "talk on standard input and output, the only way there is; some editors give it always")
	return cmd
}

// newAssistant makes what answers about rules: with the host's facts, the
// shipped macros and the catalogue of ATT&CK.
func newAssistant() (*assist.Workspace, error) {
	rules, err := policies.Config(policies.HostFacts())
	if err != nil {
		return nil, err
	}
	cfg := assist.Config{Rules: rules, Cases: policies.Cases, Produces: sensor.Produces}
	for _, t := range attack.Tactics() {
		cfg.Tactics = append(cfg.Tactics, assist.Term{ID: t.ID, Name: t.Name})
	}
	for _, t := range attack.Techniques() {
		cfg.Techniques = append(cfg.Techniques, assist.Term{ID: t.ID, Name: t.Name})
	}
	return assist.New(cfg)
}
