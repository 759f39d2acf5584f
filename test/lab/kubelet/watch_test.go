package kubelet

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestPodStore: a list after an outage tells of what has gone meanwhile before what has come.
func TestPodStore(t *testing.T) {
	var told []string
	s := &podStore{known: map[types.UID]*corev1.Pod{}, tell: func(pod *corev1.Pod, gone bool) {
		word := " is"
		if gone {
			word = " is gone"
		}
		told = append(told, string(pod.UID)+word)
	}}
	pod := func(uid types.UID) *corev1.Pod { return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}} }
	for _, step := range []func() error{
		func() error { return s.Replace([]any{pod("a"), pod("b")}, "1") },
		func() error { return s.Update(pod("a")) },
		func() error { return s.Replace([]any{pod("b"), pod("c")}, "2") },
		func() error { return s.Delete(pod("c")) },
		func() error { return s.Replace(nil, "3") },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"a is", "b is", "a is", "a is gone", "b is", "c is", "c is gone", "b is gone"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
