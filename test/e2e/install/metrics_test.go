package install

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
)

const metricsSecret = `
apiVersion: v1
kind: Secret
metadata: {name: metrics-tls, namespace: %s}
type: kubernetes.io/tls
data: {tls.crt: %s, tls.key: %s, ca.crt: %s}
`

// everywhere asks all daemons for metrics until each answers as it should. Pods that are just ending are gone when it looks again.
func everywhere(t *testing.T, l *lab.Lab, scheme string, config *tls.Config, right func(status int, text string, err error) error) {
	t.Helper()
	err := l.Wait(deadline(t), "metrics", func(ctx context.Context) error {
		ips := strings.Fields(kubectl(t, l, "--namespace", chartNamespace, "get", "pods", "-l", "app.kubernetes.io/component in (controller, speaker)",
			"--field-selector", "status.phase=Running", "-o", "jsonpath={.items[*].status.podIP}"))
		if len(ips) < 4 {
			return fmt.Errorf("pods at %v, want two controllers and two speakers", ips)
		}
		for _, ip := range ips {
			at := net.JoinHostPort(ip, "9472")
			if err := right(scene.Scrape(ctx, l.Nodes[0].Host, scheme+"://"+at+"/metrics", "", config)); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// answer is what a scrape should get.
func answer(want int, says string) func(int, string, error) error {
	return func(status int, text string, err error) error {
		if err == nil && (status != want || !strings.Contains(text, says)) {
			err = fmt.Errorf("status %d, not %d with %q: %.300s", status, want, says, text)
		}
		return err
	}
}

// checkCertificate: the pods have started without the Secret that their certificate is in. Once it is there they use it, without a restart.
func checkCertificate(t *testing.T, l *lab.Lab) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(l.Cluster.CA()) {
		t.Fatal("the cluster's certificate authority cannot be read")
	}
	strict := &tls.Config{RootCAs: roots, ServerName: "metrics.example.com"}
	everywhere(t, l, "https", nil, answer(http.StatusUnauthorized, "no bearer token"))
	everywhere(t, l, "https", strict, func(_ int, _ string, err error) error {
		var unknown x509.UnknownAuthorityError
		var other x509.HostnameError
		if !errors.As(err, &unknown) && !errors.As(err, &other) {
			return fmt.Errorf("without the Secret the certificate is good: %w", err)
		}
		return nil
	})
	certificate, key, err := l.Cluster.NodeServing("metrics.example.com")
	if err != nil {
		t.Fatal(err)
	}
	in64 := base64.StdEncoding.EncodeToString
	if err := l.Apply(deadline(t), fmt.Sprintf(metricsSecret, chartNamespace, in64(certificate), in64(key), in64(l.Cluster.CA()))); err != nil {
		t.Fatal(err)
	}
	everywhere(t, l, "https", strict, answer(http.StatusUnauthorized, "no bearer token"))
}

// checkPlain: with metrics.secure=false metrics are for everybody.
func checkPlain(t *testing.T, l *lab.Lab) {
	everywhere(t, l, "http", nil, answer(http.StatusOK, "herald_build_info"))
	if out := kubectl(t, l, "get", "clusterroles", "-l", "app.kubernetes.io/component=metrics", "-o", "name"); out != "" {
		t.Errorf("roles that nobody needs: %s", out)
	}
}
