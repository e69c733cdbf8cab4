package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// auditRules have auditd watch what clew watches whatever its rules are:
// executions, credentials, connections, every change of a file, files opened
// for writing, mounts, modules, tracing and programs for the kernel.
var auditRules = []string{
	"-S execve,execveat",
	"-S setuid,setgid,setreuid,setregid,setresuid,setresgid,capset",
	"-S connect,bind,accept,accept4",
	"-S unlink,unlinkat,rename,renameat,renameat2,chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,link,linkat,symlink,symlinkat",
	"-S open -F a1&0x643", "-S openat -F a2&0x643", "-S creat",
	"-S mount,umount2,init_module,finit_module,delete_module,ptrace,bpf",
}

// neverTask is the rule that keeps the kernel from marking processes.
const neverTask = "-a never,task"

// An Audit is the state of the kernel's audit before a comparison.
type Audit struct {
	dir, auditctl, auditd string
	enabled               string
	never                 bool // the rule that marks no process was there
}

// NewAudit looks whether auditd can be measured here: it is installed, does not
// run, and no rule is loaded that would be lost. dir is for its configuration
// and log.
func NewAudit(ctx context.Context, dir string) (*Audit, error) {
	a := &Audit{dir: dir}
	var err error
	for name, to := range map[string]*string{"auditctl": &a.auditctl, "auditd": &a.auditd} {
		if *to, err = exec.LookPath(name); err != nil {
			for _, sbin := range []string{"/usr/sbin/", "/sbin/"} {
				if _, serr := os.Stat(sbin + name); serr == nil {
					*to, err = sbin+name, nil
				}
			}
		}
		if err != nil {
			return nil, fmt.Errorf("beside auditd: %s is not installed (Debian package auditd)", name)
		}
	}
	rules, err := a.ctl(ctx, "-l")
	if err != nil {
		return nil, err
	}
	switch strings.TrimSpace(rules) {
	case "No rules":
	case neverTask:
		a.never = true
	default:
		return nil, errors.New("beside auditd: audit rules are loaded already, which this would remove")
	}
	state, err := a.state(ctx)
	if err != nil {
		return nil, err
	}
	if pid := state["pid"]; pid != "0" {
		return nil, fmt.Errorf("beside auditd: an audit daemon runs (pid %s)", pid)
	}
	a.enabled = state["enabled"]
	if a.enabled == "2" {
		return nil, errors.New("beside auditd: the audit configuration is locked until the next boot")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// The kernel may have audited before.
	if !a.never {
		if _, err := a.ctl(ctx, strings.Fields(neverTask)...); err != nil {
			return nil, err
		}
	}
	conf := fmt.Sprintf("local_events = yes\nwrite_logs = yes\nlog_file = %s\nlog_format = RAW\nflush = INCREMENTAL_ASYNC\nfreq = 50\nmax_log_file = 64\nnum_logs = 2\nmax_log_file_action = ROTATE\nspace_left = 75\nspace_left_action = IGNORE\nadmin_space_left = 50\nadmin_space_left_action = IGNORE\ndisk_full_action = IGNORE\ndisk_error_action = IGNORE\n",
		filepath.Join(dir, "audit.log"))
	if err := os.WriteFile(filepath.Join(dir, "auditd.conf"), []byte(conf), 0o640); err != nil {
		return nil, err
	}
	return a, nil
}

// Setup is auditd with equal watching.
func (a *Audit) Setup() Setup {
	return Setup{
		Name:  "auditd",
		Start: []string{a.auditd, "-n", "-s", "disable", "-c", a.dir},
		Ready: []string{"/bin/sh", "-c", fmt.Sprintf("i=0; until %s -s | grep -q '^pid [1-9]'; do i=$((i+1)); [ $i -lt 500 ] || exit 1; sleep 0.02; done", a.auditctl)},
		Up:    a.on, Down: a.off,
	}
}

func (a *Audit) on(ctx context.Context) error {
	if _, err := a.ctl(ctx, "-D"); err != nil {
		return err
	}
	if _, err := a.ctl(ctx, "-b", "8192"); err != nil {
		return err
	}
	for _, rule := range auditRules {
		args := append([]string{"-a", "always,exit", "-F", "arch=b64"}, strings.Fields(rule)...)
		if _, err := a.ctl(ctx, append(args, "-k", "clew-bench")...); err != nil {
			return err
		}
	}
	_, err := a.ctl(ctx, "-e", "1")
	return err
}

// off ends auditing for what is measured without it. A kernel that has audited
// once marks every process it makes from then on, which slows their system
// calls, unless a rule tells it not to.
func (a *Audit) off(ctx context.Context) error {
	_, derr := a.ctl(ctx, "-D")
	_, eerr := a.ctl(ctx, "-e", "0")
	_, nerr := a.ctl(ctx, strings.Fields(neverTask)...)
	return errors.Join(derr, eerr, nerr)
}

// Close restores the rules and whether the kernel audits.
func (a *Audit) Close(ctx context.Context) error {
	_, derr := a.ctl(ctx, "-D")
	_, eerr := a.ctl(ctx, "-e", a.enabled)
	want := "No rules"
	if a.never {
		want = neverTask
		_, err := a.ctl(ctx, strings.Fields(neverTask)...)
		eerr = errors.Join(eerr, err)
	}
	if err := errors.Join(derr, eerr); err != nil {
		return err
	}
	rules, err := a.ctl(ctx, "-l")
	if err != nil {
		return err
	}
	state, err := a.state(ctx)
	if err != nil {
		return err
	}
	if strings.TrimSpace(rules) != want || state["enabled"] != a.enabled {
		return fmt.Errorf("audit is not as it was: enabled %s, before %s; %s", state["enabled"], a.enabled, strings.TrimSpace(rules))
	}
	return nil
}

// state is what auditctl -s prints.
func (a *Audit) state(ctx context.Context) (map[string]string, error) {
	out, err := a.ctl(ctx, "-s")
	if err != nil {
		return nil, err
	}
	state := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		state[name] = value
	}
	return state, nil
}

func (a *Audit) ctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, a.auditctl, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("auditctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
