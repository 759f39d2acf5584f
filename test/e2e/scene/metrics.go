package scene

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"time"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// scrapeLimit is how long a scrape may take; Prometheus waits 10 s.
const scrapeLimit = 10 * time.Second

// Scrape asks for metrics from a host as Prometheus does. Without a TLS configuration any certificate is good; without a token none is shown.
func Scrape(ctx context.Context, from *netlab.Host, url, token string, config *tls.Config) (status int, text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if config == nil {
		config = &tls.Config{InsecureSkipVerify: true}
	}
	transport := &http.Transport{DialContext: from.DialContext, TLSClientConfig: config, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}
