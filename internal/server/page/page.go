// Package page serves the files of the page, with the headers that keep what
// runs in it to what came with it.
package page

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

// noncePlace in index.html is where the nonce goes that lets the page's own
// libraries add styles.
const noncePlace = "__CSP_NONCE__"

// Headers adds to every answer what protects a browser.
func Headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy(""))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		next.ServeHTTP(w, r)
	})
}

// policy is the content security policy. Without a nonce styles come from
// files only.
func policy(nonce string) string {
	style := "'self'"
	if nonce != "" {
		style += " 'nonce-" + nonce + "'"
	}
	return "default-src 'none'; script-src 'self'; style-src " + style + "; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
		"frame-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
}

// A Page serves the page's files, index.html for the empty path, and sends
// links to stories there.
type Page struct {
	files fs.FS
	index []byte
}

// New returns the page in files. Without an index.html there it says so to
// whoever comes.
func New(files fs.FS) *Page {
	p := &Page{files: files}
	if files != nil {
		// No index is a build without the page.
		p.index, _ = fs.ReadFile(files, "index.html")
	}
	return p
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if len(p.index) == 0 {
		http.Error(w, "This clew was built without its page. The API and the commands work.", http.StatusNotFound)
		return
	}
	if name != "" && name != "index.html" && fs.ValidPath(name) {
		if fi, err := fs.Stat(p.files, name); err == nil && fi.Mode().IsRegular() {
			// Names of built files change with their content.
			w.Header().Set("Cache-Control", "no-cache")
			if strings.HasPrefix(name, "assets/") {
				w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			}
			http.ServeFileFS(w, r, p.files, name)
			return
		}
		if !strings.HasPrefix(name, "stories") {
			http.NotFound(w, r)
			return
		}
		// The page keeps its place behind the #; its files have relative
		// names, so index.html itself must not be answered below another path.
		w.Header().Set("Location", "./"+strings.Repeat("../", strings.Count(name, "/"))+"#/"+(&url.URL{Path: name}).EscapedPath())
		w.WriteHeader(http.StatusFound)
		return
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	nonce := base64.RawStdEncoding.EncodeToString(b[:])
	w.Header().Set("Content-Security-Policy", policy(nonce))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bytes.ReplaceAll(p.index, []byte(noncePlace), []byte(nonce))))
}
