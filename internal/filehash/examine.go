package filehash

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"unicode/utf8"

	"github.com/clewsec/clew/internal/event"
)

// Content is what a file's bytes say.
type Content struct {
	SHA256   string // hexadecimal
	Size     int64  // bytes that were read: all
	Metadata event.FileMetadata
	IsText   bool   // all of it is text, and Text has it
	Text     []byte `json:",omitempty"`
}

// errTooLarge means that a file has more bytes than were to be read.
var errTooLarge = errors.New("file is too large")

const (
	headSize   = 4096      // of the beginning, to tell what it is
	bufferSize = 128 << 10 // of one read
	sampleSize = 1 << 20   // of code, to tell whether it looks like code
	// maxTextEver bounds a text that a helper returns, whatever it is asked for.
	maxTextEver = 64 << 10
)

// Examine reads a file to its end and tells what is in it. It needs little
// memory, whatever the file says of itself. text is up to how many bytes of a
// text are returned whole; 0 for none.
func Examine(r io.ReaderAt, maxSize, text int64) (Content, error) {
	var c Content
	h := sha256.New()
	buf := make([]byte, bufferSize)
	var head []byte
	var whole []byte
	for {
		n, err := r.ReadAt(buf, c.Size)
		if n > 0 {
			if c.Size == 0 {
				head = bytes.Clone(buf[:min(n, headSize)])
			}
			c.Size += int64(n)
			if c.Size > maxSize {
				return c, errTooLarge
			}
			h.Write(buf[:n])
			if c.Size <= text {
				whole = append(whole, buf[:n]...)
			}
		}
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			break
		}
		if err != nil {
			return c, err
		}
	}
	c.SHA256 = hex.EncodeToString(h.Sum(nil))
	c.Metadata = kindOf(head)
	c.Metadata.Size = c.Size
	if c.Metadata.Type == event.FileELF {
		examineELF(r, c.Size, head, &c.Metadata)
	}
	if c.Size <= text && (c.Size == 0 || c.Metadata.Type == event.FileText || c.Metadata.Type == event.FileScript) && isText(whole) {
		c.IsText, c.Text = true, whole
	}
	return c, nil
}

// signatures are how files of a type begin.
var signatures = []struct {
	magic       string
	kind        int64
	compression int64
}{
	{"\x7fELF", event.FileELF, 0},
	{"MZ", event.FilePE, 0},
	{"\xfe\xed\xfa\xce", event.FileMachO, 0},
	{"\xfe\xed\xfa\xcf", event.FileMachO, 0},
	{"\xce\xfa\xed\xfe", event.FileMachO, 0},
	{"\xcf\xfa\xed\xfe", event.FileMachO, 0},
	{"#!", event.FileScript, 0},
	{"\x1f\x8b", event.FileCompressed, event.CompressionGzip},
	{"BZh", event.FileCompressed, event.CompressionBzip2},
	{"\xfd7zXZ\x00", event.FileCompressed, event.CompressionXZ},
	{"\x28\xb5\x2f\xfd", event.FileCompressed, event.CompressionZstd},
	{"\x04\x22\x4d\x18", event.FileCompressed, event.CompressionLZ4},
	{"PK\x03\x04", event.FileArchive, event.CompressionZip},
	{"PK\x05\x06", event.FileArchive, event.CompressionZip},
	{"7z\xbc\xaf\x27\x1c", event.FileArchive, event.Compression7z},
	{"Rar!\x1a\x07", event.FileArchive, event.CompressionRAR},
	{"!<arch>\n", event.FileArchive, 0},
	{"\x00asm", event.FileBytecode, 0},
	{"\xca\xfe\xba\xbe", event.FileBytecode, 0},
	{"%PDF-", event.FileDocument, 0},
}

// kindOf tells from its beginning what a file is.
func kindOf(head []byte) event.FileMetadata {
	var m event.FileMetadata
	for _, s := range signatures {
		if bytes.HasPrefix(head, []byte(s.magic)) {
			m.Type, m.Compression = s.kind, s.compression
			return m
		}
	}
	switch {
	case len(head) >= 262 && string(head[257:262]) == "ustar":
		m.Type = event.FileArchive
	case len(head) > 0 && isText(head):
		m.Type = event.FileText
	}
	return m
}

// isText tells whether bytes are UTF-8 without control characters, but for the
// ones of text. The last character may be cut off.
func isText(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n <= 1 {
			return len(b) < utf8.UTFMax && !utf8.FullRune(b)
		}
		if r < ' ' && r != '\n' && r != '\r' && r != '\t' && r != '\f' && r != 0x1b || r == 0x7f {
			return false
		}
		b = b[n:]
	}
	return true
}

// entropy is that of bytes, in bits each: 0 to 8.
func entropy(b []byte) float64 {
	if len(b) == 0 {
		return 0
	}
	var count [256]int
	for _, c := range b {
		count[c]++
	}
	var sum float64
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(b))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}

// checkContent refuses what no helper says that is still itself: what it read
// was written by attackers.
func checkContent(c *Content) error {
	hex := func(s string, max int) bool {
		for i := range len(s) {
			if !(s[i] >= '0' && s[i] <= '9' || s[i] >= 'a' && s[i] <= 'f') {
				return false
			}
		}
		return len(s) <= max
	}
	if !hex(c.SHA256, 64) || !hex(c.Metadata.BuildID, 2*maxBuildID) || c.Size < 0 || len(c.Text) > maxTextEver {
		return errors.New("answer of the reader makes no sense")
	}
	return nil
}
