package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/fixture"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/v1beta1"
)

// TestGoldenMove moves an address in every format, and takes the annotation away afterwards.
func TestGoldenMove(t *testing.T) {
	for _, format := range []string{"table", "json", "yaml"} {
		api := &fakeAPI{t: t, cluster: fixture.Cluster(t)}
		status, out, errs := call(t, api, false, "move", "web", "node-3", "-o", format)
		if status != 0 || errs != "" {
			t.Errorf("status %d: %s", status, errs)
		}
		golden(t, "move."+format, out)
		want := []string{"heraldlb.io/move=node-2/node-3/2026-01-02T12:00:30Z", "heraldlb.io/move="}
		if !slices.Equal(api.wrote, want) {
			t.Errorf("wrote %q, want %q", api.wrote, want)
		}
		if _, ok := api.cluster.Services[0].Annotations["heraldlb.io/move"]; ok {
			t.Error("the annotation is still there")
		}
	}
}

func TestMoveNowhere(t *testing.T) {
	api := &fakeAPI{t: t, cluster: fixture.Cluster(t)}
	status, out, _ := call(t, api, false, "move", "shop/web", "node-2")
	if status != 0 || !strings.Contains(out, "is at node-2 already") || len(api.wrote) > 0 {
		t.Errorf("status %d: %s wrote %q", status, out, api.wrote)
	}
}

// TestMoveNotDone asks speakers that do nothing: it waits no longer than it is told, and takes the annotation away.
func TestMoveNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{t: t, cluster: fixture.Cluster(t), deaf: true}
		status, out, _ := call(t, api, false, "move", "web", "node-3", "--wait=20ms")
		if status != 1 || !strings.Contains(out, "is still at node-2") || len(api.wrote) != 2 {
			t.Errorf("status %d: %s wrote %q", status, out, api.wrote)
		}
	})
}

// TestMoveInterrupted is called off while it waits.
func TestMoveInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{t: t, cluster: fixture.Cluster(t), mute: true, deaf: true}
		ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer stop()
		a := &app{out: t.Output(), err: t.Output(), now: time.Now, open: func(kube.Access) (API, error) { return api, nil }}
		if status := a.run(ctx, []string{"move", "web", "node-3"}); status != 1 {
			t.Errorf("status %d", status)
		}
		if len(api.wrote) != 2 || api.wrote[1] != "heraldlb.io/move=" {
			t.Errorf("wrote %q", api.wrote)
		}
	})
}

// TestMoveRefused tells why a move makes no sense, or would not be carried out, and writes nothing.
func TestMoveRefused(t *testing.T) {
	for _, test := range []struct {
		name    string
		args    []string
		says    []string
		cluster func(*kube.Cluster)
	}{
		{name: "no such Service", args: []string{"none", "node-3"}, says: []string{"no Service shop/none"}},
		{name: "no such node", args: []string{"web", "node-9"}, says: []string{"there is no node node-9"}},
		{name: "BGP", args: []string{"api", "node-3"}, says: []string{"announced by BGP", "no one node"}},
		{name: "not selected", args: []string{"web", "node-3"}, says: []string{"node-3 may not answer for 192.168.1.100: not selected by L2Advertisement lan"}, cluster: func(c *kube.Cluster) {
			c.L2Advertisements[0].Spec.NodeSelectors = []v1beta1.LabelSelector{onNode("node-2")}
		}},
		{name: "drained", args: []string{"web", "node-3"}, says: []string{"taint heraldlb.io/drain"}, cluster: func(c *kube.Cluster) {
			c.Nodes[2].Spec.Taints = []corev1.Taint{{Key: "heraldlb.io/drain", Effect: corev1.TaintEffectPreferNoSchedule}}
		}},
		{name: "no live speaker", args: []string{"web", "node-3"}, says: []string{"no live speaker"}, cluster: func(c *kube.Cluster) {
			c.Pods[2].Status.Phase = corev1.PodFailed
		}},
		{name: "no endpoint there", args: []string{"web", "node-3"}, says: []string{"no ready endpoint on the node"}, cluster: func(c *kube.Cluster) {
			c.Services[0].Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}},
		{name: "would go back", args: []string{"web", "node-3"}, says: []string{"would go back to node-1", "failbackDelay in L2Advertisement lan"}, cluster: func(c *kube.Cluster) {
			c.L2Advertisements[0].Spec.FailbackDelay = &metav1.Duration{Duration: time.Minute}
			c.L2Advertisements[0].Spec.PreferredNodeSelectors = preferring("node-1")
		}},
		{name: "nobody answers", args: []string{"web", "node-3"}, says: []string{"nobody answers for 192.168.1.100"}, cluster: func(c *kube.Cluster) {
			c.Speakers[1].Status.L2 = nil
		}},
		{name: "is moved already", args: []string{"web", "node-3"}, says: []string{"is being moved already"}, cluster: func(c *kube.Cluster) {
			c.Services[0].Annotations = map[string]string{"heraldlb.io/move": "node-2/node-1/2026-01-02T12:00:10Z"}
		}},
		{name: "of another class", args: []string{"web", "node-3"}, says: []string{"none of Herald's"}, cluster: func(c *kube.Cluster) {
			class := "other"
			c.Services[0].Spec.LoadBalancerClass = &class
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			api := &fakeAPI{t: t, cluster: fixture.Cluster(t)}
			if test.cluster != nil {
				test.cluster(api.cluster)
			}
			status, out, errs := call(t, api, false, append([]string{"move"}, test.args...)...)
			for _, text := range test.says {
				if status != 1 || out != "" || !strings.Contains(errs, text) {
					t.Errorf("status %d: %s%s", status, out, errs)
				}
			}
			if len(api.wrote) > 0 {
				t.Errorf("wrote %q", api.wrote)
			}
		})
	}
}

func preferring(node string) []v1beta1.PreferredNodeSelector {
	return []v1beta1.PreferredNodeSelector{{Weight: 10, Preference: onNode(node)}}
}

func onNode(name string) v1beta1.LabelSelector {
	return v1beta1.LabelSelector{MatchLabels: map[string]v1beta1.LabelValue{corev1.LabelHostname: v1beta1.LabelValue(name)}}
}
