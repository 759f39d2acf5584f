package kube

import (
	"maps"
	"net/http"
	"strings"
	"sync"
)

// Write is a kind of object that was written to, and how that ended.
type Write struct {
	Kind   string // such as Service; "other" for one that Herald has no business with
	Result string
}

// Results of writes.
const (
	WriteOK       = "ok"
	WriteConflict = "conflict" // somebody else wrote, or made it, first
	WriteGone     = "gone"     // the object does not exist
	WriteError    = "error"    // refused, or no answer
)

// kindsWritten are the kinds that Herald writes, by resource.
func kindsWritten() map[string]string {
	return map[string]string{
		"services": "Service", "events": "Event", "leases": "Lease", "secrets": "Secret",
		"tokenreviews": "TokenReview", "subjectaccessreviews": "SubjectAccessReview",
		"ipaddresspools": "IPAddressPool", "ipreservations": "IPReservation", "l2advertisements": "L2Advertisement", "bgppeers": "BGPPeer",
		"bgpadvertisements": "BGPAdvertisement", "bfdprofiles": "BFDProfile", "communities": "Community", "speakerstatuses": "SpeakerStatus",
	}
}

// writes counts the requests of a Client that write.
type writes struct {
	kinds map[string]string
	mu    sync.Mutex
	n     map[Write]uint64
}

func newWrites() *writes { return &writes{kinds: kindsWritten(), n: make(map[Write]uint64)} }

// Writes returns how often objects were written, or that was attempted, by kind and result. The requests of an attempt that is repeated
// count each.
func (c *Client) Writes() map[Write]uint64 {
	c.writes.mu.Lock()
	defer c.writes.mu.Unlock()
	return maps.Clone(c.writes.n)
}

// wrap has requests counted that go through a transport.
func (w *writes) wrap(next http.RoundTripper) http.RoundTripper { return counting{w, next} }

type counting struct {
	*writes
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		c.count(Write{c.kind(r.URL.Path), result(resp, err)})
	}
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport below.
func (c counting) WrappedRoundTripper() http.RoundTripper { return c.next }

func (w *writes) count(x Write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n[x]++
}

// kind finds the kind in a path: /api/v1/... or /apis/GROUP/VERSION/..., then perhaps namespaces/NAME, then the resource.
func (w *writes) kind(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	skip := 2
	if parts[0] == "apis" {
		skip = 3
	}
	parts = parts[min(skip, len(parts)):]
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	if len(parts) > 0 {
		if kind, ok := w.kinds[parts[0]]; ok {
			return kind
		}
	}
	return "other"
}

func result(resp *http.Response, err error) string {
	switch {
	case err != nil:
		return WriteError
	case resp.StatusCode < http.StatusBadRequest:
		return WriteOK
	case resp.StatusCode == http.StatusConflict:
		return WriteConflict
	case resp.StatusCode == http.StatusNotFound:
		return WriteGone
	}
	return WriteError
}
