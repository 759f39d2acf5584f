package explain

import (
	"bytes"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/fixture"
	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/v1beta1"
)

// TestNext says who is next in line, where an address goes back to, and what a move that is asked for comes to.
func TestNext(t *testing.T) {
	move := func(text string) func(*kube.Cluster) {
		return func(c *kube.Cluster) { annotate("move", text)(c.Services[0]) }
	}
	prefer := func(node string) func(*kube.Cluster) {
		return func(c *kube.Cluster) {
			c.L2Advertisements[0].Spec.FailbackDelay = &metav1.Duration{Duration: time.Hour}
			c.L2Advertisements[0].Spec.PreferredNodeSelectors = []v1beta1.PreferredNodeSelector{{Weight: 1, Preference: v1beta1.LabelSelector{
				MatchLabels: map[string]v1beta1.LabelValue{corev1.LabelHostname: v1beta1.LabelValue(node)},
			}}}
		}
	}
	for _, test := range []struct {
		name    string
		cluster func(*kube.Cluster)
		draws   string
		without string
		warns   string // about a move
	}{
		{name: "next", draws: "  next in line: node-1\n", without: "goes back"},
		{name: "the only one", cluster: func(c *kube.Cluster) {
			c.Pods[0].Status.Phase, c.Pods[2].Status.Phase = corev1.PodFailed, corev1.PodFailed
		}, without: "next in line"},
		{name: "preferred", cluster: prefer("node-3"), draws: "  goes back in time to: node-3\n  next in line: node-3\n"},
		{name: "is at its first choice", cluster: prefer("node-2"), without: "goes back"},
		{name: "asked", cluster: move("node-2/node-3/2026-01-02T12:00:30Z"), draws: "  asked to move to: node-3\n"},
		{name: "of another", cluster: move("node-1/node-3/2026-01-02T12:00:30Z"), without: "asked to move"},
		{name: "over", cluster: move("node-2/node-3/2026-01-02T11:00:30Z"), without: "asked to move"},
		{name: "impossible", cluster: move("node-2/node-9/2026-01-02T12:00:30Z"), warns: "which may not answer for it"},
		{name: "misspelt", cluster: move("node-3"), warns: "asks for nothing", without: "asked to move"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := fixture.Cluster(t)
			if test.cluster != nil {
				test.cluster(c)
			}
			r := explained(t, c, "web")
			var out bytes.Buffer
			if err := (print.Printer{Out: &out}).Print(r, r.Draw); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), test.draws) || test.without != "" && strings.Contains(out.String(), test.without) {
				t.Errorf("want %q, not %q:\n%s", test.draws, test.without, out.String())
			}
			warned := ""
			for _, f := range r.Causes {
				if f.Reason == "MoveNotDone" && f.Level == finding.Warning {
					warned += f.Message
				}
			}
			if !strings.Contains(warned, test.warns) || (warned == "") != (test.warns == "") {
				t.Errorf("warned %q, want %q", warned, test.warns)
			}
		})
	}
}
