package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/client"
)

// serverFlags say which server a client command asks.
type serverFlags struct {
	data, url string
}

// add defines the flags on cmd.
func (f *serverFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.data, "data", defaultData(), "data directory of the local server ($CLEW_DATA)")
	cmd.Flags().StringVar(&f.url, "server", "", "URL of another server; its token is in $CLEW_TOKEN")
}

// client returns a client of that server.
func (f *serverFlags) client(cmd *cobra.Command) (*client.Client, error) {
	c, err := client.New(client.Config{Data: f.data, URL: f.url, Token: os.Getenv("CLEW_TOKEN")})
	if err != nil {
		return nil, usageError(cmd, err)
	}
	return c, nil
}
