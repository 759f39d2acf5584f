package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestParse(t *testing.T) {
	type settings struct {
		Common
		port  int
		every time.Duration
	}
	for _, c := range []struct {
		name    string
		args    []string
		env     map[string]string
		want    func(settings) bool
		wantErr string
	}{
		{name: "defaults", want: func(s settings) bool {
			return s.LogLevel == "info" && s.LogFormat == "text" && s.HTTPAddress == ":1" && s.port == 7 && s.Kubeconfig == ""
		}},
		{name: "flag", args: []string{"--log-level=debug", "--port", "9"}, want: func(s settings) bool { return s.LogLevel == "debug" && s.port == 9 }},
		{name: "environment", env: map[string]string{"HERALD_LOG_LEVEL": "warn", "HERALD_EVERY": "3s"}, want: func(s settings) bool {
			return s.LogLevel == "warn" && s.every == 3*time.Second
		}},
		{name: "flag wins", args: []string{"--port=1"}, env: map[string]string{"HERALD_PORT": "2"}, want: func(s settings) bool { return s.port == 1 }},
		{name: "empty environment variable sets to empty", env: map[string]string{"HERALD_HTTP_ADDRESS": ""}, want: func(s settings) bool { return s.HTTPAddress == "" }},
		{name: "bad word", args: []string{"--log-level=loud"}, wantErr: "--log-level"},
		{name: "bad word in the environment", env: map[string]string{"HERALD_LOG_FORMAT": "xml"}, wantErr: "HERALD_LOG_FORMAT"},
		{name: "bad environment", env: map[string]string{"HERALD_PORT": "many"}, wantErr: "HERALD_PORT"},
		{name: "all bad ones are named", env: map[string]string{"HERALD_PORT": "many", "HERALD_EVERY": "often"}, wantErr: "HERALD_EVERY"},
		{name: "bad environment does not matter when the flag is given", args: []string{"--port=1"}, env: map[string]string{"HERALD_PORT": "many"}, want: func(s settings) bool { return s.port == 1 }},
		{name: "bad flag", args: []string{"--port=many"}, wantErr: "--port"},
		{name: "unknown flag", args: []string{"--nosuch"}, wantErr: "nosuch"},
		{name: "argument", args: []string{"run"}, wantErr: `"run"`},
		{name: "version", args: []string{"--version"}, wantErr: ErrHelp.Error()},
		{name: "help", args: []string{"--help"}, wantErr: ErrHelp.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s settings
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			s.Add(flags, Defaults{HTTPAddress: ":1"})
			flags.IntVar(&s.port, "port", 7, "")
			flags.DurationVar(&s.every, "every", 0, "")
			lookup := func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }
			err := Parse(flags, c.args, lookup, "v1", io.Discard)
			if c.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), c.wantErr) {
					t.Fatalf("error %v, want one with %q", err, c.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !c.want(s) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestVersionIsPrinted(t *testing.T) {
	var out bytes.Buffer
	err := Parse(pflag.NewFlagSet("herald-test", pflag.ContinueOnError), []string{"--version"}, os.LookupEnv, "v1.2.3", &out)
	if !errors.Is(err, ErrHelp) || out.String() != "herald-test v1.2.3\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestDefaultNamespace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "namespace")
	if got := defaultNamespace(file); got != "herald-system" {
		t.Errorf("outside a Pod: %q", got)
	}
	if err := os.WriteFile(file, []byte("lb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := defaultNamespace(file); got != "lb" {
		t.Errorf("in a Pod: %q", got)
	}
}

func TestLogger(t *testing.T) {
	for _, c := range []struct{ level, format, want, wantErr string }{
		{"info", "text", "level=INFO msg=hello", ""},
		{"debug", "json", `"msg":"hello"`, ""},
		{"error", "text", "", ""},
		{"loud", "text", "", "--log-level"},
	} {
		var out bytes.Buffer
		log, err := (&Common{LogLevel: c.level, LogFormat: c.format}).Logger(&out)
		if c.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("%+v: error %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		log.Info("hello")
		if got := out.String(); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestHealth(t *testing.T) {
	var missing error
	h := Health(Check{"fine", func() error { return nil }}, Check{"cache", func() error { return missing }})
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	missing = errors.New("nodes are not listed yet")
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || body != "cache: nodes are not listed yet\n" {
		t.Errorf("not ready: %d %q", code, body)
	}
	if code, _ := get("/healthz"); code != http.StatusOK {
		t.Errorf("healthz while not ready: %d", code)
	}
	missing = nil
	if code, body := get("/readyz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("ready: %d %q", code, body)
	}
}

func TestMetrics(t *testing.T) {
	w := httptest.NewRecorder()
	Metrics(NewRegistry("v1"), plainly).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if !strings.Contains(w.Body.String(), `herald_build_info{version="v1"} 1`) {
		t.Error("herald_build_info is missing")
	}
}

// TestServerPortTaken checks that a port that is taken is waited for, and served once it is free.
func TestServerPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := taken.Addr().String()
	said := make(chan string, 10)
	log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) { said <- string(p); return len(p), nil }), nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- Server{Name: "health", Flag: "http-address", Addresses: []string{address}, Handler: Health(), Log: log}.Run(ctx)
	}()
	if line := <-said; !strings.Contains(line, "--http-address") || !strings.Contains(line, address) {
		t.Errorf("log: %s", line)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	deadline := time.After(time.Minute)
	for {
		if resp, err := client.Get("http://" + address + "/healthz"); err == nil {
			resp.Body.Close()
			break
		}
		select {
		case <-deadline:
			t.Fatal("not served after the port became free")
		case <-time.After(50 * time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("end: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestRun(t *testing.T) {
	forever := Task{"forever", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	for _, c := range []struct {
		name string
		task Task
		want string
	}{
		{"stopped", forever, ""},
		{"fails", Task{"bad", func(context.Context) error { return errors.New("broken") }}, "bad: broken"},
		{"ends", Task{"short", func(context.Context) error { return nil }}, "short: ended unexpectedly"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				got := ""
				if err := Run(ctx, discard(), forever, c.task); err != nil {
					got = err.Error()
				}
				if got != c.want {
					t.Errorf("error %q, want %q", got, c.want)
				}
			})
		})
	}
}

func TestMainStatus(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{{nil, 0, ""}, {ErrHelp, 0, ""}, {errors.New("no key"), 1, "herald-test: no key\n"}} {
		var out bytes.Buffer
		if got := Main(&out, "herald-test", func(context.Context) error { return c.err }); got != c.status || out.String() != c.says {
			t.Errorf("%v: status %d, output %q", c.err, got, out.String())
		}
	}
}

func TestListen(t *testing.T) {
	for _, c := range []struct {
		listen  []string
		address string
		want    []string
	}{
		{nil, ":9473", []string{":9473"}},
		{[]string{"192.0.2.1"}, ":9473", []string{"192.0.2.1:9473", "127.0.0.1:9473", "[::1]:9473"}},
		{[]string{"192.0.2.1", "2001:db8::1"}, ":9473", []string{"192.0.2.1:9473", "[2001:db8::1]:9473", "127.0.0.1:9473", "[::1]:9473"}},
		{[]string{"127.0.0.1"}, ":9473", []string{"127.0.0.1:9473", "[::1]:9473"}},
		{[]string{"192.0.2.1"}, "127.0.0.1:9473", []string{"127.0.0.1:9473"}},
		{[]string{"192.0.2.1"}, "", nil},
	} {
		if diff := cmp.Diff(c.want, (&Common{ListenAddress: c.listen}).Listen(c.address)); diff != "" {
			t.Errorf("--listen-address=%v and %s (-want +got):\n%s", c.listen, c.address, diff)
		}
	}
}

// One address that cannot be listened on does not keep the others from being served.
func TestServerSeveralAddresses(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	var out lockedBuffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	stop := serving(t, Server{Name: "health", Flag: "http-address", Addresses: []string{"192.0.2.1:9473", address}, Handler: Health(), Log: log})
	defer stop()
	if code, _ := fetch(t, http.DefaultTransport, "http://"+address+"/healthz", ""); code != http.StatusOK {
		t.Errorf("status %d", code)
	}
	eventually(t, "a line about the other address", func() bool { return strings.Contains(out.String(), "192.0.2.1:9473") })
}

func TestGravity(t *testing.T) {
	for _, c := range []struct {
		address string
		err     error
		want    slog.Level
	}{
		{"[::1]:9472", fmt.Errorf("listen: %w", syscall.EADDRNOTAVAIL), slog.LevelDebug},
		{"127.0.0.1:9472", fmt.Errorf("listen: %w", syscall.EAFNOSUPPORT), slog.LevelDebug},
		{"127.0.0.1:9472", fmt.Errorf("listen: %w", syscall.EADDRINUSE), slog.LevelError},
		{"192.0.2.1:9472", fmt.Errorf("listen: %w", syscall.EADDRNOTAVAIL), slog.LevelError},
	} {
		if got := gravity(c.address, c.err); got != c.want {
			t.Errorf("%s, %v: %v, want %v", c.address, c.err, got, c.want)
		}
	}
}
