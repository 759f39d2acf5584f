package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
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

// Metrics serves /metrics from a registry, behind a guard.
func Metrics(registry *prometheus.Registry, guarded func(http.Handler) http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", guarded(promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes})))
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
	readTimeout   = 10 * time.Second
	writeTimeout  = time.Minute
	idleTimeout   = 2 * time.Minute // between two scrapes of one connection
	closeTimeout  = time.Second
	headerBytes   = 16 << 10
	scrapes       = 4   // at the same time
	connections   = 128 // of those who want metrics: the port is open to more than the kubelet
)

// Server serves HTTP on some addresses. A port that is taken does not end the daemon: it is said once and tried again.
type Server struct {
	Name      string   // for the log
	Flag      string   // that sets the addresses, for the log
	Addresses []string // none: serve nothing
	Handler   http.Handler
	TLS       *tls.Config // nil: in the clear
	Most      int         // connections to each address at the same time; 0: any number
	Log       *slog.Logger
}

// Run serves until ctx ends.
func (s Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, address := range s.Addresses {
		g.Go(func() error { return s.runOn(ctx, address) })
	}
	<-ctx.Done()
	return g.Wait()
}

// runOn serves on one address.
func (s Server) runOn(ctx context.Context, address string) error {
	for said := false; ; said = true {
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", address)
		if err == nil {
			if s.Most > 0 {
				listener = netutil.LimitListener(listener, s.Most)
			}
			return s.serve(ctx, listener)
		}
		if ctx.Err() != nil {
			return nil
		}
		if !said {
			s.Log.Log(ctx, gravity(address, err), "cannot listen; everything else works, trying on", "server", s.Name, "flag", "--"+s.Flag, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(listenRetry):
		}
	}
}

func (s Server) serve(ctx context.Context, listener net.Listener) error {
	s.Log.Debug("listening", "server", s.Name, "address", listener.Addr().String())
	server := &http.Server{
		Handler: s.Handler, TLSConfig: s.TLS, MaxHeaderBytes: headerBytes,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		ErrorLog:  slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		Protocols: new(http.Protocols), // HTTP/1.1 is enough to be scraped, and has less to attack
	}
	server.Protocols.SetHTTP1(true)
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if err := server.Shutdown(closing); err != nil {
			_ = server.Close() // a client that does not let go
		}
	})
	serve := server.Serve
	if s.TLS != nil {
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	err := serve(listener)
	if stop() {
		return fmt.Errorf("serving %s on %s: %w", s.Name, listener.Addr(), err) // it ended by itself
	}
	<-done
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// gravity of an address that cannot be listened on. That a host has one loopback address of two is nothing to tell anybody.
func gravity(address string, err error) slog.Level {
	host, _, _ := net.SplitHostPort(address)
	if slices.Contains(loopbacks(), host) && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)) {
		return slog.LevelDebug
	}
	return slog.LevelError
}
