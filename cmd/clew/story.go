package main

import (
	"errors"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/apijson"
	"github.com/clewsec/clew/internal/server/storytext"
)

func newStoryCmd() *cobra.Command {
	var (
		server           serverFlags
		asJSON, markdown bool
		all              bool
		budget           int32
	)
	cmd := &cobra.Command{
		Use:   "story ID",
		Short: "Show a story",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if asJSON && markdown {
				return usageError(cmd, errors.New("--json or --markdown, not both"))
			}
			c, err := server.client(cmd)
			if err != nil {
				return err
			}
			resp, err := c.Stories.GetStory(cmd.Context(), connect.NewRequest(&clewv1.GetStoryRequest{Id: a[0], Budget: budget}))
			if err != nil {
				return c.Explain(err)
			}
			opt := storytext.Options{}
			if all {
				opt.Entries = -1
			}
			var out []byte
			switch {
			case asJSON:
				if out, err = apijson.MarshalIndent(resp.Msg.Story); err != nil {
					return err
				}
				out = append(out, '\n')
			case markdown:
				out = []byte(storytext.Markdown(resp.Msg.Story, opt))
			default:
				out = []byte(storytext.Text(resp.Msg.Story, opt))
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	server.add(cmd)
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&markdown, "markdown", false, "print Markdown")
	f.BoolVar(&all, "all", false, "print the whole timeline")
	f.Int32Var(&budget, "budget", 0, "nodes of the graph at most (150 when 0)")
	return cmd
}
