// Package accounts reads the names of a host's users and groups from its
// account files. Directory services are not asked: an answer that takes
// seconds, or code that a library loads, has no place in an agent.
package accounts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/enrich"
	"github.com/clewsec/clew/internal/event"
)

const (
	maxFile = 8 << 20 // bytes of an account file that are read
	maxLine = 64 << 10
)

// Host are the account files of this host.
func Host() *Accounts { return New("/etc/passwd", "/etc/group") }

// New returns what tells the names in files of the form of passwd(5) and
// group(5).
func New(passwd, group string) *Accounts {
	return &Accounts{tables: [2]table{
		{question: enrich.QuestionUser, path: passwd}, {question: enrich.QuestionGroup, path: group},
	}}
}

// Accounts knows what was read so far. It is not safe for concurrent use.
type Accounts struct{ tables [2]table }

type table struct {
	question string
	path     string
	stamp    stamp
	names    map[uint32]string
}

// A stamp changes when a file does.
type stamp struct {
	size int64
	mod  time.Time
}

// Changed reads the files again if they have changed and returns the names
// that are new or different since the last call, in the order of the files.
// What can be read is returned beside the error.
func (a *Accounts) Changed() ([]*event.Answer, error) {
	var out []*event.Answer
	var errs []error
	for i := range a.tables {
		got, err := a.tables[i].changed()
		out = append(out, got...)
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// Name is the answer for a user or group that was read, nil when there is
// none.
func (a *Accounts) Name(question string, id uint32) *event.Answer {
	for i := range a.tables {
		if t := &a.tables[i]; t.question == question {
			if name, ok := t.names[id]; ok {
				return t.answer(id, name)
			}
		}
	}
	return nil
}

func (t *table) answer(id uint32, name string) *event.Answer {
	return &event.Answer{Question: t.question, Key: strconv.FormatUint(uint64(id), 10), Values: []string{name}}
}

func (t *table) changed() ([]*event.Answer, error) {
	f, err := os.Open(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // as in a container without accounts
	}
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	now := stamp{info.Size(), info.ModTime()}
	if now == t.stamp && t.names != nil {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	if t.names == nil {
		t.names = map[uint32]string{}
	}
	t.stamp = now
	var out []*event.Answer
	seen := map[uint32]bool{}
	for id, name := range parse(b) {
		// The first line of an id is the one that look-ups find.
		if seen[id] {
			continue
		}
		seen[id] = true
		if t.names[id] != name {
			t.names[id] = name
			out = append(out, t.answer(id, name))
		}
	}
	return out, nil
}

// parse yields id and name of each line that has both: the form of passwd and
// group is the same as far as that.
func parse(b []byte) func(func(uint32, string) bool) {
	return func(yield func(uint32, string) bool) {
		sc := bufio.NewScanner(bytes.NewReader(b))
		sc.Buffer(nil, maxLine)
		for sc.Scan() {
			line := sc.Text()
			if strings.HasPrefix(line, "#") {
				continue
			}
			f := strings.SplitN(line, ":", 4)
			if len(f) < 4 || f[0] == "" {
				continue
			}
			id, err := strconv.ParseUint(f[2], 10, 32)
			if err != nil {
				continue
			}
			if !yield(uint32(id), f[0]) {
				return
			}
		}
	}
}
