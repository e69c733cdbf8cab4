package vm

// The initial file system is a cpio archive in the "newc" format: a header of
// fixed-width hexadecimal numbers, the name, the content, each padded to four
// bytes. It is left uncompressed, because an emulated processor would take
// longer to unpack it than to read it.

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	modeDir  = 0o040000
	modeChar = 0o020000
	modeFile = 0o100000
	modeLink = 0o120000
)

// archive writes cpio entries. The first error sticks and is returned by
// close.
type archive struct {
	w     *bufio.Writer
	seen  map[string]bool
	inode uint32
	err   error
}

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriterSize(w, 1<<16), seen: map[string]bool{"/": true}}
}

// entry writes one header and its content. A name that is there already is
// left as it is; the directories above it are made.
func (a *archive) entry(name string, mode uint32, major, minor uint32, size int64, r io.Reader) {
	name = path.Clean("/" + name)
	if a.err != nil || a.seen[name] {
		return
	}
	a.dir(path.Dir(name))
	a.seen[name] = true
	a.inode++
	a.header(strings.TrimPrefix(name, "/"), a.inode, mode, major, minor, size)
	if size > 0 && a.err == nil {
		_, a.err = io.CopyN(a.w, r, size)
		a.pad(size)
	}
}

func (a *archive) header(name string, inode, mode, major, minor uint32, size int64) {
	if a.err != nil {
		return
	}
	if size > math.MaxUint32 {
		a.err = fmt.Errorf("%s: %d bytes do not fit in an initial file system", name, size)
		return
	}
	const links, owner, mtime, device = 1, 0, 0, 0
	_, a.err = fmt.Fprintf(a.w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		inode, mode, owner, owner, links, mtime, size, device, device, major, minor, len(name)+1, 0, name)
	a.pad(110 + int64(len(name)) + 1)
}

func (a *archive) pad(written int64) {
	for ; written%4 != 0 && a.err == nil; written++ {
		a.err = a.w.WriteByte(0)
	}
}

func (a *archive) dir(name string) { a.entry(name, modeDir|0o755, 0, 0, 0, nil) }

func (a *archive) charDevice(name string, major, minor uint32) {
	a.entry(name, modeChar|0o600, major, minor, 0, nil)
}

func (a *archive) symlink(name, target string) {
	a.entry(name, modeLink|0o777, 0, 0, int64(len(target)), strings.NewReader(target))
}

func (a *archive) bytes(name string, perm uint32, b []byte) {
	a.entry(name, modeFile|perm, 0, 0, int64(len(b)), strings.NewReader(string(b)))
}

// file puts the content of the host's file src at name.
func (a *archive) file(name, src string) {
	if a.err != nil {
		return
	}
	f, err := os.Open(src)
	if err != nil {
		a.err = err
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		a.err = err
		return
	}
	a.entry(name, modeFile|uint32(st.Mode().Perm()), 0, 0, st.Size(), f)
}

// tree puts a file or directory of the host at its own path. Sockets, pipes
// and devices are left out.
func (a *archive) tree(root string) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch d.Type() {
		case fs.ModeDir:
			a.dir(name)
		case fs.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			a.symlink(name, target)
		case 0:
			a.file(name, name)
		}
		return a.err
	})
}

func (a *archive) close() error {
	a.header("TRAILER!!!", 0, 0, 0, 0, 0)
	if a.err != nil {
		return a.err
	}
	return a.w.Flush()
}
