// Package keep keeps something in a file from one run of a process to the next: written whole or not at all, and read only if it is what was
// written.
package keep

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrCorrupt is wrapped by Read's error when the file is not what was written, or was written by another version.
var ErrCorrupt = errors.New("not readable by this version, or damaged")

// unfinished follows the name of a file in that of the one that is to replace it. It is always the same, so that what a process leaves that is
// killed as it writes is gone with the next write. No two may write one file at once.
const unfinished = ".new"

// Write replaces a file by what body writes, packed. format names the content and its version. The file is readable by its owner only.
func Write(path, format string, body func(io.Writer) error) (err error) {
	f, err := create(path + unfinished)
	if err != nil {
		return fmt.Errorf("keeping %s: %w", filepath.Base(path), err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("keeping %s: %w", filepath.Base(path), err)
		}
	}()
	if err := fill(f, format, body); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// create makes a file, in place of what is left of an earlier one.
func create(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// fill writes a header line, the packed body, and a sum over both.
func fill(f io.Writer, format string, body func(io.Writer) error) error {
	out := summed{bufio.NewWriter(f), sha256.New()}
	if _, err := fmt.Fprintln(out, format); err != nil {
		return err
	}
	packed, err := gzip.NewWriterLevel(out, gzip.BestSpeed) // which is written often and read once at most
	if err != nil {
		return err
	}
	if err := body(packed); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	if _, err := out.Writer.Write(out.sum.Sum(nil)); err != nil {
		return err
	}
	return out.Flush()
}

// summed writes, and sums up what is written.
type summed struct {
	*bufio.Writer
	sum hash.Hash
}

func (s summed) Write(p []byte) (int, error) {
	s.sum.Write(p) // never fails
	return s.Writer.Write(p)
}

// Read hands the content of a file to body. Without the file the error is fs.ErrNotExist; a file that is not whole, or in another format,
// gives ErrCorrupt, and body is not called.
func Read(path, format string, body func(io.Reader) error) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	packed, err := check(raw, format)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err == nil {
		err = body(r)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrCorrupt, err)
	}
	return nil
}

// check returns the packed body of a whole file.
func check(raw []byte, format string) ([]byte, error) {
	if len(raw) < sha256.Size {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(raw))
	}
	end := len(raw) - sha256.Size
	if sum := sha256.Sum256(raw[:end]); !bytes.Equal(sum[:], raw[end:]) {
		return nil, fmt.Errorf("%w: its sum is wrong", ErrCorrupt)
	}
	packed, ok := bytes.CutPrefix(raw[:end], []byte(format+"\n"))
	if !ok {
		return nil, fmt.Errorf("%w: not %q", ErrCorrupt, format)
	}
	return packed, nil
}
