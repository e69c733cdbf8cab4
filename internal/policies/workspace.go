package policies

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/clewsec/clew/internal/ruleset"
)

// Bounds of what is looked at in a folder that an editor has open: it may be
// somebody's home.
const (
	maxEntries = 200_000
	maxFiles   = 20_000
	maxBytes   = 256 << 20
)

// ReadWorkspace collects the policy files below a folder, in the order of
// their names. Hidden folders, node_modules, and what cannot be read are left
// out. With the error that the folder is too large come the files that were
// found until then.
func ReadWorkspace(folder string) ([]ruleset.File, error) {
	var files []ruleset.File
	entries, size := 0, 0
	err := filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entries++; entries > maxEntries || len(files) >= maxFiles || size > maxBytes {
			return errTooLarge
		}
		base := d.Name()
		if d.IsDir() {
			if name != folder && (strings.HasPrefix(base, ".") || base == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if base != "rule.yaml" && !strings.HasSuffix(base, ".policy") || !d.Type().IsRegular() {
			return nil
		}
		if data, ok := ReadOne(name); ok {
			files = append(files, ruleset.File{Name: name, Data: data})
			size += len(data)
		}
		return nil
	})
	if err != nil {
		return files, fmt.Errorf("read %s: %w", folder, err)
	}
	return files, nil
}

var errTooLarge = errors.New("too large to be looked through")

// ReadOne reads one policy file; false where it is none, or too large.
func ReadOne(name string) ([]byte, bool) {
	info, err := os.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil, false
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, false
	}
	data, err := io.ReadAll(io.LimitReader(f, ruleset.MaxFileBytes+1))
	if err = errors.Join(err, f.Close()); err != nil || len(data) > ruleset.MaxFileBytes {
		return nil, false
	}
	return data, true
}
