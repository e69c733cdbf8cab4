package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clewsec/clew/internal/backtest"
	"github.com/clewsec/clew/internal/client"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
	"github.com/clewsec/clew/internal/policies"
	"github.com/clewsec/clew/internal/ruleset"
)

func newRulesBacktestCmd() *cobra.Command {
	var (
		server      serverFlags
		q           backtestQuery
		asJSON      bool
		failOnMatch bool
	)
	cmd := &cobra.Command{
		Use:   "backtest PATH… --since D | --recording FILE.clewrec",
		Short: "Say what rules would have matched in the past, how often and at what cost",
		Long: `Say what rules would have matched in the past, how often and at what cost: in
the events that a server has stored (--since), or in a recording (--recording).

Beside each number stands for how much of the time the events that the rule
needs were collected. A rule whose events were not collected at all has no
number: "not collected then". A number after ≥ may be too low, one after ≈ too
low or too high.

Times are a duration before now (15m, 24h, 7d), a day (2026-01-31) or a time
(2026-01-31T15:04:05Z).`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			if err := q.check(time.Now()); err != nil {
				return usageError(cmd, err)
			}
			files, err := policies.Read(paths...)
			if err != nil {
				return err
			}
			failed := false
			loaded := func(r *ruleset.Report) error {
				if failed = r.Failed(); failed {
					return r.WriteText(cmd.ErrOrStderr())
				}
				return nil
			}
			var res *backtest.Result
			if q.recording != "" {
				res, err = q.play(files, loaded)
			} else {
				res, err = q.ask(cmd, &server, files, loaded)
			}
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(res)
			} else {
				err = writeBacktest(cmd.OutOrStdout(), res)
			}
			if err != nil {
				return err
			}
			return failIf(failed || res.Incomplete != "" || failOnMatch && res.Matched())
		},
	}
	server.add(cmd)
	f := cmd.Flags()
	f.StringVar(&q.recording, "recording", "", "play this recording")
	f.StringVar(&q.sinceText, "since", "", "ask the server for its events since then: 15m, 24h, 7d, or a time")
	f.StringVar(&q.untilText, "until", "", "with --since: up to then; now when it is not given")
	f.StringVar(&q.host, "host", "", "with --since: only this host, by name or id")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&failOnMatch, "fail-on-match", false, "exit status 1 if any rule matched")
	return cmd
}

// backtestQuery says what rules are evaluated on.
type backtestQuery struct {
	recording            string
	sinceText, untilText string
	host                 string
	since, until         time.Time
}

func (q *backtestQuery) check(now time.Time) (err error) {
	switch {
	case q.recording == "" && q.sinceText == "":
		return errors.New("--since or --recording is missing")
	case q.recording != "" && (q.sinceText != "" || q.untilText != "" || q.host != ""):
		return errors.New("--recording does not go with --since, --until and --host")
	case q.recording != "":
		return nil
	}
	if q.since, err = parseTime(q.sinceText, now); err != nil {
		return fmt.Errorf("--since %q: %w", q.sinceText, err)
	}
	if q.until = now; q.untilText != "" {
		if q.until, err = parseTime(q.untilText, now); err != nil {
			return fmt.Errorf("--until %q: %w", q.untilText, err)
		}
	}
	if !q.since.Before(q.until) {
		return errors.New("--since is not before --until")
	}
	return nil
}

// parseTime reads a time, or a duration before now, which may be in days.
func parseTime(s string, now time.Time) (time.Time, error) {
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(form, s); err == nil {
			return t, nil
		}
	}
	rest, days := s, 0
	if d, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(d, 10, 16)
		if err != nil {
			return time.Time{}, errBacktestTime
		}
		days, rest = int(n), after
	}
	var dur time.Duration
	if rest != "" || days == 0 {
		var err error
		if dur, err = time.ParseDuration(rest); err != nil || dur < 0 {
			return time.Time{}, errBacktestTime
		}
	}
	return now.Add(-dur - time.Duration(days)*24*time.Hour), nil
}

var errBacktestTime = errors.New("want a duration such as 15m, 24h or 7d, or a time such as 2026-01-31T15:04:05Z")

// play evaluates the rules on a recording.
func (q *backtestQuery) play(files []ruleset.File, loaded func(*ruleset.Report) error) (*backtest.Result, error) {
	f, err := os.Open(q.recording)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	res, err := backtest.Run(f, backtest.Compile(files), loaded, time.Now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q.recording, err)
	}
	return res, nil
}

// ask lets a server evaluate the rules.
func (q *backtestQuery) ask(cmd *cobra.Command, server *serverFlags, files []ruleset.File, loaded func(*ruleset.Report) error) (*backtest.Result, error) {
	req := &clewv1.RunBacktestRequest{From: timestamppb.New(q.since), To: timestamppb.New(q.until), Host: q.host}
	for _, f := range files {
		if !utf8.Valid(f.Data) || !utf8.ValidString(f.Name) {
			return nil, fmt.Errorf("%q is not UTF-8", f.Name)
		}
		req.Files = append(req.Files, &clewv1.PolicyFile{Name: f.Name, Text: string(f.Data)})
	}
	c, err := server.client(cmd)
	if err != nil {
		return nil, err
	}
	res, err := receiveBacktest(cmd.Context(), c, req, loaded, terminal(cmd.ErrOrStderr()))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w, or give --recording in place of --since", c.Explain(err))
	}
	return res, c.Explain(err)
}

// receiveBacktest asks c. progress, where it is not nil, is told how far it is.
func receiveBacktest(ctx context.Context, c *client.Client, req *clewv1.RunBacktestRequest, loaded func(*ruleset.Report) error, progress io.Writer) (*backtest.Result, error) {
	stream, err := c.Backtests.RunBacktest(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var res *backtest.Result
	for stream.Receive() {
		switch m := stream.Msg().Body.(type) {
		case *clewv1.RunBacktestResponse_Rules:
			if err := loaded(backtest.ReportOf(m.Rules)); err != nil {
				return nil, err
			}
		case *clewv1.RunBacktestResponse_Progress:
			if progress != nil {
				fmt.Fprintf(progress, "\r\x1b[K%3.0f %%  %s  %d events", 100*m.Progress.Done, printable(m.Progress.Host), m.Progress.Events)
			}
		case *clewv1.RunBacktestResponse_Result:
			res = backtest.ResultOf(m.Result)
		}
	}
	if progress != nil {
		fmt.Fprint(progress, "\r\x1b[K")
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	if res == nil {
		return nil, errors.New("the server ended before it had answered")
	}
	return res, nil
}

// terminal is w where a person looks at it, else nil.
func terminal(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if fi, err := f.Stat(); err != nil || fi.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return f
}
