// Command vmtest runs a static program in a virtual machine and ends with its
// status. It is made for Go test binaries:
//
//	go test -c -o sensor.test ./internal/sensor    # with CGO_ENABLED=0
//	go run ./internal/testkit/vm/cmd/vmtest -kernel 6.1 -- ./sensor.test -test.v
//
// and, built once, for go test itself, which calls it in the package's folder:
//
//	CGO_ENABLED=0 go test -exec 'vmtest -kernel 6.1' ./internal/sensor
//
// The folder testdata of the working directory is put in the machine, and
// what -add names. The status is 125 when the machine itself failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/clewsec/clew/internal/testkit/vm"
)

// trouble is the status for a failure that is not the program's own.
const trouble = 125

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func run(args []string, stdout, stderr io.Writer) int {
	var cfg vm.Config
	var files, env list
	var names []string
	for _, k := range vm.Kernels {
		names = append(names, k.Name)
	}
	fs := flag.NewFlagSet("vmtest", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintln(stderr, "usage: vmtest [flags] [--] PROGRAM [ARGUMENT…]")
		fs.PrintDefaults()
	}
	kernels := fs.String("kernel", vm.DefaultKernel, "kernels to run on, one after the other: "+strings.Join(names, ", ")+", all, or a path")
	fs.StringVar(&cfg.Arch, "arch", "", "amd64 or arm64 (default: this machine's)")
	fs.StringVar(&cfg.Append, "append", "", "more for the kernel's command line")
	fs.IntVar(&cfg.MemoryMB, "m", 0, "memory in MiB (default 1024)")
	fs.IntVar(&cfg.CPUs, "smp", 0, "processors (default 2)")
	fs.Var(&files, "add", "file or directory to put in the machine; may be repeated")
	fs.Var(&env, "env", "NAME=VALUE for the program; may be repeated")
	timeout := fs.Duration("timeout", 5*time.Minute, "how long one machine may run")
	console := fs.Bool("console", false, "print the kernel's messages at the end")
	refresh := fs.Bool("refresh", false, "fetch the kernels again, then run the program if one is given")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if fs.NArg() == 0 && !*refresh {
		fs.Usage()
		return 2
	}
	wanted := strings.Split(*kernels, ",")
	if *kernels == "all" {
		wanted = names
	}
	// The go command sends SIGQUIT to tests that take too long.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	defer stop()

	if *refresh {
		for _, name := range wanted {
			k, err := vm.Find(ctx, vm.FindConfig{Name: name, Arch: cfg.Arch, Refresh: true})
			if err != nil {
				fmt.Fprintln(stderr, "vmtest:", err)
				return trouble
			}
			fmt.Fprintf(stderr, "vmtest: %s is %s\n", name, k.Release)
		}
		if fs.NArg() == 0 {
			return 0
		}
	}
	if st, err := os.Stat("testdata"); err == nil && st.IsDir() {
		files = append(files, "testdata")
	}
	cfg.Binary, cfg.Args = fs.Arg(0), testArgs(fs.Args()[1:])
	cfg.Files, cfg.Env, cfg.Output = files, env, stdout
	if *console {
		cfg.Console = stderr
	}
	status := 0
	for _, name := range wanted {
		cfg.Kernel = name
		res, err := runOne(ctx, cfg, *timeout)
		switch {
		case err != nil:
			fmt.Fprintln(stderr, "vmtest:", err)
			res.Status = trouble
		case len(wanted) > 1:
			fmt.Fprintf(stderr, "vmtest: %s (%s): status %d in %s\n", name, res.Kernel, res.Status, res.Elapsed.Round(100*time.Millisecond))
		}
		if status == 0 {
			status = res.Status
		}
	}
	return status
}

func runOne(ctx context.Context, cfg vm.Config, timeout time.Duration) (vm.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("machine still running after %s", timeout))
	defer cancel()
	return vm.Run(ctx, cfg)
}

// testArgs leaves out what the go command adds for its cache: a file of the
// host that the machine could not write.
func testArgs(args []string) []string {
	var kept []string
	for _, a := range args {
		if !strings.HasPrefix(a, "-test.testlogfile=") {
			kept = append(kept, a)
		}
	}
	return kept
}
