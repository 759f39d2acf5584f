package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// TestControllerRestart kills all controllers. The new ones find everything as it should be, and write nothing.
func TestControllerRestart(t *testing.T) {
	s := on(t)
	s.create("kept-l2")
	s.create("kept-bgp", scene.FromPool("routed"))
	s.create("kept-pending", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("nosuch"))
	for _, name := range []string{"kept-l2", "kept-bgp"} {
		_, ips := s.announced(name)
		s.hasEvents(name, "AddressAssigned", ips)
	}
	s.refused("kept-pending", "NoPool", "nosuch")
	s.home().told("kept-pending", map[string]int{"AllocationFailed": 1})
	before := s.settledVersions()
	old := s.eventCount()

	pods := s.controllers()
	for _, pod := range pods {
		s.kill(pod)
	}
	began := time.Now()
	// That a new Service is served shows that a controller leads again.
	s.create("kept-new", scene.SingleStack(corev1.IPv4Protocol))
	s.withAddress("kept-new")
	t.Logf("a controller led again after %s", time.Since(began).Round(time.Millisecond))
	s.announced("kept-new")
	s.must(s.remove(t.Context(), "kept-new"))
	time.Sleep(2 * quiet)
	after := s.versions()
	for _, what := range slices.Sorted(maps.Keys(before)) {
		if strings.HasPrefix(what, scene.Pools) {
			continue // it counts what the new Service took and gave back
		}
		if after[what] != before[what] {
			t.Errorf("%s was written: version %s before, %s after", what, before[what], after[what])
		}
	}
	if now := s.eventCount() - old; now > 0 { // the new Service has its own
		t.Errorf("%d events", now)
	}
}

// settledVersions waits until nothing is written for a while.
func (s *stage) settledVersions() map[string]string {
	s.t.Helper()
	before := s.versions()
	s.eventually("nothing to be written", func(context.Context) error {
		time.Sleep(quiet)
		now := s.versions()
		was := before
		before = now
		if !maps.Equal(was, now) {
			return fmt.Errorf("versions %v became %v", was, now)
		}
		return nil
	})
	return before
}

// versions are the resourceVersions of the Services and of the objects that a controller writes to.
func (s *stage) versions() map[string]string {
	s.t.Helper()
	versions := map[string]string{}
	services, err := s.Services().List(s.t.Context(), metav1.ListOptions{})
	s.must(err)
	for _, o := range services.Items {
		versions["service "+o.Name] = o.ResourceVersion
	}
	for _, plural := range []string{scene.Pools, scene.L2Advertisements, scene.Peers, scene.BGPAdvertisements} {
		list, err := s.Objects(plural).List(s.t.Context(), metav1.ListOptions{})
		s.must(err)
		for _, o := range list.Items {
			versions[plural+" "+o.GetName()] = o.GetResourceVersion()
		}
	}
	return versions
}

// eventCount counts the events about the Services that TestControllerRestart leaves alone.
func (s *stage) eventCount() int {
	s.t.Helper()
	n := 0
	for _, name := range []string{"kept-l2", "kept-bgp", "kept-pending"} {
		events, err := s.Events(s.t.Context(), name)
		s.must(err)
		n += len(events)
	}
	return n
}

// controllers are the names of the controllers' Pods.
func (s *stage) controllers() []string {
	s.t.Helper()
	list, err := s.API.CoreV1().Pods(s.Namespace).List(s.t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
	s.must(err)
	var names []string
	for _, p := range list.Items {
		names = append(names, p.Name)
	}
	return names
}

// TestEndpointSliceRewritten rewrites a Service's EndpointSlice without changing what it says: nothing is written, no event told.
func TestEndpointSliceRewritten(t *testing.T) {
	s := on(t)
	s.create("rewritten", scene.SingleStack(corev1.IPv4Protocol), scene.Selecting(""))
	s.must(s.SetEndpoints(t.Context(), "rewritten", "node-1", "node-2"))
	_, ips := s.announced("rewritten")
	s.hasEvents("rewritten", "AddressAssigned", ips)
	s.settledVersions()
	before, err := s.Services().Get(t.Context(), "rewritten", metav1.GetOptions{})
	s.must(err)
	told, err := s.Events(t.Context(), "rewritten")
	s.must(err)
	for i := range 20 {
		_, err := s.Kubectl(t.Context(), "annotate", "endpointslice", "rewritten-by-hand", "--overwrite", fmt.Sprintf("touched=%d", i))
		s.must(err)
	}
	time.Sleep(quiet)
	after, err := s.Services().Get(t.Context(), "rewritten", metav1.GetOptions{})
	s.must(err)
	if after.ResourceVersion != before.ResourceVersion {
		t.Errorf("the Service was written: %+v", after.Status)
	}
	events, err := s.Events(t.Context(), "rewritten")
	s.must(err)
	if len(told) == 0 || len(events) != len(told) {
		t.Errorf("%d events, and %d before: %+v", len(events), len(told), events)
	}
}

// TestSpeakerStatusDeleted deletes a report by hand: it is written anew.
func TestSpeakerStatusDeleted(t *testing.T) {
	s := on(t)
	o, err := s.Objects(scene.SpeakerStatuses).Get(t.Context(), "node-2", metav1.GetOptions{})
	s.must(err)
	_, err = s.Kubectl(t.Context(), "delete", "speakerstatus", "node-2")
	s.must(err)
	took := s.eventually("the report to be there again", func(ctx context.Context) error {
		now, err := s.Objects(scene.SpeakerStatuses).Get(ctx, "node-2", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if now.GetUID() == o.GetUID() {
			return errors.New("it has not gone yet")
		}
		_, err = s.Speaker(ctx, "node-2")
		return err
	})
	t.Logf("the report was there again after %s", took.Round(time.Millisecond))
	s.must(s.WaitSpeakers(t.Context()))
	now, err := s.Objects(scene.SpeakerStatuses).Get(t.Context(), "node-2", metav1.GetOptions{})
	s.must(err)
	if owners := now.GetOwnerReferences(); len(owners) != 1 || owners[0].Kind != "Node" || owners[0].Name != "node-2" {
		t.Errorf("it is owned by %+v", owners)
	}
}
