package lab

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// runDir is the directory of one laboratory. A lock in it tells whether the laboratory still lives: what a killed one
// leaves behind is removed by the next that starts.
type runDir struct {
	path string
	keep bool
	lock *os.File
}

const (
	runDirPattern = "herald-lab-run-"
	runDirLock    = "lock"
)

// newRunDir makes a directory in the system's temporary directory, or takes the one given, which it will not remove.
func newRunDir(path string, keep bool) (*runDir, error) {
	temporary := path == ""
	if temporary {
		removeStale(os.TempDir())
		dir, err := os.MkdirTemp("", runDirPattern)
		if err != nil {
			return nil, fmt.Errorf("the laboratory's directory: %w", err)
		}
		path = dir
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("the laboratory's directory: %w", err)
	}
	// Routers that drop root must be able to read their configuration below it.
	if err := os.Chmod(path, 0o755); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(path, runDirLock))
	if err != nil {
		return nil, fmt.Errorf("the laboratory's directory %s is in use: %w", path, err)
	}
	return &runDir{path: path, keep: keep || !temporary, lock: lock}, nil
}

func (d *runDir) close() error {
	if d.keep {
		return d.lock.Close()
	}
	return errors.Join(os.RemoveAll(d.path), d.lock.Close())
}

// lockFile takes a lock or fails at once. The kernel lets go of it when the process ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// removeStale removes the directories of laboratories that have died. What belongs to others stays, and so does
// anything that resists: it is only in the way of the disk.
func removeStale(parent string) {
	dirs, err := filepath.Glob(filepath.Join(parent, runDirPattern+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, runDirLock)
		if _, err := os.Stat(path); err != nil {
			continue // it is being made just now
		}
		if lock, err := lockFile(path); err == nil {
			_ = os.RemoveAll(dir)
			_ = lock.Close()
		}
	}
}

// copyPrograms makes the files of one directory appear in another, by links where the file system allows.
func copyPrograms(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		source, target := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		err := os.Link(source, target)
		if errors.Is(err, unix.EXDEV) || errors.Is(err, fs.ErrPermission) {
			err = copyFile(source, target)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
