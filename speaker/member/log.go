package member

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// logWriter turns memberlist's lines into records of a slog.Logger. Its levels are lowered by one, as it calls common things such as a
// refuted suspicion warnings, and a line that only differs in numbers from one of the last ten seconds is counted, not repeated.
type logWriter struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	seen map[string]*repeated
}

type repeated struct {
	until   time.Time
	skipped int
}

const (
	repeatAfter = 10 * time.Second
	maxRepeated = 256 // distinct lines remembered
)

func newLogWriter(log *slog.Logger) *logWriter {
	return &logWriter{log: log, now: time.Now, seen: map[string]*repeated{}}
}

// Write takes one line such as "[WARN] memberlist: text".
func (w *logWriter) Write(line []byte) (int, error) {
	level, text := parseLine(string(line))
	if w.log.Enabled(context.Background(), level) {
		if skipped, ok := w.pass(text); ok {
			attrs := []any{"detail", text}
			if skipped > 0 {
				attrs = append(attrs, "repeated", skipped)
			}
			w.log.Log(context.Background(), level, "gossip", attrs...)
		}
	}
	return len(line), nil
}

// pass reports whether the line is to be logged, and how many like it were not.
func (w *logWriter) pass(text string) (skipped int, ok bool) {
	key := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.seen[key]; r != nil && now.Before(r.until) {
		r.skipped++
		return 0, false
	} else if r != nil {
		skipped = r.skipped
	}
	if len(w.seen) >= maxRepeated {
		clear(w.seen)
	}
	w.seen[key] = &repeated{until: now.Add(repeatAfter)}
	return skipped, true
}

// parseLine splits a line of memberlist's into level and text.
func parseLine(line string) (slog.Level, string) {
	line = strings.TrimSpace(line)
	level := slog.LevelInfo
	if tag, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(tag, "[") {
		line = rest
		switch tag[1:] {
		case "DEBUG", "INFO":
			level = slog.LevelDebug
		case "WARN":
			level = slog.LevelInfo
		case "ERR", "ERROR":
			level = slog.LevelWarn
		}
	}
	line = strings.TrimPrefix(line, "memberlist: ")
	if strings.HasPrefix(line, "failed to receive and remove the stream label") && (strings.Contains(line, "reset by peer") || strings.Contains(line, "EOF")) {
		level = slog.LevelDebug // somebody feels our pulse: see attend
	}
	return level, line
}
