package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// keepUnused is how long a cached control plane that nobody asks for is kept.
const keepUnused = 30 * 24 * time.Hour

// key digests everything that decides what the targets come out as: the module's files, the compiler, the platform and
// the command lines.
func key(ctx context.Context, module string, targets []target) (string, error) {
	files, err := sources(module)
	if err != nil {
		return "", err
	}
	compiler, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		return "", fmt.Errorf("asking the go command for its version: %w", err)
	}
	return digest(files, strings.TrimSpace(string(compiler)), platform(), targets)
}

// sources returns the files of a module that its build reads.
func sources(module string) ([]string, error) {
	var files []string
	for _, pattern := range []string{"go.mod", "go.sum", "*.go"} {
		found, err := filepath.Glob(filepath.Join(module, pattern))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("the control plane's module %s has no %s", module, pattern)
		}
		for _, file := range found {
			if !strings.HasSuffix(file, "_test.go") {
				files = append(files, file)
			}
		}
	}
	return files, nil
}

// digest hashes the files' names and contents and the other inputs. Where the module lies does not count.
func digest(files []string, compiler, platform string, targets []target) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", compiler, platform)
	for _, t := range targets {
		fmt.Fprintf(h, "%q\n", t.arguments())
	}
	for _, file := range files {
		if err := digestFile(h, file); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

func digestFile(h io.Writer, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(h, "%s %d\n%s\n", filepath.Base(file), len(content), content)
	return err
}

// once builds the targets into the directory dir unless it is there already. Of several processes that ask at the same
// time one builds, the others wait.
func (o Options) once(ctx context.Context, dir string, targets []target) error {
	if touch(dir) {
		return nil
	}
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if touch(dir) { // the process we waited for did it
		return nil
	}
	temp, err := os.MkdirTemp(o.Cache, "building-")
	if err != nil {
		return fmt.Errorf("the cache of built programs: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	for _, t := range targets {
		t.output = filepath.Join(temp, t.output)
		if err := t.run(ctx, o.Progress); err != nil {
			return err
		}
	}
	return os.Rename(temp, dir)
}

// touch reports whether dir exists, and marks it as used now.
func touch(dir string) bool {
	if _, err := os.Stat(dir); err != nil {
		return false
	}
	now := time.Now()
	// A cache that belongs to someone else (read-only, shared) works just as well; it only cannot be marked.
	_ = os.Chtimes(dir, now, now)
	return true
}

// prune removes other control planes that have not been used for keepUnused. Failing to is not worth a word: the next
// run tries again.
func prune(cache, keep string, now time.Time) {
	dirs, err := filepath.Glob(filepath.Join(cache, "controlplane-*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || dir == keep || now.Sub(info.ModTime()) < keepUnused {
			continue
		}
		_ = os.RemoveAll(dir)
	}
}

// lockRetry is how long to wait before looking at a lock again.
const lockRetry = 200 * time.Millisecond

// lock takes the advisory lock of a file, waiting for whoever holds it until ctx ends. The kernel releases it when the
// process ends, however it ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("the cache of built programs: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK {
			_ = f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("waiting for another process that builds (%s): %w", path, ctx.Err())
		case <-time.After(lockRetry):
		}
	}
}

// shortHash is a name for text that is safe as part of a file's name.
func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}
