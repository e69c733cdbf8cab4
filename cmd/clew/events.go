package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clewsec/clew/internal/client"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/apijson"
)

func newEventsCmd() *cobra.Command {
	var (
		server serverFlags
		q      eventsQuery
	)
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print stored events, oldest first",
		Long: `Print stored events, oldest first.

With --json every line is one event: its id, time, kind and fields by the paths
that rules use. clew rules eval reads these lines.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.since < 0 {
				return usageError(cmd, errors.New("--since wants a duration such as 1h"))
			}
			if q.follow && (q.rule != "" || q.text != "" || q.story != "" || q.key != "") {
				return usageError(cmd, errors.New("--follow goes with --kind only"))
			}
			c, err := server.client(cmd)
			if err != nil {
				return err
			}
			w := bufio.NewWriter(cmd.OutOrStdout())
			err = q.run(cmd.Context(), c, w)
			if cmd.Context().Err() != nil && q.follow {
				err = nil // that is how following ends
			}
			return errors.Join(c.Explain(err), w.Flush())
		},
	}
	server.add(cmd)
	f := cmd.Flags()
	f.BoolVar(&q.json, "json", false, "print JSON, one event a line")
	f.StringSliceVar(&q.kinds, "kind", nil, "only events of these kinds: exec, open, connect…")
	f.DurationVar(&q.since, "since", 0, "only events of the time up to now: 10m, 24h")
	f.StringVar(&q.rule, "rule", "", "only events that matched this rule")
	f.StringVar(&q.story, "story", "", "only events of this story's contexts")
	f.StringVar(&q.key, "context", "", "only events with this context key")
	f.StringVar(&q.text, "text", "", "only events with this text in them or in their process")
	f.Int64Var(&q.limit, "limit", 0, "events at most; all when 0")
	f.BoolVar(&q.follow, "follow", false, "go on with events as they are stored")
	return cmd
}

type eventsQuery struct {
	json, follow           bool
	kinds                  []string
	since                  time.Duration
	rule, story, key, text string
	limit                  int64
}

func (q *eventsQuery) run(ctx context.Context, c *client.Client, w *bufio.Writer) error {
	seen := map[string]bool{}
	var tail *connect.ServerStreamForClient[clewv1.TailEventsResponse]
	if q.follow {
		// The tail begins before what is stored is read, so that nothing is
		// missed between the two.
		var err error
		if tail, err = c.Events.TailEvents(ctx, connect.NewRequest(&clewv1.TailEventsRequest{Kinds: q.kinds})); err != nil {
			return err
		}
		defer tail.Close()
		if !tail.Receive() {
			return tail.Err()
		}
	}
	req := &clewv1.SearchEventsRequest{Kinds: q.kinds, RuleId: q.rule, StoryId: q.story, ContextKey: q.key, Text: q.text, Limit: 1000}
	if q.since > 0 {
		req.From = timestamppb.New(time.Now().Add(-q.since))
	}
	printed := int64(0)
	// Following without --since shows what is new only.
	for !q.follow || q.since > 0 {
		resp, err := c.Events.SearchEvents(ctx, connect.NewRequest(req))
		if err != nil {
			return err
		}
		for _, v := range resp.Msg.Items {
			if q.follow {
				seen[v.Id] = true
			}
			if err := q.print(w, v); err != nil {
				return err
			}
			if printed++; printed == q.limit {
				return nil
			}
		}
		if req.Cursor = resp.Msg.NextCursor; req.Cursor == "" {
			break
		}
	}
	if !q.follow {
		return nil
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for tail.Receive() {
		m := tail.Msg()
		for _, v := range m.Items {
			if seen[v.Id] {
				delete(seen, v.Id)
				continue
			}
			if err := q.print(w, v); err != nil {
				return err
			}
			if printed++; printed == q.limit {
				return nil
			}
		}
		if m.Skipped > 0 && !q.json {
			fmt.Fprintf(w, "(%d events were not shown: too many at once)\n", m.Skipped)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return tail.Err()
}

func (q *eventsQuery) print(w io.Writer, v *clewv1.EventView) error {
	if q.json {
		b, err := apijson.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(append(b, '\n'))
		return err
	}
	_, err := io.WriteString(w, eventLine(v)+"\n")
	return err
}

// objects are the fields that say what an event is about, best first.
var objects = []string{
	"file.path", "addr.ip", "target", "uid", "gid", "code",
}

// eventLine shows an event on one line of text.
func eventLine(v *clewv1.EventView) string {
	field := func(name string) string { return plain(v.Fields.GetFields()[name]) }
	object := ""
	if v.Kind == "exec" {
		object = strings.TrimSpace(field("process.argv0") + " " + field("process.args"))
	}
	for _, name := range objects {
		if object == "" {
			object = field(v.Kind + "." + name)
		}
	}
	if port := field(v.Kind + ".addr.port"); port != "" {
		object += " port " + port
	}
	if to := field(v.Kind + ".file.destination.path"); to != "" {
		object += " → " + to
	}
	mark := ""
	if len(v.RuleIds) > 0 {
		mark = "  [" + v.Severity + ": " + strings.Join(v.RuleIds, ", ") + "]"
	}
	return fmt.Sprintf("%s  %-12s %s %-7s %s  %s%s", v.At.AsTime().Format("2006-01-02 15:04:05.000Z"), printable(v.Host), v.Kind,
		cmp.Or(field("process.pid"), "-"), printable(cmp.Or(field("process.file.path"), field("process.comm"), "-")), printable(object), mark)
}

// plain shows a field's value as text.
func plain(v *structpb.Value) string {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return k.StringValue
	case *structpb.Value_NumberValue:
		return fmt.Sprintf("%.0f", k.NumberValue)
	case nil:
		return ""
	}
	b, err := json.Marshal(v.AsInterface())
	if err != nil {
		return ""
	}
	return string(b)
}

// printable takes out what would steer a terminal: names and arguments are the
// observed host's.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || (r >= 0x200b && r <= 0x200f) || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) {
			return '?'
		}
		return r
	}, s)
}
