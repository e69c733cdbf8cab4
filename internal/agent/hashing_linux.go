package agent

import (
	"context"
	"errors"
	"log/slog"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/filehash"
	"github.com/clewsec/clew/internal/sensor/scrub"
)

// A fileReader is a service with the helper that reads for it.
type fileReader struct {
	*filehash.Service
	helper *filehash.Helper
}

// hostHasher answers what is in this host's files.
func hostHasher(log *slog.Logger) newHasher {
	return func(answer func(*event.FileFacts) error) hasher {
		h := filehash.NewHelper(filehash.HelperConfig{Log: log})
		return &fileReader{filehash.New(filehash.Config{Reader: h, Answer: answer, Scrub: scrub.Text, Log: log}), h}
	}
}

// Run ends the helper with the service.
func (r *fileReader) Run(ctx context.Context) error {
	return errors.Join(r.Service.Run(ctx), r.helper.Close())
}
