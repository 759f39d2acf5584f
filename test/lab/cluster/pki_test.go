package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
)

func testIdentities(t *testing.T) (*identities, string) {
	t.Helper()
	dir := t.TempDir()
	ids, err := newIdentities(dir, []netip.Addr{netip.MustParseAddr("10.10.0.10"), netip.MustParseAddr("fd00:10::10")}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ids, dir
}

func verify(t *testing.T, p pair, ca []byte, name string, usage x509.ExtKeyUsage) (*x509.Certificate, error) {
	t.Helper()
	both, err := tls.X509KeyPair(p.certificate, p.key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no certificate in the authority")
	}
	_, err = both.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}})
	return both.Leaf, err
}

func TestAPIServerCertificate(t *testing.T) {
	ids, dir := testIdentities(t)
	certificate, err := os.ReadFile(filepath.Join(dir, "apiserver.crt"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	p := pair{certificate, key}
	for _, name := range []string{"10.10.0.10", "fd00:10::10", "localhost", "kubernetes.default.svc"} {
		if _, err := verify(t, p, ids.ca.certificate, name, x509.ExtKeyUsageServerAuth); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if _, err := verify(t, p, ids.ca.certificate, "10.10.0.11", x509.ExtKeyUsageServerAuth); err == nil {
		t.Error("it is good for an address that is not the API server's")
	}
	if _, err := verify(t, p, ids.ca.certificate, "", x509.ExtKeyUsageClientAuth); err == nil {
		t.Error("a client may use it")
	}
	other, err := newAuthority("other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(t, p, other.certificate, "localhost", x509.ExtKeyUsageServerAuth); err == nil {
		t.Error("another authority vouches for it")
	}
	if info, err := os.Stat(filepath.Join(dir, "tokens.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key of the tokens: %v, %v; want mode 600", info, err)
	}
}

func TestAccess(t *testing.T) {
	ids, dir := testIdentities(t)
	a, err := ids.access("https://10.10.0.10:6443", "system:node:node-1", "system:nodes")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := verify(t, a.client, ids.ca.certificate, "", x509.ExtKeyUsageClientAuth)
	if err != nil {
		t.Error(err)
	}
	if leaf.Subject.CommonName != "system:node:node-1" || !cmp.Equal(leaf.Subject.Organization, []string{"system:nodes"}) {
		t.Errorf("it is for %v", leaf.Subject)
	}
	path := filepath.Join(dir, "kubeconfig")
	if err := a.write(path); err != nil {
		t.Fatal(err)
	}
	fromFile, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	direct := a.config((&net.Dialer{}).DialContext)
	if fromFile.Host != direct.Host || !cmp.Equal(fromFile.TLSClientConfig, direct.TLSClientConfig) {
		t.Errorf("kubeconfig gives %v, config %v", fromFile, direct)
	}
}

// TestServiceIPs: the addresses in the certificates are those that the API server takes from the ranges.
func TestServiceIPs(t *testing.T) {
	var want []netip.Addr
	for _, r := range []string{"10.96.0.0/16", "fd00:96::/112"} {
		want = append(want, netip.MustParsePrefix(r).Addr().Next())
	}
	if diff := cmp.Diff(want, ServiceIPs(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if ServiceCIDRs != "10.96.0.0/16,fd00:96::/112" {
		t.Errorf("Service ranges are %s: change the addresses in this test and in ServiceIPs with them", ServiceCIDRs)
	}
}
