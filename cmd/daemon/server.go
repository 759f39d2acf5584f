package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one thing that must be all right for the daemon to be ready.
type Check struct {
	Name string
	Err  func() error // nil when it is all right; else what is missing
}

// Health serves /healthz, which answers as long as the process does, and /readyz, which lists what is not ready.
func Health(checks ...Check) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if missing := unready(checks); missing != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, missing)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

func unready(checks []Check) string {
	var b strings.Builder
	for _, c := range checks {
		if err := c.Err(); err != nil {
			fmt.Fprintf(&b, "%s: %v\n", c.Name, err)
		}
	}
	return b.String()
}

// Metrics serves /metrics from a registry.
func Metrics(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// NewRegistry returns a registry with the metrics of the process, of Go, and herald_build_info.
func NewRegistry(version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "herald_build_info", Help: "Always 1; the version is a label.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info)
	return r
}

// How long a server waits for its port, and for its clients.
const (
	listenRetry   = 5 * time.Second
	headerTimeout = 5 * time.Second
	closeTimeout  = time.Second
)

// Server serves plain HTTP on one address. A port that is taken does not end the daemon: it is said once and tried again.
type Server struct {
	Name    string // for the log
	Flag    string // that sets the address, for the log
	Address string // empty: serve nothing
	Handler http.Handler
	Log     *slog.Logger
}

// Run serves until ctx ends.
func (s Server) Run(ctx context.Context) error {
	if s.Address == "" {
		<-ctx.Done()
		return nil
	}
	for said := false; ; said = true {
		listener, err := s.listen(ctx)
		if err == nil {
			return s.serve(ctx, listener)
		}
		if ctx.Err() != nil {
			return nil
		}
		if !said {
			s.Log.Error("cannot listen; everything else works, trying on", "server", s.Name, "flag", "--"+s.Flag, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(listenRetry):
		}
	}
}

// listen opens the address, or its port on all addresses where the address is not one of this host's: a Pod whose address is only a promise.
func (s Server) listen(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.Address)
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		_, port, _ := net.SplitHostPort(s.Address) // it was good enough to be tried
		return config.Listen(ctx, "tcp", net.JoinHostPort("", port))
	}
	return listener, err
}

func (s Server) serve(ctx context.Context, listener net.Listener) error {
	s.Log.Debug("listening", "server", s.Name, "address", listener.Addr().String())
	server := &http.Server{Handler: s.Handler, ReadHeaderTimeout: headerTimeout, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if err := server.Shutdown(closing); err != nil {
			_ = server.Close() // a client that does not let go
		}
	})
	err := server.Serve(listener)
	if stop() {
		return fmt.Errorf("serving %s on %s: %w", s.Name, s.Address, err) // it ended by itself
	}
	<-done
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
