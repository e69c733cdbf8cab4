// Package control keeps control data: what people decided about stories, who
// may log in, which agents are known, and who did what. Events are not here;
// internal/store has them.
//
// The SQL is portable between SQLite and PostgreSQL: numbered parameters, no
// functions of one of them, times as ns since the epoch.
package control

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the database/sql driver "sqlite"

	"github.com/clewsec/clew/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// How long what is given out is good for.
const (
	LoginLife   = 15 * time.Minute
	SessionLife = 12 * time.Hour
)

// ErrCredential means that a link, cookie or token is unknown, used up or
// expired; which one is not told.
var ErrCredential = errors.New("unknown or expired credential")

// ErrExists means that the name is taken.
var ErrExists = errors.New("exists already")

// A DB is the control data. Its methods may be called from several goroutines.
type DB struct {
	db  *sql.DB
	now func() time.Time
}

// Open opens the SQLite file at path, makes it when it is not there and brings
// its tables up to date. A file of a newer program is refused with a
// *store.VersionError.
func Open(ctx context.Context, path string, now func() time.Time) (*DB, error) {
	v := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "temp_store(memory)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: v.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open control data: %w", err)
	}
	db.SetMaxOpenConns(4)
	if err := migrate(ctx, db, path); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &DB{db: db, now: now}, nil
}

func migrate(ctx context.Context, db *sql.DB, path string) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("open control data: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
	if err != nil {
		return fmt.Errorf("open control data: %w", err)
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("open control data %s: %w", path, err)
	}
	sources := p.ListSources()
	if newest := sources[len(sources)-1].Version; have > newest {
		return &store.VersionError{Path: path, Have: int(have), Max: int(newest)}
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bring control data %s up to date: %w", path, err)
	}
	return nil
}

// Close frees the file.
func (d *DB) Close() error { return d.db.Close() }

// A Triage is a decision about a story. Empty fields leave what is.
type Triage struct {
	StoryID  string
	At       int64 // ns since the epoch
	Actor    string
	State    string
	Verdict  string
	Assignee string
	Comment  string
}

// AddTriage keeps t and notes it in the audit log.
func (d *DB) AddTriage(ctx context.Context, t Triage) error {
	return d.tx(ctx, "add triage", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO triage (story_id, at, actor, state, verdict, assignee, comment)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (story_id, at, actor) DO NOTHING`,
			t.StoryID, t.At, t.Actor, t.State, t.Verdict, t.Assignee, t.Comment)
		if err != nil {
			return err
		}
		return audit(ctx, tx, t.At, t.Actor, "triage", t.StoryID)
	})
}

// Triages calls fn for every decision, oldest first.
func (d *DB) Triages(ctx context.Context, fn func(Triage)) error {
	rows, err := d.db.QueryContext(ctx, "SELECT story_id, at, actor, state, verdict, assignee, comment FROM triage ORDER BY at, actor, story_id")
	if err != nil {
		return fmt.Errorf("read triage: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var t Triage
		if err := rows.Scan(&t.StoryID, &t.At, &t.Actor, &t.State, &t.Verdict, &t.Assignee, &t.Comment); err != nil {
			return fmt.Errorf("read triage: %w", err)
		}
		fn(t)
	}
	return rows.Err()
}

// A Holder is who a credential was given to.
type Holder struct {
	Actor string
	Role  string
}

// newSecret returns 256 random bits in words fit for a URL, and their hash. Only
// the hash is kept, so that a copy of the file lets nobody in.
func newSecret() (secret, hash string) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	secret = base64.RawURLEncoding.EncodeToString(b[:])
	return secret, hashOf(secret)
}

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// CreateLogin makes a secret that logs in once within LoginLife.
func (d *DB) CreateLogin(ctx context.Context, h Holder) (secret string, expires time.Time, err error) {
	now := d.now()
	expires = now.Add(LoginLife)
	secret, hash := newSecret()
	err = d.tx(ctx, "create login", func(tx *sql.Tx) error {
		if err := sweep(ctx, tx, now); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO login (hash, actor, role, expires) VALUES ($1, $2, $3, $4)", hash, h.Actor, h.Role, expires.UnixNano()); err != nil {
			return err
		}
		return audit(ctx, tx, now.UnixNano(), h.Actor, "create_login", "")
	})
	return secret, expires, err
}

// UseLogin turns a login secret into a session's. It works once.
func (d *DB) UseLogin(ctx context.Context, secret string) (session string, expires time.Time, err error) {
	now := d.now()
	expires = now.Add(SessionLife)
	session, hash := newSecret()
	err = d.tx(ctx, "use login", func(tx *sql.Tx) error {
		var h Holder
		row := tx.QueryRowContext(ctx, "DELETE FROM login WHERE hash = $1 AND expires > $2 RETURNING actor, role", hashOf(secret), now.UnixNano())
		if err := row.Scan(&h.Actor, &h.Role); errors.Is(err, sql.ErrNoRows) {
			return ErrCredential
		} else if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO session (hash, actor, role, expires) VALUES ($1, $2, $3, $4)", hash, h.Actor, h.Role, expires.UnixNano()); err != nil {
			return err
		}
		return audit(ctx, tx, now.UnixNano(), h.Actor, "login", "")
	})
	return session, expires, err
}

// Session tells whose session a secret is.
func (d *DB) Session(ctx context.Context, secret string) (Holder, error) {
	return d.holder(ctx, "SELECT actor, role FROM session WHERE hash = $1 AND expires > $2", hashOf(secret), d.now().UnixNano())
}

// EndSession makes a session's secret worthless.
func (d *DB) EndSession(ctx context.Context, secret string) error {
	if _, err := d.db.ExecContext(ctx, "DELETE FROM session WHERE hash = $1", hashOf(secret)); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// CreateToken makes a token for programs. It is shown once and works until it
// is removed.
func (d *DB) CreateToken(ctx context.Context, name string, h Holder) (secret string, err error) {
	now := d.now().UnixNano()
	secret, hash := newSecret()
	secret = "clew_" + secret
	hash = hashOf(secret)
	err = d.tx(ctx, "create token", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "INSERT INTO token (hash, name, role, made_by, made_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO NOTHING",
			hash, name, h.Role, h.Actor, now)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return fmt.Errorf("token %q: %w", name, ErrExists)
		}
		return audit(ctx, tx, now, h.Actor, "create_token", name)
	})
	if err != nil {
		return "", err
	}
	return secret, nil
}

// RemoveToken makes a token worthless.
func (d *DB) RemoveToken(ctx context.Context, name, actor string) error {
	return d.tx(ctx, "remove token", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM token WHERE name = $1", name)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return fmt.Errorf("token %q: %w", name, ErrCredential)
		}
		return audit(ctx, tx, d.now().UnixNano(), actor, "remove_token", name)
	})
}

// Token tells whose token a secret is: its actor is "token:" and its name.
func (d *DB) Token(ctx context.Context, secret string) (Holder, error) {
	h, err := d.holder(ctx, "SELECT name, role FROM token WHERE hash = $1", hashOf(secret))
	if err == nil {
		h.Actor = "token:" + h.Actor
	}
	return h, err
}

func (d *DB) holder(ctx context.Context, query string, args ...any) (Holder, error) {
	var h Holder
	err := d.db.QueryRowContext(ctx, query, args...).Scan(&h.Actor, &h.Role)
	if errors.Is(err, sql.ErrNoRows) {
		return Holder{}, ErrCredential
	}
	if err != nil {
		return Holder{}, fmt.Errorf("look up credential: %w", err)
	}
	return h, nil
}

// sweep removes what has expired.
func sweep(ctx context.Context, tx *sql.Tx, now time.Time) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM login WHERE expires <= $1", now.UnixNano()); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM session WHERE expires <= $1", now.UnixNano())
	return err
}

// An Agent is what an agent said of itself when it was last here.
type Agent struct {
	ID        string
	Host      string
	Kernel    string
	Version   string
	Mode      string
	Reason    string
	Run       string
	Recording bool
	LastSeen  int64 // ns since the epoch
}

// PutAgent keeps a, in place of what was known of the agent.
func (d *DB) PutAgent(ctx context.Context, a Agent) error {
	recording := 0
	if a.Recording {
		recording = 1
	}
	_, err := d.db.ExecContext(ctx, `INSERT INTO agent (id, host, kernel, version, mode, reason, run, recording, last_seen)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (id) DO UPDATE SET host = excluded.host, kernel = excluded.kernel, version = excluded.version, mode = excluded.mode,
			reason = excluded.reason, run = excluded.run, recording = excluded.recording, last_seen = excluded.last_seen`,
		a.ID, a.Host, a.Kernel, a.Version, a.Mode, a.Reason, a.Run, recording, a.LastSeen)
	if err != nil {
		return fmt.Errorf("keep agent %s: %w", a.ID, err)
	}
	return nil
}

// Agents returns the agents ever seen, by id.
func (d *DB) Agents(ctx context.Context) ([]Agent, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT id, host, kernel, version, mode, reason, run, recording, last_seen FROM agent ORDER BY id")
	if err != nil {
		return nil, fmt.Errorf("read agents: %w", err)
	}
	defer rows.Close()
	var out []Agent
	for rows.Next() {
		var a Agent
		var recording int
		if err := rows.Scan(&a.ID, &a.Host, &a.Kernel, &a.Version, &a.Mode, &a.Reason, &a.Run, &recording, &a.LastSeen); err != nil {
			return nil, fmt.Errorf("read agents: %w", err)
		}
		a.Recording = recording != 0
		out = append(out, a)
	}
	return out, rows.Err()
}

// An Audit is one line of the audit log.
type Audit struct {
	At     int64
	Actor  string
	Action string
	Object string
}

// AuditLog returns the newest lines, newest first, at most limit.
func (d *DB) AuditLog(ctx context.Context, limit int) ([]Audit, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT at, actor, action, object FROM audit ORDER BY at DESC LIMIT $1", limit)
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	defer rows.Close()
	var out []Audit
	for rows.Next() {
		var a Audit
		if err := rows.Scan(&a.At, &a.Actor, &a.Action, &a.Object); err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		out = append(out, a)
	}
	return out, rows.Err()
}

func audit(ctx context.Context, tx *sql.Tx, at int64, actor, action, object string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO audit (at, actor, action, object) VALUES ($1, $2, $3, $4)", at, actor, action, object)
	return err
}

// tx runs f in a transaction. Errors of this package pass as they are.
func (d *DB) tx(ctx context.Context, what string, f func(*sql.Tx) error) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := f(tx); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", what, err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
