package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/clewsec/clew/internal/baseline"
	"github.com/clewsec/clew/internal/pkgdb"
	"github.com/clewsec/clew/internal/policies"
)

// baselineFile is where the agent keeps the baseline, below the data directory.
const baselineFile = "agent/baseline"

func newFilesCmd() *cobra.Command {
	var (
		server serverFlags
		q      filesQuery
	)
	cmd := &cobra.Command{
		Use:   "files [PATH…]",
		Short: "Compare files with what packages installed and with the baseline",
		Long: `Compare the files that rules watch, or those at PATH, with what the packages of
the operating system installed (dpkg, apk) and with the baseline that clew up
recorded when it first ran. A PATH is a file, a directory with everything below
it, or a pattern of the rule language.

One line for each file that differs from either: how it stands to its package
(modified, attributes, missing, unowned, unreadable), how to the baseline
(changed, new, gone), its package, and what differs. With --unexpected only those
that neither explains: a file that is as its package has it was upgraded, and one
that is as recorded was that way before. A configuration file that was changed
before the baseline is expected, then; without a baseline it is not.

Packages say what they installed, by MD5 on Debian and its relatives. Whoever is
root can change their database, as well as the baseline; an older copy of either
can be compared on another machine with --root.

What could not be looked at is told on standard error. Links are not followed.
--accept records what is there now as expected, which takes root. The exit status
is 0 where nothing differs, 1 where something does or failed, 2 where the command
line makes no sense.`,
		Args: args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, paths []string) error {
			q.baseline = filepath.Join(server.data, baselineFile)
			q.out, q.errs = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return q.run(cmd, &server, paths)
		},
	}
	server.add(cmd)
	f := cmd.Flags()
	f.BoolVar(&q.unexpected, "unexpected", false, "only files that neither package nor baseline explain")
	f.BoolVar(&q.json, "json", false, "print JSON")
	f.BoolVar(&q.accept, "accept", false, "record what is there now as expected")
	f.StringVar(&q.root, "root", "/", "directory that is taken for the root of a host")
	f.StringArrayVar(&q.policies, "policies", nil, "rules beside the shipped ones whose files are watched (may be repeated)")
	return cmd
}

// maxRead is the size of the largest file that is read, bytes.
const maxRead = 4 << 30

type filesQuery struct {
	unexpected, json, accept bool
	root                     string
	policies                 []string
	baseline                 string
	out, errs                io.Writer
}

func (q *filesQuery) run(cmd *cobra.Command, server *serverFlags, paths []string) error {
	globs, err := q.globs(paths)
	if err != nil {
		return err
	}
	base, err := q.load()
	if err != nil {
		return err
	}
	if base != nil && !q.accept && len(base.Lacks(globs)) == len(globs) {
		fmt.Fprintln(q.errs, "clew: the baseline does not know these files")
	}
	db := pkgdb.Read(os.DirFS(q.root), baseline.Match(globs))
	if len(db.Managers) == 0 {
		fmt.Fprintln(q.errs, "clew: no package database is known here: files are compared with the baseline only")
	}
	res, err := baseline.Scan(cmd.Context(), baseline.Config{Root: q.root, Globs: globs, MaxSize: maxRead, Sum: baseline.Sum(db), Now: time.Now().UnixNano()})
	if err != nil {
		return err
	}
	if err := cmd.Context().Err(); err != nil {
		return err
	}
	for _, p := range slices.Concat(db.Problems, res.Problems) {
		fmt.Fprintln(q.errs, "clew:", printable(p))
	}
	if res.Unread > 0 {
		fmt.Fprintf(q.errs, "clew: %d files could not be read%s\n", res.Unread, hint())
	}
	if q.accept {
		if base == nil {
			base = &baseline.Baseline{}
		}
		n := base.Merge(globs, res.States, res.Complete, true)
		if err := base.Store(q.baseline); err != nil {
			return err
		}
		_, err := fmt.Fprintf(q.out, "%d files recorded, %d of them new or changed\n", len(res.States), n)
		return err
	}
	list := baseline.Compare(res.States, globs, db, base, baseline.Absent(q.root))
	list = slices.DeleteFunc(list, func(f baseline.Finding) bool { return !f.Differs() || q.unexpected && f.Expected })
	if base != nil && q.root == "/" {
		responsible(cmd.Context(), server, cmd, list)
	}
	if q.json {
		err = printItems(q.out, list)
	} else {
		err = q.print(list)
	}
	if err != nil {
		return err
	}
	return failIf(len(list) > 0)
}

// hint says what would help somebody who may not read everything.
func hint() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return "; root could read more of them"
}

// globs are what is looked at: what the rules watch, or what was asked for.
func (q *filesQuery) globs(paths []string) ([]string, error) {
	// Rules, packages and people say /bin where the kernel says /usr/bin.
	canonical := pkgdb.Canonical(os.DirFS(q.root))
	if len(paths) == 0 {
		set, report, err := policies.Load(policies.HostFacts(), q.policies...)
		if err != nil {
			return nil, err
		}
		if report.Failed() {
			fmt.Fprintln(q.errs, "clew: some rules cannot be loaded, see clew rules check")
		}
		out := set.WatchedPaths()
		for i := range out {
			out[i] = canonical(out[i])
		}
		slices.Sort(out)
		return slices.Compact(out), nil
	}
	var out []string
	for _, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		abs = canonical(abs)
		if strings.Contains(abs, "*") {
			out = append(out, abs)
			continue
		}
		// The kernel knows files by the path without links; the file itself may
		// be one.
		if q.root == "/" {
			if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
				abs = filepath.Join(dir, filepath.Base(abs))
			}
		}
		out = append(out, abs)
		if st, err := os.Lstat(filepath.Join(q.root, abs)); err == nil && st.IsDir() {
			out = append(out, strings.TrimSuffix(abs, "/")+"/**")
		}
	}
	return out, nil
}

// load reads the baseline. That there is none, or that it is not for us, is
// said and no error.
func (q *filesQuery) load() (*baseline.Baseline, error) {
	b, err := baseline.Load(q.baseline)
	switch {
	case err == nil:
		return b, nil
	case q.accept && errors.Is(err, fs.ErrNotExist):
		if st, serr := os.Stat(filepath.Dir(q.baseline)); serr != nil || !st.IsDir() {
			return nil, fmt.Errorf("%s is no data directory of clew up", filepath.Dir(filepath.Dir(q.baseline)))
		}
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintln(q.errs, "clew: no baseline is recorded: clew up does that")
		return nil, nil
	case errors.Is(err, fs.ErrPermission) && !q.accept:
		fmt.Fprintln(q.errs, "clew: the baseline can be read by root only: files are compared with packages")
		return nil, nil
	}
	return nil, err
}

func (q *filesQuery) print(list []baseline.Finding) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range list {
		pkg, recorded, owner := string(f.Package), string(f.Recorded), "-"
		if f.Package == baseline.NoDatabase {
			pkg = "-"
		}
		if f.Recorded == baseline.NoBaseline {
			recorded = "-"
		}
		if f.Owner != "" {
			owner = f.Owner + " " + f.Version
		}
		details := slices.Clone(f.Detail)
		if f.Config {
			details = append([]string{"configuration file"}, details...)
		}
		if f.By != "" {
			details = append(details, "last changed by "+f.By)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", printable(f.Path), pkg, recorded, printable(owner), printable(strings.Join(details, "; ")))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(q.out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}
