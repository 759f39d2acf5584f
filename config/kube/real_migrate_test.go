package kube

import "testing"

// TestRealMigrated has a real API server take what kubectl herald migrate prints.
func TestRealMigrated(t *testing.T) {
	s := startAPIServer(t)
	for _, name := range []string{"whole", "old"} {
		s.kubectl("", "apply", "-f", "../../cmd/kubectl-herald/testdata/golden/migrate/"+name+".yaml")
	}
}
