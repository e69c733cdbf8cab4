package filehash

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"

	"github.com/clewsec/clew/internal/event"
)

// What is read of an ELF at most. An honest one is far below; of others the
// rest is not looked at.
const (
	maxSegments  = 256
	maxSections  = 4096
	maxNotes     = 64 << 10
	maxDynamic   = 64 << 10
	maxNames     = 256 << 10
	maxBuildID   = 64
	packedAbove  = 7.4 // bits per byte of code; compiled code is at about 6
	packedSample = 4 << 10
)

// Numbers of the ELF format.
const (
	elfHeader32, elfHeader64     = 52, 64
	progHeader32, progHeader64   = 32, 56
	sectHeader32, sectHeader64   = 40, 64
	ptLoad, ptDynamic, ptInterp  = 1, 2, 3
	ptNote, pfExecute, shtSymtab = 4, 1, 2
	dtNull, dtNeeded             = 0, 1
	noteGNUBuildID               = 3
)

var machines = map[uint16]int64{
	3: event.ArchX86, 62: event.ArchX8664, 40: event.ArchARM, 183: event.ArchARM64, 243: event.ArchRISCV,
	21: event.ArchPPC64, 22: event.ArchS390, 258: event.ArchLoong,
}

// An elfFile is what of an ELF has been read. All of it may lie.
type elfFile struct {
	r     io.ReaderAt
	size  int64
	wide  bool // 64 bits
	order binary.ByteOrder
}

// at reads n bytes, as many as there are and no more than limit.
func (e *elfFile) at(off, n uint64, limit int) []byte {
	if off >= uint64(e.size) || n == 0 {
		return nil
	}
	n = min(n, uint64(e.size)-off, uint64(limit))
	b := make([]byte, n)
	got, err := e.r.ReadAt(b, int64(off))
	if err != nil && got == 0 {
		return nil
	}
	return b[:got]
}

// word reads a number of the file's width.
func (e *elfFile) word(b []byte, off32, off64 int) uint64 {
	if e.wide {
		return e.order.Uint64(b[off64:])
	}
	return uint64(e.order.Uint32(b[off32:]))
}

// examineELF fills in what an ELF is. What does not hold together is left out;
// nothing in it is an error.
func examineELF(r io.ReaderAt, size int64, head []byte, m *event.FileMetadata) {
	e := &elfFile{r: r, size: size, order: binary.LittleEndian}
	if len(head) < elfHeader32 {
		return
	}
	e.wide = head[4] == 2
	if head[5] == 2 {
		e.order = binary.BigEndian
	}
	m.ABI = event.ABI32
	if e.wide {
		m.ABI = event.ABI64
		if len(head) < elfHeader64 {
			return
		}
	}
	m.Architecture = machines[e.order.Uint16(head[18:])]
	tail := e.at(uint64(max(size-headSize, 0)), headSize, headSize)
	m.IsUPXPacked = bytes.Contains(head[min(len(head), elfHeader32):], []byte("UPX!")) || bytes.Contains(tail, []byte("UPX!"))
	m.IsPacked = m.IsUPXPacked
	e.segments(head, m)
	e.sections(head, m)
}

func (e *elfFile) segments(head []byte, m *event.FileMetadata) {
	off := e.word(head, 28, 32)
	entry, count := e.halves(head, 42, 54)
	least := progHeader32
	if e.wide {
		least = progHeader64
	}
	if entry < least || count == 0 {
		return
	}
	m.Linkage = event.LinkageStatic
	table := e.at(off, uint64(entry)*uint64(min(count, maxSegments)), maxSegments*64)
	for ; len(table) >= max(entry, least); table = table[entry:] {
		start, length := e.word(table, 4, 8), e.word(table, 16, 32)
		flags := e.order.Uint32(table[24:])
		if e.wide {
			flags = e.order.Uint32(table[4:])
		}
		switch e.order.Uint32(table) {
		case ptInterp:
			m.Linkage = event.LinkageDynamic
		case ptDynamic:
			if e.needs(start, length) {
				m.Linkage = event.LinkageDynamic
			}
		case ptNote:
			if id := e.buildID(e.at(start, length, maxNotes)); id != "" {
				m.BuildID = id
			}
		case ptLoad:
			if flags&pfExecute != 0 && !m.IsPacked {
				code := e.at(start, length, sampleSize)
				m.IsPacked = len(code) >= packedSample && entropy(code) > packedAbove
			}
		}
	}
}

// halves reads entry size and count of a table.
func (e *elfFile) halves(head []byte, off32, off64 int) (entry, count int) {
	at := off32
	if e.wide {
		at = off64
	}
	return int(e.order.Uint16(head[at:])), int(e.order.Uint16(head[at+2:]))
}

// needs tells whether the dynamic section names a library.
func (e *elfFile) needs(off, length uint64) bool {
	step := 8
	if e.wide {
		step = 16
	}
	for b := e.at(off, length, maxDynamic); len(b) >= step; b = b[step:] {
		switch e.word(b, 0, 0) {
		case dtNull:
			return false
		case dtNeeded:
			return true
		}
	}
	return false
}

// buildID finds the note that names the build.
func (e *elfFile) buildID(b []byte) string {
	for len(b) >= 12 {
		name, desc, kind := e.order.Uint32(b), e.order.Uint32(b[4:]), e.order.Uint32(b[8:])
		b = b[12:]
		if uint64(name) > uint64(len(b)) || uint64(desc) > uint64(len(b)) {
			return ""
		}
		padded := (int(name) + 3) &^ 3
		if padded+int(desc) > len(b) {
			return ""
		}
		if kind == noteGNUBuildID && string(b[:name]) == "GNU\x00" && desc <= maxBuildID {
			return hex.EncodeToString(b[padded : padded+int(desc)])
		}
		b = b[min(padded+(int(desc)+3)&^3, len(b)):]
	}
	return ""
}

// sections looks for a symbol table, and for what a Go program says of itself.
func (e *elfFile) sections(head []byte, m *event.FileMetadata) {
	off := e.word(head, 32, 40)
	entry, count := e.halves(head, 46, 58)
	names := 50
	least := sectHeader32
	if e.wide {
		least, names = sectHeader64, 62
	}
	m.IsStripped = true
	if off == 0 || entry < least {
		return
	}
	table := e.at(off, uint64(entry)*uint64(min(count, maxSections)), maxSections*64)
	var texts []byte
	if i := int(e.order.Uint16(head[names:])) * entry; i+least <= len(table) {
		texts = e.at(e.word(table[i:], 16, 24), e.word(table[i:], 20, 32), maxNames)
	}
	for ; len(table) >= max(entry, least); table = table[entry:] {
		if e.order.Uint32(table[4:]) == shtSymtab {
			m.IsStripped = false
		}
		if sectionName(texts, e.order.Uint32(table)) == ".go.buildinfo" {
			m.IsGarbleObfuscated = obfuscated(e.at(e.word(table, 16, 24), e.word(table, 20, 32), 256))
		}
	}
}

func sectionName(texts []byte, at uint32) string {
	if uint64(at) >= uint64(len(texts)) {
		return ""
	}
	name, _, _ := bytes.Cut(texts[at:min(int(at)+32, len(texts))], []byte{0})
	return string(name)
}

// obfuscated tells whether a Go program's build information has been taken out
// as garble does: in place of the compiler's version stands "unknown".
func obfuscated(info []byte) bool {
	const headLen = 32 // of the form since Go 1.18: then length and text
	return bytes.HasPrefix(info, []byte("\xff Go buildinf:")) && bytes.HasPrefix(info[min(headLen, len(info)):], []byte("\x07unknown"))
}
