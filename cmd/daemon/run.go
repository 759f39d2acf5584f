package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// Task is one thing that a daemon runs.
type Task struct {
	Name string
	Run  func(context.Context) error // returns when ctx has ended; earlier only with an error
}

// Run runs the tasks until ctx ends or one of them fails; then all are stopped and waited for. Their end with ctx is no error.
func Run(ctx context.Context, log *slog.Logger, tasks ...Task) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		g.Go(func() error {
			err := t.Run(ctx)
			if ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err()) || errors.Is(err, context.Canceled)) {
				return nil
			}
			if err == nil {
				err = errors.New("ended unexpectedly")
			}
			return fmt.Errorf("%s: %w", t.Name, err)
		})
	}
	err := g.Wait()
	log.Info("stopped")
	return err
}

// Main runs a daemon until SIGINT or SIGTERM, and returns the exit status. What goes wrong is said in one line. A second signal ends the
// process at once.
func Main(stderr io.Writer, name string, daemon func(context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	err := daemon(ctx)
	switch {
	case err == nil, errors.Is(err, ErrHelp):
		return 0
	default:
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 1
	}
}
