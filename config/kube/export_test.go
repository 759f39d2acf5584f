package kube

import (
	"context"
	"testing"

	"k8s.io/client-go/kubernetes"
)

// Server is an API server for tests that bring daemons together, which this package's own cannot: they would import each other.
type Server struct{ *apiServer }

// StartServer starts a Server, or skips the test where there is none to be had.
func StartServer(t *testing.T) Server {
	t.Helper()
	s := Server{startAPIServer(t)}
	s.kubectl("", "create", "namespace", "herald-system")
	return s
}

// Apply applies YAML.
func (s Server) Apply(yaml string) {
	s.t.Helper()
	s.apply(yaml)
}

// Kubectl runs kubectl.
func (s Server) Kubectl(args ...string) string {
	s.t.Helper()
	return s.kubectl("", args...)
}

// Restart kills the API server and starts it again.
func (s Server) Restart() {
	s.t.Helper()
	s.stopAPI()
	s.startAPI()
}

// Client returns a Client that may do everything, and the client-go client within.
func (s Server) Client() (*Client, kubernetes.Interface) {
	s.t.Helper()
	c := s.client(adminToken)
	return c, c.core
}

// Start runs something until the test ends, and waits for it.
func Start(t *testing.T, run func(context.Context) error) { t.Helper(); start(t, run) }

// Eventually waits for something to be so.
func Eventually(t *testing.T, what string, ok func() bool) { t.Helper(); eventually(t, what, ok) }
