package l2

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestIdle does nothing while 1,000 addresses are announced: what speakers cost that only watch each other.
func TestIdle(t *testing.T) {
	const n = 1000
	s := on(t)
	s.confine()
	s.many(n, corev1.IPFamilyPolicySingleStack, corev1.IPv4Protocol)
	idle := s.figure(percent, 1, none, "1,000 addresses on 5 nodes, nothing happens: a speaker's share of a core")
	for range 3 {
		for _, share := range s.shares(func(ctx context.Context) error { <-ctx.Done(); return nil }) {
			idle.add(share)
		}
	}
}
