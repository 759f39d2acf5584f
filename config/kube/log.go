package kube

import (
	"context"
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// RouteClientLog sends what client-go logs by itself (through klog, which is one per process) to log at level debug: what an operator must
// know of it is logged by this room, once. To be called by a main function before anything else of this room.
func RouteClientLog(log *slog.Logger) {
	klog.SetSlogLogger(slog.New(quiet{log.Handler()}))
}

// withClientLog does the same for the code called with the context it returns.
func withClientLog(ctx context.Context, log *slog.Logger) context.Context {
	return klog.NewContext(ctx, clientLog(log))
}

func clientLog(log *slog.Logger) klog.Logger {
	return logr.FromSlogHandler(quiet{log.Handler()})
}

// quiet is a handler that takes every record for one of level debug. It asks whether that is wanted in Handle, too: logr does not ask
// before it logs an error.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if !q.Enabled(ctx, r.Level) {
		return nil
	}
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }
