package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/demo"
)

// newDemoAttackCmd plays the demo's attack for nobody: for recordings, and to
// try rules against it.
func newDemoAttackCmd() *cobra.Command {
	var cfg demo.Config
	cmd := &cobra.Command{
		Use:    "demo-attack",
		Short:  "Play the attack of clew demo and nothing else",
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Played = func(s demo.Step) { fmt.Fprintln(cmd.ErrOrStderr(), s.Name) }
			_, err := demo.Play(cmd.Context(), cfg)
			return err
		},
	}
	cmd.Flags().StringVar(&cfg.Root, "root", "", "directory to play in; it must not exist and is removed")
	return cmd
}
