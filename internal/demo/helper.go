//go:build linux

package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stageEnv marks a process that plays a part of the attack. Its parts are
// copies of this program, told apart by the name they run under: that is what
// the story shows.
const stageEnv = "CLEW_DEMO_STAGE"

const stageName = "clew-demo-stage"

var parts = map[string]func(ctx context.Context, args []string) error{
	stageName: runStage,
	"httpd":   runHTTPD,
	"fetch":   runFetch,
	"cron":    runCron,
}

// IsHelper reports whether this process was started to play a part of the
// attack. A program that calls Play asks first thing, and if so ends with
// Helper's status.
func IsHelper() bool {
	return os.Getenv(stageEnv) != "" && parts[filepath.Base(os.Args[0])] != nil
}

// Helper plays the part that this process was started for and returns its exit
// status.
func Helper() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	name := filepath.Base(os.Args[0])
	if err := parts[name](ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// ready tells the stage, through the descriptor after the standard ones, that
// a service has started.
func ready() error {
	f := os.NewFile(3, "ready")
	if _, err := f.Write([]byte{'\n'}); err != nil {
		return fmt.Errorf("tell that it is ready: %w", err)
	}
	return f.Close()
}

// runHTTPD is a web service with the weakness that the attack uses: it puts a
// parameter into a shell command. It answers only below a path that the stage
// made up, since whoever can reach it can run commands.
func runHTTPD(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("httpd", flag.ContinueOnError)
	addr := fs.String("listen", "", "address and port")
	path := fs.String("path", "", "path of the check")
	logName := fs.String("log", "", "log file")
	addrName := fs.String("addr", "", "file to write the address to")
	if err := fs.Parse(args); err != nil {
		return err
	}
	logFile, err := os.OpenFile(*logName, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer logFile.Close()
	l, err := listen(ctx, *addr)
	if err != nil {
		return err
	}
	if err := os.WriteFile(*addrName, []byte(l.Addr().String()), 0o600); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+*path, func(w http.ResponseWriter, r *http.Request) {
		host := r.FormValue("host")
		fmt.Fprintf(logFile, "%s %s check of %q\n", time.Now().UTC().Format(time.RFC3339), r.RemoteAddr, host)
		cmd := exec.CommandContext(r.Context(), "/bin/sh", "-c", "echo checking "+host)
		cmd.Stdout, cmd.Stderr = w, w
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(w, "check:", err)
		}
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	// When ctx ends there is nothing to drain: the stage is over.
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := ready(); err != nil {
		return err
	}
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// runFetch downloads one file, like the programs that attackers find on a host.
func runFetch(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("fetch", flag.ContinueOnError)
	out := fs.String("o", "", "file to write")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 1 || *out == "" {
		return errors.New("usage: fetch -o FILE URL")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := get(ctx, web(net.Dialer{}), fs.Arg(0))
	if err != nil {
		return err
	}
	return os.WriteFile(*out, body, 0o644)
}

// listen opens an ordinary TCP socket, where Go would ask for a multipath one.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, "tcp4", addr)
}

// web returns a client that asks once and keeps no connection.
func web(d net.Dialer) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return d.DialContext(ctx, "tcp4", addr)
		},
		DisableKeepAlives: true,
	}}
}

// get returns what a server of the attack answers, at most a mebibyte.
func get(ctx context.Context, c *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", url, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
}

// runCron runs each entry of a directory of cron tables once, as soon as it
// sees it: cron without the waiting.
func runCron(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: cron DIRECTORY")
	}
	if err := ready(); err != nil {
		return err
	}
	done := map[string]bool{}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		entries, err := os.ReadDir(args[0])
		if err != nil {
			return err
		}
		for _, e := range entries {
			if done[e.Name()] {
				continue
			}
			command, err := cronCommand(filepath.Join(args[0], e.Name()))
			if err != nil {
				return err
			}
			if command == "" {
				continue // still being written
			}
			done[e.Name()] = true
			if err := exec.CommandContext(ctx, "/bin/sh", "-c", command).Run(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("entry %s: %w", e.Name(), err)
			}
		}
	}
}

// cronCommand returns the command of a table's only entry: what follows five
// fields of time and a user. It is empty when there is no whole entry.
func cronCommand(name string) (string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	line, _, whole := strings.Cut(string(data), "\n")
	fields := strings.SplitN(line, " ", 7)
	if !whole || len(fields) < 7 {
		return "", nil
	}
	return fields[6], nil
}

// A message is what the stage tells whoever set it up, one JSON object a line.
type message struct {
	Done    string `json:"done,omitempty"`    // name of a step that has been played
	Error   string `json:"error,omitempty"`   // why the stage ends early
	Refused bool   `json:"refused,omitempty"` // the error is that the host allows no stage of this kind
}

// readMessages calls f for each message until the stage closes its output.
func readMessages(r io.Reader, f func(message)) error {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		var m message
		if err := json.Unmarshal(sc.Bytes(), &m); err != nil {
			return fmt.Errorf("message of the stage: %w", err)
		}
		f(m)
	}
	return sc.Err()
}
