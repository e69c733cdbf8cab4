package ruleset_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/pipeline"
	"github.com/clewsec/clew/internal/stream"
)

// recorded returns the events of the recorded attack, as rules see them.
func recorded(t testing.TB) []*event.Event {
	t.Helper()
	f, err := os.Open("../demo/demo.clewrec")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := stream.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var keep keeper
	cfg, err := pipeline.Standard(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Rules = &keep
	p, err := pipeline.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return keep.events
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Push(rec, func(*event.SpoolRecord) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// keeper keeps the events it is to evaluate.
type keeper struct{ events []*event.Event }

func (k *keeper) Eval(e *event.Event, out []event.Signal) []event.Signal {
	k.events = append(k.events, e)
	return out
}

// ruleWriter writes rules as people have them: about a few fields, with values
// that follow Zipf's law. The commonest values are those that hosts have, so
// that many rules are about what happens all the time.
type ruleWriter struct {
	r    *rand.Rand
	zipf *rand.Zipf
}

func newRuleWriter(seed uint64) *ruleWriter {
	r := rand.New(rand.NewPCG(1, seed))
	return &ruleWriter{r: r, zipf: rand.NewZipf(r, 1.15, 5, 5000)}
}

func (w *ruleWriter) from(common []string, rare string) string {
	if i := int(w.zipf.Uint64()); i < len(common) {
		return common[i]
	} else {
		return fmt.Sprintf(rare, i)
	}
}

func (w *ruleWriter) pick(list ...string) string { return list[w.r.IntN(len(list))] }

func (w *ruleWriter) prog() string {
	return w.from([]string{
		"bash", "sh", "curl", "python3", "wget", "id", "cat", "nginx", "sshd", "java", "node", "ls", "perl", "whoami", "tar", "chmod",
		"find", "ps", "git", "apt", "dpkg", "nc", "sudo", "gcc", "make", "ssh", "systemd", "cron", "dash", "base64", "httpd", "php",
	}, "prog%d")
}

func (w *ruleWriter) path() string {
	return w.from([]string{
		"/etc/passwd", "/etc/shadow", "/etc/hosts", "/etc/ld.so.preload", "/etc/crontab", "/root/.ssh/authorized_keys", "/etc/sudoers",
		"/etc/ld.so.cache", "/proc/self/maps", "/var/run/docker.sock", "/etc/resolv.conf", "/root/.bash_history",
	}, "/srv/app%d/conf")
}

func (w *ruleWriter) dir() string {
	return w.from([]string{
		"/etc/cron.d/*", "/home/*/.ssh/*", "/dev/shm/**", "/root/.ssh/*", "/etc/systemd/system/**", "/usr/local/bin/*", "/home/*/.bashrc",
		"/tmp/**", "/proc/*/mem", "/var/tmp/**", "/var/log/*", "/var/spool/cron/**",
	}, "/opt/app%d/**")
}

func (w *ruleWriter) word() string {
	return w.from([]string{
		"http://", "/dev/tcp/", "base64", "stratum", "passwd", ".ssh", "chmod +x", "curl", "/tmp/", "xmrig", "nohup", "-c", "python", "| sh",
	}, "word%d")
}

func (w *ruleWriter) list(n int, one func() string) string {
	var out []string
	for range 1 + w.r.IntN(n) {
		out = append(out, `"`+one()+`"`)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// globs is a list of globs.
func (w *ruleWriter) globs() string {
	return `[~"` + w.dir() + `", ~"` + w.dir() + `", "` + w.path() + `"]`
}

// subject is what the rule is about first.
func (w *ruleWriter) subject() string {
	file := w.pick("open", "open", "open", "open", "unlink", "chmod", "rename", "link", "chown", "mkdir")
	switch n := w.r.IntN(100); {
	case n < 14:
		return fmt.Sprintf(`exec.file.name == "%s"`, w.prog())
	case n < 26:
		return "exec.file.name in " + w.list(6, w.prog)
	case n < 34:
		return `exec.file.path in ["/usr/bin/` + w.prog() + `", ~"` + w.dir() + `"]`
	case n < 38:
		return `exec.args =~ "*` + w.word() + `*"`
	case n < 42:
		return fmt.Sprintf(`exec.args in [r".*%s.*", r"%s[0-9]+$"]`, strings.NewReplacer("|", "", "+", "", ".", "[.]").Replace(w.word()), w.prog())
	case n < 46:
		return fmt.Sprintf(`exec.args_flags in ["%s", "%s"] && exec.file.name == "%s"`, w.pick("c", "e", "o", "i", "exec"), w.pick("r", "x", "url"), w.prog())
	case n < 60:
		return file + ".file.path in " + w.list(4, w.path)
	case n < 72:
		return file + ".file.path in " + w.globs()
	case n < 78:
		return fmt.Sprintf(`%s.file.name == "%s"`, file, w.pick("id_rsa", "authorized_keys", "shadow", "passwd", w.prog(), w.prog()))
	case n < 81:
		return fmt.Sprintf(`%s.file.name =~ "%s*"`, file, w.prog())
	case n < 83:
		return fmt.Sprintf(`open.file.name in [r"^%s", r"\.(%s|key|pem)$"]`, w.prog(), w.prog())
	case n < 88:
		return fmt.Sprintf(`connect.addr.port in [%d, %d]`, []int{4444, 8443, 3333, 22, 6667, 443, 9001, 8080, 1337, 53}[w.r.IntN(10)], 1024+w.r.IntN(60000))
	case n < 92:
		return fmt.Sprintf(`connect.addr.ip in [%d.%d.0.0/16, %s]`, w.r.IntN(200), w.r.IntN(256), w.pick("127.0.0.0/8", "10.66.0.0/16", "198.51.100.7", "203.0.113.0/24"))
	case n < 94:
		return fmt.Sprintf(`bind.addr.port == %d`, 1024+w.r.IntN(60000))
	case n < 96:
		return fmt.Sprintf(`setuid.uid == 0 && process.file.name == "%s"`, w.prog())
	case n < 98:
		return fmt.Sprintf(`exec.envs in ["LD_PRELOAD", "VAR_%d"]`, w.zipf.Uint64())
	default:
		return fmt.Sprintf(`signal.target.file.name == "%s"`, w.prog())
	}
}

// more is what a rule asks for besides.
func (w *ruleWriter) more() string {
	switch n := w.r.IntN(100); {
	case n < 12:
		return "process.ancestors.file.name in " + w.list(4, w.prog)
	case n < 26:
		return fmt.Sprintf(`process.parent.file.name == "%s"`, w.prog())
	case n < 36:
		return fmt.Sprintf(`process.file.name == "%s"`, w.prog())
	case n < 46:
		return "process.file.path not in " + `["/usr/bin/` + w.prog() + `", "/usr/bin/dpkg", ~"/usr/lib/apt/**"]`
	case n < 52:
		return "process.ancestors.file.path not in " + `["/usr/bin/dpkg", "/usr/bin/apt"]`
	case n < 58:
		return w.pick("process.uid != 0", "process.uid == 0", "process.uid >= 1000")
	case n < 64:
		return fmt.Sprintf(`process.user == "%s"`, w.pick("www-data", "root", "postgres", w.prog()))
	case n < 72:
		return fmt.Sprintf(`process.cgroup.id == "/system.slice/%s.service"`, w.prog())
	case n < 80:
		return fmt.Sprintf(`process.container.id != "" && process.comm == "%s"`, w.prog())
	case n < 84:
		return fmt.Sprintf(`process.tty_name == "" && process.parent.args =~ "*%s*"`, w.word())
	case n < 90:
		return fmt.Sprintf(`process.file.name not in ["%s", "%s"] && process.comm == "%s"`, w.prog(), w.prog(), w.prog())
	case n < 94:
		return fmt.Sprintf(`(process.comm == "%s" || process.parent.file.path == "/usr/bin/%s")`, w.prog(), w.prog())
	default:
		return fmt.Sprintf(`process.ancestors[A].file.name == "%s" && process.ancestors[A].uid == 0`, w.prog())
	}
}

// expression writes one condition. One rule in fifty asks for its subject
// alone.
func (w *ruleWriter) expression() string {
	e := w.subject()
	kind, _, _ := strings.Cut(e, ".")
	if kind == "open" && w.r.IntN(2) == 0 {
		e += " && open.flags & (O_CREAT|O_RDWR|O_WRONLY) > 0"
	}
	if w.r.IntN(50) > 0 {
		e += " && " + w.more()
		if w.r.IntN(4) > 0 && !strings.Contains(e, "[A]") {
			e += " && " + w.more()
		}
	}
	return e
}

// policy writes a policy of some expressions.
func policy(expressions []string) string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i, e := range expressions {
		fmt.Fprintf(&b, "  - id: r%d\n    expression: |-\n      %s\n", i, e)
	}
	return b.String()
}

// untuned writes a policy of n rules that nobody has tried yet: with ten
// thousand of them, every second event of the recorded host matches some.
func untuned(n int) string {
	w := newRuleWriter(7)
	out := make([]string, n)
	for i := range out {
		out[i] = w.expression()
	}
	return policy(out)
}

// realistic writes a policy of n rules that people run: those that match what
// happens all the time have been taken out, but for one in ten.
func realistic(t testing.TB, n int) string {
	w := newRuleWriter(7)
	events := recorded(t)
	var out []string
	noisy := 0
	for len(out) < n {
		batch := make([]string, n-len(out))
		for i := range batch {
			batch[i] = w.expression()
		}
		set := loadRules(t, policy(batch))
		matches := map[string]bool{}
		for _, e := range events {
			for _, m := range set.Eval(e, nil) {
				matches[m.Rule.ID] = true
			}
		}
		for i, e := range batch {
			if matches[fmt.Sprint("r", i)] {
				if noisy++; noisy%10 != 0 {
					continue
				}
			}
			out = append(out, e)
		}
	}
	return policy(out)
}
