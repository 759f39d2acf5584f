package daemon

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/cmd/daemon/cert"
	"github.com/heraldlb/herald/cmd/daemon/guard"
)

// Servers returns what serves health and metrics as the settings ask for. The reviewer is asked who may read metrics.
func (c *Common) Servers(health http.Handler, registry *prometheus.Registry, reviewer guard.Reviewer, log *slog.Logger) ([]Task, error) {
	metrics, tasks, err := c.metrics(registry, reviewer, log.With("part", "metrics"))
	if err != nil {
		return nil, err
	}
	plain := Server{Name: "health", Flag: "http-address", Addresses: c.Listen(c.HTTPAddress), Handler: health, Log: log}
	return append(tasks, Task{"health", plain.Run}, Task{"metrics", metrics.Run}), nil
}

// metrics returns the server of metrics, and what must run beside it.
func (c *Common) metrics(registry *prometheus.Registry, reviewer guard.Reviewer, log *slog.Logger) (Server, []Task, error) {
	s := Server{Name: "metrics", Flag: "metrics-address", Addresses: c.Listen(c.MetricsAddress), Handler: Metrics(registry, plainly), Most: connections, Log: log}
	if !c.MetricsSecure || c.MetricsAddress == "" {
		return s, nil, nil
	}
	host, err := os.Hostname()
	if err != nil {
		host = "herald"
	}
	certificates, err := cert.New(cert.Options{Dir: c.MetricsCertDir, Name: host, Log: log})
	if err != nil {
		return s, nil, fmt.Errorf("metrics: %w", err)
	}
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificates.Get}
	s.Handler = Metrics(registry, guard.New(reviewer, log).Handler)
	return s, []Task{{"certificate", certificates.Run}}, nil
}

func plainly(h http.Handler) http.Handler { return h }
