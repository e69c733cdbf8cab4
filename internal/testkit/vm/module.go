package vm

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Module returns the path of a module of a kernel that Find knows by a name,
// as in "dummy": from the cache, or out of the kernel's package, which is
// fetched for it. It is not compressed there.
func Module(ctx context.Context, cfg FindConfig, name string) (string, error) {
	k, err := Find(ctx, cfg)
	if err != nil {
		return "", err
	}
	if k.Busybox == "" {
		return "", fmt.Errorf("%w: %s is no kernel of a package", ErrNoKernel, k.Image)
	}
	m, _, err := machineFor(cfg.Arch)
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(k.Image)
	path := filepath.Join(dir, name+".ko")
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if cfg.Name == "" {
		cfg.Name = DefaultKernel
	}
	if err := fetchModule(ctx, cfg, k.Release, m.pkgArch, path); err != nil {
		return "", fmt.Errorf("%w: fetch module %s of %s: %w", ErrNoKernel, name, k.Release, err)
	}
	return path, nil
}

// fetchModule downloads the package of a kernel's release and takes one module
// out of it.
func fetchModule(ctx context.Context, cfg FindConfig, release, pkgArch, path string) error {
	suite := ""
	for _, k := range Kernels {
		if k.Name == cfg.Name {
			suite = k.Suite
		}
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	a, err := openApt(ctx, cfg.Mirror, tmp, suite, pkgArch)
	if err != nil {
		return err
	}
	// Since Debian 14 modules are in a package of their own.
	if _, err := a.run(ctx, "apt-get", "download", "linux-modules-"+release); err != nil {
		if _, err := a.run(ctx, "apt-get", "download", "linux-image-"+release); err != nil {
			return err
		}
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, "archives", "*.deb"))
	if err != nil {
		return err
	}
	root := filepath.Join(tmp, "root")
	for _, deb := range debs {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, root).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w%s", filepath.Base(deb), err, tail(out))
		}
	}
	found := false
	err = filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case filepath.Base(name) == filepath.Base(path):
			found = true
			return os.Rename(name, path)
		case filepath.Base(name) == filepath.Base(path)+".xz":
			found = true
			return unxz(ctx, name, path)
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("the package holds no %s", filepath.Base(path))
	}
	return err
}

// unxz unpacks a module, as the newest kernels have theirs.
func unxz(ctx context.Context, from, to string) error {
	out, err := exec.CommandContext(ctx, "xz", "--decompress", "--stdout", from).Output()
	if err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(from), err)
	}
	tmp := from + ".ko"
	if err := os.WriteFile(tmp, out, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, to)
}
