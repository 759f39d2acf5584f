package kubelet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// file is one of those that a volume projects.
type file struct {
	data []byte
	mode fs.FileMode
}

// dataLink is the link that stands between a volume's file names and the directory with their present contents.
const dataLink = "..data"

// writeProjected makes dir hold exactly these files, whose names are relative paths. A reader sees either the old set or
// the new one whole: the files are links through dataLink, which is replaced by one rename, as on a real node. It
// reports whether anything changed. group owns the files and may read them; -1 leaves that out.
func writeProjected(dir string, files map[string]file, group int) (changed bool, err error) {
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if old != "" && holds(filepath.Join(dir, old), files) {
		return false, nil
	}
	version, err := os.MkdirTemp(dir, "..version-")
	if err != nil {
		return false, err
	}
	if err := os.Chmod(version, 0o755); err != nil {
		return false, err
	}
	for name, f := range files {
		if err := writeFile(filepath.Join(version, name), f, group); err != nil {
			return false, err
		}
	}
	fresh := filepath.Join(dir, dataLink+"_tmp")
	if err := os.Symlink(filepath.Base(version), fresh); err != nil {
		return false, err
	}
	if err := os.Rename(fresh, filepath.Join(dir, dataLink)); err != nil {
		return false, err
	}
	if err := linkNames(dir, files); err != nil {
		return true, err
	}
	if old != "" {
		err = os.RemoveAll(filepath.Join(dir, old))
	}
	return true, err
}

func writeFile(path string, f file, group int) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, f.data, f.mode); err != nil {
		return err
	}
	mode := f.mode
	if group >= 0 {
		if err := os.Chown(path, -1, group); err != nil {
			return err
		}
		mode |= 0o040
	}
	return os.Chmod(path, mode)
}

// holds reports whether the directory has these files with these contents and no others.
func holds(dir string, files map[string]file) bool {
	count := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		want, ok := files[name]
		if !ok || !bytes.Equal(want.data, data) {
			return fmt.Errorf("%s differs", name)
		}
		count++
		return nil
	})
	return err == nil && count == len(files)
}

// linkNames makes the top-level names lead through dataLink, and removes those that are gone.
func linkNames(dir string, files map[string]file) error {
	want := map[string]bool{}
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		want[top] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		if want[e.Name()] {
			delete(want, e.Name())
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	for name := range want {
		if err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
