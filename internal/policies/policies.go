// Package policies finds the rules that an agent runs: those that clew comes
// with, and those in directories of the operator's.
package policies

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/ruletest"
	"github.com/clewsec/clew/rules"
)

// Load compiles the shipped rules together with those below paths, which may
// be files or directories. A bad rule is in the report and takes no other
// with it; the error is for what cannot be read at all.
func Load(facts ruleset.Facts, paths ...string) (*ruleset.Set, *ruleset.Report, error) {
	files, err := ruleset.ReadFiles(rules.FS, ".", "shipped")
	if err != nil {
		return nil, nil, err
	}
	own, err := Read(paths...)
	if err != nil {
		return nil, nil, err
	}
	return Compile(facts, append(files, own...))
}

// Read collects policy files without compiling them.
func Read(paths ...string) ([]ruleset.File, error) {
	var files []ruleset.File
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("read policies: %w", plain(err, p))
		}
		dir, root, prefix := p, ".", p
		if !info.IsDir() {
			dir, root = filepath.Split(p)
			prefix = dir
			if dir == "" {
				dir = "."
			}
		}
		fsys := os.DirFS(dir)
		found, err := ruleset.ReadFiles(fsys, root, prefix)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

// plain takes the system call's name out of an error about a path.
func plain(err error, path string) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", path, pe.Err)
	}
	return err
}

// Compile loads files as one set. The macros that clew ships are known to them.
func Compile(facts ruleset.Facts, files []ruleset.File) (*ruleset.Set, *ruleset.Report, error) {
	cfg, err := Config(facts)
	if err != nil {
		return nil, nil, err
	}
	return ruleset.Load(cfg, files)
}

// Config is what rules are loaded with: every field there is, and the shipped
// macros.
func Config(facts ruleset.Facts) (ruleset.Config, error) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		return ruleset.Config{}, err
	}
	macros, err := ruleset.ReadFiles(rules.FS, "macros.policy", "shipped")
	if err != nil {
		return ruleset.Config{}, err
	}
	return ruleset.Config{Schema: schema, Facts: facts, Macros: macros}, nil
}

// Cases reads the cases of a rule that was read from disk: those in the folder
// cases beside a rule.yaml, or cases/ID.yaml beside a policy file. None are no
// error.
func Cases(r *ruleset.Rule) ([]ruletest.Case, error) {
	dir := filepath.Join(filepath.Dir(r.At.File), "cases")
	names := []string{filepath.Join(dir, r.ID+".yaml")}
	if filepath.Base(r.At.File) == "rule.yaml" {
		var err error
		if names, err = filepath.Glob(filepath.Join(dir, "*.yaml")); err != nil {
			return nil, fmt.Errorf("read cases of %s: %w", r.ID, err)
		}
	}
	var out []ruletest.Case
	for _, name := range names {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read cases of %s: %w", r.ID, err)
		}
		data, err := io.ReadAll(io.LimitReader(f, ruleset.MaxFileBytes))
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("read cases of %s: %w", r.ID, err)
		}
		cases, err := ruletest.Parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, cases...)
	}
	return out, nil
}

// HostFacts are what filters of rules may ask about this host.
func HostFacts() ruleset.Facts {
	f := ruleset.Facts{Env: os.Environ()}
	f.Hostname, _ = os.Hostname()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	_, err := os.Stat("/sys/kernel/btf/vmlinux")
	f.CORE = err == nil
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return f // filters on the distribution will not match
	}
	for line := range strings.Lines(string(data)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		v = strings.Trim(v, `"'`)
		switch k {
		case "ID":
			f.OSID = v
		case "ID_LIKE":
			f.OSLike = v
		case "PLATFORM_ID":
			f.PlatformID = v
		case "VERSION_ID":
			f.VersionID = v
		}
	}
	return f
}
