package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/client"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/server/apijson"
)

func newStatusCmd() *cobra.Command {
	var (
		server serverFlags
		wait   time.Duration
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell whether clew works",
		Long: `Tell whether clew works.

It works, and the status is 0, when a probe has gone the whole way from the
kernel to the store lately; with a recording, when its last record is stored.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := server.client(cmd)
			if err != nil {
				return err
			}
			st, err := awaitStatus(cmd.Context(), c, wait)
			if err != nil {
				if asJSON {
					return errors.Join(writeStatusJSON(cmd.OutOrStdout(), &clewv1.GetStatusResponse{Reason: err.Error()}), &exitError{code: exitFailure})
				}
				return err
			}
			write := writeStatusText
			if asJSON {
				write = writeStatusJSON
			}
			if err := write(cmd.OutOrStdout(), st); err != nil {
				return err
			}
			if !st.Ok {
				return &exitError{code: exitFailure}
			}
			return nil
		},
	}
	server.add(cmd)
	f := cmd.Flags()
	f.DurationVar(&wait, "wait", 0, "how long to wait until it works, also for a clew that is not there yet")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// statusEvery is how often a clew that does not work yet is asked again.
const statusEvery = 100 * time.Millisecond

// awaitStatus asks until the answer is ok or the time is up. It returns the
// last answer, and an error when there was none.
func awaitStatus(ctx context.Context, c *client.Client, wait time.Duration) (*clewv1.GetStatusResponse, error) {
	until := time.Now().Add(wait)
	for {
		// One answer may not take all the time there is.
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		resp, err := c.Fleet.GetStatus(asking, connect.NewRequest(&clewv1.GetStatusRequest{}))
		cancel()
		if err == nil && resp.Msg.Ok || !time.Now().Before(until) {
			if err != nil {
				return nil, c.Explain(err)
			}
			return resp.Msg, nil
		}
		t := time.NewTimer(statusEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}

// localAgent is the agent that a status is about: the one that was seen last.
func localAgent(st *clewv1.GetStatusResponse) *clewv1.AgentStatus {
	var last *clewv1.AgentStatus
	for _, a := range st.Agents {
		if last == nil || a.LastSeen.AsTime().After(last.LastSeen.AsTime()) {
			last = a
		}
	}
	return last
}

// writeStatusJSON prints the answer in the API's names, with the agent that
// was seen last beside the list of all.
func writeStatusJSON(w io.Writer, st *clewv1.GetStatusResponse) error {
	b, err := apijson.Marshal(st)
	if err != nil {
		return err
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(b, &doc); err != nil {
		return err
	}
	doc["agent"] = json.RawMessage("null")
	if a := localAgent(st); a != nil {
		if doc["agent"], err = apijson.Marshal(a); err != nil {
			return err
		}
	}
	if b, err = json.Marshal(doc); err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err = w.Write(out.Bytes())
	return err
}

func writeStatusText(w io.Writer, st *clewv1.GetStatusResponse) error {
	if st.Ok {
		fmt.Fprintln(w, "ok")
	} else {
		fmt.Fprintf(w, "not ok: %s\n", st.Reason)
	}
	if st.Recording {
		fmt.Fprintln(w, "What is shown is a RECORDING, not this host.")
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if s := st.Server; s != nil {
		fmt.Fprintf(tw, "server\tpid %d, uid %d, listens on %s, %d events, %d stories\n", s.Pid, s.Uid, s.Listen, s.Events, s.Stories)
	}
	for _, a := range st.Agents {
		fmt.Fprintf(tw, "agent\t%s, %s, %s mode, pid %d, %d rules, lost %d, %d records to send\n",
			a.Host, a.Status, a.Mode, a.Pid, a.RulesLoaded, a.Lost, a.SpoolRecords)
		if a.Reason != "" {
			fmt.Fprintf(tw, "\t%s\n", a.Reason)
		}
		for _, p := range a.RuleProblems {
			fmt.Fprintf(tw, "rule\t%s: %s, %s\n", p.Id, p.Status, p.Reason)
		}
	}
	return tw.Flush()
}
