package kube

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"
)

// TestLeavesCutShort: an API server that refuses, and in the end does not answer any more, has refused.
func TestLeavesCutShort(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > 1 {
			<-r.Context().Done()
			return
		}
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer server.Close()
	c, err := newClient(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if why := c.Leaves(context.Background(), "herald-system", "speaker", "n1"); !strings.Contains(why, "permission") {
		t.Errorf("after %d questions: %q", asked.Load(), why)
	}
}
