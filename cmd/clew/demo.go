package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/demo"
	"github.com/clewsec/clew/internal/server/storytext"
)

// demoTime is how long a demo takes at most, from the command to its answer.
const demoTime = 22 * time.Second

// demoPace is the pause before each of the attacker's requests: a timeline is
// easier to read when not everything happens in one moment.
const demoPace = 400 * time.Millisecond

func newDemoCmd() *cobra.Command {
	var o demoOptions
	var list, attack bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play a safe attack on this host and show its story",
		Long: `Play a safe attack on this host and show its story.

The attack uses real processes, files and connections, but only below a
temporary directory, on loopback and in namespaces of its own, and cleans up.
It is played against the clew that runs here; when none does, the demo starts
one with a temporary data directory and stops it at the end. Where the kernel is
out of reach, a recording of the attack is shown instead.

The status is 1 when a step is not told within 25 seconds.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.out, o.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			switch {
			case list:
				return listSteps(o)
			case attack:
				_, err := demo.Play(cmd.Context(), o.playConfig())
				return err
			default:
				return runDemo(cmd.Context(), o)
			}
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.BoolVar(&list, "list", false, "print the steps and play nothing")
	f.BoolVar(&o.keep, "keep", false, "keep the clew that the demo started until Ctrl-C")
	f.BoolVar(&attack, "attack", false, "play the attack and ask nobody for its story, for recordings")
	f.StringVar(&o.root, "root", "", "directory to make for the attack (default: a temporary one)")
	f.StringVar(&o.data, "data", defaultData(), "data directory of the clew to ask ($CLEW_DATA)")
	return cmd
}

type demoOptions struct {
	json, keep bool
	root       string // of the attack
	data       string // of the clew to ask
	out, err   io.Writer
}

func (o demoOptions) playConfig() demo.Config {
	return demo.Config{
		Root: o.root,
		Pace: demoPace,
		Started: func(p demo.Plan) {
			o.say("Playing an attack below %s; nothing outside is touched.\n", p.Root)
		},
		Played: func(s demo.Step) { o.say("  %s\n", s.Text) },
	}
}

// say tells a person how it goes.
func (o demoOptions) say(format string, args ...any) {
	if !o.json {
		fmt.Fprintf(o.out, format, args...)
	}
}

func listSteps(o demoOptions) error {
	steps := demo.Example().Steps()
	if o.json {
		type step struct {
			Name   string `json:"name"`
			Text   string `json:"text"`
			Marker string `json:"marker"`
		}
		items := make([]step, len(steps))
		for i, s := range steps {
			items[i] = step(s)
		}
		return json.NewEncoder(o.out).Encode(map[string]any{"steps": items})
	}
	w := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	for i, s := range steps {
		fmt.Fprintf(w, "%d\t%s\t%s\n", i+1, s.Name, s.Text)
	}
	return w.Flush()
}

// errNotTold is a demo's finding: the attack was played, but its story is not
// whole.
var errNotTold = errors.New("not every step is told in one story")

func runDemo(ctx context.Context, o demoOptions) (err error) {
	start := time.Now()
	limited, cancel := context.WithDeadlineCause(ctx, start.Add(demoTime), errors.New("time is up"))
	defer cancel()

	local, err := demo.Connect(limited, o.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, local.Close()) }()

	plan, since := demo.Plan{}, start
	if local.Status.GetRecording() {
		_, plan = demo.Recording()
		since = time.Time{}
		o.say("The kernel is out of reach here: this is a RECORDING of the attack, not this host.\n")
	} else if plan, err = demo.Play(limited, o.playConfig()); err != nil {
		return fmt.Errorf("play the attack: %w", err)
	}
	steps := plan.Steps()
	telling, err := demo.Find(limited, local.Stories, since, steps)
	if err != nil {
		return err
	}
	if err := printTelling(ctx, o, local, telling, steps); err != nil {
		return err
	}
	if !telling.Complete() {
		err = &exitError{code: exitFailure, err: errNotTold}
	}
	if o.keep && local.Started() {
		o.say("\nclew keeps running until Ctrl-C.\n")
		select {
		case <-ctx.Done():
		case <-local.Exited():
			err = errors.Join(err, errors.New("clew ended"))
		}
	}
	return err
}

// printTelling prints the story and what of the attack it tells.
func printTelling(ctx context.Context, o demoOptions, local *demo.Local, t demo.Telling, steps []demo.Step) error {
	if o.json {
		type step struct {
			Name   string `json:"name"`
			Marker string `json:"marker"`
			Told   bool   `json:"told"`
		}
		doc := struct {
			StoryID string `json:"storyId"`
			Steps   []step `json:"steps"`
		}{StoryID: t.Story.GetId(), Steps: make([]step, len(steps))}
		for i, s := range steps {
			doc.Steps[i] = step{s.Name, s.Marker, t.Told[i]}
		}
		return json.NewEncoder(o.out).Encode(doc)
	}
	if t.Story == nil {
		o.say("\nNo story tells anything of it.\n")
		return nil
	}
	o.say("\n")
	o.say("%s", storytext.Text(t.Story, storytext.Options{}))
	told := 0
	for i, s := range steps {
		if t.Told[i] {
			told++
		} else {
			o.say("Not told: %s (%s)\n", s.Name, s.Marker)
		}
	}
	o.say("\n%d of %d steps are in this story.\n", told, len(steps))
	url, err := local.StoryURL(ctx, t.Story.GetId())
	if err != nil {
		return err
	}
	o.say("Its page: %s\n", url)
	return nil
}

// defaultData is where clew keeps its data unless told otherwise.
func defaultData() string {
	if dir := os.Getenv("CLEW_DATA"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/clew"
	}
	dir := os.Getenv("XDG_DATA_HOME")
	if dir == "" {
		dir = filepath.Join(os.Getenv("HOME"), ".local", "share")
	}
	return filepath.Join(dir, "clew")
}
