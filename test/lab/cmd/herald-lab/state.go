package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// state is what other shells have to know about the laboratory that is up. Process ids are those outside.
type state struct {
	Init  int    // its first process: its namespaces are to be joined
	Outer int    // the herald-lab that was called
	Dir   string // its files
}

// endLimit is how long a laboratory may take to end.
const endLimit = time.Minute

var errNotUp = errors.New("no laboratory is up (herald-lab up starts one)")

// statePath returns the file of this user's laboratory.
func statePath() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no place to note which laboratory is up (set HOME or XDG_CACHE_HOME): %w", err)
	}
	return filepath.Join(dir, "herald-lab", "up.json"), nil
}

// remember notes the laboratory; the function it returns takes the note away, unless another one has replaced it.
func remember(s state) (forget func(), err error) {
	path, err := statePath()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	return func() {
		if now, err := os.ReadFile(path); err == nil && string(now) == string(text) {
			_ = os.Remove(path) // a note that stays is seen to be old by the next who reads it
		}
	}, nil
}

// recall returns the laboratory that is up.
func recall() (state, error) {
	var s state
	path, err := statePath()
	if err != nil {
		return s, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, errNotUp
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	if !s.alive() {
		return s, errNotUp
	}
	return s, nil
}

// alive reports whether the laboratory's processes exist. Its directory, which ends with it, keeps a process id that
// was given to somebody else from being taken for it.
func (s state) alive() bool {
	_, err := os.Stat(s.Dir)
	return err == nil && syscall.Kill(s.Init, 0) == nil
}

// end asks the laboratory to end, and waits.
func (s state) end() error {
	if err := syscall.Kill(s.Outer, syscall.SIGTERM); err != nil {
		return fmt.Errorf("ending process %d: %w", s.Outer, err)
	}
	limit := time.Now().Add(endLimit)
	for syscall.Kill(s.Outer, 0) == nil {
		if time.Now().After(limit) {
			return fmt.Errorf("process %d has not ended after %s; logs are in %s", s.Outer, endLimit, s.Dir)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}
