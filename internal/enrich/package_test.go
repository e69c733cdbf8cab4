package enrich

import (
	"testing"

	"github.com/clewsec/clew/internal/event"
)

// TestPackages holds that a program of the host gets its package, and what is
// at the same path without being it does not.
func TestPackages(t *testing.T) {
	n := New()
	dpkg := []string{"dpkg", "1", "2.3", "4", "0", "2.2", "1", "77"}
	n.Answer(&event.Answer{Question: QuestionPackage, Key: "/usr/bin/dpkg", Values: dpkg})
	n.Answer(&event.Answer{Question: QuestionPackage, Key: "/usr/bin/short", Values: dpkg[:7]})
	n.Answer(&event.Answer{Question: QuestionPackage, Key: "/usr/bin/bad", Values: append(append([]string{}, dpkg[:7]...), "x")})
	process := func(path string, inode uint64, container string) *event.Process {
		p := &event.Process{File: event.File{Path: path, Inode: inode}, ContainerID: container, CgroupManager: "x"}
		n.Process(p)
		return p
	}
	f := process("/usr/bin/dpkg", 77, "").File
	if f.PackageName != "dpkg" || f.PackageEpoch != 1 || f.PackageVersion != "2.3" || f.PackageRelease != "4" ||
		f.PackageSourceEpoch != 0 || f.PackageSourceVersion != "2.2" || f.PackageSourceRelease != "1" {
		t.Errorf("%+v", f)
	}
	for about, p := range map[string]*event.Process{
		"another file there":      process("/usr/bin/dpkg", 78, ""),
		"inside of a container":   process("/usr/bin/dpkg", 77, "0123"),
		"another path":            process("/usr/bin/apt", 77, ""),
		"an answer without inode": process("/usr/bin/short", 77, ""),
		"a bad inode":             process("/usr/bin/bad", 77, ""),
	} {
		if p.File.PackageName != "" {
			t.Errorf("%s: %s", about, p.File.PackageName)
		}
	}
	e := &event.Event{Kind: event.KindUnlink, Proc: &event.Process{}, Unlink: &event.Unlink{File: event.File{Path: "/usr/bin/dpkg", Inode: 77}}}
	n.Event(e)
	if e.Unlink.File.PackageName != "dpkg" {
		t.Errorf("file of an event: %+v", e.Unlink.File)
	}
	n.Answer(&event.Answer{Question: QuestionPackage, Key: "/usr/bin/dpkg"})
	if p := process("/usr/bin/dpkg", 77, ""); p.File.PackageName != "" {
		t.Error("a package that was removed")
	}
}
