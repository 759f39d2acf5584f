package kube

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

// Access says how to reach an API server, in the words of kubectl. Empty fields mean what they mean there.
type Access struct {
	Kubeconfig string // file; empty: those of $KUBECONFIG, else ~/.kube/config, else the credentials of the Pod
	Context    string // in the kubeconfig; empty: its current one
	Server     string // address of the API server, instead of the kubeconfig's
	Timeout    time.Duration
}

// Open makes a Client as kubectl would reach the API server. It sends nothing yet.
func Open(a Access) (*Client, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: a.Context}
	overrides.ClusterInfo.Server = a.Server
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("credentials for the API server: %w (give --kubeconfig or --context as for kubectl)", err)
	}
	cfg.Timeout = a.Timeout
	c := new(clock)
	cfg.Wrap(c.listen)
	client, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	client.clock = c
	if client.namespace, _, err = loader.Namespace(); err != nil {
		return nil, fmt.Errorf("the current namespace: %w", err)
	}
	return client, nil
}

// Namespace returns the current namespace of a Client made by Open.
func (c *Client) Namespace() string { return c.namespace }

// clock reads the API server's clock off its answers.
type clock struct {
	ahead atomic.Pointer[time.Duration] // of the API server's clock before ours; nil before an answer
}

// listen is a rest.Config wrapper.
func (c *clock) listen(next http.RoundTripper) http.RoundTripper { return &listener{next, c} }

// now returns the time at the API server to about a second, zero when it never answered.
func (c *clock) now() time.Time {
	if c == nil || c.ahead.Load() == nil {
		return time.Time{}
	}
	return time.Now().Add(*c.ahead.Load()).Truncate(time.Second)
}

type listener struct {
	next  http.RoundTripper
	clock *clock
}

// RoundTrip implements http.RoundTripper.
func (l *listener) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if at, e := http.ParseTime(resp.Header.Get("Date")); e == nil {
		ahead := time.Until(at)
		l.clock.ahead.Store(&ahead)
	}
	return resp, nil
}
