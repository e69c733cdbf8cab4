package arrows

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the repository, as seen from this package.
const root = "../.."

// files returns the files of the repository: those that git knows, or in an
// unpacked archive all of them.
func files(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "-c", "safe.directory=*", "ls-files", "-z")
	cmd.Dir = root
	if out, err := cmd.Output(); err == nil {
		return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 })
	}
	var all []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "node_modules", "bin", ".cache"}, d.Name()):
			return filepath.SkipDir
		case d.Type().IsRegular():
			rel, err := filepath.Rel(root, path)
			all = append(all, rel)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// foreign matches what a project that speaks of itself alone does not say. The
// patterns are put together here so that this file passes its own test.
var foreign = []struct {
	name string
	re   *regexp.Regexp
}{
	{"a path of the machine it was written on", regexp.MustCompile(`/wo` + `rk/|/tmp/ba` + `sh_jobs|\b/ro` + `ot/go/`)},
	{"a package registry or mirror by name", regexp.MustCompile(`registry\.np` + `mjs|registry\.ya` + `rnpkg|proxy\.go` + `lang\.org|deb\.deb` + `ian\.org|snapshot\.deb` + `ian`)},
	{"an address in a private network's registry", regexp.MustCompile(`https?://[a-z0-9.-]+\.(internal|corp|lan)\b`)},
	{"a writing tool", regexp.MustCompile(`(?i)\bcla` + `ude\b|anth` + `ropic|\bope` + `nai\b|chat` + `gpt|\bcopi` + `lot\b`)},
	{"a page that is not in the repository", regexp.MustCompile(`house-st` + `yle\.md|investigation-` + `ui\.md|sha` + `red/reference`)},
}

func TestSpeaksOfItself(t *testing.T) {
	names := files(t)
	if len(names) < 20 {
		t.Fatalf("the repository has %d files", len(names))
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // removed, but not yet committed so
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if bytes.IndexByte(data[:min(len(data), 8000)], 0) >= 0 {
			continue // binary
		}
		for _, f := range foreign {
			if loc := f.re.FindIndex(data); loc != nil {
				line := 1 + bytes.Count(data[:loc[0]], []byte("\n"))
				t.Errorf("%s:%d names %s: %q", name, line, f.name, data[loc[0]:loc[1]])
			}
		}
	}
}

// TestLockFiles: a lock file pins contents by hash; where they are fetched from
// is the business of whoever installs.
func TestLockFiles(t *testing.T) {
	for _, name := range files(t) {
		switch filepath.Base(name) {
		case "package-lock.json", ".npmrc":
		default:
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, word := range []string{`"resolved": "http`, "registry=", "_auth"} {
			if bytes.Contains(data, []byte(word)) {
				t.Errorf("%s contains %s", name, word)
			}
		}
	}
}

// generatedLine is what a generated Go file says above its package clause.
var generatedLine = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// TestGeneratedSaySo: whoever opens a generated file learns it at the top, and
// no hand-written file pretends.
func TestGeneratedSaySo(t *testing.T) {
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".go") || strings.Contains(name, "/testdata/") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue
		}
		base := filepath.Base(name)
		generated := strings.HasPrefix(name, "internal/gen/") || strings.HasSuffix(base, "_gen.go") ||
			strings.HasSuffix(base, "_bpfel.go") || strings.HasSuffix(base, "_bpfeb.go")
		head, _, _ := bytes.Cut(data, []byte("\npackage "))
		if says := generatedLine.Match(head); says != generated {
			t.Errorf("%s: generated %v, but its head says so: %v", name, generated, says)
		}
	}
}
