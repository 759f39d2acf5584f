package cert

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secret is a directory as the kubelet makes one of a Secret: the names are links through ..data, which is replaced as a whole.
type secret struct {
	t   *testing.T
	dir string
	n   int
}

func newSecret(t *testing.T) *secret {
	s := &secret{t: t, dir: t.TempDir()}
	for _, name := range []string{certFile, keyFile} {
		s.must(os.Symlink(filepath.Join("..data", name), filepath.Join(s.dir, name)))
	}
	return s
}

func (s *secret) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// put replaces the content.
func (s *secret) put(cert, key []byte) {
	s.t.Helper()
	s.n++
	version := "..v" + strings.Repeat("i", s.n)
	s.must(os.Mkdir(filepath.Join(s.dir, version), 0o700))
	s.must(os.WriteFile(filepath.Join(s.dir, version, certFile), cert, 0o600))
	s.must(os.WriteFile(filepath.Join(s.dir, version, keyFile), key, 0o600))
	s.must(os.Symlink(version, filepath.Join(s.dir, "..new")))
	s.must(os.Rename(filepath.Join(s.dir, "..new"), filepath.Join(s.dir, "..data")))
}

// pair makes the content of the files.
func pair(t *testing.T, name string, now time.Time) (cert, key []byte) {
	t.Helper()
	made, err := selfSigned(name, now)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// served is the name in the certificate that a source gives.
func served(t *testing.T, s *Source) string {
	t.Helper()
	c, err := s.Get(&tls.ClientHelloInfo{})
	if err != nil || c == nil {
		t.Fatalf("no certificate: %v", err)
	}
	return c.Leaf.Subject.CommonName
}

func running(t *testing.T, opts Options) (*Source, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer // written and read within one bubble, never at once
	opts.Log = slog.New(slog.NewTextHandler(&out, nil))
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, &out
}

// wait lets a source look at its files.
func wait() {
	time.Sleep(interval)
	synctest.Wait()
}

// TestFiles is the life of a mounted Secret: late, good, half written, replaced, gone.
func TestFiles(t *testing.T) {
	dir := newSecret(t)
	synctest.Test(t, func(t *testing.T) {
		s, log := running(t, Options{Dir: dir.dir, Name: "own"})
		if got := served(t, s); got != "own" {
			t.Errorf("before there is a Secret: %s", got)
		}
		wait()
		wait()
		if n := strings.Count(log.String(), "cannot use the certificate"); n != 1 {
			t.Errorf("said %d times that there is none:\n%s", n, log)
		}
		oneCert, oneKey := pair(t, "one", time.Now())
		dir.put(oneCert, oneKey)
		wait()
		if got := served(t, s); got != "one" {
			t.Errorf("once the Secret is there: %s", got)
		}
		twoCert, twoKey := pair(t, "two", time.Now())
		dir.put(twoCert, oneKey)
		wait()
		if got := served(t, s); got != "one" || !strings.Contains(log.String(), "last good certificate") {
			t.Errorf("with a key of another certificate: %s\n%s", got, log)
		}
		dir.put(twoCert, twoKey)
		wait()
		if got := served(t, s); got != "two" {
			t.Errorf("after a change: %s", got)
		}
		if err := os.Remove(filepath.Join(dir.dir, "..data")); err != nil {
			t.Fatal(err)
		}
		wait()
		if got := served(t, s); got != "two" {
			t.Errorf("after the Secret is gone: %s", got)
		}
		oldCert, oldKey := pair(t, "old", time.Now().Add(-2*lifetime))
		dir.put(oldCert, oldKey)
		wait()
		if got := served(t, s); got != "old" || !strings.Contains(log.String(), "has expired") {
			t.Errorf("with one that has expired: %s\n%s", got, log)
		}
	})
}

// TestFilesAtStart: the first client sees the certificate of the files already.
func TestFilesAtStart(t *testing.T) {
	dir := newSecret(t)
	dir.put(pair(t, "one", time.Now()))
	s, err := New(Options{Dir: dir.dir, Name: "own", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if got := served(t, s); got != "one" {
		t.Errorf("%s", got)
	}
}

// TestRenewal: a certificate of our own is valid at any time of a long life.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := running(t, Options{Name: "node-1"})
		first, _ := s.Get(nil)
		for day := range 3 * 365 {
			c, err := s.Get(nil)
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			if now.Before(c.Leaf.NotBefore) || now.Add(24*time.Hour).After(c.Leaf.NotAfter) {
				t.Fatalf("day %d: valid from %s until %s", day, c.Leaf.NotBefore, c.Leaf.NotAfter)
			}
			time.Sleep(24 * time.Hour)
		}
		if last, _ := s.Get(nil); last == first {
			t.Error("never replaced")
		}
	})
}

func TestSelfSigned(t *testing.T) {
	c, err := selfSigned("node-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.Leaf)
	for _, name := range []string{"node-1", "localhost"} {
		if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c.Leaf.IsCA {
		t.Error("could vouch for others")
	}
}
