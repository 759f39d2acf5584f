package kube

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// answers answers requests in turn.
type answers []any

func (a *answers) RoundTrip(*http.Request) (*http.Response, error) {
	next := (*a)[0]
	*a = (*a)[1:]
	if err, ok := next.(error); ok {
		return nil, err
	}
	return &http.Response{StatusCode: next.(int), Body: http.NoBody}, nil
}

func TestWrites(t *testing.T) {
	const own = "/apis/heraldlb.io/v1beta1/"
	server := &answers{}
	c := &Client{writes: newWrites()}
	transport := c.writes.wrap(server)
	for _, test := range []struct {
		method, path string
		answer       any
	}{
		{http.MethodGet, "/api/v1/services", 200},
		{http.MethodPatch, "/api/v1/namespaces/default/services/web/status", 200},
		{http.MethodPatch, "/api/v1/namespaces/default/services/web/status", 409},
		{http.MethodPatch, "/api/v1/namespaces/default/services/web/status", 409},
		{http.MethodPatch, "/api/v1/namespaces/default/services/web/status", 404},
		{http.MethodPatch, "/api/v1/namespaces/services/services/web/status", 500},
		{http.MethodPatch, "/api/v1/namespaces/services/services/web/status", errors.New("no route to host")},
		{http.MethodPost, "/apis/events.k8s.io/v1/namespaces/default/events", 201},
		{http.MethodPut, "/apis/coordination.k8s.io/v1/namespaces/herald-system/leases/herald-controller", 200},
		{http.MethodPatch, own + "ipaddresspools/a/status", 200},
		{http.MethodPost, own + "ipreservations", 201},
		{http.MethodDelete, own + "ipreservations/x", 200},
		{http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", 201},
		{http.MethodPost, "/api/v1/namespaces/default/pods", 201},
		{http.MethodPost, "/", 405},
		{http.MethodPost, "/apis", 405},
	} {
		*server = answers{test.answer}
		r, err := http.NewRequestWithContext(t.Context(), test.method, "https://[2001:db8::1]"+test.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(r)
		if want, _ := test.answer.(error); !errors.Is(err, want) {
			t.Errorf("%s %s: %v, want %v", test.method, test.path, err, want)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
	want := map[Write]uint64{
		{"Service", WriteOK}: 1, {"Service", WriteConflict}: 2, {"Service", WriteGone}: 1, {"Service", WriteError}: 2,
		{"Event", WriteOK}: 1, {"Lease", WriteOK}: 1, {"IPAddressPool", WriteOK}: 1, {"IPReservation", WriteOK}: 2, {"TokenReview", WriteOK}: 1,
		{"other", WriteOK}: 1, {"other", WriteError}: 2,
	}
	if diff := cmp.Diff(want, c.Writes()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
