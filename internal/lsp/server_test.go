package lsp_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/clewsec/clew/internal/lsp"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/assist"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func space(t testing.TB) *assist.Workspace {
	t.Helper()
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	w, err := assist.New(assist.Config{Rules: ruleset.Config{Schema: schema}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// client is an editor.
type client struct {
	t    *testing.T
	in   io.WriteCloser
	out  *bufio.Reader
	done chan error
	id   int
	// told are the diagnostics of each document that were published last.
	told map[string][]any
}

const patience = 30 * time.Second

func start(t *testing.T, cfg lsp.Config) *client {
	t.Helper()
	fromClient, in := io.Pipe()
	out, toClient := io.Pipe()
	c := &client{t: t, in: in, out: bufio.NewReader(out), done: make(chan error, 1), told: map[string][]any{}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s := lsp.New(cfg, space(t))
	go func() {
		c.done <- s.Run(ctx, fromClient, toClient)
		// Whoever still reads or writes is told that nobody is there.
		_ = fromClient.Close()
		_ = toClient.Close()
	}()
	t.Cleanup(func() {
		_ = in.Close()
		_ = out.Close()
		cancel()
	})
	return c
}

func (c *client) send(v any) {
	c.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c.in, "Content-Length: %d\r\n\r\n%s", len(data), data); err != nil {
		c.t.Fatal(err)
	}
}

type object = map[string]any

func (c *client) notify(method string, params any) {
	c.t.Helper()
	c.send(object{"jsonrpc": "2.0", "method": method, "params": params})
}

// receive reads one message and keeps diagnostics.
func (c *client) receive() object {
	c.t.Helper()
	length := 0
	for {
		line, err := c.out.ReadString('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		line = strings.TrimSpace(line)
		if line == "" {
			break
		}
		if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			if length, err = strconv.Atoi(v); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.out, body); err != nil {
		c.t.Fatal(err)
	}
	var m object
	if err := json.Unmarshal(body, &m); err != nil {
		c.t.Fatal(err)
	}
	if m["method"] == "textDocument/publishDiagnostics" {
		p := m["params"].(object)
		c.told[p["uri"].(string)] = p["diagnostics"].([]any)
	}
	return m
}

// call sends a request and returns its result, or its error.
func (c *client) call(method string, params any) (result any, failed object) {
	c.t.Helper()
	c.id++
	c.send(object{"jsonrpc": "2.0", "id": c.id, "method": method, "params": params})
	for {
		m := c.receive()
		if id, ok := m["id"].(float64); ok && int(id) == c.id {
			e, _ := m["error"].(object)
			return m["result"], e
		}
	}
}

// diagnostics waits until some are published for a document.
func (c *client) diagnostics(uri string) []any {
	c.t.Helper()
	delete(c.told, uri)
	for c.told[uri] == nil {
		c.receive()
	}
	return c.told[uri]
}

func (c *client) initialize(params any) {
	c.t.Helper()
	result, failed := c.call("initialize", params)
	if failed != nil {
		c.t.Fatal(failed)
	}
	if _, ok := result.(object)["capabilities"].(object)["completionProvider"]; !ok {
		c.t.Fatalf("%v", result)
	}
	c.notify("initialized", object{})
}

func (c *client) open(uri, text string) {
	c.t.Helper()
	c.notify("textDocument/didOpen", object{"textDocument": object{"uri": uri, "languageId": "yaml", "version": 1, "text": text}})
}

func at(uri string, line, character int) object {
	return object{"textDocument": object{"uri": uri}, "position": object{"line": line, "character": character}}
}

func (c *client) end() {
	c.t.Helper()
	if _, failed := c.call("shutdown", nil); failed != nil {
		c.t.Error(failed)
	}
	c.notify("exit", nil)
	if err := <-c.done; err != nil {
		c.t.Error(err)
	}
}

func TestSession(t *testing.T) {
	c := start(t, lsp.Config{Version: "test"})
	c.initialize(object{"rootUri": nil, "capabilities": object{}})
	const uri = "file:///p/a%20b.policy"
	c.open(uri, "macros: [{id: M, values: [x]}]\nrules:\n  - id: a\n    expression: exec.file.name == \"𝄞\" && exec.uidd == 0 && exec.comm in M\n")
	ds := c.diagnostics(uri)
	if len(ds) == 0 {
		t.Fatal("no diagnostics")
	}
	d := ds[0].(object)
	if got := fmt.Sprintf("%v %v %v", d["range"], d["severity"], d["message"]); got != "map[end:map[character:51 line:3] start:map[character:42 line:3]] 1 "+`unknown field "exec.uidd", did you mean "exec.uid"?` {
		t.Error(got)
	}
	// A change of a part, then one of another.
	c.notify("textDocument/didChange", object{
		"textDocument": object{"uri": uri, "version": 2},
		"contentChanges": []object{
			{"range": d["range"], "text": "exec.uid"},
			{"range": object{"start": object{"line": 2, "character": 8}, "end": object{"line": 2, "character": 9}}, "text": "changed"},
		},
	})
	for _, d := range c.diagnostics(uri) {
		if d.(object)["severity"].(float64) == 1 {
			t.Errorf("after the change: %v", d)
		}
	}
	result, _ := c.call("textDocument/documentSymbol", object{"textDocument": object{"uri": uri}})
	if s := fmt.Sprint(result); !strings.Contains(s, "name:changed") || !strings.Contains(s, "name:M") {
		t.Error(s)
	}
	result, _ = c.call("textDocument/completion", at(uri, 3, 47))
	if s := fmt.Sprint(result); !strings.Contains(s, "label:exec.uid") {
		t.Error(s)
	}
	result, _ = c.call("textDocument/hover", at(uri, 3, 45))
	if s := fmt.Sprint(result); !strings.Contains(s, "**exec.uid** int") {
		t.Error(s)
	}
	result, _ = c.call("textDocument/definition", at(uri, 3, 72))
	if s := fmt.Sprint(result); !strings.Contains(s, "line:0") || !strings.Contains(s, uri) {
		t.Error(s)
	}
	p := at(uri, 3, 72)
	p["context"] = object{"includeDeclaration": true}
	if result, _ = c.call("textDocument/references", p); len(result.([]any)) != 2 {
		t.Error(result)
	}
	result, _ = c.call("textDocument/semanticTokens/full", object{"textDocument": object{"uri": uri}})
	data := result.(object)["data"].([]any)
	if len(data)%5 != 0 || fmt.Sprint(data[:5]) != "[3 16 14 0 0]" {
		t.Error(data)
	}
	if result, failed := c.call("textDocument/formatting", object{"textDocument": object{"uri": uri}}); failed != nil || len(result.([]any)) != 0 {
		t.Error(result, failed)
	}
	if result, failed := c.call("textDocument/hover", at("file:///elsewhere.yaml", 0, 0)); result != nil || failed != nil {
		t.Error(result, failed)
	}
	if _, failed := c.call("textDocument/nonsense", nil); failed["code"] != -32601.0 {
		t.Error(failed)
	}
	if _, failed := c.call("textDocument/hover", []int{1}); failed["code"] != -32602.0 {
		t.Error(failed)
	}
	c.notify("textDocument/didClose", object{"textDocument": object{"uri": uri}})
	if ds := c.diagnostics(uri); len(ds) != 0 {
		t.Errorf("of a closed document: %v", ds)
	}
	c.end()
}

func TestCodeAction(t *testing.T) {
	c := start(t, lsp.Config{})
	c.initialize(object{})
	const uri = "untitled:Untitled-1"
	c.notify("textDocument/didOpen", object{"textDocument": object{"uri": uri, "languageId": "secl", "version": 1, "text": "exec.uidd == 0"}})
	result, _ := c.call("textDocument/codeAction", object{
		"textDocument": object{"uri": uri}, "context": object{"diagnostics": []any{}},
		"range": object{"start": object{"line": 0, "character": 3}, "end": object{"line": 0, "character": 3}},
	})
	a := result.([]any)[0].(object)
	if got := fmt.Sprintf("%v %v %v", a["title"], a["edit"], a["isPreferred"]); got != "Replace by exec.uid map[changes:map[untitled:Untitled-1:[map[newText:exec.uid range:map[end:map[character:9 line:0] start:map[character:0 line:0]]]]]] true" {
		t.Error(got)
	}
	c.end()
}

// TestFolders holds that macros of files on disk are known, and that changes
// of those files are seen.
func TestFolders(t *testing.T) {
	files := map[string]string{
		"/w/p/macros.policy": "macros: [{id: ON_DISK, values: [x]}]\n",
		"/w/p/other.policy":  "rules: [{id: other, expression: exec.file.name in ON_DISK && exec.gid == 0}]\n",
	}
	load := func(name string) ([]byte, bool) {
		s, ok := files[name]
		return []byte(s), ok
	}
	read := func(folder string) ([]ruleset.File, error) {
		var out []ruleset.File
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if strings.HasPrefix(name, folder+"/") {
				out = append(out, ruleset.File{Name: name, Data: []byte(files[name])})
			}
		}
		return out, errors.New("too large")
	}
	c := start(t, lsp.Config{Read: read, Load: load})
	c.initialize(object{"workspaceFolders": []object{{"uri": "file:///w", "name": "w"}}})
	const uri = "file:///w/p/mine.policy"
	c.open(uri, "rules: [{id: a, expression: exec.file.name in ON_DISK}]\n")
	failed := func() (out []string) {
		for _, d := range c.diagnostics(uri) {
			if d.(object)["severity"].(float64) == 1 {
				out = append(out, d.(object)["message"].(string))
			}
		}
		return out
	}
	if got := failed(); got != nil {
		t.Errorf("%q", got)
	}
	result, _ := c.call("textDocument/references", object{
		"textDocument": object{"uri": uri}, "position": object{"line": 0, "character": 48}, "context": object{"includeDeclaration": true},
	})
	if s := fmt.Sprint(result); len(result.([]any)) != 3 || !strings.Contains(s, "file:///w/p/other.policy") {
		t.Error(s)
	}
	delete(files, "/w/p/macros.policy")
	c.notify("workspace/didChangeWatchedFiles", object{"changes": []object{{"uri": "file:///w/p/macros.policy", "type": 3}}})
	if got := failed(); len(got) != 1 || !strings.Contains(got[0], "ON_DISK") {
		t.Errorf("without the macros: %q", got)
	}
	files["/w/p/macros.policy"] = "macros: [{id: ON_DISK, values: [y]}]\n"
	c.notify("workspace/didChangeWatchedFiles", object{"changes": []object{{"uri": "file:///w/p/macros.policy", "type": 1}}})
	if got := failed(); got != nil {
		t.Errorf("with the macros again: %q", got)
	}
	c.notify("workspace/didChangeWorkspaceFolders", object{"event": object{"added": []object{}, "removed": []object{{"uri": "file:///w", "name": "w"}}}})
	if got := failed(); len(got) != 1 {
		t.Errorf("without the folder: %q", got)
	}
	c.end()
}

// TestQuiet holds that nothing is published before the client has been silent,
// and that a change starts the wait anew.
func TestQuiet(t *testing.T) {
	asked := make(chan chan time.Time)
	c := start(t, lsp.Config{Quiet: func() <-chan time.Time {
		ch := make(chan time.Time, 1)
		asked <- ch
		return ch
	}})
	c.initialize(object{})
	const uri = "file:///p/a.policy"
	c.open(uri, "rules: [{id: a, expression: exec.uidd == 0}]\n")
	first := <-asked
	go c.notify("textDocument/didChange", object{
		"textDocument": object{"uri": uri, "version": 2}, "contentChanges": []object{{"text": "rules: [{id: a, expression: exec.uid == 0, every: x}]\n"}},
	})
	second := <-asked
	first <- time.Time{} // it is too late for this one
	second <- time.Time{}
	ds := c.diagnostics(uri)
	if s := fmt.Sprint(ds); !strings.Contains(s, "every must be") || strings.Contains(s, "uidd") {
		t.Error(s)
	}
	c.end()
}

func TestOrder(t *testing.T) {
	c := start(t, lsp.Config{})
	if _, failed := c.call("textDocument/hover", nil); failed["code"] != -32002.0 {
		t.Errorf("before initialize: %v", failed)
	}
	c.initialize(object{})
	if _, failed := c.call("initialize", object{}); failed["code"] != -32600.0 {
		t.Errorf("twice: %v", failed)
	}
	c.send(17)
	if m := c.receive(); m["error"].(object)["code"] != -32700.0 {
		t.Errorf("no object: %v", m)
	}
	c.send(object{"jsonrpc": "2.0"})
	if m := c.receive(); m["error"].(object)["code"] != -32600.0 {
		t.Errorf("nothing: %v", m)
	}
	c.notify("textDocument/didOpen", "x")
	c.notify("textDocument/didChange", object{"textDocument": object{"uri": "file:///absent.policy"}})
	if _, failed := c.call("shutdown", nil); failed != nil {
		t.Error(failed)
	}
	if _, failed := c.call("textDocument/hover", nil); failed["code"] != -32600.0 {
		t.Errorf("after shutdown: %v", failed)
	}
	c.notify("exit", nil)
	if err := <-c.done; err != nil {
		t.Error(err)
	}
}

// TestFrames holds how sessions end that are none.
func TestFrames(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want error
	}{
		"nothing":              {"", nil},
		"no length":            {"Content-Type: x\r\n\r\n{}", lsp.ErrFrame},
		"length of words":      {"Content-Length: many\r\n\r\n", lsp.ErrFrame},
		"negative length":      {"Content-Length: -1\r\n\r\n", lsp.ErrFrame},
		"too long":             {"Content-Length: 4000000000\r\n\r\n", lsp.ErrFrame},
		"far too long":         {"Content-Length: 99999999999999999999\r\n\r\n", lsp.ErrFrame},
		"shorter than it says": {"Content-Length: 60000000\r\n\r\n{}", lsp.ErrFrame},
		"endless header":       {strings.Repeat("a", 1<<20), lsp.ErrFrame},
		"many headers":         {strings.Repeat("a: b\r\n", 1<<16), lsp.ErrFrame},
		"no colon":             {"GET / HTTP/1.1\r\n\r\n", lsp.ErrFrame},
		"half a header":        {"Content-Le", lsp.ErrFrame},
		"gone":                 {frame(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`), lsp.ErrNoShutdown},
		"exit at once":         {frame(`{"jsonrpc":"2.0","method":"exit"}`), lsp.ErrNoShutdown},
	} {
		var out bytes.Buffer
		err := lsp.New(lsp.Config{}, space(t)).Run(t.Context(), strings.NewReader(tt.in), &out)
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func frame(body string) string {
	return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// FuzzSession sends anything in place of messages: the server answers or ends,
// and does so the same way twice.
func FuzzSession(f *testing.F) {
	init := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`
	open := `{"jsonrpc":"2.0","method":"textDocument/didOpen","params":{"textDocument":{"uri":"file:///a.policy","text":"rules:\n- id: a\n  expression: exec.uidd == 0"}}}`
	f.Add([]byte(frame(init) + frame(open) + frame(`{"jsonrpc":"2.0","id":"x","method":"textDocument/completion","params":{"textDocument":{"uri":"file:///a.policy"},"position":{"line":2,"character":-4}}}`)))
	f.Add([]byte(frame(init) + frame(open) + frame(`{"method":"textDocument/didChange","params":{"textDocument":{"uri":"file:///a.policy"},"contentChanges":[{"range":{"start":{"line":9,"character":9},"end":{"line":0,"character":1}},"text":"é"}]}}`)))
	f.Add([]byte(frame(init) + frame(`{"id":{},"method":"textDocument/codeAction","params":{"range":null}}`) + "Content-Length: 3\n\n{}"))
	f.Add([]byte(frame(`[]`) + frame(`{"id":1,"method":"shutdown"}`) + frame(`null`)))
	w := space(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var outs [2]bytes.Buffer
		var errs [2]string
		for i := range outs {
			errs[i] = fmt.Sprint(lsp.New(lsp.Config{Quiet: func() <-chan time.Time { return nil }}, w.Fresh()).Run(t.Context(), bytes.NewReader(data), &outs[i]))
		}
		if errs[0] != errs[1] || outs[0].String() != outs[1].String() {
			t.Fatalf("%s %s\nthen %s %s", errs[0], outs[0].String(), errs[1], outs[1].String())
		}
	})
}
