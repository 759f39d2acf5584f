package kubelet

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// brokenSources stands for an API server that is or is not there.
type brokenSources struct{ err error }

func (s *brokenSources) secret(string) (map[string][]byte, error) {
	return map[string][]byte{"key": []byte("value")}, s.err
}

func (s *brokenSources) configMap(string) (map[string][]byte, error) { return nil, s.err }

// TestRefreshHoldsNothingUp: volumes that cannot be brought up to date are used as they are, and tried again.
func TestRefreshHoldsNothingUp(t *testing.T) {
	src := &brokenSources{}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Volumes: []corev1.Volume{{
		Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}},
	}}}}
	w := &worker{
		pod: pod, log: slog.New(slog.NewTextHandler(t.Output(), nil)), watching: true,
		volumes: &volumes{dir: t.TempDir(), pod: pod, src: src, group: -1},
	}
	now := time.Now()
	src.err = errors.New("no API server")
	if w.prepareVolumes(context.Background(), now) {
		t.Error("volumes that were never there count as ready")
	}
	src.err = nil
	if !w.prepareVolumes(context.Background(), now) {
		t.Error("volumes are not ready with all that they need")
	}
	src.err, w.stale = errors.New("no API server"), true
	if !w.prepareVolumes(context.Background(), now) {
		t.Error("a failed refresh takes the volumes away")
	}
	next := w.freshAt
	if next.IsZero() {
		t.Fatal("a failed refresh is not tried again")
	}
	src.err = nil
	if !w.prepareVolumes(context.Background(), next.Add(-time.Nanosecond)) || !w.stale {
		t.Error("the refresh is tried before its time")
	}
	if !w.prepareVolumes(context.Background(), next) || w.stale || !w.freshAt.IsZero() {
		t.Error("the refresh did not succeed when it could")
	}
}
