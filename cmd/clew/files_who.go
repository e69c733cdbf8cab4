package main

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/baseline"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

// Bounds of what a server is asked for: files, events of one file that are
// looked through, and the time for all.
const (
	maxAsked  = 50
	maxEvents = 4000
	askTime   = 10 * time.Second
)

// changes are the kinds of event that change a file.
var changes = []string{"open", "unlink", "rename", "chmod", "chown", "link", "symlink", "mkdir", "rmdir", "setxattr", "removexattr", "utimes", "splice"}

// responsible asks the server which process changed files last, as far as it
// has kept that. A server that cannot be reached knows nothing, which is no
// failure.
func responsible(ctx context.Context, server *serverFlags, cmd *cobra.Command, list []baseline.Finding) {
	c, err := server.client(cmd)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	asked := 0
	for i := range list {
		f := &list[i]
		if f.Expected || f.Recorded == baseline.OK || f.Recorded == baseline.NoBaseline {
			continue
		}
		if asked++; asked > maxAsked {
			return
		}
		req := &clewv1.SearchEventsRequest{Kinds: changes, Text: f.Path, Limit: 1000}
		for n := 0; n < maxEvents; {
			resp, err := c.Events.SearchEvents(ctx, connect.NewRequest(req))
			if err != nil {
				return
			}
			for _, v := range resp.Msg.Items {
				if by := changedBy(v, f.Path); by != "" {
					f.By = by
				}
			}
			n += len(resp.Msg.Items)
			if req.Cursor = resp.Msg.NextCursor; req.Cursor == "" {
				break
			}
		}
	}
}

// writing are the flags of an opening that changes: access other than reading,
// O_CREAT, O_TRUNC, O_APPEND.
const writing = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000

// changedBy says who did it, if the event is about the file and changes it.
func changedBy(v *clewv1.EventView, path string) string {
	field := func(name string) string { return plain(v.Fields.GetFields()[name]) }
	if field(v.Kind+".file.path") != path && field(v.Kind+".file.destination.path") != path {
		return ""
	}
	if v.Kind == "open" && int64(v.Fields.GetFields()["open.flags"].GetNumberValue())&writing == 0 {
		return ""
	}
	return fmt.Sprintf("%s, pid %s, uid %s, at %s (%s, event %s)", field("process.file.path"), field("process.pid"), field("process.uid"),
		v.At.AsTime().Format("2006-01-02 15:04:05Z"), v.Kind, v.Id)
}
