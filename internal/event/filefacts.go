package event

// What FileMetadata.Type says; 0 is anything else.
const (
	FileELF int64 = iota + 1
	FilePE
	FileMachO
	FileScript
	FileText
	FileCompressed
	FileArchive
	FileBytecode
	FileDocument
)

// What FileMetadata.Architecture says; 0 is any other.
const (
	ArchX86 int64 = iota + 1
	ArchX8664
	ArchARM
	ArchARM64
	ArchRISCV
	ArchPPC64
	ArchS390
	ArchLoong
)

// What FileMetadata.ABI says.
const (
	ABI32 int64 = iota + 1
	ABI64
)

// What FileMetadata.Compression says.
const (
	CompressionGzip int64 = iota + 1
	CompressionBzip2
	CompressionXZ
	CompressionZstd
	CompressionLZ4
	CompressionZip
	Compression7z
	CompressionRAR
)

// What FileMetadata.Linkage says.
const (
	LinkageStatic int64 = iota + 1
	LinkageDynamic
)

// HasFiles tells whether events of a kind have a file of their own.
func HasFiles(k Kind) bool {
	for i := range FileRefs {
		if FileRefs[i].Kind == k {
			return true
		}
	}
	return false
}

// Complete adds to a file what was found out about it.
func Complete(f *File, x *FileFacts) {
	f.Hashes, f.HashState, f.Before, f.Diff = x.Hashes, x.Reason, x.Before, x.Diff
	if x.Metadata != nil {
		f.Metadata = x.Metadata
	}
}

// Completed returns a copy of an event with what was found out about one of its
// files, or e itself when it has no such file.
func Completed(e *Event, x *FileFacts) *Event {
	for _, r := range FileRefs {
		if r.Kind != e.Kind || r.Path != x.Field {
			continue
		}
		c := e.withOwnPayload()
		Complete(r.Get(c), x)
		return c
	}
	return e
}

// withOwnPayload copies an event with the part of its kind that has files.
func (e *Event) withOwnPayload() *Event {
	c := *e
	switch {
	case c.Open != nil:
		c.Open = clone(c.Open)
	case c.Unlink != nil:
		c.Unlink = clone(c.Unlink)
	case c.Rename != nil:
		c.Rename = clone(c.Rename)
	case c.Chmod != nil:
		c.Chmod = clone(c.Chmod)
	case c.Chown != nil:
		c.Chown = clone(c.Chown)
	case c.Link != nil:
		c.Link = clone(c.Link)
	case c.Setxattr != nil:
		c.Setxattr = clone(c.Setxattr)
	case c.Removexattr != nil:
		c.Removexattr = clone(c.Removexattr)
	case c.Splice != nil:
		c.Splice = clone(c.Splice)
	case c.Utimes != nil:
		c.Utimes = clone(c.Utimes)
	case c.LoadModule != nil:
		c.LoadModule = clone(c.LoadModule)
	case c.Mmap != nil:
		c.Mmap = clone(c.Mmap)
	case c.Chdir != nil:
		c.Chdir = clone(c.Chdir)
	case c.Symlink != nil:
		c.Symlink = clone(c.Symlink)
	case c.Mkdir != nil:
		c.Mkdir = clone(c.Mkdir)
	case c.Rmdir != nil:
		c.Rmdir = clone(c.Rmdir)
	case c.CgroupWrite != nil:
		c.CgroupWrite = clone(c.CgroupWrite)
	}
	return &c
}

func clone[T any](x *T) *T {
	c := *x
	return &c
}
