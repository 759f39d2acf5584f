package kube

import (
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// TestMayGet asks a real API server about those who may, those who may not, and nobody.
func TestMayGet(t *testing.T) {
	s := startAPIServer(t)
	s.apply(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: metrics-reader}
rules:
- {nonResourceURLs: [/metrics], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: metrics-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: metrics-reader}
subjects:
- {kind: ServiceAccount, namespace: default, name: prometheus}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: prometheus, namespace: default}
`)
	token := strings.TrimSpace(s.kubectl("", "--namespace=default", "create", "token", "prometheus"))
	c := s.client(adminToken)
	const user = "system:serviceaccount:default:prometheus"
	eventually(t, "the binding to count", func() bool {
		got, err := c.MayGet(t.Context(), token, "/metrics")
		return err == nil && got.Allowed
	})
	for _, tt := range []struct {
		name, token, path string
		user              string
		allowed           bool
	}{
		{"who may", token, "/metrics", user, true},
		{"another path", token, "/debug", user, false},
		{"who may not", nobodyToken, "/metrics", "nobody", false},
		{"who may everything", adminToken, "/metrics", "admin", true},
		{"nobody's token", "made-up", "/metrics", "", false},
		{"a token with another signature", token[:len(token)-8] + "AAAAAAAA", "/metrics", "", false},
	} {
		got, err := c.MayGet(t.Context(), tt.token, tt.path)
		if err != nil || got.User != tt.user || got.Allowed != tt.allowed {
			t.Errorf("%s: %+v, %v, want %s, %t", tt.name, got, err, tt.user, tt.allowed)
		}
	}
	s.kubectl("", "--namespace=default", "delete", "serviceaccount", "prometheus")
	eventually(t, "a token that died with its ServiceAccount", func() bool {
		got, err := c.MayGet(t.Context(), token, "/metrics")
		return err == nil && got.User == ""
	})
	if _, err := s.client(nobodyToken).MayGet(t.Context(), token, "/metrics"); err == nil || !strings.Contains(err.Error(), "create tokenreviews") {
		t.Errorf("without permission to ask: %v", err)
	}
}

func TestMayGetNobodyThere(t *testing.T) {
	c, err := newClient(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.MayGet(t.Context(), "t", "/metrics"); err == nil || got.Allowed {
		t.Errorf("%+v, %v", got, err)
	}
}
