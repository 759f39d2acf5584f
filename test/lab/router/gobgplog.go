package router

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"

	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
)

// gobgpLog lets GoBGP write to a slog.Logger.
type gobgpLog struct{ log *slog.Logger }

func (l gobgpLog) write(level slog.Level, msg string, fields gobgplog.Fields) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, len(fields))
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		attrs = append(attrs, slog.Any(k, fields[k]))
	}
	l.log.LogAttrs(context.Background(), level, msg, attrs...) //nolint:sloglint // what GoBGP says is passed on as it is
}

func (l gobgpLog) Panic(msg string, fields gobgplog.Fields) {
	l.write(slog.LevelError, msg, fields)
	panic("gobgp: " + msg)
}

func (l gobgpLog) Fatal(msg string, fields gobgplog.Fields) {
	l.write(slog.LevelError, msg, fields)
	os.Exit(1)
}

func (l gobgpLog) Error(msg string, fields gobgplog.Fields) { l.write(slog.LevelError, msg, fields) }
func (l gobgpLog) Warn(msg string, fields gobgplog.Fields)  { l.write(slog.LevelWarn, msg, fields) }
func (l gobgpLog) Info(msg string, fields gobgplog.Fields)  { l.write(slog.LevelDebug, msg, fields) }

func (l gobgpLog) Debug(msg string, fields gobgplog.Fields) { l.write(slog.LevelDebug-4, msg, fields) }

// SetLevel does nothing: the handler of the logger decides.
func (l gobgpLog) SetLevel(gobgplog.LogLevel) {}

// GetLevel spares GoBGP the making of messages that the handler does not want.
func (l gobgpLog) GetLevel() gobgplog.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug-4) {
		return gobgplog.DebugLevel
	}
	return gobgplog.InfoLevel
}
