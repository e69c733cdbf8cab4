package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestRulesLSP drives clew rules lsp over pipes, as an editor does: a folder
// with macros on disk, a document, its problems, a completion, the end.
func TestRulesLSP(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "macros.policy"), []byte("macros: [{id: ON_DISK, values: [sh]}]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	serverIn, in := io.Pipe()
	out, serverOut := io.Pipe()
	done := make(chan error, 1)
	go func() {
		root := newRootCmd()
		root.SetArgs([]string{"rules", "lsp", "--stdio", "--quiet", "1ms"})
		root.SetIn(serverIn)
		root.SetOut(serverOut)
		err := root.ExecuteContext(t.Context())
		_ = serverIn.Close()
		_ = serverOut.Close()
		done <- err
	}()
	t.Cleanup(func() {
		_ = in.Close()
		_ = out.Close()
	})
	send := func(body string) {
		t.Helper()
		if _, err := fmt.Fprintf(in, "Content-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
	}
	r := bufio.NewReader(out)
	type message struct {
		ID     int
		Method string
		Error  any
		Result json.RawMessage
		Params struct {
			URI         string
			Diagnostics []struct{ Message, Code string }
		}
	}
	receive := func() (m message) {
		t.Helper()
		length := 0
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			line = strings.TrimSpace(line)
			if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
				if length, err = strconv.Atoi(v); err != nil {
					t.Fatal(err)
				}
			}
			if line == "" {
				break
			}
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(r, body); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		if m.Error != nil {
			t.Fatalf("%s", body)
		}
		return m
	}
	uri := "file://" + dir + "/rule.policy"
	send(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"rootUri":"file://` + dir + `","capabilities":{}}}`)
	if m := receive(); m.ID != 1 || !strings.Contains(string(m.Result), `"completionProvider"`) {
		t.Fatalf("%+v", m)
	}
	send(`{"jsonrpc":"2.0","method":"initialized","params":{}}`)
	text, err := json.Marshal("rules:\n  - id: a\n    expression: exec.file.name in ON_DISK && exec.uidd == 0 && exec.comm in CLEW_SHELLS\n")
	if err != nil {
		t.Fatal(err)
	}
	send(`{"jsonrpc":"2.0","method":"textDocument/didOpen","params":{"textDocument":{"uri":"` + uri + `","languageId":"yaml","version":1,"text":` + string(text) + `}}}`)
	m := receive()
	if m.Method != "textDocument/publishDiagnostics" || m.Params.URI != uri || len(m.Params.Diagnostics) != 1 ||
		m.Params.Diagnostics[0].Message != `unknown field "exec.uidd", did you mean "exec.uid"?` {
		t.Fatalf("%+v", m)
	}
	send(`{"jsonrpc":"2.0","id":2,"method":"textDocument/completion","params":{"textDocument":{"uri":"` + uri + `"},"position":{"line":2,"character":34}}}`)
	if m := receive(); m.ID != 2 || !strings.Contains(string(m.Result), `"label":"ON_DISK"`) || !strings.Contains(string(m.Result), `"label":"CLEW_SHELLS"`) {
		t.Fatalf("%+v", m)
	}
	send(`{"jsonrpc":"2.0","id":3,"method":"shutdown"}`)
	if m := receive(); m.ID != 3 {
		t.Fatalf("%+v", m)
	}
	send(`{"jsonrpc":"2.0","method":"exit"}`)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
