// Command gotest runs go test and prints what it prints, and at the end each
// test that was skipped, with its reason: a test that is skipped everywhere is
// no test, and without the list nobody would see it.
//
//	go run ./tools/gotest [go test flags] [packages]
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(stderr, "gotest:", err)
		return 1
	}
	skipped, err := report(out, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "gotest:", err)
		// What is left has to be read, or go test waits for ever.
		_, _ = io.Copy(io.Discard, out)
	}
	waitErr := cmd.Wait()
	if len(skipped) > 0 {
		fmt.Fprintf(stdout, "%d tests were skipped:\n", len(skipped))
		for _, s := range skipped {
			fmt.Fprintln(stdout, "  "+s)
		}
	}
	var exit *exec.ExitError
	switch {
	case errors.As(waitErr, &exit):
		return max(exit.ExitCode(), 1)
	case waitErr != nil || err != nil:
		return 1
	}
	return 0
}

// An action is one line of go test -json.
type action struct {
	Action  string
	Package string
	Test    string
	Output  string
}

type test struct{ pkg, name string }

// report prints package lines and the output of failed tests, and returns the
// skipped tests.
func report(r io.Reader, w io.Writer) ([]string, error) {
	kept := map[test][]string{} // output of tests that have not ended
	var skipped []string
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadBytes('\n')
		if len(line) > 0 {
			var a action
			if json.Unmarshal(line, &a) != nil {
				// Not of go test's making; whoever wrote it wants it seen.
				fmt.Fprintf(w, "%s", line)
				continue
			}
			key := test{a.Package, a.Test}
			switch {
			case a.Action == "build-output":
				fmt.Fprint(w, a.Output)
			case a.Action == "output" && a.Test == "":
				if !noise(a.Output) {
					fmt.Fprint(w, a.Output)
				}
			case a.Action == "output":
				kept[key] = append(kept[key], a.Output)
			case a.Action == "fail" && a.Test != "":
				fmt.Fprint(w, strings.Join(kept[key], ""))
				delete(kept, key)
			case a.Action == "skip" && a.Test != "":
				skipped = append(skipped, fmt.Sprintf("%s %s: %s", a.Package, a.Test, reason(kept[key])))
				delete(kept, key)
			case a.Action == "pass":
				delete(kept, key)
			}
		}
		if errors.Is(err, io.EOF) {
			// A test that has not ended is where the package died.
			for _, key := range slices.SortedFunc(maps.Keys(kept), func(a, b test) int {
				return strings.Compare(a.pkg+" "+a.name, b.pkg+" "+b.name)
			}) {
				fmt.Fprintf(w, "--- did not end: %s %s\n%s", key.pkg, key.name, strings.Join(kept[key], ""))
			}
			return skipped, nil
		}
		if err != nil {
			return skipped, err
		}
	}
}

// noise reports whether a package's line is there only because -json implies
// -v.
func noise(line string) bool {
	return line == "PASS\n" || strings.HasPrefix(line, "testing: warning: no tests to run")
}

// reason finds what a test said when it skipped itself.
func reason(output []string) string {
	var said []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		said = append(said, line)
	}
	if len(said) == 0 {
		return "no reason"
	}
	return strings.Join(said, " ")
}
