package baseline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/pkgdb"
)

// tree makes files below a directory: a name that ends in a slash is a
// directory, a text that begins with "-> " a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, isLink := strings.CutPrefix(text, "-> "); isLink {
			err = os.Symlink(to, p)
		} else if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(p, 0o755)
		} else {
			err = os.WriteFile(p, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func scanned(t *testing.T, cfg Config) *Result {
	t.Helper()
	if cfg.Sum == nil {
		cfg.Sum = Sum(pkgdb.Read(os.DirFS(cfg.Root), nil))
	}
	res, err := Scan(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func paths(res *Result) string {
	var out []string
	for _, s := range res.States {
		out = append(out, s.Path)
	}
	return strings.Join(out, " ")
}

func TestScan(t *testing.T) {
	root := tree(t, map[string]string{
		"etc/a": "1", "etc/ssh/sshd_config": "2", "etc/ssh/d/x": "3", "etc/ssh/d/e/f": "4", "home/a/.ssh/keys": "5", "home/b/.ssh/keys": "6",
		"home/c": "-> /home/a", "home/d/.ssh": "-> ../a/.ssh", "etc/link": "-> /etc/a", "out": "-> /etc", "etc/empty/": "",
	})
	for _, tc := range []struct{ globs, want string }{
		{"/etc/a", "/etc/a"},
		{"/etc/absent", ""},
		{"/etc/a/b", ""},
		{"/etc/*", "/etc/a /etc/empty /etc/link /etc/ssh"},
		{"/etc/ssh /etc/ssh/**", "/etc/ssh /etc/ssh/d /etc/ssh/d/e /etc/ssh/d/e/f /etc/ssh/d/x /etc/ssh/sshd_config"},
		{"/home/*/.ssh/keys", "/home/a/.ssh/keys /home/b/.ssh/keys"}, // not behind links
		{"/home/*/.ssh/**", "/home/a/.ssh/keys /home/b/.ssh/keys"},
		{"/out/*", ""},
		{"/etc/link", "/etc/link"},
		{"/etc/s*/s*g", "/etc/ssh/sshd_config"},
	} {
		res := scanned(t, Config{Root: root, Globs: strings.Fields(tc.globs)})
		if got := paths(res); got != tc.want || !res.Complete || len(res.Problems) > 0 {
			t.Errorf("%s: %s, want %s; complete %v, %v", tc.globs, got, tc.want, res.Complete, res.Problems)
		}
	}
	res := scanned(t, Config{Root: root, Globs: []string{"/**"}})
	for _, s := range res.States {
		switch s.Path {
		case "/etc/a":
			if s.SHA256 != "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b" || s.Size != 1 || s.Mode != unix.S_IFREG|0o644 || s.Inode == 0 || s.MtimeNS == 0 {
				t.Errorf("%+v", s)
			}
		case "/etc/link":
			if s.Target != "/etc/a" || s.Mode&unix.S_IFMT != unix.S_IFLNK {
				t.Errorf("%+v", s)
			}
		}
	}
	if res := scanned(t, Config{Root: root, Globs: []string{"/**"}, MaxFiles: 3}); len(res.States) != 3 || res.Complete || len(res.Problems) != 1 {
		t.Errorf("%d files of 3, complete %v, %v", len(res.States), res.Complete, res.Problems)
	}
	if res := scanned(t, Config{Root: root, Globs: []string{"/etc/ssh/**"}, MaxSize: 0, Sum: func(*os.File, *State) error { return errors.New("no") }}); res.Unread != 3 {
		t.Errorf("%d files are not read", res.Unread)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if res, err := Scan(ctx, Config{Root: root, Globs: []string{"/**"}}); err != nil || res.Complete || len(res.States) > 0 {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestScanHostile holds that what is no file is not opened, and what is too
// large not read.
func TestScanHostile(t *testing.T) {
	root := tree(t, map[string]string{"big": strings.Repeat("x", 1000), "ok": "x"})
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	deep := root
	for range maxDepth + 3 {
		deep = filepath.Join(deep, "d")
		if err := os.Mkdir(deep, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	res := scanned(t, Config{Root: root, Globs: []string{"/**"}, MaxSize: 100})
	for _, s := range res.States {
		want := map[string]string{"/big": "too_large"}[s.Path]
		if s.Reason != want || (s.SHA256 != "") != (s.Path == "/ok") {
			t.Errorf("%+v", s)
		}
	}
	if res.Complete || len(res.States) < maxDepth {
		t.Errorf("%d files, complete %v", len(res.States), res.Complete)
	}
}

// TestScanServed holds that the kernel's own file systems are left alone.
func TestScanServed(t *testing.T) {
	res := scanned(t, Config{Root: "/", Globs: []string{"/proc/self/*", "/proc/1/mem", "/proc/*/root/**"}, Sum: func(*os.File, *State) error { return nil }})
	if len(res.States) > 0 {
		t.Errorf("%v", paths(res))
	}
}

// debian is a host with a package.
func debian(t *testing.T, more map[string]string) string {
	files := map[string]string{
		"bin/sh": "shell", "bin/su": "su", "bin/login": "login", "etc/conf": "as it was", "etc/other": "as it was", "bin/link": "-> sh", "bin/link2": "-> login",
		"var/lib/dpkg/status":      "Package: p\nStatus: install ok installed\nVersion: 1-2\nConffiles:\n /etc/conf 8b2f59d2c4fe1d2fa05a07a16c9ab1a5\n /etc/other 7f6b8e1a6d6b3a2a2e7a6c1c9c7b4f11\n\n",
		"var/lib/dpkg/info/p.list": "/.\n/bin\n/bin/sh\n/bin/su\n/bin/login\n/bin/gone\n/etc/conf\n/etc/other\n/bin/link\n/bin/link2\n",
		"var/lib/dpkg/info/p.md5sums": "2591c98b70119fe624898b1e424b5e91  bin/sh\n0b180078d994cb2b5ed89d7ce8e7eea2  bin/su\n" +
			"d41d8cd98f00b204e9800998ecf8427e  bin/login\nd41d8cd98f00b204e9800998ecf8427e  bin/gone\n",
		"var/lib/dpkg/statoverride": "#7 #7 4755 /bin/su\n",
	}
	for k, v := range more {
		files[k] = v
	}
	return tree(t, files)
}

func text(list []Finding) string {
	var b strings.Builder
	for _, f := range list {
		fmt.Fprintf(&b, "%s %s %s", f.Path, f.Package, f.Recorded)
		if f.Owner != "" {
			fmt.Fprintf(&b, " %s %s", f.Owner, f.Version)
		}
		if f.Config {
			b.WriteString(" config")
		}
		if !f.Expected {
			b.WriteString(" unexpected")
		}
		for _, d := range f.Detail {
			if i := strings.Index(d, "Z: "); i > 0 {
				d = "since then:" + d[i+2:]
			}
			b.WriteString(" | " + d)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestCompare(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to own files")
	}
	root := debian(t, map[string]string{"bin/extra": "mine", "etc/new/": ""})
	db := pkgdb.Read(os.DirFS(root), nil)
	globs := []string{"/bin/*", "/etc/*"}
	scan := func() []State { return scanned(t, Config{Root: root, Globs: globs, Now: 1}).States }
	compare := func(base *Baseline) string { return text(Compare(scan(), globs, db, base, Absent(root))) }

	want := `/bin/extra unowned none unexpected
/bin/gone missing none p 1-2 unexpected
/bin/link ok none p 1-2
/bin/link2 ok none p 1-2
/bin/login modified none p 1-2 unexpected | content is not what was installed
/bin/sh ok none p 1-2
/bin/su attributes none p 1-2 unexpected | mode 0644, installed 4755 | owner 0:0, installed 7:7
/etc/conf modified none p 1-2 config unexpected | content is not what was installed
/etc/new ok none
/etc/other modified none p 1-2 config unexpected | content is not what was installed
`
	if got := compare(nil); got != want {
		t.Errorf("without a baseline:\n%swant\n%s", got, want)
	}
	base := &Baseline{}
	base.Merge(globs, scan(), true, false)
	if got := compare(base); strings.Contains(got, "unexpected") || strings.Count(got, "\n") != 10 {
		t.Errorf("nothing has changed:\n%s", got)
	}

	// Everything that can be done to a file.
	for _, err := range []error{
		os.WriteFile(filepath.Join(root, "bin/sh"), []byte("evil"), 0o755),
		unix.Chmod(filepath.Join(root, "bin/extra"), 0o4755),
		os.Chown(filepath.Join(root, "etc/conf"), 5, 5),
		os.Remove(filepath.Join(root, "etc/other")),
		os.WriteFile(filepath.Join(root, "bin/new"), []byte("x"), 0o755),
		os.Remove(filepath.Join(root, "bin/link")),
		os.Symlink("/tmp/x", filepath.Join(root, "bin/link")),
		os.Remove(filepath.Join(root, "bin/link2")),
		os.Symlink("su", filepath.Join(root, "bin/link2")),
		os.WriteFile(filepath.Join(root, "bin/su"), []byte("su"), 0o644),
		os.WriteFile(filepath.Join(root, "bin/gone"), nil, 0o644), // the package is installed again
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want = `/bin/extra unowned changed unexpected | since then: mode 4755 was 0644
/bin/gone ok new p 1-2
/bin/link ok changed p 1-2 unexpected | since then: led to "sh"
/bin/link2 ok changed p 1-2 | since then: led to "login"
/bin/login modified ok p 1-2 | content is not what was installed
/bin/new unowned new unexpected
/bin/sh modified changed p 1-2 unexpected | content is not what was installed | since then: content, 4 bytes were 5
/bin/su attributes ok p 1-2 | mode 0644, installed 4755 | owner 0:0, installed 7:7
/etc/conf modified changed p 1-2 config unexpected | content is not what was installed | since then: owner 5:5 was 0:0
/etc/new ok ok
/etc/other missing gone p 1-2 config unexpected
`
	if got := compare(base); got != want {
		t.Errorf("after changes:\n%swant\n%s", got, want)
	}

	// A restart does not take it for what was always there; a person does.
	base.Merge(globs, scan(), true, false)
	if got := compare(base); !strings.Contains(got, "/bin/sh modified changed p 1-2 unexpected") {
		t.Errorf("after a second baseline:\n%s", got)
	}
	base.Merge(globs, scan(), true, true)
	if got := compare(base); strings.Contains(got, "unexpected") {
		t.Errorf("after all was accepted:\n%s", got)
	}
}

// TestCompareApk holds that modes, owners and links are compared where the
// database has them.
func TestCompareApk(t *testing.T) {
	root := tree(t, map[string]string{
		"bin/busybox": "hello", "bin/sh": "-> /bin/busybox", "bin/ash": "-> /tmp/x",
		// SHA-1 of hello, of /bin/busybox twice.
		"lib/apk/db/installed": "P:b\nV:1\nF:bin\nR:busybox\na:0:0:755\nZ:Q1qvTGHdzF6KLavt4PO0gs2a6pQ00=\nR:sh\na:0:0:777\nZ:Q1pcfTfDNEbNKQc2s1tia7da05M8Q=\nR:ash\na:0:0:777\nZ:Q1pcfTfDNEbNKQc2s1tia7da05M8Q=\n",
	})
	if err := unix.Chmod(filepath.Join(root, "bin/busybox"), 0o4755); err != nil {
		t.Fatal(err)
	}
	res := scanned(t, Config{Root: root, Globs: []string{"/bin/*"}})
	got := text(Compare(res.States, []string{"/bin/*"}, pkgdb.Read(os.DirFS(root), nil), nil, Absent(root)))
	for _, want := range []string{"/bin/ash modified none b 1 unexpected", "/bin/busybox attributes none b 1 unexpected | mode 4755, installed 0755", "/bin/sh ok"} {
		if !strings.Contains(got, want) && (os.Geteuid() == 0 || !strings.Contains(want, "ok")) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestInterrupted holds that a baseline that was not recorded to the end is
// added to later, and says nothing of what it had not come to; and that what is
// watched later does not bless what came to the old places meanwhile.
func TestInterrupted(t *testing.T) {
	root := tree(t, map[string]string{"a/1": "x", "a/2": "x", "b/1": "x"})
	globs := []string{"/a/*"}
	b := &Baseline{}
	scan := func() *Result { return scanned(t, Config{Root: root, Globs: b.Lacks(globs), Skip: b.Has()}) }
	compare := func() string {
		return text(Compare(scanned(t, Config{Root: root, Globs: globs}).States, globs, nil, b, Absent(root)))
	}
	res := scan()
	b.Merge(globs, res.States[:1], false, false)
	if got := compare(); got != "/a/1 none ok\n/a/2 none none\n" {
		t.Errorf("interrupted:\n%s", got)
	}
	res = scan()
	if paths(res) != "/a/2" {
		t.Errorf("again: %s", paths(res))
	}
	b.Merge(globs, res.States, true, false)
	if err := os.WriteFile(filepath.Join(root, "a/3"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	globs = append(globs, "/b/*", "/*/3")
	b.Merge(b.Lacks(globs), scan().States, true, false)
	if got := compare(); got != "/a/1 none ok\n/a/2 none ok\n/a/3 none new unexpected\n/b/1 none ok\n" {
		t.Errorf("more is watched:\n%s", got)
	}
}

func TestStored(t *testing.T) {
	name := filepath.Join(t.TempDir(), "baseline")
	if _, err := Load(name); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	b := &Baseline{}
	b.Merge([]string{"/b", "/a/**"}, []State{{Path: "/b", Inode: 7, Mode: 0o100644, SHA256: "x", Digest: "md5:y"}, {Path: "/a/é\n", Target: "<&>"}}, true, false)
	if err := b.Store(name); err != nil {
		t.Fatal(err)
	}
	got, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Files) != 2 || got.Files["/b"] != b.Files["/b"] || got.Files["/a/é\n"].Target != "<&>" || !slices.Equal(got.Globs, []string{"/a/**", "/b"}) {
		t.Errorf("%+v", got)
	}
	if lacks := got.Lacks([]string{"/b", "/c"}); !slices.Equal(lacks, []string{"/c"}) {
		t.Errorf("lacks %q", lacks)
	}
	for p, want := range map[string]bool{"/b": true, "/a/x": true, "/c": false} {
		if got.Has()(p) != want {
			t.Errorf("%s: recorded %v", p, !want)
		}
	}
	if list, err := os.ReadDir(filepath.Dir(name)); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	for text, want := range map[string]string{
		"":                                       "unexpected EOF",
		"x":                                      "this is none",
		`{"format":"x"}`:                         "this is none",
		`{"format":"clew-baseline","version":2}`: "newer clew",
		"{\"format\":\"clew-baseline\",\"version\":1}\n{}":  "line 2",
		"{\"format\":\"clew-baseline\",\"version\":1}\nx\n": "line 2",
	} {
		if _, err := Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// FuzzRead holds that what is read is written and read again the same.
func FuzzRead(f *testing.F) {
	f.Add([]byte("{\"format\":\"clew-baseline\",\"version\":1,\"globs\":[\"/b\",\"/a\"]}\n{\"path\":\"/a\",\"mode\":33188,\"sha256\":\"x\"}\n"))
	f.Add([]byte("{\"format\":\"clew-baseline\",\"version\":1}\n{\"path\":\"/\\ud800\"}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		var one, two bytes.Buffer
		if err := b.Write(&one); err != nil {
			t.Fatal(err)
		}
		again, err := Read(bytes.NewReader(one.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Write(&two); err != nil || one.String() != two.String() {
			t.Errorf("%q, %q, %v", one.String(), two.String(), err)
		}
	})
}
