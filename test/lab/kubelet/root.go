package kubelet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// binDir is where a container finds the programs of its image.
const binDir = "/usr/local/bin"

// makeRoot builds the container's file system on spec.Root and moves into it. The calling process has a mount namespace
// of its own; nothing of the old one stays reachable.
func makeRoot(spec containerSpec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("tmpfs", spec.Root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	for _, step := range []func(containerSpec) error{
		makeDirectories, bindSystem, bindImage, mountKernel, makeDevices, makeFiles, bindVolumes, pivot,
	} {
		if err := step(spec); err != nil {
			return err
		}
	}
	if spec.ReadOnly {
		return readOnly("/", false)
	}
	return nil
}

func makeDirectories(spec containerSpec) error {
	for _, dir := range []string{"etc", "home", "opt", "root", "run", "srv", "var/lib", "var/cache", "var/log", "usr/local/bin"} {
		if err := os.MkdirAll(filepath.Join(spec.Root, dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"tmp", "var/tmp"} {
		if err := mkdir(filepath.Join(spec.Root, dir), 0o777|fs.ModeSticky); err != nil {
			return err
		}
	}
	return os.Symlink("/run", filepath.Join(spec.Root, "var/run"))
}

// mkdir makes a directory with exactly this mode, whatever the umask.
func mkdir(path string, mode fs.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// bindSystem shows the machine's programs and libraries, read-only. /usr is taken apart so that /usr/local is ours.
func bindSystem(spec containerSpec) error {
	paths := []string{"/bin", "/sbin"}
	for _, pattern := range []string{"/lib*", "/usr/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		paths = append(paths, found...)
	}
	paths = append(paths, "/etc/ssl", "/etc/ca-certificates", "/etc/alternatives", "/etc/ld.so.cache")
	for _, path := range paths {
		if path == "/usr/local" {
			continue
		}
		if err := show(path, spec.Root); err != nil {
			return err
		}
	}
	return nil
}

// show makes path, if the machine has it, appear read-only under root: links as links, the rest bound.
func show(path, root string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		link, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(link, filepath.Join(root, path))
	}
	return bind(bindMount{Source: path, Target: path, ReadOnly: true}, root)
}

// bind shows m.Source at m.Target under root.
func bind(m bindMount, root string) error {
	target, err := within(root, m.Target)
	if err != nil {
		return err
	}
	info, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	if err := mountPoint(target, info.IsDir()); err != nil {
		return fmt.Errorf("mount point %s: %w", m.Target, err)
	}
	if err := unix.Mount(m.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", m.Source, m.Target, err)
	}
	if m.ReadOnly {
		return readOnly(target, true)
	}
	return nil
}

// within returns target below root, following links as seen from the root (/var/run is one).
func within(root, target string) (string, error) {
	clean := filepath.Clean("/" + target)
	if rest, ok := strings.CutPrefix(clean, "/var/run"); ok && (rest == "" || rest[0] == '/') {
		clean = "/run" + rest
	}
	if clean == "/" {
		return "", errors.New("a volume cannot be mounted at /")
	}
	return filepath.Join(root, clean), nil
}

// mountPoint makes a directory or an empty file to mount on.
func mountPoint(path string, dir bool) error {
	if dir {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// readOnly forbids writing to a mount, and to those below it if deep. mount_setattr(2) adds the attribute and keeps the
// others, which a user namespace would not let us take away.
func readOnly(path string, deep bool) error {
	flags := uint(0)
	if deep {
		flags = unix.AT_RECURSIVE
	}
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, flags, attr); err != nil {
		return fmt.Errorf("making %s read-only: %w", path, err)
	}
	return nil
}

// bindImage puts the image's programs on the PATH, and into / as well, where many images have theirs.
func bindImage(spec containerSpec) error {
	if spec.Image == "" {
		return nil
	}
	if err := bind(bindMount{Source: spec.Image, Target: binDir, ReadOnly: true}, spec.Root); err != nil {
		return err
	}
	entries, err := os.ReadDir(spec.Image)
	if err != nil {
		return err
	}
	for _, e := range entries {
		err := os.Symlink(filepath.Join(binDir, e.Name()), filepath.Join(spec.Root, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// mountKernel mounts /proc for the new PID namespace and /sys for the network namespace. Where the machine hides parts
// of its own from us the kernel refuses a fresh one; then the container sees what we see.
func mountKernel(spec containerSpec) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct{ kind, target string }{{"proc", "/proc"}, {"sysfs", "/sys"}} {
		target := filepath.Join(spec.Root, m.target)
		if err := os.Mkdir(target, 0o555); err != nil {
			return err
		}
		err := unix.Mount(m.kind, target, m.kind, flags, "")
		if errors.Is(err, unix.EPERM) {
			err = unix.Mount(m.target, target, "", unix.MS_BIND|unix.MS_REC, "")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.target, err)
		}
	}
	return readOnly(filepath.Join(spec.Root, "sys"), false)
}

// makeDevices fills /dev with what every container has.
func makeDevices(spec containerSpec) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		path := "/dev/" + name
		if err := bind(bindMount{Source: path, Target: path}, spec.Root); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join(spec.Root, "dev", name)); err != nil {
			return err
		}
	}
	return mkdir(filepath.Join(spec.Root, "dev/shm"), 0o777|fs.ModeSticky)
}

func makeFiles(spec containerSpec) error {
	for path, content := range spec.Files {
		if err := os.WriteFile(filepath.Join(spec.Root, path), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// bindVolumes mounts the volumes, outer mount points before those within them.
func bindVolumes(spec containerSpec) error {
	mounts := slices.SortedFunc(slices.Values(spec.Mounts), func(a, b bindMount) int {
		return strings.Compare(filepath.Clean(a.Target), filepath.Clean(b.Target))
	})
	for _, m := range mounts {
		if err := bind(m, spec.Root); err != nil {
			return fmt.Errorf("volume: %w", err)
		}
	}
	return nil
}

// pivot makes spec.Root the root and lets go of the old one (pivot_root(2) with both at the same place).
func pivot(spec containerSpec) error {
	if err := os.Chdir(spec.Root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	return os.Chdir("/")
}
