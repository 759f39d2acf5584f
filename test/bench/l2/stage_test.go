package l2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
)

const (
	patience = time.Minute
	calm     = time.Second // before something is done, and after it is over
)

// stage is the laboratory as one measurement uses it.
type stage struct {
	*scene.Scene
	t *testing.T
}

// on waits until the laboratory is as it was at first, so that what one measurement has left undone does not disturb the next.
func on(t *testing.T) *stage {
	t.Helper()
	s := &stage{laboratory.Scene(t), t}
	s.settled()
	return s
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) eventually(what string, ready func(context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	s.must(s.Wait(ctx, what, ready))
}

// settled waits until every speaker sees all others alive, and a moment longer.
func (s *stage) settled() {
	s.t.Helper()
	s.eventually("all speakers to see each other", func(ctx context.Context) error {
		for _, n := range s.Nodes {
			k := n.Kubelet()
			if k == nil {
				return fmt.Errorf("%s has no kubelet", n.Name)
			}
			if _, err := k.Find(s.Namespace, s.Name("speaker"), ""); err != nil {
				return err
			}
			status, err := s.Speaker(ctx, n.Name)
			if err != nil {
				return err
			}
			if status.Gossip == nil || int(status.Gossip.Alive) != len(s.Nodes) {
				return fmt.Errorf("the speaker of %s sees %+v of %d", n.Name, status.Gossip, len(s.Nodes))
			}
		}
		return nil
	})
	time.Sleep(calm)
}

// addresses makes Services in front of the web servers for the time of the test and returns their IPv4 addresses once all are announced.
func (s *stage) addresses(prefix string, n int) []netip.Addr {
	s.t.Helper()
	var list []netip.Addr
	for i := range n {
		name := fmt.Sprintf("%s-%d", prefix, i)
		_, err := s.Services().Create(s.t.Context(), scene.Service(name, scene.SingleStack(corev1.IPv4Protocol)), metav1.CreateOptions{})
		s.must(err)
		s.t.Cleanup(func() {
			if err := s.Services().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				s.t.Error(err)
			}
		})
	}
	for i := range n {
		s.eventually("the Service to be announced", func(ctx context.Context) error {
			o, err := s.Services().Get(ctx, fmt.Sprintf("%s-%d", prefix, i), metav1.GetOptions{})
			if err == nil {
				err = scene.IsAnnounced(o)
			}
			if err != nil {
				return err
			}
			ips, err := scene.Ingress(o)
			list = append(list, ips...)
			return err
		})
	}
	for _, ip := range list {
		s.eventually("a page from "+ip.String(), func(ctx context.Context) error { _, err := s.Get(ctx, s.Client, ip); return err })
	}
	return list
}

// owner waits until exactly one node answers for an address and returns it.
func (s *stage) owner(ip netip.Addr) *lab.Node {
	s.t.Helper()
	var name string
	s.eventually("one node to answer for "+ip.String(), func(ctx context.Context) (err error) {
		name, err = s.Owner(ctx, ip)
		return err
	})
	return s.Node(name)
}

// another waits until one node answers that is not the old one.
func (s *stage) another(ip netip.Addr, old *lab.Node) *lab.Node {
	s.t.Helper()
	var name string
	s.eventually("another than "+old.Name+" to answer", func(ctx context.Context) (err error) {
		if name, err = s.Owner(ctx, ip); err == nil && name == old.Name {
			err = errors.New("it still does")
		}
		return err
	})
	return s.Node(name)
}

func (s *stage) mac(n *lab.Node) string {
	s.t.Helper()
	mac, err := scene.MAC(n)
	s.must(err)
	return mac
}

// owned are the addresses that a node answers for.
func (s *stage) owned(n *lab.Node, ips []netip.Addr) []netip.Addr {
	s.t.Helper()
	owners := s.owners(ips)
	return slices.DeleteFunc(slices.Clone(ips), func(ip netip.Addr) bool { return owners[ip] != n })
}

func (s *stage) signalSpeaker(n *lab.Node, signal unix.Signal) {
	s.t.Helper()
	s.must(n.Kubelet().Signal(s.Namespace, s.Name("speaker"), "", signal))
}

// signalAll sends a signal to everything that runs on a node.
func (s *stage) signalAll(n *lab.Node, signal unix.Signal) {
	s.t.Helper()
	for _, p := range n.Kubelet().Processes() {
		if err := unix.Kill(p.PID, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			s.t.Fatalf("signal %v to process %d of %s: %v", signal, p.PID, p.Pod, err)
		}
	}
}
