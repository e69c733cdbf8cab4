package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultKernel is what Run boots when nothing is said.
const DefaultKernel = "6.1"

// Kernels are the names that Config.Kernel knows, oldest first, with the
// Debian suite each is taken from. The newest has no number, because it
// changes.
var Kernels = []struct{ Name, Suite string }{
	{"5.10", "bullseye"},
	{"6.1", "bookworm"},
	{"6.12", "bookworm-backports"},
	{"newest", "sid"},
}

// mirrorEnv names a Debian archive on machines whose apt knows none.
const mirrorEnv = "CLEW_DEBIAN_MIRROR"

// Kernel is a kernel in the cache, ready to boot. The paths are absolute.
type Kernel struct {
	Release string   `json:"release"`
	Image   string   `json:"image"`
	Busybox string   `json:"busybox"` // static; empty for an image given by path
	Applets []string `json:"applets"`
}

// FindConfig says which kernel is wanted; the fields are as in Config.
type FindConfig struct {
	Name, Arch, CacheDir, Mirror string
	// Refresh fetches again what is in the cache already.
	Refresh bool
}

// Find returns a kernel from the cache, or fetches it there: the newest
// package of its suite, verified by apt against Debian's keys. It changes
// nothing of the host's own apt, and needs neither root nor that the host's
// package lists are there or of the same release. Several processes may ask
// at once; one fetches.
func Find(ctx context.Context, cfg FindConfig) (Kernel, error) {
	if cfg.Name == "" {
		cfg.Name = DefaultKernel
	}
	if strings.ContainsRune(cfg.Name, '/') {
		image, err := filepath.Abs(cfg.Name)
		if err != nil {
			return Kernel{}, err
		}
		if _, err := os.Stat(image); err != nil {
			return Kernel{}, fmt.Errorf("%w: %w", ErrNoKernel, err)
		}
		release := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
		return Kernel{Release: release, Image: image}, nil
	}
	m, arch, err := machineFor(cfg.Arch)
	if err != nil {
		return Kernel{}, err
	}
	suite := ""
	var names []string
	for _, k := range Kernels {
		names = append(names, k.Name)
		if k.Name == cfg.Name {
			suite = k.Suite
		}
	}
	if suite == "" {
		return Kernel{}, fmt.Errorf("%w named %q: there are %s", ErrNoKernel, cfg.Name, strings.Join(names, ", "))
	}
	if cfg.CacheDir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return Kernel{}, fmt.Errorf("find cache for kernels: %w", err)
		}
		cfg.CacheDir = filepath.Join(base, "clew", "vm")
	}
	if cfg.CacheDir, err = filepath.Abs(cfg.CacheDir); err != nil {
		return Kernel{}, err
	}
	dir := filepath.Join(cfg.CacheDir, arch, cfg.Name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return Kernel{}, err
	}
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	if !cfg.Refresh {
		if k, err := readKernel(dir); err == nil {
			return k, nil
		}
	}
	if err := fetch(ctx, cfg, dir, suite, m.pkgArch); err != nil {
		return Kernel{}, fmt.Errorf("%w: fetch %s of %s: %w", ErrNoKernel, cfg.Name, suite, err)
	}
	return readKernel(dir)
}

// readKernel reads what fetch left in dir. What is in the file are base
// names, so that a cache can be moved.
func readKernel(dir string) (Kernel, error) {
	var k Kernel
	text, err := os.ReadFile(filepath.Join(dir, "kernel.json"))
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(text, &k); err != nil {
		return k, fmt.Errorf("parse kernel.json in %s: %w", dir, err)
	}
	k.Image = filepath.Join(dir, k.Image)
	k.Busybox = filepath.Join(dir, k.Busybox)
	for _, name := range []string{k.Image, k.Busybox} {
		if _, err := os.Stat(name); err != nil {
			return k, err
		}
	}
	return k, nil
}

// lock waits until this process holds the lock file name.
func lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	got := make(chan error, 1)
	go func() { got <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	select {
	case err := <-got:
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		// The goroutine ends when the other holder does; closing the file
		// here could hand its number to somebody else.
		go func() { <-got; f.Close() }()
		return nil, fmt.Errorf("lock %s: %w", name, context.Cause(ctx))
	}
}

// apt is an apt state of its own: one suite of one archive (and what the suite
// builds on), for one architecture, in a directory that is thrown away.
type apt struct {
	dir  string
	opts []string
}

// newApt prepares the state below dir.
func newApt(dir, mirror, suite, pkgArch, keyring string) (*apt, error) {
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	signed := ""
	if keyring != "" {
		signed = " signed-by=" + keyring
	}
	source := fmt.Sprintf("deb [arch=%s%s] %s %s main\n", pkgArch, signed, mirror, suite)
	if base, ok := strings.CutSuffix(suite, "-backports"); ok {
		source += fmt.Sprintf("deb [arch=%s%s] %s %s main\n", pkgArch, signed, mirror, base)
	}
	if err := os.WriteFile(filepath.Join(dir, "sources.list"), []byte(source), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "status"), nil, 0o644); err != nil {
		return nil, err
	}
	a := &apt{dir: dir}
	for _, o := range []string{
		"APT::Architecture=" + pkgArch,
		"APT::Architectures=" + pkgArch,
		"APT::Default-Release=" + suite,
		"Dir::State=" + dir,
		"Dir::State::lists=" + filepath.Join(dir, "lists"),
		"Dir::State::status=" + filepath.Join(dir, "status"),
		"Dir::Cache=" + dir,
		"Dir::Cache::archives=" + filepath.Join(dir, "archives"),
		"Dir::Etc::sourcelist=" + filepath.Join(dir, "sources.list"),
		"Dir::Etc::sourceparts=/dev/null",
		"Dir::Etc::preferences=/dev/null",
		"Dir::Etc::preferencesparts=/dev/null",
		// As the user who calls, who owns the directory.
		"APT::Sandbox::User=",
		// Only the package lists.
		"Acquire::Languages=none",
		"Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"Acquire::IndexTargets::deb::CNF::DefaultEnabled=false",
		"Acquire::Check-Valid-Until=false",
		"Acquire::Retries=2",
	} {
		a.opts = append(a.opts, "-o", o)
	}
	return a, nil
}

func (a *apt) run(ctx context.Context, tool string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, tool, append(slices.Clone(a.opts), args...)...)
	cmd.Dir = filepath.Join(a.dir, "archives")
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w%s", tool, strings.Join(args, " "), err, tail(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// kernelPackage matches the packages that a kernel's meta-package leads to.
// Until Debian 13 the image is in linux-image-VERSION, later that one is a
// meta-package, too, and the image is in linux-binary-VERSION.
var kernelPackage = regexp.MustCompile(`(?m)^\s*Depends: (linux-(?:image|binary)-[0-9]\S*)$`)

// kernelPackage follows dependencies from the suite's cloud kernel to the
// package that holds the image.
func (a *apt) kernelPackage(ctx context.Context, pkgArch string) (string, error) {
	name := "linux-image-cloud-" + pkgArch
	for range 4 {
		out, err := a.run(ctx, "apt-cache", "depends", name)
		if err != nil {
			return "", err
		}
		next := kernelPackage.FindSubmatch(out)
		if next == nil {
			return name, nil
		}
		name = string(next[1])
	}
	return "", fmt.Errorf("no kernel image below linux-image-cloud-%s", pkgArch)
}

// openApt prepares an apt state below tmp and reads a suite's package lists,
// from the given mirror or the first that has them.
func openApt(ctx context.Context, mirror, tmp, suite, pkgArch string) (*apt, error) {
	mirrors := []string{mirror}
	if mirror == "" {
		var err error
		if mirrors, err = debianMirrors(ctx); err != nil {
			return nil, err
		}
	}
	var failed error
	for _, mirror := range mirrors {
		a, err := newApt(filepath.Join(tmp, "apt"), mirror, suite, pkgArch, debianKeyring())
		if err == nil {
			_, err = a.run(ctx, "apt-get", "update", "--error-on=any")
		}
		if err == nil {
			return a, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, failed
}

// fetch downloads the newest kernel of a suite and a static busybox, and puts
// them in dir. Nothing is there until all of it is.
func fetch(ctx context.Context, cfg FindConfig, dir, suite, pkgArch string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	a, err := openApt(ctx, cfg.Mirror, tmp, suite, pkgArch)
	if err != nil {
		return err
	}
	pkg, err := a.kernelPackage(ctx, pkgArch)
	if err != nil {
		return err
	}
	if _, err := a.run(ctx, "apt-get", "download", pkg, "busybox-static"); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, "archives", "*.deb"))
	if err != nil {
		return err
	}
	root := filepath.Join(tmp, "root")
	for _, deb := range debs {
		cmd := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, root)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w%s", filepath.Base(deb), err, tail(out))
		}
	}
	_, version, _ := strings.Cut(pkg, "-")
	_, version, _ = strings.Cut(version, "-")
	return keep(root, filepath.Join(tmp, "new"), dir, version)
}

// keep moves what a machine needs from an unpacked root to dir, and forgets
// the rest: the modules are ten times as large.
func keep(root, staging, dir, release string) error {
	k := Kernel{Release: release, Image: "vmlinuz", Busybox: "busybox"}
	if err := os.MkdirAll(staging, 0o755); err != nil {
		return err
	}
	found := map[string]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		switch base := d.Name(); {
		case base == "vmlinuz" || strings.HasPrefix(base, "vmlinuz-"):
			found[k.Image] = name
		case base == "busybox" && filepath.Base(filepath.Dir(name)) == "bin":
			found[k.Busybox] = name
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, base := range []string{k.Image, k.Busybox} {
		src, ok := found[base]
		if !ok {
			return fmt.Errorf("the packages hold no %s", base)
		}
		if err := os.Rename(src, filepath.Join(staging, base)); err != nil {
			return err
		}
	}
	k.Applets = applets
	text, err := json.MarshalIndent(k, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(staging, "kernel.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(staging, dir)
}

// applets are the commands that tests may expect in the guest. Busybox could
// name its own, but not one that is built for another processor.
var applets = strings.Fields(`
	ash awk base64 basename cat chgrp chmod chown chroot cp cut date dd df dirname dmesg du echo egrep env false
	find free grep gunzip gzip head hostname id ifconfig insmod install ip kill killall less ln losetup ls lsmod
	md5sum mkdir mkfifo mknod mktemp mount mv nc nice nohup od pgrep ping pkill printf ps pwd readlink realpath
	rm rmdir rmmod sed seq setsid sh sha256sum sleep sort stat strings stty su switch_root sync tail tar tee test
	time timeout top touch tr true truncate tty umount uname uniq unshare uptime usleep vi wc wget which whoami
	xargs yes`)

// debianKeyring returns the keys of Debian's archive, if the host has them
// apart from those that its apt trusts anyway.
func debianKeyring() string {
	for _, name := range []string{"/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"} {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return ""
}

// debianMirrors returns the addresses to try, best first: what the user says,
// then what apt on this host uses for Debian, then the neighbour of what it
// uses for Ubuntu, since many mirrors carry both.
func debianMirrors(ctx context.Context) ([]string, error) {
	if m := os.Getenv(mirrorEnv); m != "" {
		return []string{m}, nil
	}
	cmd := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask apt for its mirrors: %w", err)
	}
	mirrors := mirrorsFrom(string(out))
	if len(mirrors) == 0 {
		return nil, fmt.Errorf("apt on this machine uses no Debian archive: set %s to one", mirrorEnv)
	}
	return mirrors, nil
}

// mirrorsFrom picks from lines "origin label address". Origin and label are
// there only after an update; the address alone says enough on most machines.
func mirrorsFrom(targets string) []string {
	var debian, neighbours []string
	add := func(to *[]string, m string) {
		if !slices.Contains(*to, m) {
			*to = append(*to, m)
		}
	}
	for line := range strings.Lines(targets) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		uri := strings.TrimRight(f[len(f)-1], "/")
		base, last := uri[:max(0, strings.LastIndexByte(uri, '/'))], uri[strings.LastIndexByte(uri, '/')+1:]
		switch {
		case last == "debian", len(f) == 3 && f[0] == "Debian" && f[1] == "Debian":
			add(&debian, uri)
		case last == "ubuntu":
			add(&neighbours, base+"/debian")
		}
	}
	return append(debian, neighbours...)
}
