package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heraldlb/herald/config/kube"
)

// people is an API server that knows some tokens.
type people map[string]kube.Review

func (p people) MayGet(_ context.Context, token, path string) (kube.Review, error) {
	if path != "/metrics" {
		return kube.Review{}, errors.New("asked for " + path)
	}
	if token == "late" {
		return kube.Review{}, errors.New("nobody answers")
	}
	return p[token], nil
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
	}
}

// serving runs a server; the end waits for it.
func serving(t *testing.T, s Server) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	}
}

// fetch asks until it is answered.
func fetch(t *testing.T, transport http.RoundTripper, url, token string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Close = true
	eventually(t, "answer from "+url, func() bool {
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		status, text = resp.StatusCode, string(body)
		return err == nil
	})
	return status, text
}

// metricsAt starts the metrics server of some settings on a free port of the loopback address.
func metricsAt(t *testing.T, c Common, api people) (address string) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.MetricsAddress = free.Addr().String()
	free.Close()
	server, beside, err := c.metrics(NewRegistry("v1"), api, discard())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, discard(), append(beside, Task{"metrics", server.Run})...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return c.MetricsAddress
}

func TestMetricsSecure(t *testing.T) {
	address := metricsAt(t, Common{MetricsSecure: true}, people{
		"good": {User: "system:serviceaccount:monitoring:prometheus", Allowed: true},
		"poor": {User: "system:serviceaccount:default:default"},
	})
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	for _, c := range []struct {
		name, token, path string
		status            int
		says              string
	}{
		{"who may", "good", "/metrics", http.StatusOK, "herald_build_info"},
		{"who may not", "poor", "/metrics", http.StatusForbidden, "system:serviceaccount:default:default may not get /metrics"},
		{"a token of nobody", "strange", "/metrics", http.StatusUnauthorized, "does not know this token"},
		{"no token", "", "/metrics", http.StatusUnauthorized, "no bearer token"},
		{"no answer from the API server", "late", "/metrics", http.StatusServiceUnavailable, "cannot ask the API server"},
		{"something else is not there, and nobody is asked", "", "/debug/pprof", http.StatusNotFound, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text := fetch(t, transport, "https://"+address+c.path, c.token)
			if status != c.status || !strings.Contains(text, c.says) {
				t.Errorf("%d %.300s, want %d with %q", status, text, c.status, c.says)
			}
			if c.status != http.StatusOK && strings.Contains(text, "herald_build_info") {
				t.Error("metrics were given away")
			}
		})
	}
	if status, text := fetch(t, http.DefaultTransport, "http://"+address+"/metrics", "good"); status != http.StatusBadRequest || !strings.Contains(text, "HTTPS") {
		t.Errorf("without TLS: %d %s", status, text)
	}
	if _, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is served")
	}
}

func TestMetricsPlain(t *testing.T) {
	address := metricsAt(t, Common{}, nil)
	if status, text := fetch(t, http.DefaultTransport, "http://"+address+"/metrics", ""); status != http.StatusOK || !strings.Contains(text, "herald_build_info") {
		t.Errorf("%d %s", status, text)
	}
}
