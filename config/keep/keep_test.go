package keep

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
}

func read(path, format string) (string, error) {
	var out []byte
	err := Read(path, format, func(r io.Reader) (err error) { out, err = io.ReadAll(r); return err })
	return string(out), err
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if _, err := read(path, "x 1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	for _, want := range []string{"first", "", "third, longer"} {
		if err := Write(path, "x 1", text(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := read(path, "x 1"); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: it may hold passwords", info.Mode(), err)
	}
	if _, err := read(path, "x 2"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another version: %v", err)
	}
}

func TestAFailedWriteLeavesTheOld(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if err := Write(path, "x 1", text("good")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := Write(path, "x 1", func(w io.Writer) error { _ = text("half")(w); return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if got, err := read(path, "x 1"); err != nil || got != "good" {
		t.Errorf("got %q, %v", got, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
	if err := Write(filepath.Join(dir, "none", "state"), "x 1", text("")); err == nil {
		t.Error("written into a directory that is not there")
	}
}

// TestAKilledWriterLeavesNothingForLong: what it had begun to write is gone with the next write, however often that happens.
func TestAKilledWriterLeavesNothingForLong(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	for range 3 {
		gone := make(chan struct{})
		go func() { // a goroutine that ends in the midst of it is as near as a test comes to a process that does
			defer close(gone)
			_ = Write(path, "x 1", func(io.Writer) error { runtime.Goexit(); return nil })
		}()
		<-gone
	}
	if err := Write(path, "x 1", text("good")); err != nil {
		t.Fatal(err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
	if got, err := read(path, "x 1"); err != nil || got != "good" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestDamageIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := Write(path, "x 1", text("some content that matters")); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for what, raw := range map[string][]byte{"cut": whole[:i], "changed": append(append(append([]byte{}, whole[:i]...), whole[i]^0x40), whole[i+1:]...)} {
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := read(path, "x 1"); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s at byte %d: %q, %v", what, i, got, err)
			}
		}
	}
}
