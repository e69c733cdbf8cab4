package filehash

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/clewsec/clew/internal/event"
)

// Config says how much a Service may do.
type Config struct {
	MaxSize        int64         // bytes of one file; DefaultMaxSize when 0
	BytesPerSecond int64         // that are read, all together; 64 MiB when 0
	FilesPerSecond int           // that are opened, all together; 1000 when 0
	Queue          int           // files that wait for their turn; 16384 when 0
	MaxAge         time.Duration // how long one waits for its turn at most; 30 s when 0
	WaitWriter     time.Duration // how long a file may stay open for writing; 30 s when 0
	Limit          time.Duration // how long opening a file, and reading it, may take; 10 s when 0
	Log            *slog.Logger

	// Reader reads; a Helper.
	Reader interface {
		Examine(f *os.File, maxSize, text int64, limit time.Duration) (Content, error)
	}
	// Answer takes the answers, from one goroutine. An error ends Run.
	Answer func(*event.FileFacts) error
	// Scrub takes secrets out of a line of a difference of texts; nil: no
	// difference is told.
	Scrub func(line string) string
}

func (c *Config) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if c.MaxSize == 0 {
		c.MaxSize = DefaultMaxSize
	}
	if c.BytesPerSecond == 0 {
		c.BytesPerSecond = 64 << 20
	}
	if c.FilesPerSecond == 0 {
		c.FilesPerSecond = 1000
	}
	if c.Queue == 0 {
		c.Queue = 16384
	}
	set(&c.MaxAge, 30*time.Second)
	set(&c.WaitWriter, 30*time.Second)
	set(&c.Limit, 10*time.Second)
}

// Sizes of what a service remembers.
const (
	maxParked  = 256  // files that are waited for until their writer closes them
	maxJoined  = 4096 // events that one reading answers
	cacheSize  = 8192 // contents, per generation
	statesSize = 8192 // earlier states, per generation
	textsBytes = 8 << 20
	maxTries   = 3
	// settle is how long a file without leases has to be quiet.
	settle = 200 * time.Millisecond
	// racy is how coarse a file system's clock may be: a file that changed so
	// short before it was read may change again and show the same times.
	racy     = 50 * time.Millisecond
	maxBurst = time.Second // of what the rates allow
)

// A Service answers what is in files. Ask is called from anywhere, Run does the
// work.
type Service struct {
	cfg      Config
	opener   *Opener
	closings *closings // nil: the kernel gives no notice
	mntNS    uint32
	now      func() time.Time

	mu      sync.Mutex
	queue   []*job // from head on
	head    int
	pending map[jobKey]*job
	stopped bool

	wake   chan struct{}
	closed chan string

	// Run's own.
	parked map[*job]struct{}
	byKey  map[string]*job
	cache  twoGenerations[cacheKey, Content]
	states twoGenerations[stateKey, state]
	texts  int // bytes of texts among the states
	files  bucket
	bytes  bucket

	asked, hashed, cached, joined, read, waiting atomic.Uint64
	reasons                                      map[Reason]*atomic.Uint64
}

// A jobKey says which asks one reading answers.
type jobKey struct {
	id      ID
	mntNS   uint32
	path    string
	maxSize int64
	text    bool
}

func keyOf(a *Ask) jobKey { return jobKey{a.ID, a.MntNS, a.Path, a.MaxSize, a.Text} }

// A job is one reading of a file and those who wait for it.
type job struct {
	ask   Ask
	more  []waiter // beside ask's own
	since time.Time

	file  *os.File
	st    Stat
	key   string // what the notice will name it; empty: there will be none
	until time.Time
	retry time.Time
	pause time.Duration
	tries int
}

type waiter struct {
	event event.Ref
	field string
}

type cacheKey struct {
	dev, gen     uint32
	inode        uint64
	mtime, ctime int64
	size         int64
}

type stateKey struct {
	mntNS uint32
	path  string
}

// A state is what a file was, with its text where a difference is wanted.
type state struct {
	event.FileState
	text   []byte
	isText bool
}

// New returns a service that does not work yet. What it needs privileges for is
// open when it returns.
func New(cfg Config) *Service {
	cfg.defaults()
	s := &Service{
		cfg: cfg, opener: NewOpener(), now: time.Now, pending: map[jobKey]*job{}, wake: make(chan struct{}, 1), closed: make(chan string, 1024),
		parked: map[*job]struct{}{}, byKey: map[string]*job{}, reasons: map[Reason]*atomic.Uint64{},
		cache: newTwoGenerations[cacheKey, Content](cacheSize), states: newTwoGenerations[stateKey, state](statesSize),
	}
	for _, r := range Reasons {
		s.reasons[r] = new(atomic.Uint64)
	}
	var err error
	if s.closings, err = newClosings(); err != nil {
		cfg.Log.Info("the kernel does not tell when files are closed; they are looked at again and again until they are", "error", err)
	}
	if ns, err := mountNamespace("self"); err == nil {
		s.mntNS = ns
	}
	return s
}

func mountNamespace(pid string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+pid+"/ns/mnt", &st); err != nil {
		return 0, err
	}
	return uint32(st.Ino), nil
}

// Stats returns the counters.
func (s *Service) Stats() Stats {
	st := Stats{
		Asked: s.asked.Load(), Hashed: s.hashed.Load(), Cached: s.cached.Load(), Joined: s.joined.Load(), Bytes: s.read.Load(),
		Reasons: map[Reason]uint64{}, Waiting: s.waiting.Load(),
	}
	for r, n := range s.reasons {
		st.Reasons[r] = n.Load()
	}
	return st
}

// Ask asks about a file. It does not wait: the answer comes through
// Config.Answer, or at once, when that is a reason that is known already.
func (s *Service) Ask(a Ask) *event.FileFacts {
	s.asked.Add(1)
	switch {
	case a.Path == "" || a.Path[0] != '/':
		return s.refuse(&a, ReasonPath)
	case Served(a.ID.Filesystem):
		return s.refuse(&a, ReasonFilesystem)
	case a.Mode&unix.S_IFMT != 0 && a.Mode&unix.S_IFMT != unix.S_IFREG:
		return s.refuse(&a, ReasonRegular)
	}
	a.Text = a.Text && s.cfg.Scrub != nil && !Secret(a.Path)
	if a.MntNS == s.mntNS {
		a.MntNS = 0
	}
	k := keyOf(&a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return s.refuse(&a, ReasonStopped)
	}
	if j := s.pending[k]; j != nil && len(j.more) < maxJoined {
		j.more = append(j.more, waiter{a.Event, a.Field})
		s.joined.Add(1)
		s.waiting.Add(1)
		return nil
	}
	if len(s.queue)-s.head >= s.cfg.Queue {
		return s.refuse(&a, ReasonRate)
	}
	j := &job{ask: a, since: s.now()}
	s.pending[k] = j
	s.queue = append(s.queue, j)
	s.waiting.Add(1)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// refuse answers with a reason at once.
func (s *Service) refuse(a *Ask, r Reason) *event.FileFacts {
	s.reasons[r].Add(1)
	return &event.FileFacts{Event: a.Event, Field: a.Field, Reason: string(r), At: s.now().UnixNano()}
}

// Run answers until ctx ends; then what still waits is answered with
// ReasonStopped.
func (s *Service) Run(ctx context.Context) error {
	now := s.now()
	s.files = newBucket(float64(s.cfg.FilesPerSecond), now)
	s.bytes = newBucket(float64(s.cfg.BytesPerSecond), now)
	g, gctx := errgroup.WithContext(ctx)
	if s.closings != nil {
		g.Go(func() error {
			return s.closings.run(func(key string) {
				select {
				case s.closed <- key:
				default: // it is looked at again by the clock
				}
			})
		})
		g.Go(func() error {
			<-gctx.Done()
			return s.closings.close()
		})
	}
	g.Go(func() error {
		err := s.work(gctx)
		if err == nil {
			err = gctx.Err() // so that the others end, too
		}
		return errors.Join(err, s.stop())
	})
	err := g.Wait()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// work takes one file after the other.
func (s *Service) work(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if j := s.next(); j != nil {
			if err := s.begin(ctx, j); err != nil {
				return err
			}
			// Notices are few and take precedence: those files have been closed.
			select {
			case key := <-s.closed:
				if err := s.noticed(ctx, key); err != nil {
					return err
				}
			case <-ctx.Done():
				return nil
			default:
			}
			if len(s.parked) > 0 {
				if err := s.again(ctx, s.now()); err != nil {
					return err
				}
			}
			continue
		}
		timer.Reset(s.nextRetry())
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case key := <-s.closed:
			if err := s.noticed(ctx, key); err != nil {
				return err
			}
		case <-timer.C:
			if err := s.again(ctx, s.now()); err != nil {
				return err
			}
		}
	}
}

// next is the file whose turn it is.
func (s *Service) next() *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.head == len(s.queue) {
		return nil
	}
	j := s.queue[s.head]
	s.queue[s.head] = nil
	if s.head++; s.head == len(s.queue) {
		s.queue, s.head = s.queue[:0], 0
	} else if s.head > 1024 && s.head*2 > len(s.queue) {
		n := copy(s.queue, s.queue[s.head:])
		clear(s.queue[n:])
		s.queue, s.head = s.queue[:n], 0
	}
	return j
}

// seal ends that others join a job: who asks from now on asks anew.
func (s *Service) seal(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := keyOf(&j.ask); s.pending[k] == j {
		delete(s.pending, k)
	}
}

// begin opens the file of a job and goes on with it.
func (s *Service) begin(ctx context.Context, j *job) error {
	if s.now().Sub(j.since) > s.cfg.MaxAge {
		return s.reason(j, ReasonRate)
	}
	var err error
	j.file, j.st, err = s.opener.OpenWithin(s.cfg.Limit, s.root(&j.ask), j.ask.Path, j.ask.ID)
	if err != nil {
		return s.reason(j, ReasonOf(err))
	}
	// Looking for a file that is gone costs little; only one that is there counts.
	if !s.files.take(ctx, s.now, 1) {
		return s.reason(j, ReasonStopped)
	}
	j.until = s.now().Add(s.cfg.WaitWriter)
	return s.proceed(ctx, j)
}

// root finds the root that the path of an ask begins at.
func (s *Service) root(a *Ask) func() (*Root, error) {
	if a.MntNS == 0 {
		return HostRoot
	}
	return func() (*Root, error) {
		for _, pid := range a.PIDs {
			// The root first: what it is then cannot change any more.
			r, err := ProcessRoot(pid)
			if err != nil {
				continue
			}
			if ns, err := mountNamespace(strconv.FormatUint(uint64(pid), 10)); err == nil && ns == a.MntNS {
				return r, nil
			}
			_ = r.Close()
		}
		return nil, &Error{ReasonRoot, a.Path, nil}
	}
}

// proceed goes on with an open file, if nobody writes to it any more.
func (s *Service) proceed(ctx context.Context, j *job) error {
	for {
		if s.busy(j) {
			return s.park(j)
		}
		s.seal(j)
		st, err := Look(j.file)
		if err != nil {
			return s.reason(j, ReasonError)
		}
		st.Generation, j.st = j.st.Generation, st
		maxSize := s.cfg.MaxSize
		if m := j.ask.MaxSize; m > 0 {
			maxSize = min(maxSize, m)
		}
		if st.Size > maxSize {
			return s.reason(j, ReasonSize)
		}
		k := cacheKey{st.Dev, st.Generation, st.Inode, st.MtimeNS, st.CtimeNS, st.Size}
		if !j.ask.Text {
			if c, ok := s.cache.get(k); ok {
				s.cached.Add(1 + uint64(len(j.more)))
				return s.hash(j, &c)
			}
		}
		if !s.bytes.take(ctx, s.now, float64(st.Size)) {
			return s.reason(j, ReasonStopped)
		}
		began := s.now()
		text := int64(0)
		if j.ask.Text {
			text = DefaultText
		}
		c, err := s.cfg.Reader.Examine(j.file, maxSize, text, s.cfg.Limit)
		s.read.Add(uint64(max(c.Size, 0)))
		if err != nil {
			return s.reason(j, ReasonOf(err))
		}
		after, err := Look(j.file)
		if err != nil {
			return s.reason(j, ReasonError)
		}
		if after.MtimeNS == st.MtimeNS && after.CtimeNS == st.CtimeNS && after.Size == st.Size && c.Size == st.Size {
			if began.UnixNano()-max(st.MtimeNS, st.CtimeNS) > racy.Nanoseconds() {
				kept := c
				kept.Text, kept.IsText = nil, false
				s.cache.put(k, kept)
			}
			return s.hash(j, &c)
		}
		if j.tries++; j.tries >= maxTries {
			return s.reason(j, ReasonChanged)
		}
	}
}

// busy tells whether a file may still be written to.
func (s *Service) busy(j *job) bool {
	open, known := writers(j.file)
	if known {
		return open
	}
	st, err := Look(j.file)
	return err == nil && s.now().UnixNano()-max(st.MtimeNS, st.CtimeNS) < settle.Nanoseconds()
}

// park puts a file aside until its writer has closed it.
func (s *Service) park(j *job) error {
	now := s.now()
	if _, again := s.parked[j]; !again {
		if len(s.parked) >= maxParked {
			return s.reason(j, ReasonRate)
		}
		s.parked[j] = struct{}{}
		if s.closings != nil {
			// Another job may wait for the same file; then this one goes by the
			// clock.
			if key, err := s.closings.mark(j.file); err == nil && s.byKey[key] == nil {
				j.key = key
				s.byKey[key] = j
			}
		}
		j.pause = 20 * time.Millisecond // it may have been closed before it was marked
	} else {
		j.pause = min(2*j.pause, 500*time.Millisecond)
	}
	if !now.Before(j.until) {
		return s.reason(j, ReasonStillOpen)
	}
	j.retry = now.Add(j.pause)
	return nil
}

// unpark forgets that a file is waited for.
func (s *Service) unpark(j *job) {
	if _, ok := s.parked[j]; !ok {
		return
	}
	delete(s.parked, j)
	if j.key != "" {
		delete(s.byKey, j.key)
		s.closings.unmark(j.file)
		j.key = ""
	}
}

// noticed goes on with the file that was closed, or looks at all.
func (s *Service) noticed(ctx context.Context, key string) error {
	if key == "" {
		for j := range s.parked {
			j.retry = time.Time{}
		}
		return s.again(ctx, s.now())
	}
	j := s.byKey[key]
	if j == nil {
		return nil
	}
	// The kernel says so before it has counted the writer out: when that is not
	// done yet, it will be in a moment.
	j.pause = time.Millisecond
	return s.proceed(ctx, j)
}

// again looks at the files whose time has come.
func (s *Service) again(ctx context.Context, now time.Time) error {
	var due []*job
	for j := range s.parked {
		if !j.retry.After(now) {
			due = append(due, j)
		}
	}
	for _, j := range due {
		if err := s.proceed(ctx, j); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) nextRetry() time.Duration {
	wait := time.Hour
	now := s.now()
	for j := range s.parked {
		wait = min(wait, max(j.retry.Sub(now), time.Millisecond))
	}
	return wait
}

// reason answers all who wait for a job with why there is no hash.
func (s *Service) reason(j *job, r Reason) error {
	s.seal(j)
	s.reasons[r].Add(1 + uint64(len(j.more)))
	f := event.FileFacts{Reason: string(r)}
	if j.file != nil {
		s.compare(j, &f, nil)
	} else if before, ok := s.states.get(stateKey{j.ask.MntNS, j.ask.Path}); ok {
		b := before.FileState // of a file that was removed, say
		f.Before = &b
	}
	return s.answer(j, f)
}

// hash answers all who wait for a job.
func (s *Service) hash(j *job, c *Content) error {
	s.hashed.Add(1 + uint64(len(j.more)))
	m := c.Metadata
	m.IsExecutable = j.st.Mode&0o111 != 0
	f := event.FileFacts{Hashes: []string{"sha256:" + c.SHA256}, Metadata: &m}
	s.compare(j, &f, c)
	return s.answer(j, f)
}

// compare fills in what the file is now and was before, and remembers what it is.
func (s *Service) compare(j *job, f *event.FileFacts, c *Content) {
	st := &j.st
	now := state{FileState: event.FileState{
		Mode: st.Mode, UID: st.UID, GID: st.GID, Size: st.Size, Inode: st.Inode, ModificationTime: st.MtimeNS, Hashes: f.Hashes,
	}}
	if c != nil && c.IsText {
		now.text, now.isText = c.Text, true
	}
	k := stateKey{j.ask.MntNS, j.ask.Path}
	if before, ok := s.states.get(k); ok {
		b := before.FileState
		f.Before = &b
		if before.isText && now.isText && s.cfg.Scrub != nil {
			var told strings.Builder
			for line := range strings.Lines(Difference(before.text, now.text)) {
				told.WriteString(s.cfg.Scrub(line))
			}
			f.Diff = told.String()
		}
		s.texts -= len(before.text)
	}
	if s.texts+len(now.text) > textsBytes {
		now.text, now.isText = nil, false
	}
	s.texts += len(now.text)
	for _, old := range s.states.put(k, now) {
		s.texts -= len(old.text)
	}
	after := now.FileState
	f.After = &after
}

func (s *Service) answer(j *job, f event.FileFacts) error {
	s.unpark(j)
	if j.file != nil {
		if err := j.file.Close(); err != nil {
			return fmt.Errorf("close %s: %w", j.ask.Path, err)
		}
		j.file = nil
	}
	f.At = s.now().UnixNano()
	n := uint64(1 + len(j.more))
	defer s.waiting.Add(^(n - 1))
	for i := range n {
		one := f
		one.Event, one.Field = j.ask.Event, j.ask.Field
		if i > 0 {
			one.Event, one.Field = j.more[i-1].event, j.more[i-1].field
		}
		if one.Event == (event.Ref{}) {
			continue // nobody asked: it was looked at for later
		}
		if err := s.cfg.Answer(&one); err != nil {
			return err
		}
	}
	return nil
}

// stop answers what is left.
func (s *Service) stop() error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	var err error
	for j := range s.parked {
		err = errors.Join(err, s.reason(j, ReasonStopped))
	}
	for j := s.next(); j != nil; j = s.next() {
		err = errors.Join(err, s.reason(j, ReasonStopped))
	}
	return err
}

// A bucket is what may be used up by now.
type bucket struct {
	rate, have float64
	at         time.Time
}

func newBucket(rate float64, now time.Time) bucket { return bucket{rate, rate, now} }

// take takes n, waiting for them; more than there can be at once are taken in
// advance. It is false when ctx ended.
func (b *bucket) take(ctx context.Context, now func() time.Time, n float64) bool {
	t := now()
	b.have = min(b.have+t.Sub(b.at).Seconds()*b.rate, b.rate*maxBurst.Seconds())
	b.at = t
	if b.have < n && b.have < b.rate*maxBurst.Seconds() {
		need := min(n, b.rate*maxBurst.Seconds()) - b.have
		timer := time.NewTimer(time.Duration(need / b.rate * float64(time.Second)))
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
		t = now()
		b.have += t.Sub(b.at).Seconds() * b.rate
		b.at = t
	}
	b.have -= n
	return ctx.Err() == nil
}

// twoGenerations is a map that forgets what has not been used for a while.
type twoGenerations[K comparable, V any] struct {
	size     int
	new, old map[K]V
}

func newTwoGenerations[K comparable, V any](size int) twoGenerations[K, V] {
	return twoGenerations[K, V]{size, map[K]V{}, map[K]V{}}
}

func (g *twoGenerations[K, V]) get(k K) (V, bool) {
	if v, ok := g.new[k]; ok {
		return v, true
	}
	v, ok := g.old[k]
	return v, ok
}

// put remembers v and returns what is forgotten for it, but not what was under
// k.
func (g *twoGenerations[K, V]) put(k K, v V) (forgotten map[K]V) {
	if len(g.new) >= g.size {
		forgotten = g.old
		g.old, g.new = g.new, map[K]V{}
	}
	g.new[k] = v
	delete(g.old, k)
	delete(forgotten, k)
	return forgotten
}
