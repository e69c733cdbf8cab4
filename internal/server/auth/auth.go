// Package auth decides who a caller is and what they may do.
//
// On the local socket the kernel tells who calls. Over TCP a caller shows a
// session cookie, which a one-time link gives to a browser, or a bearer token.
// That a connection comes from the loopback address proves nothing: programs
// that are watched run there, too.
package auth

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/clewsec/clew/internal/control"
)

// A Role is what a caller may do; each includes those before it.
type Role int

// The roles.
const (
	None Role = iota
	Viewer
	Analyst
	Responder
	Admin
)

var roleNames = [...]string{"none", "viewer", "analyst", "responder", "admin"}

func (r Role) String() string { return roleNames[r] }

// ParseRole reads what String wrote; an unknown name is None.
func ParseRole(name string) Role {
	for i, n := range roleNames {
		if n == name {
			return Role(i)
		}
	}
	return None
}

// An Identity is a caller.
type Identity struct {
	Actor string
	Role  Role
	Local bool // came over the local socket
}

type identityKey struct{}

// With returns a context that carries who calls.
func With(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// From returns who calls; without anyone the role is None.
func From(ctx context.Context) Identity {
	id, _ := ctx.Value(identityKey{}).(Identity)
	return id
}

// Credentials is what is asked about cookies and tokens; control.DB answers.
type Credentials interface {
	UseLogin(ctx context.Context, secret string) (session string, expires time.Time, err error)
	Session(ctx context.Context, secret string) (control.Holder, error)
	EndSession(ctx context.Context, secret string) error
	Token(ctx context.Context, secret string) (control.Holder, error)
}

// Config says how callers over TCP reach the server.
type Config struct {
	Listen string   // host:port it listens on
	Hosts  []string // further names that a Host header may have
}

// Counters count refusals.
type Counters struct {
	Host            atomic.Uint64 // wrong Host header
	Unauthenticated atomic.Uint64
	Forged          atomic.Uint64 // a cookie without the header that only our page sends
	Denied          atomic.Uint64 // known, but not allowed
}

// A Guard lets callers in. Its methods may be called from several goroutines.
type Guard struct {
	cred  Credentials
	hosts map[string]bool
	log   *slog.Logger
	errs  *connect.ErrorWriter

	Counters Counters
}

// New returns a guard.
func New(cfg Config, cred Credentials, log *slog.Logger) *Guard {
	g := &Guard{cred: cred, log: log, errs: connect.NewErrorWriter(), hosts: map[string]bool{
		"localhost": true, "127.0.0.1": true, "::1": true,
	}}
	for _, h := range append([]string{cfg.Listen}, cfg.Hosts...) {
		if name := hostName(h); name != "" {
			g.hosts[name] = true
		}
	}
	return g
}

// hostName is the name or address in a Host header, without port and brackets.
func hostName(h string) string {
	if host, _, err := net.SplitHostPort(h); err == nil {
		h = host
	}
	h = strings.ToLower(strings.TrimSuffix(strings.Trim(h, "[]"), "."))
	if ip, err := netip.ParseAddr(h); err == nil && ip.IsUnspecified() {
		return "" // "all addresses" is no name anyone may call us by
	}
	return h
}

// CookieName is the name of the session's cookie. Cookies are not told apart
// by port, so it has the port in it.
func CookieName(host string) string {
	if _, port, err := net.SplitHostPort(host); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			return "clew_session_" + strconv.FormatUint(n, 10)
		}
	}
	return "clew_session"
}

// CheckHost refuses requests for another host name: a page of another site
// whose name was made to point here would send its own.
func (g *Guard) CheckHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.hosts[hostName(r.Host)] {
			g.Counters.Host.Add(1)
			http.Error(w, "this server is not called by that host name", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Remote lets in API calls that carry a token or a session.
func (g *Guard) Remote(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := g.remote(r)
		if err != nil {
			if connect.CodeOf(err) == connect.CodeUnknown {
				g.log.Error("look up credential", "error", err)
				err = connect.NewError(connect.CodeUnavailable, errors.New("credentials cannot be checked now"))
			}
			g.fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(With(r.Context(), id)))
	})
}

// fail answers in the caller's protocol.
func (g *Guard) fail(w http.ResponseWriter, r *http.Request, err error) {
	if g.errs.IsSupported(r) {
		// The caller has gone when this fails.
		_ = g.errs.Write(w, r, err)
		return
	}
	status := http.StatusUnauthorized
	switch connect.CodeOf(err) {
	case connect.CodePermissionDenied:
		status = http.StatusForbidden
	case connect.CodeUnavailable:
		status = http.StatusServiceUnavailable
	}
	var text string
	var ce *connect.Error
	if errors.As(err, &ce) {
		text = ce.Message()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`{"code":"` + connect.CodeOf(err).String() + `","message":` + strconv.Quote(text) + "}\n"))
}

func (g *Guard) remote(r *http.Request) (Identity, error) {
	if token, ok := bearer(r); ok {
		h, err := g.cred.Token(r.Context(), token)
		if err == nil {
			return Identity{Actor: h.Actor, Role: ParseRole(h.Role)}, nil
		}
		if !errors.Is(err, control.ErrCredential) {
			return Identity{}, err
		}
		g.Counters.Unauthenticated.Add(1)
		return Identity{}, connect.NewError(connect.CodeUnauthenticated, errors.New("unknown token"))
	}
	c, err := r.Cookie(CookieName(r.Host))
	if err == nil {
		h, err := g.cred.Session(r.Context(), c.Value)
		if err != nil && !errors.Is(err, control.ErrCredential) {
			return Identity{}, err
		}
		if err == nil {
			if !ours(r) {
				g.Counters.Forged.Add(1)
				return Identity{}, connect.NewError(connect.CodePermissionDenied, errors.New("a call with a session must come from the page: its headers are missing"))
			}
			return Identity{Actor: h.Actor, Role: ParseRole(h.Role)}, nil
		}
	}
	g.Counters.Unauthenticated.Add(1)
	return Identity{}, connect.NewError(connect.CodeUnauthenticated, errors.New("log in first: clew login prints a link"))
}

func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

// ours tells whether a request with a cookie was made by our own page: another
// site's page cannot set these headers without asking first, and the browser
// says where a request comes from.
func ours(r *http.Request) bool {
	if r.Header.Get("Connect-Protocol-Version") != "1" {
		return false
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || !strings.EqualFold(u.Host, r.Host) {
			return false
		}
	}
	return true
}

// Login serves the one-time link: /login?token=SECRET gives the browser a
// session and sends it to the page. With HEAD nothing happens, so that a
// preview does not use the link up.
func (g *Guard) Login(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	session, expires, err := g.cred.UseLogin(r.Context(), r.URL.Query().Get("token"))
	switch {
	case errors.Is(err, control.ErrCredential):
		g.Counters.Unauthenticated.Add(1)
		http.Error(w, "This link has been used or is older than 15 minutes. On the host, run: clew login", http.StatusUnauthorized)
		return
	case err != nil:
		g.log.Error("log in", "error", err)
		http.Error(w, "The server cannot log anyone in now.", http.StatusServiceUnavailable)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: CookieName(r.Host), Value: session, Path: "/", Expires: expires,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// Logout ends the session of the request's cookie.
func (g *Guard) Logout(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost || !ours(r) {
		http.Error(w, "only the page may do that", http.StatusForbidden)
		return
	}
	if c, err := r.Cookie(CookieName(r.Host)); err == nil {
		if err := g.cred.EndSession(r.Context(), c.Value); err != nil {
			g.log.Error("log out", "error", err)
			http.Error(w, "The server cannot end the session now.", http.StatusServiceUnavailable)
			return
		}
	}
	http.SetCookie(w, &http.Cookie{Name: CookieName(r.Host), Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	w.WriteHeader(http.StatusNoContent)
}

// Require returns an interceptor that lets a procedure be called by those with
// at least the role that needs lists for it. A procedure that is not listed
// may be called by nobody.
func (g *Guard) Require(needs map[string]Role) connect.Interceptor {
	return &requirement{g, needs}
}

type requirement struct {
	g     *Guard
	needs map[string]Role
}

func (q *requirement) check(ctx context.Context, procedure string) error {
	need, ok := q.needs[procedure]
	id := From(ctx)
	if ok && need != None && id.Role >= need {
		return nil
	}
	q.g.Counters.Denied.Add(1)
	if id.Role == None {
		return connect.NewError(connect.CodePermissionDenied, errors.New("only root, the server's own user and members of group clew may ask here"))
	}
	return connect.NewError(connect.CodePermissionDenied, errors.New("role "+id.Role.String()+" may not do that"))
}

func (q *requirement) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if err := q.check(ctx, req.Spec().Procedure); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

func (q *requirement) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (q *requirement) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := q.check(ctx, conn.Spec().Procedure); err != nil {
			return err
		}
		return next(ctx, conn)
	}
}
