package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/clewsec/clew/internal/baseline"
	"github.com/clewsec/clew/internal/filehash"
	"github.com/clewsec/clew/internal/pkgdb"
)

// How fast, and how much, the files that rules watch are read for the baseline:
// it may take its time, the host's work may not wait for it.
const (
	baselineRate  = 8 << 20 // bytes per second
	baselineFiles = 50_000
	baselineRead  = 30 * time.Second // of one file
)

// recordBaseline records what the files that rules watch are, once: later starts
// add what is watched since then, and change nothing. It ends with ctx; what it
// had not come to then is recorded at the next start.
func (a *Agent) recordBaseline(ctx context.Context, dir string, watched []string) {
	name := filepath.Join(dir, "baseline")
	canonical := pkgdb.Canonical(os.DirFS("/"))
	globs := make([]string, len(watched))
	for i, g := range watched {
		globs[i] = canonical(g)
	}
	slices.Sort(globs)
	globs = slices.Compact(globs)
	base, err := baseline.Load(name)
	if errors.Is(err, fs.ErrNotExist) {
		base, err = &baseline.Baseline{}, nil
	}
	if err != nil {
		// It is evidence of what was: not for us to replace.
		a.cfg.Log.Warn("the baseline of watched files cannot be read", "error", err)
		return
	}
	if globs = base.Lacks(globs); len(globs) == 0 {
		return
	}
	helper := filehash.NewHelper(filehash.HelperConfig{Log: a.cfg.Log})
	defer helper.Close()
	res, err := baseline.Scan(ctx, baseline.Config{
		Globs: globs, MaxFiles: baselineFiles, BytesPerSecond: baselineRate, Now: time.Now().UnixNano(), Skip: base.Has(),
		Sum: func(f *os.File, s *baseline.State) error {
			c, err := helper.Examine(f, filehash.DefaultMaxSize, 0, baselineRead)
			s.SHA256 = c.SHA256
			return err
		},
	})
	if err != nil {
		a.cfg.Log.Warn("no baseline of watched files is recorded", "error", err)
		return
	}
	// A person may have accepted files meanwhile.
	if again, err := baseline.Load(name); err == nil {
		base = again
	}
	added := base.Merge(globs, res.States, res.Complete, false)
	if err := base.Store(name); err != nil {
		a.cfg.Log.Warn("no baseline of watched files is recorded", "error", err)
		return
	}
	for _, p := range res.Problems {
		a.cfg.Log.Debug("baseline of watched files", "left out", p)
	}
	a.cfg.Log.Info("baseline of watched files recorded", "added", added, "not_read", res.Unread, "complete", res.Complete)
}
