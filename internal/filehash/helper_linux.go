package filehash

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/sandbox"
)

// helperArg is the only argument of a helper. No command has this name.
const helperArg = "read-files"

const (
	requestSize = 16        // largest file, largest text
	maxReply    = 192 << 10 // of the helper, in bytes: a text and what is said of it
	helperMem   = 48 << 20
	socketFD    = 3
)

// A reply is what the helper says of one file.
type reply struct {
	Content Content
	Reason  Reason
	Err     string
}

// IsHelper tells whether this process was started to read files. A program that
// uses a Helper asks first thing, and if so ends with RunHelper's status.
func IsHelper() bool { return len(os.Args) == 2 && os.Args[1] == helperArg }

// RunHelper reads the files that the agent sends, until it ends, and returns the
// process' exit status. It gives up everything first.
func RunHelper() int {
	f := os.NewFile(socketFD, "agent")
	conn, err := net.FileConn(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, "clew: this reads files for clew up, which starts it")
		return 2
	}
	_ = f.Close()
	sock, ok := conn.(*net.UnixConn)
	if !ok {
		fmt.Fprintln(os.Stderr, "clew: this reads files for clew up, which starts it")
		return 2
	}
	debug.SetMemoryLimit(helperMem)
	for _, l := range []struct {
		resource int
		max      uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_FSIZE, 0}, {unix.RLIMIT_NOFILE, 32}} {
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.max, Max: l.max}); err != nil {
			fmt.Fprintln(os.Stderr, "clew: reader of files: limit:", err)
			return 1
		}
	}
	if _, err := sandbox.Seal(); err != nil {
		fmt.Fprintln(os.Stderr, "clew: reader of files:", err)
		return 1
	}
	if err := serve(sock); err != nil {
		fmt.Fprintln(os.Stderr, "clew: reader of files:", err)
		return 1
	}
	return 0
}

// serve answers until the other end is closed.
func serve(sock *net.UnixConn) error {
	buf, oob := make([]byte, requestSize), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := sock.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return nil // the agent has ended
		}
		file, err := passed(oob[:oobn])
		if err != nil || n != requestSize {
			return errors.Join(errors.New("request makes no sense"), err)
		}
		var r reply
		r.Content, err = Examine(file, int64(binary.LittleEndian.Uint64(buf)), int64(min(binary.LittleEndian.Uint64(buf[8:]), maxTextEver)))
		switch {
		case errors.Is(err, errTooLarge):
			r.Reason = ReasonSize
		case err != nil:
			r.Reason, r.Err = ReasonError, err.Error()
		}
		if err := file.Close(); err != nil {
			return err
		}
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := sock.Write(b); err != nil {
			return nil
		}
	}
}

// passed is the file that came with a message.
func passed(oob []byte) (*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) != 1 {
		return nil, errors.Join(errors.New("no descriptor"), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(errors.New("no descriptor"), err)
	}
	return os.NewFile(uintptr(fds[0]), "file"), nil
}

// HelperConfig says how a helper is started.
type HelperConfig struct {
	Exe string // /proc/self/exe when empty
	Log *slog.Logger
}

// A Helper is the process that reads, started when it is first needed and again
// when it has died. Its methods may be called from several goroutines; one file
// is read at a time.
type Helper struct {
	cfg HelperConfig

	mu     sync.Mutex
	cmd    *exec.Cmd
	sock   *net.UnixConn
	buf    []byte
	failed time.Time // the last start that failed
	began  time.Time // the last start
	stuck  chan struct{}
	closed bool
}

const (
	// helperRetry is how long a start that failed is not tried again.
	helperRetry = 5 * time.Second
	// helperSteady is how long a helper must have lived for the next one to
	// start at once.
	helperSteady = time.Second
)

// NewHelper returns a helper that has not been started.
func NewHelper(cfg HelperConfig) *Helper {
	if cfg.Exe == "" {
		cfg.Exe = "/proc/self/exe"
	}
	return &Helper{cfg: cfg, buf: make([]byte, maxReply), stuck: make(chan struct{}, maxStuck)}
}

// Examine has a file read and tells what is in it. maxSize and text are as of the
// function Examine; limit is how long it may take, after which the helper is
// killed. All errors are of type *Error.
func (h *Helper) Examine(f *os.File, maxSize, text int64, limit time.Duration) (Content, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.start(); err != nil {
		return Content{}, &Error{ReasonHelper, f.Name(), err}
	}
	var r reply
	err := h.ask(f, maxSize, text, limit, &r)
	if err != nil {
		h.abandon()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return Content{}, &Error{ReasonTimeout, f.Name(), nil}
		}
		// Whatever is in the file, it made the helper end: that is the file's
		// fault, not the next one's; unless it ends with every file.
		if time.Since(h.began) < helperSteady {
			h.failed = time.Now()
			h.cfg.Log.Warn("the reader of files ended", "error", err)
		}
		return Content{}, &Error{ReasonError, f.Name(), err}
	}
	if r.Reason != ReasonNone {
		return r.Content, &Error{r.Reason, f.Name(), errors.New(r.Err)}
	}
	return r.Content, nil
}

func (h *Helper) ask(f *os.File, maxSize, text int64, limit time.Duration, r *reply) error {
	if err := h.sock.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	var req [requestSize]byte
	binary.LittleEndian.PutUint64(req[:], uint64(maxSize))
	binary.LittleEndian.PutUint64(req[8:], uint64(text))
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var werr error
	err = raw.Control(func(fd uintptr) { _, _, werr = h.sock.WriteMsgUnix(req[:], unix.UnixRights(int(fd)), nil) })
	if err = errors.Join(err, werr); err != nil {
		return err
	}
	n, err := h.sock.Read(h.buf)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(h.buf[:n], r); err != nil {
		return fmt.Errorf("answer of the reader: %w", err)
	}
	return checkContent(&r.Content)
}

// start starts the process if none runs.
func (h *Helper) start() error {
	switch {
	case h.closed:
		return errors.New("is closed")
	case h.sock != nil:
		return nil
	case time.Since(h.failed) < helperRetry:
		return errors.New("could not be started a moment ago")
	case len(h.stuck) == cap(h.stuck):
		return errors.New("too many of them hang in file systems")
	}
	err := h.spawn()
	if err != nil {
		h.failed = time.Now()
		h.cfg.Log.Warn("the reader of files does not start: nothing is hashed", "error", err)
	}
	return err
}

func (h *Helper) spawn() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	mine, theirs := os.NewFile(uintptr(pair[0]), "reader"), os.NewFile(uintptr(pair[1]), "agent")
	defer mine.Close()
	defer theirs.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	cmd := exec.Command(h.cfg.Exe, helperArg)
	cmd.Args[0], cmd.Dir = "clew", "/"
	// One file at a time needs one processor.
	cmd.Env = []string{"GOMAXPROCS=1", "GOTRACEBACK=none"}
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs} // descriptor 3
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: sandbox.ReaderUID, Gid: sandbox.ReaderUID}
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, conn.Close())
	}
	h.cmd, h.sock, h.began = cmd, conn.(*net.UnixConn), time.Now()
	return nil
}

// abandon ends the process, which may hang in the kernel, without waiting.
func (h *Helper) abandon() {
	cmd := h.cmd
	_ = h.sock.Close()
	_ = cmd.Process.Kill()
	h.cmd, h.sock = nil, nil
	select {
	case h.stuck <- struct{}{}:
		go func() {
			_ = cmd.Wait()
			<-h.stuck
		}()
	default: // start does not let it come to this
		go func() { _ = cmd.Wait() }()
	}
}

// Pid is the process id of the helper; 0 when none runs.
func (h *Helper) Pid() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cmd == nil {
		return 0
	}
	return h.cmd.Process.Pid
}

// Close ends the helper for good and waits a little for it to be gone.
func (h *Helper) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.sock == nil {
		return nil
	}
	err := h.sock.Close()
	_ = h.cmd.Process.Kill()
	done := make(chan struct{})
	cmd := h.cmd
	go func() { _ = cmd.Wait(); close(done) }()
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
	h.cmd, h.sock = nil, nil
	return err
}
