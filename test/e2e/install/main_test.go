package install

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/netlab"
)

func TestMain(m *testing.M) { lab.Main(m, lab.Build{Herald: true}) }

// start starts a laboratory that ends with the test.
func start(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	netlab.Need(t)
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	o.Progress = t.Output()
	began := time.Now()
	l, err := lab.Start(deadline(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("laboratory up after %s", time.Since(began).Round(10*time.Millisecond))
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("ending the laboratory: %v", err)
		}
	})
	return l
}

// deadline bounds a step of a test; it is generous, as machines are shared.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
