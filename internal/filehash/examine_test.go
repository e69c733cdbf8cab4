package filehash

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/clewsec/clew/internal/event"
)

func TestKindOf(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	tar := make([]byte, 512)
	copy(tar[257:], "ustar\x0000")
	for _, tc := range []struct {
		name              string
		data              []byte
		kind, compression int64
	}{
		{"nothing", nil, 0, 0},
		{"text", []byte("root:x:0:0\n"), event.FileText, 0},
		{"text cut in a character", []byte("a\xe2\x82"), event.FileText, 0},
		{"script", []byte("#!/usr/bin/perl\n"), event.FileScript, 0},
		{"data", []byte{0, 1, 2, 3}, 0, 0},
		{"not UTF-8", []byte("a\xff\xfea"), 0, 0},
		{"gzip", zipped.Bytes(), event.FileCompressed, event.CompressionGzip},
		{"zip", []byte("PK\x03\x04"), event.FileArchive, event.CompressionZip},
		{"tar", tar, event.FileArchive, 0},
		{"exe", []byte("MZ\x90\x00"), event.FilePE, 0},
		{"wasm", []byte("\x00asm\x01"), event.FileBytecode, 0},
		{"pdf", []byte("%PDF-1.7\n"), event.FileDocument, 0},
	} {
		c, err := Examine(bytes.NewReader(tc.data), 1<<20, 0)
		if err != nil || c.Metadata.Type != tc.kind || c.Metadata.Compression != tc.compression || c.Size != int64(len(tc.data)) || c.SHA256 != sum(string(tc.data)) {
			t.Errorf("%s: %+v, %v", tc.name, c, err)
		}
	}
}

// TestELF compares with what the standard library, which is not handed what
// attackers wrote, says of honest files.
func TestELF(t *testing.T) {
	dir := t.TempDir()
	files := map[string]event.FileMetadata{}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	candidates := []string{own}
	for _, name := range []string{"sh", "ls", "busybox", "git", "clang-19"} {
		if p, err := exec.LookPath(name); err == nil {
			candidates = append(candidates, p)
		}
	}
	for _, p := range candidates {
		f, err := elf.Open(p)
		if err != nil {
			continue
		}
		want := event.FileMetadata{Type: event.FileELF, IsStripped: true, Linkage: event.LinkageStatic, ABI: event.ABI32}
		if f.Class == elf.ELFCLASS64 {
			want.ABI = event.ABI64
		}
		for _, s := range f.Sections {
			if s.Type == elf.SHT_SYMTAB {
				want.IsStripped = false
			}
			if s.Name == ".note.gnu.build-id" {
				if b, err := s.Data(); err == nil && len(b) > 16 {
					want.BuildID = hex.EncodeToString(b[16:])
				}
			}
		}
		if libs, err := f.ImportedLibraries(); err == nil && len(libs) > 0 {
			want.Linkage = event.LinkageDynamic
		}
		for _, s := range f.Progs {
			if s.Type == elf.PT_INTERP {
				want.Linkage = event.LinkageDynamic
			}
		}
		f.Close()
		want.Architecture = map[string]int64{"amd64": event.ArchX8664, "arm64": event.ArchARM64}[runtime.GOARCH]
		files[p] = want
	}
	if len(files) < 2 {
		t.Fatalf("too few programs to compare: %d", len(files))
	}
	for p, want := range files {
		f, err := os.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Examine(f, 1<<30, 0)
		f.Close()
		want.Size = c.Size
		if err != nil || c.Metadata != want {
			t.Errorf("%s:\n got %+v\nwant %+v\n%v", p, c.Metadata, want, err)
		}
	}

	// A Go program that was stripped, and one whose code is noise.
	src := filepath.Join(dir, "main.go")
	if err := os.WriteFile(src, []byte("package main\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "stripped")
	cmd := exec.Command("go", "build", "-ldflags=-s -w -X=runtime.buildVersion=unknown", "-o", out, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Examine(bytes.NewReader(data), 1<<30, 0)
	m := c.Metadata
	if err != nil || !m.IsStripped || m.Linkage != event.LinkageStatic || m.IsPacked || m.IsUPXPacked || !m.IsGarbleObfuscated {
		t.Errorf("stripped: %+v, %v", m, err)
	}
	copy(data[len(data)-36:], "UPX!")
	if c, err = Examine(bytes.NewReader(data), 1<<30, 0); err != nil || !c.Metadata.IsUPXPacked || !c.Metadata.IsPacked {
		t.Errorf("with UPX's mark: %+v, %v", c.Metadata, err)
	}
	noise := tinyELF(64 << 10)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(noise[120:])
	if c, err = Examine(bytes.NewReader(noise), 1<<30, 0); err != nil || !c.Metadata.IsPacked || c.Metadata.IsUPXPacked {
		t.Errorf("noise: %+v, %v", c.Metadata, err)
	}
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

// tinyELF is an ELF with one segment of code.
func tinyELF(size int) []byte {
	b := make([]byte, size)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 2)
	le.PutUint16(b[18:], 62)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	ph := b[64:]
	le.PutUint32(ph, ptLoad)
	le.PutUint32(ph[4:], pfExecute)
	le.PutUint64(ph[8:], 0)
	le.PutUint64(ph[32:], uint64(size))
	return b
}

// FuzzExamine: whatever a file says of itself, reading it neither fails nor
// takes much memory.
func FuzzExamine(f *testing.F) {
	f.Add(tinyELF(4096))
	f.Add(tinyELF(120))
	f.Add([]byte("\x7fELF\x02\x02"))
	big := tinyELF(200)
	for i := 32; i < 64; i++ {
		big[i] = 0xff
	}
	f.Add(big)
	f.Add([]byte("#!/bin/sh\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Examine(bytes.NewReader(data), 1<<20, 1<<10)
		if err != nil {
			if len(data) <= 1<<20 {
				t.Fatal(err)
			}
			return
		}
		if c.Size != int64(len(data)) || c.SHA256 != sum(string(data)) {
			t.Fatalf("%d bytes: %+v", len(data), c)
		}
		if err := checkContent(&c); err != nil {
			t.Fatal(err)
		}
	})
}

func TestExamineMemory(t *testing.T) {
	// Tables as large as the format can say, all of them there.
	b := tinyELF(8 << 20)
	binary.LittleEndian.PutUint16(b[56:], 0xffff)
	binary.LittleEndian.PutUint16(b[54:], 0xffff)
	binary.LittleEndian.PutUint64(b[40:], 64)
	binary.LittleEndian.PutUint16(b[58:], 0xffff)
	binary.LittleEndian.PutUint16(b[60:], 0xffff)
	r := bytes.NewReader(b)
	got := testing.Benchmark(func(tb *testing.B) {
		tb.ReportAllocs()
		for range tb.N {
			if _, err := Examine(r, 1<<30, 0); err != nil {
				tb.Fatal(err)
			}
		}
	})
	if got.AllocedBytesPerOp() > 4<<20 {
		t.Errorf("reading 8 MiB takes %d bytes", got.AllocedBytesPerOp())
	}
}

func BenchmarkExamine(b *testing.B) {
	data := tinyELF(1 << 20)
	r := bytes.NewReader(data)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for range b.N {
		if _, err := Examine(r, 1<<30, 0); err != nil {
			b.Fatal(err)
		}
	}
}
