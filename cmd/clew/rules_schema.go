package main

import (
	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/ruleset/policyschema"
)

func newRulesSchemaCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of policy files and rules",
		Long: `Print the JSON Schema (draft 2020-12) of policy files and of rules in folders of
their own, for editors and for checks of files that other programs write. It
knows the keys and their values; what stands in expressions is checked by
clew rules check and, in an editor, by clew rules lsp.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := policyschema.JSON()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}
