package filehash

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func id(t *testing.T, path string) ID {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return ID{Dev: unix.Major(st.Dev)<<20 | unix.Minor(st.Dev), Inode: st.Ino, Filesystem: "ext4"}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestOpen: what is opened is the file that was meant, below the root, or
// nothing.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	write(t, root+"/etc/passwd", "inside")
	write(t, dir+"/etc/passwd", "outside")
	write(t, root+"/other", "other")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Symlink("/etc", root+"/abs"))
	must(os.Symlink("../../../../etc", root+"/up"))
	must(os.Symlink("/etc/passwd", root+"/last"))
	must(os.Symlink("loop", root+"/loop"))
	must(unix.Mkfifo(root+"/pipe", 0o644))
	must(os.Mkdir(root+"/dir", 0o755))
	inside := id(t, root+"/etc/passwd")

	for _, tc := range []struct {
		name, path string
		want       ID
		text       string
		reason     Reason
	}{
		{"plain", "/etc/passwd", inside, "inside", ""},
		{"no identity", "/etc/passwd", ID{}, "inside", ""},
		{"an absolute link stays inside", "/abs/passwd", inside, "inside", ""},
		{"dots stay inside", "/up/passwd", inside, "inside", ""},
		{"dots in the path", "/../../etc/passwd", inside, "inside", ""},
		{"another inode", "/other", inside, "", ReasonReplaced},
		{"another device", "/etc/passwd", ID{Dev: inside.Dev + 1, Inode: inside.Inode, Filesystem: "ext4"}, "", ReasonReplaced},
		{"a link at the end", "/last", ID{}, "", ReasonRegular},
		{"a link in its place", "/last", inside, "", ReasonReplaced},
		{"links in a circle", "/loop/x", inside, "", ReasonReplaced},
		{"pipe", "/pipe", ID{}, "", ReasonRegular},
		{"directory", "/dir", ID{}, "", ReasonRegular},
		{"nothing", "/nothing", inside, "", ReasonVanished},
		{"no directory", "/other/x", inside, "", ReasonVanished},
		{"no path", "", inside, "", ReasonPath},
		{"fuse", "/etc/passwd", ID{Filesystem: "fuse"}, "", ReasonFilesystem},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := DirRoot(root)
			must(err)
			defer r.Close()
			f, st, err := Open(r, tc.path, tc.want)
			if ReasonOf(err) != tc.reason {
				t.Fatalf("reason %q (%v), want %q", ReasonOf(err), err, tc.reason)
			}
			if err != nil {
				return
			}
			defer f.Close()
			b, err := io.ReadAll(f)
			must(err)
			if string(b) != tc.text || st.Size != int64(len(tc.text)) {
				t.Errorf("opened %q of %d bytes, want %q", b, st.Size, tc.text)
			}
		})
	}
}

func TestOpenServed(t *testing.T) {
	r, err := HostRoot()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, path := range []string{"/proc/self/status", "/proc/version", "/sys/kernel/uevent_seqnum"} {
		if _, _, err := Open(r, path, ID{}); ReasonOf(err) != ReasonFilesystem {
			t.Errorf("%s: %v, want reason %s", path, err, ReasonFilesystem)
		}
	}
	// A magic link leads nowhere.
	if _, _, err := Open(r, "/proc/self/root/etc/passwd", ID{}); ReasonOf(err) != ReasonReplaced {
		t.Errorf("through /proc/self/root: %v, want reason %s", err, ReasonReplaced)
	}
}

// TestOpenDevice: a terminal, a device is not even opened.
func TestOpenDevice(t *testing.T) {
	r, err := HostRoot()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, _, err := Open(r, "/dev/null", ID{}); ReasonOf(err) != ReasonRegular {
		t.Errorf("/dev/null: %v, want reason %s", err, ReasonRegular)
	}
}

func TestProcessRoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "x")
	r, err := ProcessRoot(uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, _, err := Open(r, path, id(t, path))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := ProcessRoot(1 << 30); ReasonOf(err) != ReasonRoot {
		t.Errorf("root of nobody: %v", err)
	}
}

func TestOpenHandle(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("opening by handle takes root")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	write(t, path, "x")
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	if err != nil {
		t.Skipf("the file system has no handles: %v", err)
	}
	if err := os.Rename(path, path+"-renamed"); err != nil {
		t.Fatal(err)
	}
	want := id(t, path+"-renamed")
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f, st, err := OpenHandle(int(d.Fd()), h, want)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if st.Inode != want.Inode {
		t.Errorf("inode %d, want %d", st.Inode, want.Inode)
	}
	if err := os.Remove(path + "-renamed"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenHandle(int(d.Fd()), h, want); ReasonOf(err) != ReasonVanished {
		t.Errorf("handle of a removed file: %v, want reason %s", err, ReasonVanished)
	}
}

// TestOpenWithin: who does not answer is left behind, and only a few are.
func TestOpenWithin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "x")
	o := NewOpener()
	f, _, err := o.OpenWithin(time.Minute, HostRoot, path, id(t, path))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	release := make(chan struct{})
	ended := make(chan struct{}, maxStuck)
	hang := func() (*Root, error) {
		<-release
		ended <- struct{}{}
		return nil, errors.New("too late")
	}
	for range maxStuck {
		if _, _, err := o.OpenWithin(time.Millisecond, hang, path, ID{}); ReasonOf(err) != ReasonTimeout {
			t.Fatalf("hanging: %v", err)
		}
	}
	if _, _, err := o.OpenWithin(time.Minute, HostRoot, path, ID{}); ReasonOf(err) != ReasonTimeout {
		t.Fatalf("with all slots hanging: %v", err)
	}
	close(release)
	for range maxStuck {
		<-ended
	}
}

func TestWriters(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a lease on another user's file takes root")
	}
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "x")
	r, err := HostRoot()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, _, err := Open(r, path, ID{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	open, known := writers(f)
	if !known {
		t.Skip("the file system has no leases")
	}
	if open {
		t.Error("a writer where there is none")
	}
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if open, _ := writers(f); !open {
		t.Error("a writer is not seen")
	}
	w.Close()
	if open, _ := writers(f); open {
		t.Error("a writer is seen after it closed")
	}
}
