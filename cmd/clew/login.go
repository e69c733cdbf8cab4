package main

import (
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

func newLoginCmd() *cobra.Command {
	var (
		server              serverFlags
		token, role, remove string
	)
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Print a link that logs a browser in, or make a token",
		Long: `Print a link that logs a browser in, or make a token.

The link works once, within 15 minutes. A token is for programs; it goes into
$CLEW_TOKEN and works until it is removed. Both are for root and the server's
own user.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := server.client(cmd)
			if err != nil {
				return err
			}
			ctx, out := cmd.Context(), cmd.OutOrStdout()
			switch {
			case token != "":
				resp, err := c.Session.CreateToken(ctx, connect.NewRequest(&clewv1.CreateTokenRequest{Name: token, Role: role}))
				if err != nil {
					return c.Explain(err)
				}
				_, err = fmt.Fprintln(out, resp.Msg.Token)
				return err
			case remove != "":
				_, err := c.Session.RemoveToken(ctx, connect.NewRequest(&clewv1.RemoveTokenRequest{Name: remove}))
				return c.Explain(err)
			}
			resp, err := c.Session.CreateLogin(ctx, connect.NewRequest(&clewv1.CreateLoginRequest{}))
			if err != nil {
				return c.Explain(err)
			}
			_, err = fmt.Fprintln(out, resp.Msg.Url)
			return err
		},
	}
	server.add(cmd)
	f := cmd.Flags()
	f.StringVar(&token, "token", "", "make a token of this name and print it")
	f.StringVar(&role, "role", "viewer", "what the token may do: viewer, analyst, responder, admin")
	f.StringVar(&remove, "remove-token", "", "make the token of this name worthless")
	return cmd
}
