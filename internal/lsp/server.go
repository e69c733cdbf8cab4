// Package lsp speaks the language server protocol (3.17) for whoever edits
// rules: it carries texts and questions to assist and its answers back. It
// opens no file by itself; what lies on disk beside the open documents is asked
// of a function that it is given.
package lsp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/assist"
)

// Config says how a server works.
type Config struct {
	// Version of the program, which clients show.
	Version string
	// Read returns the policy files in a folder of the host. Nil means that
	// only open documents are known.
	Read func(folder string) ([]ruleset.File, error)
	// Load returns one file; false where there is none.
	Load func(name string) ([]byte, bool)
	// Quiet, where it is not nil, returns a channel that is ready when a
	// client has been silent long enough for its changes to be looked at. Nil
	// means that this is done once no message is waiting.
	Quiet func() <-chan time.Time
	Log   *slog.Logger
}

// Server answers one client.
type Server struct {
	cfg   Config
	space *assist.Workspace
	out   io.Writer
	// open are the documents that the client has open, by name.
	open    map[string]*opened
	folders []string
	// disk has the names of files in folders that are not open.
	disk  map[string]bool
	dirty map[string]bool
	state state
	// err is why the client cannot be written to.
	err error
}

type opened struct {
	uri      string
	language string
	version  int
}

type state uint8

const (
	fresh state = iota
	running
	down
)

// Bounds of what a client can make the server keep.
const (
	maxOpen    = 10_000
	maxFolders = 64
	maxWaiting = 64
)

// ErrNoShutdown tells that a client left without saying so.
var ErrNoShutdown = errors.New("the client ended without a shutdown request")

// New makes a server that answers with a workspace, which is its own from then
// on.
func New(cfg Config, space *assist.Workspace) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, space: space, open: map[string]*opened{}, disk: map[string]bool{}, dirty: map[string]bool{}}
}

// Run serves a client until it says exit, until in ends, or until ctx does.
// It leaves the reading of in behind when ctx ends first, as nothing else can
// interrupt it.
func (s *Server) Run(ctx context.Context, in io.Reader, out io.Writer) error {
	s.out = out
	frames := make(chan []byte, maxWaiting)
	failed := make(chan error, 1)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		r := bufio.NewReader(in)
		for {
			f, err := readFrame(r)
			if err != nil {
				failed <- err
				close(frames)
				return
			}
			select {
			case frames <- f:
			case <-stop:
				return
			}
		}
	}()
	var quiet <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case f, ok := <-frames:
			if !ok {
				err := <-failed
				if errors.Is(err, io.EOF) {
					if s.state == down || s.state == fresh {
						return nil
					}
					return ErrNoShutdown
				}
				return err
			}
			if exit := s.frame(f); exit {
				if s.state != down {
					return ErrNoShutdown
				}
				return nil
			}
			quiet = nil
			switch {
			case len(s.dirty) == 0:
			case s.cfg.Quiet != nil:
				quiet = s.cfg.Quiet()
			case len(frames) == 0:
				s.publish()
			}
		case <-quiet:
			quiet = nil
			s.publish()
		}
		if s.err != nil {
			return s.err
		}
	}
}

// frame takes one message and tells whether it was the last.
func (s *Server) frame(data []byte) (exit bool) {
	var m message
	if err := json.Unmarshal(data, &m); err != nil {
		s.reply(json.RawMessage("null"), nil, &rpcError{parseError, "not JSON-RPC"})
		return false
	}
	if m.Method == "" {
		if m.ID == nil {
			s.reply(json.RawMessage("null"), nil, &rpcError{invalidRequest, "neither a method nor an id"})
		}
		return false // an answer to a request of ours: there are none
	}
	if m.Method == "exit" {
		return true
	}
	if m.ID == nil {
		if s.state == running {
			if err := s.guard(m.Method, func() error { return s.notified(m.Method, m.Params) }); err != nil {
				s.cfg.Log.Warn("notification is not understood", "method", m.Method, "err", err)
			}
		}
		return false
	}
	var result any
	err := s.guard(m.Method, func() error {
		var err error
		result, err = s.request(m.Method, m.Params)
		return err
	})
	var e *rpcError
	if err != nil && !errors.As(err, &e) {
		e = &rpcError{requestFailed, err.Error()}
	}
	s.reply(m.ID, result, e)
	return false
}

// guard keeps a panic in the analysis of one text from ending the session.
func (s *Server) guard(method string, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Log.Error("an answer ended in a panic", "method", method, "panic", fmt.Sprint(r))
			err = &rpcError{internalError, "internal error"}
		}
	}()
	return f()
}

func (s *Server) write(v any) {
	if s.err == nil {
		s.err = writeFrame(s.out, v)
	}
}

func (s *Server) reply(id json.RawMessage, result any, e *rpcError) {
	r := response{Version: "2.0", ID: id, Error: e}
	if e == nil {
		data, err := json.Marshal(result)
		if err != nil {
			r.Error = &rpcError{internalError, "internal error"}
		}
		r.Result = data
	}
	s.write(r)
}

func params[T any](data json.RawMessage) (T, error) {
	var v T
	if len(data) == 0 {
		return v, nil
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, &rpcError{invalidParams, "parameters are not those of the method"}
	}
	return v, nil
}

func (s *Server) request(method string, raw json.RawMessage) (any, error) {
	switch {
	case method == "initialize" && s.state == fresh:
		p, err := params[initializeParams](raw)
		if err != nil {
			return nil, err
		}
		return s.initialize(p), nil
	case s.state == fresh:
		return nil, &rpcError{notInitialized, "the session is not initialized"}
	case method == "initialize" || s.state == down:
		return nil, &rpcError{invalidRequest, "not at this point of the session"}
	case method == "shutdown":
		s.state = down
		return nil, nil
	}
	answer, ok := answers[method]
	if !ok {
		return nil, &rpcError{methodNotFound, "unknown method " + clip(method)}
	}
	p, err := params[documentParams](raw)
	if err != nil {
		return nil, err
	}
	return answer(s, nameOf(p.TextDocument.URI), &p)
}

// clip shortens what a client sent before it is told back.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), 100)], "")
}

func (s *Server) initialize(p initializeParams) any {
	s.state = running
	folders := p.WorkspaceFolders
	if len(folders) == 0 && p.RootURI != "" {
		folders = []workspaceFolder{{URI: p.RootURI}}
	}
	s.addFolders(folders)
	return map[string]any{
		"capabilities": capabilities(),
		"serverInfo":   map[string]string{"name": "clew", "version": s.cfg.Version},
	}
}

func (s *Server) notified(method string, raw json.RawMessage) error {
	switch method {
	case "textDocument/didOpen":
		p, err := params[openParams](raw)
		if err != nil {
			return err
		}
		return s.didOpen(&p.TextDocument)
	case "textDocument/didChange":
		p, err := params[changeParams](raw)
		if err != nil {
			return err
		}
		return s.didChange(&p)
	case "textDocument/didClose":
		p, err := params[openParams](raw)
		if err != nil {
			return err
		}
		s.didClose(nameOf(p.TextDocument.URI))
	case "textDocument/didSave":
		p, err := params[openParams](raw)
		if err != nil {
			return err
		}
		s.touch(nameOf(p.TextDocument.URI)) // its cases may have changed
	case "workspace/didChangeWatchedFiles":
		p, err := params[watchedParams](raw)
		if err != nil {
			return err
		}
		for _, c := range p.Changes {
			s.fromDisk(nameOf(c.URI))
		}
	case "workspace/didChangeWorkspaceFolders":
		p, err := params[foldersParams](raw)
		if err != nil {
			return err
		}
		s.removeFolders(p.Event.Removed)
		s.addFolders(p.Event.Added)
	}
	return nil
}

// nameOf is how a document is called by the rest of the program: a file by its
// path, anything else by its URI.
func nameOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "file" || u.Path == "" {
		return uri
	}
	return path.Clean(u.Path)
}

// uriOf is the URI of a document: as the client writes it where it is open.
func (s *Server) uriOf(name string) string {
	if o := s.open[name]; o != nil {
		return o.uri
	}
	if strings.HasPrefix(name, "/") {
		return (&url.URL{Scheme: "file", Path: name}).String()
	}
	return name
}

func (s *Server) didOpen(d *textDocument) error {
	name := nameOf(d.URI)
	if s.open[name] == nil && len(s.open) >= maxOpen {
		return fmt.Errorf("more than %d documents are open", maxOpen)
	}
	s.open[name] = &opened{uri: d.URI, language: d.LanguageID, version: d.Version}
	delete(s.disk, name)
	s.space.Put(name, assist.KindOf(name, d.LanguageID), d.Text)
	s.touch(name)
	return nil
}

func (s *Server) didChange(p *changeParams) error {
	name := nameOf(p.TextDocument.URI)
	o := s.open[name]
	if o == nil {
		return fmt.Errorf("%s is not open", clip(name))
	}
	text, ok := s.space.Text(name)
	if !ok {
		return nil // none of ours
	}
	for _, c := range p.Changes {
		if c.Range == nil {
			text = c.Text
			continue
		}
		t := assist.NewText(text)
		text = t.Apply(*c.Range, c.Text)
		if len(text) > MaxFrameBytes {
			return fmt.Errorf("%s is too large", clip(name))
		}
	}
	o.version = p.TextDocument.Version
	s.space.Put(name, assist.KindOf(name, o.language), text)
	s.touch(name)
	return nil
}

func (s *Server) didClose(name string) {
	o := s.open[name]
	if o == nil {
		return
	}
	related := s.space.Related(name)
	delete(s.open, name)
	delete(s.dirty, name)
	s.space.Drop(name)
	s.fromDisk(name)
	for _, r := range related {
		if s.open[r] != nil {
			s.dirty[r] = true
		}
	}
	s.write(notification{"2.0", "textDocument/publishDiagnostics", publishParams{URI: o.uri, Diagnostics: []diagnostic{}}})
}

// touch notes that a document and those that are looked at with it are to be
// looked at again.
func (s *Server) touch(name string) {
	for _, r := range s.space.Related(name) {
		if s.open[r] != nil {
			s.dirty[r] = true
		}
	}
}

// fromDisk takes a file as it lies in a folder, unless it is open.
func (s *Server) fromDisk(name string) {
	if s.open[name] != nil {
		return
	}
	kind := assist.KindOf(name, "")
	if kind == assist.None || s.cfg.Load == nil || !slices.ContainsFunc(s.folders, func(f string) bool { return below(name, f) }) {
		return
	}
	s.touch(name) // those that knew it before
	data, ok := s.cfg.Load(name)
	if !ok {
		s.space.Drop(name)
		delete(s.disk, name)
		return
	}
	s.space.Put(name, kind, string(data))
	s.disk[name] = true
	s.touch(name)
}

func below(name, folder string) bool {
	return folder == "/" || strings.HasPrefix(name, folder+"/")
}

func (s *Server) addFolders(folders []workspaceFolder) {
	for _, f := range folders {
		dir := nameOf(f.URI)
		if !strings.HasPrefix(dir, "/") || slices.Contains(s.folders, dir) || len(s.folders) >= maxFolders {
			continue
		}
		s.folders = append(s.folders, dir)
		if s.cfg.Read == nil {
			continue
		}
		files, err := s.cfg.Read(dir)
		if err != nil {
			// What could be read is there all the same.
			s.cfg.Log.Warn("folder is not read whole", "folder", dir, "err", err)
		}
		for _, file := range files {
			if kind := assist.KindOf(file.Name, ""); kind != assist.None && s.open[file.Name] == nil {
				s.space.Put(file.Name, kind, string(file.Data))
				s.disk[file.Name] = true
			}
		}
	}
	for name := range s.open {
		s.touch(name)
	}
}

func (s *Server) removeFolders(folders []workspaceFolder) {
	for _, f := range folders {
		dir := nameOf(f.URI)
		s.folders = slices.DeleteFunc(s.folders, func(x string) bool { return x == dir })
	}
	for name := range s.disk {
		if !slices.ContainsFunc(s.folders, func(f string) bool { return below(name, f) }) {
			s.space.Drop(name)
			delete(s.disk, name)
		}
	}
	for name := range s.open {
		s.touch(name)
	}
}

// publish looks at the documents that have changed and tells the client what
// there is to say about them.
func (s *Server) publish() {
	names := make([]string, 0, len(s.dirty))
	for n := range s.dirty {
		names = append(names, n)
	}
	slices.Sort(names)
	s.dirty = map[string]bool{}
	for _, name := range names {
		o := s.open[name]
		if o == nil {
			continue
		}
		version := o.version
		p := publishParams{URI: o.uri, Version: &version, Diagnostics: []diagnostic{}}
		err := s.guard("publishDiagnostics", func() error {
			for _, d := range s.space.Diagnostics(name) {
				p.Diagnostics = append(p.Diagnostics, diagnosticOf(&d))
			}
			return nil
		})
		if err == nil {
			s.write(notification{"2.0", "textDocument/publishDiagnostics", p})
		}
	}
}

func diagnosticOf(d *assist.Diagnostic) diagnostic {
	return diagnostic{Range: d.Range, Severity: d.Severity, Code: d.Code, Source: "clew", Message: d.Message}
}
