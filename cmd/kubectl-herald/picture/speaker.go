package picture

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
)

// SpeakerPod returns the speaker's Pod on a node; nil when there is none. Of two, one of which ends, the other.
func (p *Picture) SpeakerPod(node string) *corev1.Pod {
	var found *corev1.Pod
	for _, pod := range p.Install.Speakers.Pods {
		if pod.Spec.NodeName == node && (found == nil || found.DeletionTimestamp != nil) {
			found = pod
		}
	}
	return found
}

// PodTrouble says what a Pod waits for, or how it ended.
func PodTrouble(pod *corev1.Pod) string {
	var parts []string
	for _, c := range pod.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil:
			parts = append(parts, c.State.Waiting.Reason)
		case c.State.Terminated != nil:
			parts = append(parts, ended(c.State.Terminated))
		}
		if last := c.LastTerminationState.Terminated; last != nil && c.State.Running == nil {
			parts = append(parts, "last "+ended(last))
		}
	}
	if len(parts) == 0 {
		parts = append(parts, string(pod.Status.Phase))
		if pod.Status.Reason != "" {
			parts = append(parts, pod.Status.Reason)
		}
	}
	return strings.Join(parts, ", ")
}

func ended(t *corev1.ContainerStateTerminated) string {
	text := "ended with " + t.Reason
	if m := strings.TrimSpace(t.Message); m != "" {
		lines := strings.Split(m, "\n")
		text += ": " + lines[len(lines)-1]
	}
	return text
}

// Troubles returns what the speaker of a node says is wrong with itself (its condition Ready) and with its node (conditions that name a
// trouble and are True while it lasts). One that is not alive says nothing any more.
func (p *Picture) Troubles(node string) []finding.Finding {
	report := p.Reports[node]
	if report == nil || !p.Members[node] {
		return nil
	}
	var out []finding.Finding
	for _, c := range report.Status.Conditions {
		switch {
		case c.Type == readyType && c.Status == metav1.ConditionFalse:
			out = append(out, finding.Finding{Level: finding.Error, About: "speaker on " + node, Reason: c.Reason, Message: c.Message})
		case c.Type != readyType && c.Status == metav1.ConditionTrue:
			out = append(out, finding.Finding{Level: finding.Warning, About: "node " + node, Reason: c.Reason, Message: c.Message})
		}
	}
	return out
}

const readyType = "Ready"
