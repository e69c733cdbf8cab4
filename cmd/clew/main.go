// Command clew watches a host and tells what happened on it as stories.
//
// This package turns flags into configuration and calls the packages that do
// the work; it holds no logic of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/demo"
	"github.com/clewsec/clew/internal/filehash"
)

// Exit statuses of every command.
const (
	exitFailure = 1 // something failed, or a check found something
	exitUsage   = 2 // the command line makes no sense
)

// An exitError ends the program with a status of its own. Its error may be
// nil when everything has been said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func main() {
	if demo.IsHelper() {
		os.Exit(demo.Helper())
	}
	if filehash.IsHelper() {
		os.Exit(filehash.RunHelper())
	}
	os.Exit(run(os.Args[1:]))
}

// run is main without the exit, so that script tests can call it.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRootCmd()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintln(os.Stderr, "clew:", exit.err)
		}
		return exit.code
	default:
		fmt.Fprintln(os.Stderr, "clew:", err)
		return exitFailure
	}
}

// newRootCmd joins the commands. Each has a file of its own.
func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:           "clew",
		Short:         "Watch what processes do on this host and tell it as stories",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(cmd, err)
	})
	root.AddCommand(
		newBenchCmd(),
		newBenchWorkerCmd(),
		newDemoCmd(),
		newDoctorCmd(),
		newEventsCmd(),
		newFilesCmd(),
		newLoginCmd(),
		newRecordCmd(),
		newReplayCmd(),
		newRulesCmd(),
		newServerCmd(),
		newStatusCmd(),
		newStoriesCmd(),
		newStoryCmd(),
		newUpCmd(),
		newVersionCmd(),
	)
	return root
}

// usageError says what is wrong with the command line and where help is.
func usageError(cmd *cobra.Command, err error) error {
	return &exitError{code: exitUsage, err: fmt.Errorf("%w (see: %s --help)", err, cmd.CommandPath())}
}

// args wraps a check of positional arguments so that it ends with the status of
// a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usageError(cmd, err)
		}
		return nil
	}
}
