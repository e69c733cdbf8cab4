package pkgdb

import (
	"crypto/sha1"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
)

// host makes a root directory of an archive.
func host(t testing.TB, name string) fstest.MapFS {
	t.Helper()
	a, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for _, f := range a.Files {
		file := &fstest.MapFile{Data: f.Data, Mode: 0o644}
		if to, ok := strings.CutPrefix(string(f.Data), "symlink "); ok {
			file.Data, file.Mode = []byte(strings.TrimSpace(to)), fs.ModeSymlink|0o777
		}
		fsys[f.Name] = file
	}
	return fsys
}

// describe writes what is known of a path in one line for each package.
func describe(db *DB, p string) string {
	var out []string
	for _, f := range db.Owners(p) {
		s := f.Package.Name + " " + f.Package.Version
		if f.Package.Arch != "" {
			s += " " + f.Package.Arch
		}
		if f.Digest != "" {
			s += " " + f.Digest
		}
		if f.Config {
			s += " config"
		}
		if f.HasMode {
			s += fmt.Sprintf(" %04o %d:%d %s:%s", f.Mode, f.UID, f.GID, f.Owner, f.Group)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func sum(to string) string { return fmt.Sprintf("%x", sha1.Sum([]byte(to))) }

func TestDpkg(t *testing.T) {
	db := Read(host(t, "testdata/debian.txtar"), nil)
	if !slices.Equal(db.Managers, []string{"dpkg"}) || len(db.Problems) > 0 || db.Packages() != 6 {
		t.Errorf("managers %v, problems %v, %d packages", db.Managers, db.Problems, db.Packages())
	}
	for p, want := range map[string]string{
		"/bin/bash":                         "bash 5.2.15-2+b7 amd64 md5:7210080490f9fd139c1b44fa0f730988 4754 0:0 root:messagebus",
		"/usr/bin/bash":                     "bash 5.2.15-2+b7 amd64 md5:7210080490f9fd139c1b44fa0f730988 4754 0:0 root:messagebus",
		"/etc/bash.brc":                     "bash 5.2.15-2+b7 amd64 md5:89269e1298235f1b12b4c16e4065ad0d config",
		"/etc/old":                          "bash 5.2.15-2+b7 amd64 md5:0123456789abcdef0123456789abcdef config",
		"/etc/new":                          "bash 5.2.15-2+b7 amd64 config",
		"/etc":                              "bash 5.2.15-2+b7 amd64",
		"/usr/share/a file":                 "bash 5.2.15-2+b7 amd64 md5:00112233445566778899aabbccddeeff",
		"/usr/share/not in list":            "",
		"/usr/lib/i386-linux-gnu/libc.so.6": "libc6 2.36-9 i386 md5:33333333333333333333333333333333",
		"/usr/share/doc/libc6/copyright": "libc6 2.36-9 i386 md5:22222222222222222222222222222222; " +
			"libc6 2.36-9 amd64 md5:22222222222222222222222222222222",
		"/etc/gone":              "",
		"/usr/bin/perl":          "perl-base 5.36-1",
		"/usr/bin/perl.diverted": "perl 5.36 md5:44444444444444444444444444444444",
		"/usr/bin/taken":         "",
		"/usr/bin/taken.real":    "perl 5.36 md5:55555555555555555555555555555555 2755 0:0 1000:1000",
		"/usr/bin/moved":         "perl-base 5.36-1",
		"/x":                     "",
		"/usr/bin/awk":           "update-alternatives  sha1:" + sum("/etc/alternatives/awk"),
		"/usr/bin/nawk":          "update-alternatives  sha1:" + sum("/etc/alternatives/nawk"),
		"/etc/alternatives/awk":  "update-alternatives  sha1:" + sum("/usr/bin/mawk") + "; update-alternatives  sha1:" + sum("/usr/bin/gawk"),
		"/etc/alternatives/nawk": "update-alternatives  sha1:" + sum("/usr/bin/mawk"),
		"relative":               "",
	} {
		if got := describe(db, p); got != want {
			t.Errorf("%s:\n%q, want\n%q", p, got, want)
		}
	}
	if p := db.Owners("/bin/bash")[0].Package; p.Source != "bash" || p.SourceVersion != "5.2.15-2" || p.Manager != "dpkg" {
		t.Errorf("%+v", p)
	}
}

func TestApk(t *testing.T) {
	db := Read(host(t, "testdata/alpine.txtar"), nil)
	if !slices.Equal(db.Managers, []string{"apk"}) || len(db.Problems) > 0 || db.Packages() != 2 {
		t.Errorf("managers %v, problems %v, %d packages", db.Managers, db.Problems, db.Packages())
	}
	for p, want := range map[string]string{
		"/bin":           "busybox 1.36.1-r29 x86_64 0755 0:0 :",
		"/bin/busybox":   "busybox 1.36.1-r29 x86_64 sha1:aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d 4755 0:0 :",
		"/bin/sh":        "busybox 1.36.1-r29 x86_64 sha1:a5c7d37c33446cd290736b35b626bb75ad3933c4 0777 0:0 :",
		"/etc/securetty": "busybox 1.36.1-r29 x86_64 sha1:981f791ead8d513679f7d443892b23f70e45ace5 config 0644 0:0 :",
		"/etc/busted":    "busybox 1.36.1-r29 x86_64 config 0644 0:0 :",
		"/var/tmp":       "busybox 1.36.1-r29 x86_64 1777 0:0 :",
		"/lib/libc.so":   "musl 1.2.4-r2 sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 0755 0:7 :",
		"/x/y":           "",
	} {
		if got := describe(db, p); got != want {
			t.Errorf("%s:\n%q, want\n%q", p, got, want)
		}
	}
}

// TestWanted holds that nothing is remembered but what is asked for, by the
// path that the kernel knows it by.
func TestWanted(t *testing.T) {
	db := Read(host(t, "testdata/debian.txtar"), func(p string) bool { return p == "/usr/bin/bash" })
	var got []string
	db.Each(func(p string) { got = append(got, p) })
	if !slices.Equal(got, []string{"/usr/bin/bash"}) {
		t.Errorf("%q", got)
	}
}

// TestNone holds that a host without a database, or with one that cannot be
// read, is not taken for one with.
func TestNone(t *testing.T) {
	for _, tc := range []struct {
		fsys fstest.MapFS
		want string
	}{
		{fstest.MapFS{}, ""},
		{fstest.MapFS{"var/lib/rpm/rpmdb.sqlite": {Data: []byte("x")}}, "rpm is not read"},
		{fstest.MapFS{"var/lib/dpkg/status/x": {Data: []byte("x")}}, "is not a file"},
	} {
		db := Read(tc.fsys, nil)
		if len(db.Managers) > 0 || !strings.Contains(strings.Join(db.Problems, " "), tc.want) || (len(db.Problems) == 0) != (tc.want == "") {
			t.Errorf("managers %v, problems %q, want %q", db.Managers, db.Problems, tc.want)
		}
		if db.Owners("/bin/sh") != nil {
			t.Error("an owner out of nothing")
		}
	}
}

// FuzzRead holds that no bytes make the reader panic, or remember more than
// they have lines.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"testdata/debian.txtar", "testdata/alpine.txtar"} {
		h := host(f, name)
		get := func(name string) []byte {
			if file := h[name]; file != nil {
				return file.Data
			}
			return nil
		}
		f.Add(get("var/lib/dpkg/status"), get("var/lib/dpkg/info/bash.list"), get("var/lib/dpkg/info/bash.md5sums"),
			get("var/lib/dpkg/diversions"), get("var/lib/dpkg/statoverride"), get("lib/apk/db/installed"), get("var/lib/dpkg/alternatives/awk"))
	}
	f.Add([]byte("Package: bash\nStatus: a b installed\nConffiles:\n \n x\n"), []byte("//\n/\n/a\n/a\n"), []byte("  \n"), []byte("/a\n/b\n:\n"), []byte("a b 7777 /a\n"),
		[]byte("P:x\nF:\nR:\nZ:Q1\nF:a\nR:b\na:::\nM:1:2\n"), []byte("a\n/b\nc\n\n/d\n"))
	f.Fuzz(func(t *testing.T, status, list, sums, diversions, overrides, installed, choices []byte) {
		file := func(data []byte) *fstest.MapFile { return &fstest.MapFile{Data: data, Mode: 0o644} }
		db := Read(fstest.MapFS{
			"var/lib/dpkg/status": file(status), "var/lib/dpkg/info/bash.list": file(list), "var/lib/dpkg/info/bash.md5sums": file(sums),
			"var/lib/dpkg/diversions": file(diversions), "var/lib/dpkg/statoverride": file(overrides), "lib/apk/db/installed": file(installed),
			"var/lib/dpkg/alternatives/awk": file(choices),
		}, nil)
		packages := strings.Count(string(status), "\n\n") + strings.Count(string(status), "\n\r\n") + strings.Count(string(installed), "\n\n") + strings.Count(string(installed), "\n\r\n") + 3
		if db.Packages() > packages+strings.Count(string(status)+string(installed), "\r") {
			t.Errorf("%d packages", db.Packages())
		}
		if len(db.entries) > db.Packages()*(strings.Count(string(list), "\n")+1)+strings.Count(string(installed), "\n")+1+strings.Count(string(choices), "\n")+1 {
			t.Errorf("%d entries", len(db.entries))
		}
		n := 0
		db.Each(func(p string) {
			if !strings.HasPrefix(p, "/") || len(db.Owners(p)) == 0 {
				t.Errorf("%q with %d owners", p, len(db.Owners(p)))
			}
			n += len(db.Owners(p))
		})
		if n != len(db.entries) {
			t.Errorf("%d of %d entries are found", n, len(db.entries))
		}
	})
}

// BenchmarkRead reads the database of a host with ten packages of a thousand
// files each.
func BenchmarkRead(b *testing.B) {
	fsys := fstest.MapFS{}
	var status strings.Builder
	for i := range 10 {
		fmt.Fprintf(&status, "Package: p%d\nStatus: install ok installed\nVersion: 1\n\n", i)
		var list, sums strings.Builder
		for j := range 1000 {
			fmt.Fprintf(&list, "/usr/share/p%d/file%d\n", i, j)
			fmt.Fprintf(&sums, "%032x  usr/share/p%d/file%d\n", j, i, j)
		}
		fsys[fmt.Sprintf("var/lib/dpkg/info/p%d.list", i)] = &fstest.MapFile{Data: []byte(list.String())}
		fsys[fmt.Sprintf("var/lib/dpkg/info/p%d.md5sums", i)] = &fstest.MapFile{Data: []byte(sums.String())}
	}
	fsys["var/lib/dpkg/status"] = &fstest.MapFile{Data: []byte(status.String())}
	b.ReportAllocs()
	for b.Loop() {
		if db := Read(fsys, nil); len(db.entries) != 10_000 {
			b.Fatal(len(db.entries))
		}
	}
}
