package lsp

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Bounds of what a client may send. What is above them ends the session: there
// is no telling where the next message begins.
const (
	// MaxFrameBytes is the largest message: a document of the largest size, in
	// JSON with every character escaped.
	MaxFrameBytes  = 64 << 20
	maxHeaderBytes = 4 << 10
)

// ErrFrame is for what is no message of the protocol.
var ErrFrame = errors.New("not a message of the language server protocol")

// readFrame reads one message. io.EOF means that there is none left.
func readFrame(r *bufio.Reader) ([]byte, error) {
	length, read := -1, 0
	for {
		line, err := headerLine(r, maxHeaderBytes-read)
		read += len(line)
		switch {
		case errors.Is(err, io.EOF) && read == 0:
			return nil, io.EOF
		case err != nil:
			return nil, err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("%w: header without a colon", ErrFrame)
		}
		if strings.EqualFold(strings.TrimSpace(key), "Content-Length") {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			if err != nil || n > MaxFrameBytes {
				return nil, fmt.Errorf("%w: length %q, at most %d", ErrFrame, strings.TrimSpace(value), MaxFrameBytes)
			}
			length = int(n)
		}
	}
	if length < 0 {
		return nil, fmt.Errorf("%w: no Content-Length", ErrFrame)
	}
	// The buffer grows with what comes, not with what is announced.
	body, err := io.ReadAll(io.LimitReader(r, int64(length)))
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	if len(body) < length {
		return nil, fmt.Errorf("%w: it ends after %d of %d bytes", ErrFrame, len(body), length)
	}
	return body, nil
}

func headerLine(r *bufio.Reader, limit int) (string, error) {
	var b strings.Builder
	for b.Len() < limit {
		c, err := r.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) && b.Len() > 0 {
				err = fmt.Errorf("%w: it ends within its header", ErrFrame)
			}
			return b.String(), err
		}
		b.WriteByte(c)
		if c == '\n' {
			return b.String(), nil
		}
	}
	return "", fmt.Errorf("%w: header longer than %d bytes", ErrFrame, maxHeaderBytes)
}

// writeFrame writes one message.
func writeFrame(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if _, err = fmt.Fprintf(w, "Content-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	return nil
}

// message is a request, a notification or a response. A request has an id and
// a method, a notification a method alone.
type message struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
}

type response struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

type notification struct {
	Version string `json:"jsonrpc"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

// rpcError is an error as the protocol sends it.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return e.Message }

// Codes of errors.
const (
	parseError     = -32700
	invalidRequest = -32600
	methodNotFound = -32601
	invalidParams  = -32602
	internalError  = -32603
	notInitialized = -32002
	requestFailed  = -32803
)
