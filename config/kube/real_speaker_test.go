package kube

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

func testSpeaker(t *testing.T, s *apiServer) {
	s.apply(`
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: Secret
metadata: {name: gossip, namespace: herald-system}
stringData: {key: sesame}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: speakers-1, namespace: herald-system, labels: {kubernetes.io/service-name: speakers}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.12], conditions: {ready: false}}, {addresses: [192.0.2.11]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: speakers-1, namespace: default, labels: {kubernetes.io/service-name: speakers}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.99]}]
`)
	c := s.client(adminToken)
	src := s.source(t, c, SourceOptions{Role: Speaker, Node: "n1", GossipService: "speakers", GossipSecret: "gossip", GossipKey: "key"})
	eventually(t, "the gossip key", func() bool { return string(src.GossipKey()) == "sesame" })
	if got := fmt.Sprint(src.Seeds()); got != "[192.0.2.11 192.0.2.12]" {
		t.Errorf("seeds %s", got)
	}
	w := NewWriter(c, src)
	now := metav1.NowMicro()
	now.Time = now.Add(123) // a precision the API does not keep
	report := v1beta1.SpeakerStatusStatus{
		Version:    "v1",
		Interfaces: []v1beta1.SpeakerInterface{{Name: "eth0", Up: true}},
		L2:         &v1beta1.SpeakerL2{Addresses: []v1beta1.SpeakerL2Address{{Address: "192.0.2.100", Interface: "eth0", Since: now}}},
	}
	write := func() {
		t.Helper()
		if err := w.WriteSpeakerStatus(context.Background(), "n1", report); err != nil {
			t.Fatal(err)
		}
	}
	read := func() *v1beta1.SpeakerStatus {
		t.Helper()
		o, err := c.speakers.Get(context.Background(), "n1", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	write()
	first := read()
	node := s.kubectl("", "get", "node", "n1", "-o", "jsonpath={.metadata.uid}")
	if len(first.OwnerReferences) != 1 || string(first.OwnerReferences[0].UID) != node || first.Status.L2.Addresses[0].Interface != "eth0" {
		t.Fatalf("%+v", first)
	}
	eventually(t, "the echo", func() bool { same, _ := w.reported("n1", report); return same })
	write()
	if again := read(); again.ResourceVersion != first.ResourceVersion {
		t.Error("the same report was written again")
	}
	report.L2, report.Version = nil, "v2"
	write()
	if next := read(); next.Status.L2 != nil || next.Status.Version != "v2" {
		t.Errorf("what the report leaves out stays: %+v", next.Status)
	}
	for len(src.changes) > 0 {
		<-src.changes
	}
	s.kubectl("", "delete", "speakerstatus", "n1")
	eventually(t, "news of the deletion", func() bool {
		_, there := src.speakers.get(config.Key{Name: "n1"})
		return !there && len(src.changes) > 0
	})
	write()
	if next := read(); next.UID == first.UID || next.Status.Version != "v2" {
		t.Errorf("not rebuilt: %+v", next)
	}
	if err := w.WriteSpeakerStatus(context.Background(), "elsewhere", report); err == nil || !strings.Contains(err.Error(), "--node-name") {
		t.Errorf("got %v", err)
	}
}

func testHeartbeat(t *testing.T, s *apiServer) {
	c := s.client(adminToken)
	src := s.source(t, c, SourceOptions{Role: Speaker, Node: "n1"})
	eventually(t, "node n1", func() bool { return len(src.Snapshot().Nodes) == 1 })
	for len(src.changes) > 0 {
		<-src.changes
	}
	before := src.Snapshot()
	s.kubectl("", "annotate", "node", "n1", "beat=1")
	s.kubectl("", "patch", "node", "n1", "--subresource=status", "--type=merge", "-p",
		`{"status":{"conditions":[{"type":"MemoryPressure","status":"False","lastHeartbeatTime":"2026-01-01T00:00:00Z","reason":"x"}]}}`)
	version := s.kubectl("", "get", "node", "n1", "-o", "jsonpath={.metadata.resourceVersion}")
	eventually(t, "the heartbeat in the table", func() bool {
		n, _ := src.nodes.get(config.Key{Name: "n1"})
		return n.ResourceVersion == version
	})
	if len(src.changes) > 0 || src.Snapshot() != before {
		t.Error("a heartbeat is a change")
	}
	s.kubectl("", "label", "node", "n1", "node.kubernetes.io/exclude-from-external-load-balancers=")
	eventually(t, "the label", func() bool { return src.Snapshot().Nodes[0].ExcludeLB })
}
