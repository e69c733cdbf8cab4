package enrich

import (
	"strconv"

	"github.com/clewsec/clew/internal/event"
)

// QuestionPackage asks which package a program of the host belongs to. The key
// is its path. The values are name, epoch, version, release, the same three of
// the source package, and the inode of the file that was meant; without values
// it belongs to none any more.
const QuestionPackage = "package"

// packageValues is how many values an answer has.
const packageValues = 8

// maxPackaged bounds the programs that are known to belong to a package.
const maxPackaged = 65536

// packaged is what is known of a program's package. The inode makes sure that
// the file is the one that the package installed: what another mount namespace
// or a bind mount shows at the same path has a different one.
type packaged struct {
	inode                        uint64
	name, version, release       string
	sourceVersion, sourceRelease string
	epoch, sourceEpoch           int64
}

// packages are the host's, by path.
type packages map[string]packaged

func (ps *packages) answer(a *event.Answer) {
	if len(a.Values) != packageValues {
		delete(*ps, a.Key)
		return
	}
	v := a.Values
	inode, err := strconv.ParseUint(v[7], 10, 64)
	if err != nil || inode == 0 || v[0] == "" {
		return
	}
	if *ps == nil {
		*ps = packages{}
	}
	if _, known := (*ps)[a.Key]; !known && len(*ps) >= maxPackaged {
		return
	}
	p := packaged{inode: inode, name: v[0], version: v[2], release: v[3], sourceVersion: v[5], sourceRelease: v[6]}
	// An epoch that is no number is none.
	p.epoch, _ = strconv.ParseInt(v[1], 10, 64)
	p.sourceEpoch, _ = strconv.ParseInt(v[4], 10, 64)
	(*ps)[a.Key] = p
}

// file says which package a file of the host belongs to.
func (ps packages) file(f *event.File) {
	p, ok := ps[f.Path]
	if !ok || p.inode != f.Inode {
		return
	}
	f.PackageName, f.PackageVersion, f.PackageRelease, f.PackageEpoch = p.name, p.version, p.release, p.epoch
	f.PackageSourceVersion, f.PackageSourceRelease, f.PackageSourceEpoch = p.sourceVersion, p.sourceRelease, p.sourceEpoch
}
