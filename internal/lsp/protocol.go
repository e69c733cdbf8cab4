package lsp

import "github.com/clewsec/clew/internal/ruleset/assist"

// The messages of the protocol, as far as they are used.

type initializeParams struct {
	RootURI          string            `json:"rootUri"`
	WorkspaceFolders []workspaceFolder `json:"workspaceFolders"`
}

type workspaceFolder struct {
	URI  string `json:"uri"`
	Name string `json:"name"`
}

type textDocument struct {
	URI        string `json:"uri"`
	LanguageID string `json:"languageId"`
	Version    int    `json:"version"`
	Text       string `json:"text"`
}

type openParams struct {
	TextDocument textDocument `json:"textDocument"`
}

type changeParams struct {
	TextDocument textDocument `json:"textDocument"`
	Changes      []struct {
		Range *assist.Range `json:"range"`
		Text  string        `json:"text"`
	} `json:"contentChanges"`
}

type documentParams struct {
	TextDocument textDocument    `json:"textDocument"`
	Position     assist.Position `json:"position"`
	Range        assist.Range    `json:"range"`
	Context      struct {
		IncludeDeclaration bool `json:"includeDeclaration"`
	} `json:"context"`
}

type watchedParams struct {
	Changes []struct {
		URI  string `json:"uri"`
		Type int    `json:"type"`
	} `json:"changes"`
}

type foldersParams struct {
	Event struct {
		Added   []workspaceFolder `json:"added"`
		Removed []workspaceFolder `json:"removed"`
	} `json:"event"`
}

type markup struct {
	Kind  string `json:"kind"`
	Value string `json:"value"`
}

type diagnostic struct {
	Range    assist.Range    `json:"range"`
	Severity assist.Severity `json:"severity"`
	Code     string          `json:"code,omitempty"`
	Source   string          `json:"source"`
	Message  string          `json:"message"`
}

type publishParams struct {
	URI         string       `json:"uri"`
	Version     *int         `json:"version,omitempty"`
	Diagnostics []diagnostic `json:"diagnostics"`
}

type completionItem struct {
	Label         string          `json:"label"`
	Kind          assist.ItemKind `json:"kind"`
	Detail        string          `json:"detail,omitempty"`
	Documentation *markup         `json:"documentation,omitempty"`
	SortText      string          `json:"sortText"`
	FilterText    string          `json:"filterText,omitempty"`
	TextEdit      assist.Edit     `json:"textEdit"`
}

type completionList struct {
	IsIncomplete bool             `json:"isIncomplete"`
	Items        []completionItem `json:"items"`
}

type hover struct {
	Contents markup       `json:"contents"`
	Range    assist.Range `json:"range"`
}

type location struct {
	URI   string       `json:"uri"`
	Range assist.Range `json:"range"`
}

type documentSymbol struct {
	Name           string       `json:"name"`
	Detail         string       `json:"detail,omitempty"`
	Kind           int          `json:"kind"`
	Range          assist.Range `json:"range"`
	SelectionRange assist.Range `json:"selectionRange"`
}

// Kinds of symbols.
const (
	symbolFunction = 12 // a macro
	symbolEvent    = 24 // a rule
)

type workspaceEdit struct {
	Changes map[string][]assist.Edit `json:"changes"`
}

type codeAction struct {
	Title       string        `json:"title"`
	Kind        string        `json:"kind"`
	Diagnostics []diagnostic  `json:"diagnostics,omitempty"`
	IsPreferred bool          `json:"isPreferred,omitempty"`
	Edit        workspaceEdit `json:"edit"`
}

type semanticTokens struct {
	Data []int `json:"data"`
}

// capabilities is what the server can do.
func capabilities() map[string]any {
	return map[string]any{
		"positionEncoding": "utf-16",
		"textDocumentSync": map[string]any{"openClose": true, "change": 2, "save": map[string]any{"includeText": false}},
		"completionProvider": map[string]any{
			"triggerCharacters": []string{".", "[", "{", "&", "|", "=", "~", " "},
		},
		"hoverProvider":              true,
		"definitionProvider":         true,
		"referencesProvider":         true,
		"documentSymbolProvider":     true,
		"documentFormattingProvider": true,
		"codeActionProvider":         map[string]any{"codeActionKinds": []string{"quickfix"}},
		"semanticTokensProvider": map[string]any{
			"legend": map[string]any{"tokenTypes": assist.TokenTypes, "tokenModifiers": []string{}},
			"full":   true,
		},
		"workspace": map[string]any{
			"workspaceFolders": map[string]any{"supported": true, "changeNotifications": true},
		},
	}
}
