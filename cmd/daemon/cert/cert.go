// Package cert gives a TLS server its certificate: one from files, which may change while it runs, or one of its own making.
package cert

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Names of the files, as in a Secret of type kubernetes.io/tls.
const (
	certFile = "tls.crt"
	keyFile  = "tls.key"
)

const (
	interval = 10 * time.Second     // between two looks at the files
	lifetime = 365 * 24 * time.Hour // of a certificate of our own
	renewal  = lifetime * 2 / 3     // its age when the next is made
	backdate = -time.Hour           // for clients whose clock is behind
)

// Options of a Source.
type Options struct {
	Dir  string // with tls.crt and tls.key; empty: none
	Name string // in a certificate of our own
	Log  *slog.Logger
}

// Source holds the certificate of the moment: that of the files; or, without files or as long as there never was a good pair, one that it
// made, signed by itself. Files are read again when they change; while they are wrong the last good ones stay.
type Source struct {
	opts    Options
	current atomic.Pointer[tls.Certificate]

	// Owned by New, then by Run.
	cert, key []byte    // that current was made of; nil: our own
	made      time.Time // of our own
	said      string    // the last complaint
}

// New makes a Source with a certificate to begin with. It fails only when no random numbers are to be had.
func New(opts Options) (*Source, error) {
	s := &Source{opts: opts}
	s.read()
	if s.current.Load() != nil {
		return s, nil
	}
	return s, s.make()
}

// Get returns the certificate of the moment, for tls.Config.GetCertificate.
func (s *Source) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current.Load(), nil }

// Run looks at the files, and replaces our own certificate before it ends, until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	every := interval
	if s.opts.Dir == "" {
		every = lifetime / 100
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s.read()
		if s.cert == nil && time.Since(s.made) >= renewal {
			if err := s.make(); err != nil {
				s.opts.Log.Error("cannot replace the certificate that this process made", "err", err)
			}
		}
	}
}

// read takes the files over when they are new and good.
func (s *Source) read() {
	if s.opts.Dir == "" {
		return
	}
	cert, key, err := s.files()
	if err == nil && bytes.Equal(cert, s.cert) && bytes.Equal(key, s.key) {
		s.said = ""
		return
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.X509KeyPair(cert, key)
	}
	if err != nil {
		s.complain(err)
		return
	}
	s.cert, s.key, s.said = cert, key, ""
	s.current.Store(&pair)
	s.opts.Log.Info("serving with the certificate from files", "dir", s.opts.Dir, "subject", pair.Leaf.Subject.String(), "until", pair.Leaf.NotAfter)
	if time.Now().After(pair.Leaf.NotAfter) {
		s.opts.Log.Error("the certificate has expired: replace it", "dir", s.opts.Dir, "until", pair.Leaf.NotAfter)
	}
}

// files reads the pair. It may be of two ages when it is just being replaced: then they do not match, and are read again later.
func (s *Source) files() (cert, key []byte, err error) {
	if cert, err = os.ReadFile(filepath.Join(s.opts.Dir, certFile)); err != nil {
		return nil, nil, err
	}
	key, err = os.ReadFile(filepath.Join(s.opts.Dir, keyFile))
	return cert, key, err
}

// complain says once what is wrong with the files.
func (s *Source) complain(err error) {
	if s.said == err.Error() {
		return
	}
	s.said = err.Error()
	instead := "the last good certificate"
	if s.cert == nil {
		instead = "a certificate that this process made"
	}
	s.opts.Log.Warn("cannot use the certificate from files", "dir", s.opts.Dir, "instead", instead, "err", err)
}

// make makes a certificate and key that nobody else vouches for.
func (s *Source) make() error {
	now := time.Now()
	pair, err := selfSigned(s.opts.Name, now)
	if err != nil {
		return fmt.Errorf("making a certificate: %w", err)
	}
	s.made = now
	s.current.Store(pair)
	return nil
}

func selfSigned(name string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // at most 20 octets (RFC 5280, section 4.1.2.2)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name, "localhost"},
		NotBefore: now.Add(backdate), NotAfter: now.Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
