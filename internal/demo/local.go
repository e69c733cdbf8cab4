package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"github.com/clewsec/clew/internal/client"
	clewv1 "github.com/clewsec/clew/internal/gen/clew/v1"
)

// A Local is the clew of this host that an attack is played against.
type Local struct {
	*client.Client

	// Status is what it said of itself when it was found to work.
	Status *clewv1.GetStatusResponse

	child *child // nil: it ran already
}

// A child is a clew that the demo started.
type child struct {
	dir    string // temporary, with its data
	proc   *os.Process
	output *tail
	exited chan struct{} // closed once err is set
	err    error
}

// stopTime is how long a clew may take to end.
const stopTime = 3 * time.Second

// probeEvery is how often a clew that starts is asked whether it works.
const probeEvery = 100 * time.Millisecond

// asking is how long one answer may take.
const asking = 5 * time.Second

func newLocal(data string) (*Local, error) {
	c, err := client.New(client.Config{Data: data})
	if err != nil {
		return nil, err
	}
	return &Local{Client: c}, nil
}

// Connect finds the clew whose data directory is data, or starts one of its
// own with a temporary directory, and waits until it works. A running one that
// shows a recording is of no use for an attack and is left alone.
func Connect(ctx context.Context, data string) (*Local, error) {
	l, err := newLocal(data)
	if err != nil {
		return nil, err
	}
	if st, err := l.status(ctx); err == nil && !st.GetRecording() {
		return l, l.await(ctx)
	}
	c, err := startChild()
	if err != nil {
		return nil, err
	}
	if l, err = newLocal(c.data()); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	l.child = c
	if err := l.await(ctx); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return l, nil
}

func (l *Local) status(ctx context.Context) (*clewv1.GetStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	resp, err := l.Fleet.GetStatus(ctx, connect.NewRequest(&clewv1.GetStatusRequest{}))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

// await waits until an event has gone all the way.
func (l *Local) await(ctx context.Context) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		st, err := l.status(ctx)
		if err == nil && st.GetOk() {
			l.Status = st
			return nil
		}
		select {
		case <-tick.C:
		case <-l.Exited():
			return fmt.Errorf("clew ended: %w\n%s", l.child.err, l.child.output)
		case <-ctx.Done():
			switch {
			case err != nil:
				return l.Explain(err)
			case l.child != nil:
				return fmt.Errorf("clew does not work yet: %s\n%s", st.GetReason(), l.child.output)
			default:
				return fmt.Errorf("clew does not work: %s", st.GetReason())
			}
		}
	}
}

// Started reports whether the demo started this clew, which ends with Close.
func (l *Local) Started() bool { return l.child != nil }

// Exited is closed when the clew that the demo started has ended. It is nil
// when it started none.
func (l *Local) Exited() <-chan struct{} {
	if l.child == nil {
		return nil
	}
	return l.child.exited
}

// StoryURL returns an address that opens a story's page in a browser. It logs
// the browser in, once.
func (l *Local) StoryURL(ctx context.Context, id string) (string, error) {
	resp, err := l.Session.CreateLogin(ctx, connect.NewRequest(&clewv1.CreateLoginRequest{}))
	if err != nil {
		return "", fmt.Errorf("make a link: %w", l.Explain(err))
	}
	return resp.Msg.GetUrl() + "#/stories/" + id, nil
}

// Close ends the clew that the demo started and removes its data.
func (l *Local) Close() error {
	if l.child == nil {
		return nil
	}
	return l.child.stop()
}

func (c *child) stop() error {
	var err error
	if e := c.proc.Signal(syscall.SIGTERM); e != nil && !errors.Is(e, os.ErrProcessDone) {
		err = fmt.Errorf("stop clew: %w", e)
	}
	select {
	case <-c.exited:
	case <-time.After(stopTime):
		err = errors.Join(err, fmt.Errorf("clew did not end within %s and was killed", stopTime), c.proc.Kill())
		<-c.exited
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}

func (c *child) data() string { return filepath.Join(c.dir, "data") }

// defaultListen is where clew listens unless told otherwise. The demo's listens
// there, too, when nobody else does.
const defaultListen = "127.0.0.1:8844"

func startChild() (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "clew-demo-data-")
	if err != nil {
		return nil, err
	}
	// The server's user has to reach its own directory below this one.
	if err := os.Chmod(dir, 0o711|fs.ModeDir); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	listen := "127.0.0.1:0"
	if l, err := net.Listen("tcp", defaultListen); err == nil {
		l.Close()
		listen = defaultListen
	}
	c := &child{dir: dir, output: &tail{}, exited: make(chan struct{})}
	cmd := exec.Command(self, "up", "--data", c.data(), "--listen", listen)
	cmd.Stdout, cmd.Stderr = c.output, c.output
	// A process group of its own: Ctrl-C is for the demo, which ends it.
	cmd.SysProcAttr = childAttr()
	started := make(chan error)
	go func() {
		// The death signal is tied to the thread that starts the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		c.err = cmd.Wait()
		if c.err == nil {
			c.err = errors.New("status 0")
		}
		close(c.exited)
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("start clew: %w", err), os.RemoveAll(dir))
	}
	c.proc = cmd.Process
	return c, nil
}

// A tail keeps the end of what a process writes.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - tailSize; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(bytes.ToValidUTF8(t.buf, nil)))
}
