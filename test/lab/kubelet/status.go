package kubelet

import (
	"fmt"
	"hash/fnv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// view is what the kubelet knows of a Pod; statusOf makes its status of it.
type view struct {
	at         placement
	sandbox    bool // the Pod's network is there
	volumes    bool // the Pod's volumes are there
	init       []containerView
	containers []containerView
	started    time.Time // when the kubelet first saw the Pod
}

// containerView is what the kubelet knows of a container.
type containerView struct {
	name, image string
	waiting     *corev1.ContainerStateWaiting    // why it does not run; nil while it does or when it has ended for good
	running     *corev1.ContainerStateRunning    // since when it has run
	terminated  *corev1.ContainerStateTerminated // how its last run ended
	previous    *corev1.ContainerStateTerminated // how the run before the present one ended
	restarts    int32
	startedUp   bool // its startup probe, if any, has succeeded
	ready       bool // its readiness probe, if any, succeeds
}

// statusOf returns the status of a Pod. Conditions that others write are kept, and times change only with what they
// stand for. It is a pure function of its arguments.
func statusOf(pod *corev1.Pod, v view, now time.Time) corev1.PodStatus {
	status := *pod.Status.DeepCopy()
	status.HostIP, status.HostIPs = first(v.at.hostIPs), nil
	for _, ip := range v.at.hostIPs {
		status.HostIPs = append(status.HostIPs, corev1.HostIP{IP: ip})
	}
	status.PodIP, status.PodIPs = "", nil
	if v.sandbox {
		status.PodIP = first(v.at.podIPs)
		for _, ip := range v.at.podIPs {
			status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: ip})
		}
	}
	if status.StartTime == nil {
		start := metav1.NewTime(v.started)
		status.StartTime = &start
	}
	status.InitContainerStatuses = containerStatuses(v.init)
	status.ContainerStatuses = containerStatuses(v.containers)
	status.Phase = phaseOf(v)
	setConditions(pod, &status, v, metav1.NewTime(now))
	return status
}

func containerStatuses(views []containerView) []corev1.ContainerStatus {
	var list []corev1.ContainerStatus
	for _, c := range views {
		started := c.running != nil && c.startedUp
		s := corev1.ContainerStatus{
			Name: c.name, Image: c.image, ImageID: imageID(c.image),
			RestartCount: c.restarts, Started: &started, Ready: started && c.ready,
		}
		switch {
		case c.running != nil:
			s.State.Running = c.running
			s.ContainerID = fmt.Sprintf("process://%s-%d", c.name, c.restarts)
		case c.waiting != nil:
			s.State.Waiting = c.waiting
		default:
			s.State.Terminated = c.terminated
		}
		s.LastTerminationState.Terminated = c.previous
		if s.State.Terminated == nil && c.running == nil {
			s.LastTerminationState.Terminated = c.terminated
		}
		list = append(list, s)
	}
	return list
}

// imageID stands for the digest that a registry would give.
func imageID(image string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(image))
	return fmt.Sprintf("lab://%s@%016x", repositoryOf(image), h.Sum64())
}

// succeeded and finished tell how a container that will not run again has ended.
func (c containerView) finished() bool {
	return c.running == nil && c.waiting == nil && c.terminated != nil
}
func (c containerView) succeeded() bool { return c.finished() && c.terminated.ExitCode == 0 }

func phaseOf(v view) corev1.PodPhase {
	for _, c := range v.init {
		switch {
		case c.finished() && !c.succeeded():
			return corev1.PodFailed
		case !c.succeeded():
			return corev1.PodPending
		}
	}
	finished, failed, ran := 0, 0, 0
	for _, c := range v.containers {
		if c.running != nil || c.terminated != nil {
			ran++
		}
		if c.finished() {
			finished++
			if !c.succeeded() {
				failed++
			}
		}
	}
	switch {
	case finished == len(v.containers) && failed > 0:
		return corev1.PodFailed
	case finished == len(v.containers):
		return corev1.PodSucceeded
	case ran == len(v.containers):
		return corev1.PodRunning
	}
	return corev1.PodPending
}

func setConditions(pod *corev1.Pod, status *corev1.PodStatus, v view, now metav1.Time) {
	set := func(kind corev1.PodConditionType, ok bool, reason, message string) {
		setCondition(status, corev1.PodCondition{Type: kind, Status: conditionStatus(ok), Reason: reason, Message: message}, now)
	}
	set(corev1.PodReadyToStartContainers, v.sandbox && v.volumes, "", "")
	initialized, reason, message := initialised(v)
	set(corev1.PodInitialized, initialized, reason, message)
	ready, reason, message := containersReady(status.Phase, v)
	set(corev1.ContainersReady, ready, reason, message)
	if ready && !gatesOpen(pod) {
		ready, reason, message = false, "ReadinessGatesNotReady", "a readiness gate of the Pod is not True"
	}
	set(corev1.PodReady, ready, reason, message)
}

func conditionStatus(ok bool) corev1.ConditionStatus {
	if ok {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

func setCondition(status *corev1.PodStatus, c corev1.PodCondition, now metav1.Time) {
	c.LastTransitionTime = now
	for i := range status.Conditions {
		old := &status.Conditions[i]
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		c.LastProbeTime, c.ObservedGeneration = old.LastProbeTime, old.ObservedGeneration
		*old = c
		return
	}
	status.Conditions = append(status.Conditions, c)
}

func initialised(v view) (ok bool, reason, message string) {
	var waiting []string
	for _, c := range v.init {
		if !c.succeeded() {
			waiting = append(waiting, c.name)
		}
	}
	if len(waiting) > 0 {
		return false, "ContainersNotInitialized", fmt.Sprintf("containers with incomplete status: %v", waiting)
	}
	return true, "", ""
}

func containersReady(phase corev1.PodPhase, v view) (ok bool, reason, message string) {
	switch phase {
	case corev1.PodSucceeded:
		return false, "PodCompleted", ""
	case corev1.PodFailed:
		return false, "PodFailed", ""
	}
	var unready []string
	for _, c := range v.containers {
		if c.running == nil || !c.startedUp || !c.ready {
			unready = append(unready, c.name)
		}
	}
	if len(unready) > 0 {
		return false, "ContainersNotReady", fmt.Sprintf("containers with unready status: %v", unready)
	}
	return true, "", ""
}

// gatesOpen reports whether the conditions that the Pod makes its readiness depend on are all true.
func gatesOpen(pod *corev1.Pod) bool {
	for _, gate := range pod.Spec.ReadinessGates {
		open := false
		for _, c := range pod.Status.Conditions {
			open = open || c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		}
		if !open {
			return false
		}
	}
	return true
}
