package agent

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// layoutVersion is the version of the data directory's layout.
const layoutVersion = 1

// The range of user ids that the server's is taken from when the host has no
// user "clew": what systemd sets aside for users that exist only while a
// service runs, without its own first choices.
const (
	firstDynamicUID = 61184
	lastDynamicUID  = 65519
)

// serverUser is the account that a package makes for the server.
const serverUser = "clew"

// A dataDir is the data directory, checked and locked:
//
//	version   of this layout
//	agent/    the agent's alone: host-id, seed, state, spool, lock
//	server/   the server's alone; root makes it and never looks inside
//	run/      the server's sockets
type dataDir struct {
	path     string
	lock     *os.File
	uid, gid int // of the server; this process's own when it is not root
}

func (d *dataDir) agent() string        { return filepath.Join(d.path, "agent") }
func (d *dataDir) clientSocket() string { return filepath.Join(d.path, "run", "clew.sock") }
func (d *dataDir) agentSocket() string  { return filepath.Join(d.path, "run", "agent.sock") }

func (d *dataDir) close() error { return d.lock.Close() }

// A BusyError says that another agent works on the data directory.
type BusyError struct {
	Path string
	PID  int // 0 when it is not known
}

func (e *BusyError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data directory %s is in use by another clew", e.Path)
	}
	return fmt.Sprintf("data directory %s is in use by another clew (pid %d)", e.Path, e.PID)
}

// openDataDir makes or checks the data directory. Everything is done relative
// to a descriptor of it and follows no link, because the server's user may
// write below run/ and server/.
func openDataDir(path string) (_ *dataDir, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("data directory %s cannot be made: %w", path, cause(err))
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("data directory %s cannot be opened: %w", path, cause(err))
	}
	defer dir.Close()
	fd := int(dir.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	if self := os.Geteuid(); int(st.Uid) != self {
		return nil, fmt.Errorf("data directory %s belongs to %s, clew runs as %s", path, userName(int(st.Uid)), userName(self))
	}
	if st.Mode&0o022 != 0 {
		return nil, fmt.Errorf("data directory %s may be written by others (mode %04o); clew wants it for itself", path, st.Mode&0o7777)
	}
	if err := checkVersion(dir, path); err != nil {
		return nil, err
	}
	if err := ensureDir(fd, "agent", 0o700, -1, -1); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	d := &dataDir{path: path, uid: os.Geteuid(), gid: os.Getegid()}
	if err := d.takeLock(fd); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.lock.Close()
		}
	}()
	uid, gid := -1, -1
	if os.Geteuid() == 0 {
		// The server's user goes through it to what is its own.
		if st.Mode&0o011 != 0o011 {
			if err := unix.Fchmod(fd, st.Mode&0o7777|0o011); err != nil {
				return nil, fmt.Errorf("data directory %s: %w", path, err)
			}
		}
		if d.uid, d.gid, err = serverAccount(fd); err != nil {
			return nil, fmt.Errorf("data directory %s: %w", path, err)
		}
		uid, gid = d.uid, d.gid
	}
	if err := ensureDir(fd, "server", 0o700, uid, gid); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	if err := ensureDir(fd, "run", 0o755, uid, gid); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	return d, nil
}

// cause is what the system said, without the path that the caller names.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return "user " + u.Username
	}
	return "uid " + strconv.Itoa(uid)
}

// checkVersion reads the layout's version, or writes it into an empty
// directory.
func checkVersion(dir *os.File, path string) error {
	f, err := openAt(int(dir.Fd()), "version", unix.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		names, err := dir.Readdirnames(1)
		if err != nil && err != io.EOF {
			return fmt.Errorf("data directory %s: %w", path, cause(err))
		}
		if len(names) > 0 {
			return fmt.Errorf("%s is not empty and no data directory of clew", path)
		}
		return writeFile(filepath.Join(path, "version"), fmt.Appendln(nil, layoutVersion))
	}
	if err != nil {
		return fmt.Errorf("data directory %s: %w", path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return fmt.Errorf("data directory %s: %w", path, cause(err))
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	switch {
	case err != nil || v < 1:
		return fmt.Errorf("data directory %s: file version says %q, which is no version", path, bytes.TrimSpace(b))
	case v > layoutVersion:
		return fmt.Errorf("data directory %s was written by a newer clew (layout %d, this one knows %d): use that one, or another --data", path, v, layoutVersion)
	}
	return nil
}

// openAt opens a file below a directory and follows no link.
func openAt(fd int, name string, flags int, mode uint32) (*os.File, error) {
	n, err := unix.Openat(fd, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return os.NewFile(uintptr(n), name), nil
}

// ensureDir makes a directory for a user, or checks that it is one: of that
// user, and no link. uid and gid of -1 stand for this process's own.
func ensureDir(fd int, name string, mode uint32, uid, gid int) error {
	made := false
	switch err := unix.Mkdirat(fd, name, 0o700); {
	case err == nil:
		made = true
	case !errors.Is(err, unix.EEXIST):
		return fmt.Errorf("make %s: %w", name, err)
	}
	sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%s is no directory", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer unix.Close(sub)
	if made {
		if err := unix.Fchmod(sub, mode); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if uid >= 0 {
			if err := unix.Fchown(sub, uid, gid); err != nil {
				return fmt.Errorf("%s: give to uid %d: %w", name, uid, err)
			}
		}
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(sub, &st); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	want := uid
	if want < 0 {
		want = os.Geteuid()
	}
	if int(st.Uid) != want {
		return fmt.Errorf("%s belongs to %s and not to %s", name, userName(int(st.Uid)), userName(want))
	}
	return nil
}

// takeLock makes this process the only agent of the directory, for as long as
// it lives.
func (d *dataDir) takeLock(fd int) error {
	f, err := openAt(fd, "agent/lock", unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", d.path, err)
	}
	// One that was killed holds the lock until the kernel has taken its
	// programs down, which can take a second.
	for until := time.Now().Add(lockTime); ; time.Sleep(lockPause) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return fmt.Errorf("data directory %s: lock: %w", d.path, err)
		}
		var b [32]byte
		n, _ := f.ReadAt(b[:], 0) // only makes the sentence better
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
		if !dying(pid) || time.Now().After(until) {
			f.Close()
			return &BusyError{Path: d.path, PID: pid}
		}
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("data directory %s: lock: %w", d.path, err)
	}
	d.lock = f
	return nil
}

const (
	lockTime  = 5 * time.Second
	lockPause = 20 * time.Millisecond
)

// dying tells whether a process has ended or been killed, and the kernel is
// not done with it.
func dying(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return true
			}
		case "SigPnd", "ShdPnd":
			set, err := strconv.ParseUint(value, 16, 64)
			if err == nil && set&(1<<(unix.SIGKILL-1)) != 0 {
				return true
			}
		}
	}
	return false
}

// serverAccount is who the server runs as: the owner of its directory when
// there is one, else user clew, else a user id that nobody has.
func serverAccount(fd int) (uid, gid int, err error) {
	var st unix.Stat_t
	switch err := unix.Fstatat(fd, "server", &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == nil:
		if st.Uid == 0 || st.Gid == 0 {
			return 0, 0, errors.New("server belongs to root; the server must not be root")
		}
		return int(st.Uid), int(st.Gid), nil
	case !errors.Is(err, unix.ENOENT):
		return 0, 0, fmt.Errorf("server: %w", err)
	}
	if u, err := user.Lookup(serverUser); err == nil {
		uid, uerr := strconv.Atoi(u.Uid)
		gid, gerr := strconv.Atoi(u.Gid)
		if uerr == nil && gerr == nil && uid > 0 && gid > 0 {
			return uid, gid, nil
		}
	}
	taken := runningUIDs()
	for id := firstDynamicUID; id <= lastDynamicUID; id++ {
		if taken[id] {
			continue
		}
		s := strconv.Itoa(id)
		if _, err := user.LookupId(s); err == nil {
			continue
		}
		if _, err := user.LookupGroupId(s); err == nil {
			continue
		}
		return id, id, nil
	}
	return 0, 0, fmt.Errorf("every user id from %d to %d is taken", firstDynamicUID, lastDynamicUID)
}

// runningUIDs are the users of the processes that live now: another clew may
// have taken a user id that no account names.
func runningUIDs() map[int]bool {
	taken := map[int]bool{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return taken
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		// The owner of the file would not tell: for a process that cannot be
		// dumped, as our server, it is root.
		b, err := os.ReadFile("/proc/" + e.Name() + "/status")
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(b)) {
			if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
				for _, f := range strings.Fields(ids) {
					if id, err := strconv.Atoi(f); err == nil {
						taken[id] = true
					}
				}
			}
		}
	}
	return taken
}

// closed is the highest directory above the data that keeps the server's user
// out; empty when none does.
func (d *dataDir) closed() string {
	found := ""
	for dir := d.path; dir != "/"; {
		dir = filepath.Dir(dir)
		var st unix.Stat_t
		if unix.Stat(dir, &st) != nil {
			continue
		}
		need := uint32(0o001)
		switch {
		case int(st.Uid) == d.uid:
			need = 0o100
		case int(st.Gid) == d.gid:
			need = 0o010
		}
		if st.Mode&need == 0 {
			found = dir
		}
	}
	return found
}

// identity reads who this agent is, or decides it at the first start.
func (d *dataDir) identity() (hostID string, seed []byte, err error) {
	b, err := d.once("host-id", func() []byte { return []byte(uuid.NewString() + "\n") })
	if err != nil {
		return "", nil, err
	}
	hostID = strings.TrimSpace(string(b))
	if uuid.Validate(hostID) != nil || len(hostID) != 36 {
		return "", nil, fmt.Errorf("%s holds no id", filepath.Join(d.agent(), "host-id"))
	}
	seed, err = d.once("seed", func() []byte {
		seed := make([]byte, 32)
		rand.Read(seed) // never fails
		return seed
	})
	if err != nil {
		return "", nil, err
	}
	if len(seed) != 32 {
		return "", nil, fmt.Errorf("%s is not of 32 bytes", filepath.Join(d.agent(), "seed"))
	}
	return hostID, seed, nil
}

// once reads a file of the agent's, or makes it.
func (d *dataDir) once(name string, make func() []byte) ([]byte, error) {
	path := filepath.Join(d.agent(), name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b = make()
		err = writeFile(path, b)
	}
	return b, err
}
