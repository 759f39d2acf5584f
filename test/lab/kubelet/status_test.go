package kubelet

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func running(ready bool) containerView {
	return containerView{name: "c", image: "i", running: &corev1.ContainerStateRunning{}, startedUp: true, ready: ready}
}

func waiting(reason string) containerView {
	return containerView{name: "c", image: "i", waiting: &corev1.ContainerStateWaiting{Reason: reason}}
}

func exited(code int32) containerView {
	return containerView{name: "c", image: "i", terminated: &corev1.ContainerStateTerminated{ExitCode: code}}
}

func crashed() containerView {
	c := exited(1)
	c.waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
	return c
}

// brief says the phase and which of the conditions Initialized, ContainersReady and Ready are true.
func brief(s corev1.PodStatus) string {
	text := string(s.Phase)
	for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		for _, c := range s.Conditions {
			if c.Type == kind && c.Status == corev1.ConditionTrue {
				text += " " + string(kind)
			}
		}
	}
	return text
}

func TestStatusOf(t *testing.T) {
	for name, test := range map[string]struct {
		view view
		want string
	}{
		"new":                 {view{containers: []containerView{waiting("ContainerCreating")}}, "Pending Initialized"},
		"init runs":           {view{init: []containerView{running(false)}, containers: []containerView{waiting("")}}, "Pending"},
		"init crashes":        {view{init: []containerView{crashed()}, containers: []containerView{waiting("")}}, "Pending"},
		"init failed":         {view{init: []containerView{exited(3)}, containers: []containerView{waiting("")}}, "Failed"},
		"init done":           {view{init: []containerView{exited(0)}, containers: []containerView{waiting("")}}, "Pending Initialized"},
		"unready":             {view{containers: []containerView{running(true), running(false)}}, "Running Initialized"},
		"ready":               {view{containers: []containerView{running(true), running(true)}}, "Running Initialized ContainersReady Ready"},
		"one not yet started": {view{containers: []containerView{running(true), waiting("ErrImagePull")}}, "Pending Initialized"},
		"crash loop":          {view{containers: []containerView{crashed()}}, "Running Initialized"},
		"one done":            {view{containers: []containerView{exited(0), running(true)}}, "Running Initialized"},
		"all done":            {view{containers: []containerView{exited(0), exited(0)}}, "Succeeded Initialized"},
		"one failed":          {view{containers: []containerView{exited(0), exited(2)}}, "Failed Initialized"},
	} {
		if got := brief(statusOf(testPod(), test.view, time.Unix(1, 0))); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// TestStatusTimes: a condition's time is that of its change, other writers' conditions stay, and an unchanged view gives
// an unchanged status.
func TestStatusTimes(t *testing.T) {
	pod := testPod()
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}
	at := func(seconds int64, c containerView) corev1.PodStatus {
		pod.Status = statusOf(pod, view{containers: []containerView{c}, started: time.Unix(1, 0)}, time.Unix(seconds, 0))
		return pod.Status
	}
	ready := func(s corev1.PodStatus) string {
		for _, c := range s.Conditions {
			if c.Type == corev1.PodReady {
				return fmt.Sprint(c.Status, c.LastTransitionTime.Unix())
			}
		}
		return ""
	}
	for _, step := range []struct {
		seconds int64
		view    containerView
		want    string
	}{
		{10, waiting(""), "False10"},
		{20, running(false), "False10"},
		{30, running(true), "True30"},
		{40, running(true), "True30"},
		{50, crashed(), "False50"},
	} {
		if got := ready(at(step.seconds, step.view)); got != step.want {
			t.Errorf("after %d s Ready is %s, want %s", step.seconds, got, step.want)
		}
	}
	before := pod.Status
	if diff := cmp.Diff(before, at(60, crashed())); diff != "" {
		t.Errorf("the same view changed the status (-before +after):\n%s", diff)
	}
	if c := pod.Status.Conditions[0]; c.Type != corev1.PodScheduled || c.Status != corev1.ConditionTrue {
		t.Errorf("the scheduler's condition has become %+v", c)
	}
	if want := metav1.NewTime(time.Unix(1, 0)); !pod.Status.StartTime.Equal(&want) {
		t.Errorf("start time %v, want %v", pod.Status.StartTime, want)
	}
}

func TestReadinessGate(t *testing.T) {
	pod := testPod()
	pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.org/open"}}
	v := view{containers: []containerView{running(true)}}
	if got := brief(statusOf(pod, v, time.Unix(1, 0))); got != "Running Initialized ContainersReady" {
		t.Errorf("with the gate shut: %s", got)
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: "example.org/open", Status: corev1.ConditionTrue}}
	if got := brief(statusOf(pod, v, time.Unix(1, 0))); got != "Running Initialized ContainersReady Ready" {
		t.Errorf("with the gate open: %s", got)
	}
}

// TestLastState: what a container was before is told in the right place.
func TestLastState(t *testing.T) {
	again := running(true)
	again.previous, again.restarts = &corev1.ContainerStateTerminated{ExitCode: 137}, 1
	list := containerStatuses([]containerView{crashed(), again})
	if s := list[0]; s.State.Waiting == nil || s.LastTerminationState.Terminated == nil || s.LastTerminationState.Terminated.ExitCode != 1 {
		t.Errorf("crashed: %+v", s)
	}
	if s := list[1]; s.State.Running == nil || s.LastTerminationState.Terminated.ExitCode != 137 || s.RestartCount != 1 || !s.Ready {
		t.Errorf("restarted: %+v", s)
	}
}
