package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab/probe"
)

const (
	// takeover is the outage of an address that these tests accept; the aim is a tenth of it, and test/bench says what is reached.
	takeover = 10 * time.Second
	// quiet is how long to look on after a change, to see that it was the last.
	quiet = 2 * time.Second
)

// TestLinkCut cuts the LAN cable of the node that answers: another answers soon, and goes on when the cable is mended.
func TestLinkCut(t *testing.T) {
	s := on(t)
	s.create("cut", scene.SingleStack(corev1.IPv4Protocol))
	_, ips := s.announced("cut")
	old := s.owner(ips[0])
	node := s.Node(old)
	t.Cleanup(func() { s.must(errors.Join(node.LAN.Restore(), s.WaitSpeakers(context.Background()))) })
	report := s.watched(ips[0], func() {
		s.must(node.LAN.Cut())
		s.another(ips[0], old)
		time.Sleep(quiet)
		s.must(node.LAN.Restore())
		s.must(s.WaitSpeakers(t.Context()))
		time.Sleep(quiet)
	})
	s.describe(report)
	if report.Returned() {
		t.Error("the address went back, or to and fro")
	}
	if gap := report.LongestGap().Duration(); gap > takeover {
		t.Errorf("nobody answered for %s", gap)
	}
	now := s.owner(ips[0])
	if now == old {
		t.Errorf("%s answers again: nothing should have moved back", old)
	}
	s.service("cut", "said to be announced by "+now, func(o *corev1.Service) error {
		return says(scene.Condition(o, scene.Announced), "ARP by "+now)
	})
}

// TestSpeakerKilled kills the speaker that answers without warning: it is back, or another has taken over, and exactly one answers.
func TestSpeakerKilled(t *testing.T) {
	s := on(t)
	s.create("killed", scene.SingleStack(corev1.IPv4Protocol))
	_, ips := s.announced("killed")
	old := s.owner(ips[0])
	before, err := s.Node(old).Kubelet().Find(s.Namespace, s.Name("speaker"), "")
	s.must(err)
	report := s.watched(ips[0], func() {
		s.signal(old, unix.SIGKILL)
		s.eventually("the speaker to run again", func(context.Context) error {
			now, err := s.Node(old).Kubelet().Find(s.Namespace, s.Name("speaker"), "")
			if err == nil && now.PID == before.PID {
				err = errors.New("it has not died")
			}
			return err
		})
		s.must(s.WaitSpeakers(t.Context()))
		s.owner(ips[0])
		time.Sleep(quiet)
	})
	s.describe(report)
	if gap := report.LongestGap().Duration(); gap > takeover {
		t.Errorf("nobody answered for %s", gap)
	}
	s.stays("one node answers", quiet, func(ctx context.Context) error { _, err := s.Owner(ctx, ips[0]); return err })
}

// TestSpeakerFrozen freezes the speaker that answers for longer than it takes to be declared dead. Thawed, it believes for a moment
// that nothing has happened; then exactly one node answers.
func TestSpeakerFrozen(t *testing.T) {
	s := on(t)
	s.create("frozen", scene.SingleStack(corev1.IPv4Protocol))
	_, ips := s.announced("frozen")
	old := s.owner(ips[0])
	t.Cleanup(func() { s.signal(old, unix.SIGCONT) })
	var thawed time.Time
	report := s.watched(ips[0], func() {
		s.signal(old, unix.SIGSTOP)
		s.another(ips[0], old)
		time.Sleep(5 * time.Second)
		s.signal(old, unix.SIGCONT)
		thawed = time.Now()
		s.must(s.WaitSpeakers(t.Context()))
		time.Sleep(quiet)
	})
	s.describe(report)
	mac, err := scene.MAC(s.Node(old))
	s.must(err)
	var last time.Duration
	for _, a := range report.Answers {
		if a.MAC.String() == mac && a.Time.After(thawed) {
			last = a.Time.Sub(thawed)
		}
	}
	t.Logf("the thawed speaker ceased to answer %s after it was thawed", last.Round(time.Millisecond))
	if owner := s.owner(ips[0]); owner == old {
		t.Errorf("the address went back to %s, which was away", old)
	}
	s.stays("one node answers", quiet, func(ctx context.Context) error { _, err := s.Owner(ctx, ips[0]); return err })
}

// TestScaledToZero takes the last endpoint away and gives it back.
func TestScaledToZero(t *testing.T) {
	s := on(t)
	s.apply(deployment("solo", 1), "deployment/solo")
	s.create("solo-l2", scene.Selecting("solo"), scene.SingleStack(corev1.IPv4Protocol))
	s.create("solo-bgp", scene.Selecting("solo"), scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("routed"))
	_, l2 := s.announced("solo-l2")
	_, bgp := s.announced("solo-bgp")
	s.owner(l2[0])
	s.routed(bgp[0], s.allNodes()...)
	s.scale("solo", 0)
	s.nobody(l2[0])
	s.routed(bgp[0])
	for _, name := range []string{"solo-l2", "solo-bgp"} {
		s.service(name, "told that nothing is ready", func(o *corev1.Service) error {
			return errors.Join(scene.Complete(o), scene.Has(o, scene.Announced, metav1.ConditionFalse, "NoReadyEndpoints"))
		})
	}
	s.scale("solo", 1)
	s.announced("solo-l2")
	s.announced("solo-bgp")
	s.owner(l2[0])
	s.routed(bgp[0], s.allNodes()...)
}

// watched asks for an address every 10 ms while something is done, and reports what was seen.
func (s *stage) watched(ip netip.Addr, do func()) probe.Report {
	s.t.Helper()
	cold, err := s.Watch(ip)
	s.must(err)
	ctx, stop := context.WithCancel(s.t.Context())
	type result struct {
		report probe.Report
		err    error
	}
	done := make(chan result, 1)
	go func() {
		report, err := cold.Run(ctx)
		done <- result{report, err}
	}()
	defer stop()
	time.Sleep(500 * time.Millisecond) // the good times, for comparison
	do()
	stop()
	r := <-done
	s.must(r.err)
	return r.report
}

// describe logs who answered when, and the longest time without an answer.
func (s *stage) describe(r probe.Report) {
	s.t.Helper()
	gap := r.LongestGap()
	s.t.Logf("longest time without an answer: %s, from %s after the beginning", gap.Duration().Round(time.Millisecond), gap.From.Sub(r.Begin).Round(time.Millisecond))
	for _, span := range r.Spans() {
		name, err := s.NodeOf(span.MAC)
		if err != nil {
			s.t.Errorf("an answer: %v", err)
		}
		s.t.Logf("%s answered from %s to %s, %d times", name, span.From.Sub(r.Begin).Round(time.Millisecond), span.To.Sub(r.Begin).Round(time.Millisecond), span.Answers)
	}
}

// another waits until exactly one node answers, and not this one.
func (s *stage) another(ip netip.Addr, old string) {
	s.t.Helper()
	s.eventually("another than "+old+" to answer", func(ctx context.Context) error {
		owner, err := s.Owner(ctx, ip)
		if err == nil && owner == old {
			err = fmt.Errorf("%s still answers", old)
		}
		return err
	})
}

// signal sends a signal to the speaker of a node.
func (s *stage) signal(node string, signal unix.Signal) {
	s.t.Helper()
	s.must(s.Node(node).Kubelet().Signal(s.Namespace, s.Name("speaker"), "", signal))
}

func (s *stage) scale(name string, replicas int) {
	s.t.Helper()
	_, err := s.Kubectl(s.t.Context(), "scale", "deployment", name, fmt.Sprintf("--replicas=%d", replicas))
	s.must(err)
}

// deployment is a Deployment of web servers.
func deployment(name string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: default}
spec:
  replicas: %[2]d
  selector:
    matchLabels: {app: %[1]s}
  template:
    metadata:
      labels: {app: %[1]s}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: lab/web
          env:
            - name: POD_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            - name: NODE_NAME
              valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
            - name: POD_IPS
              valueFrom: {fieldRef: {fieldPath: status.podIPs}}
          ports:
            - {name: http, containerPort: 8080}
          readinessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 1
`, name, replicas)
}
