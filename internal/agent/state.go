package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/schema"
	"github.com/clewsec/clew/internal/stream"
)

// What a run knows is saved as a small recording of two records: a RunStart
// that says when it was saved and by which version, and the RestoredState that
// the next run will be given.

// encodeState returns the bytes of a saved state.
func encodeState(s *event.RestoredState, savedAtNS int64, version string) ([]byte, error) {
	var b bytes.Buffer
	w, err := stream.NewFastWriter(&b)
	if err != nil {
		return nil, err
	}
	for _, rec := range []*event.StreamRecord{
		{Seq: 1, RunStart: &event.RunStart{Run: s.Run, At: savedAtNS, Schema: schema.Version, Version: version}},
		{Seq: 2, RestoredState: s},
	} {
		if err := w.Write(rec); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// decodeState reads what encodeState returned.
func decodeState(r io.Reader) (s *event.RestoredState, savedAtNS int64, err error) {
	rd, err := stream.NewReader(r)
	if err != nil {
		return nil, 0, err
	}
	defer rd.Close()
	if _, err := rd.Next(); err != nil {
		return nil, 0, err
	}
	rec, err := rd.Next()
	if err == nil && rec.RestoredState == nil {
		err = errors.New("holds no state")
	}
	if err != nil {
		return nil, 0, err
	}
	return rec.RestoredState, rd.Start().At, nil
}

// loadState reads a saved state. There is none before the first run.
func loadState(path string) (s *event.RestoredState, savedAtNS int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("saved state: %w", err)
	}
	defer f.Close()
	s, savedAtNS, err = decodeState(f)
	if err != nil {
		return nil, 0, fmt.Errorf("saved state: %w", err)
	}
	return s, savedAtNS, nil
}

// writeFile replaces a file as a whole or not at all.
func writeFile(path string, data []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
