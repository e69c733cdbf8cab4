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
