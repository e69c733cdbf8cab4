package main

import (
	"context"
	"io"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/client"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/apijson"
	"github.com/clewsec/clew/internal/server/storytext"
)

func newStoriesCmd() *cobra.Command {
	var (
		server serverFlags
		states []string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "stories",
		Short: "List the stories, highest score first",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := server.client(cmd)
			if err != nil {
				return err
			}
			stories, err := listStories(cmd.Context(), c, states)
			if err != nil {
				return c.Explain(err)
			}
			if !asJSON {
				_, err := io.WriteString(cmd.OutOrStdout(), storytext.List(stories, storytext.Options{}))
				return err
			}
			b, err := apijson.List(stories)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(append(b, '\n'))
			return err
		},
	}
	server.add(cmd)
	cmd.Flags().StringSliceVar(&states, "state", nil, "only stories in these states: open, under_review, archived")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// listStories fetches every page.
func listStories(ctx context.Context, c *client.Client, states []string) ([]*clewv1.Story, error) {
	var all []*clewv1.Story
	req := &clewv1.ListStoriesRequest{Limit: 500, States: states}
	for {
		resp, err := c.Stories.ListStories(ctx, connect.NewRequest(req))
		if err != nil {
			return nil, err
		}
		all = append(all, resp.Msg.Items...)
		if req.Cursor = resp.Msg.NextCursor; req.Cursor == "" {
			return all, nil
		}
	}
}
