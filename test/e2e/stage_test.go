package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// patience is how long something may take that normally takes under a second: the machine may be very busy.
const patience = 3 * time.Minute

// stage is the laboratory as one test uses it: what goes wrong ends the test.
type stage struct {
	*scene.Scene
	t *testing.T
}

func on(t *testing.T) *stage {
	t.Helper()
	s := &stage{laboratory.Scene(t), t}
	began := time.Now()
	t.Cleanup(func() {
		if t.Failed() {
			s.diagnose(began)
		}
	})
	return s
}

// diagnose logs what helps to find out why a test failed.
func (s *stage) diagnose(began time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"get", "services", "-o", "wide"},
		{"get", "herald"},
		{"get", "pods", "--all-namespaces", "-o", "wide"},
	} {
		text, err := s.Kubectl(ctx, args...)
		s.t.Logf("kubectl %s\n%s%v", strings.Join(args, " "), text, errors.Join(err))
	}
	logs, err := s.Logs(s.Namespace, s.Name(""))
	s.t.Logf("Herald's logs since %s: %v\n%s", began.UTC().Format(time.TimeOnly), err, recent(logs, began, 150))
}

// recent returns the last lines of logs that are not older than a time, with the names of their files.
func recent(logs string, since time.Time, most int) string {
	var lines []string
	for line := range strings.SplitSeq(logs, "\n") {
		if strings.HasPrefix(line, "==>") || logged(line).After(since) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// logged returns the time of a line in slog's text format; zero when it has none.
func logged(line string) time.Time {
	text, ok := strings.CutPrefix(line, "time=")
	if !ok {
		return time.Time{}
	}
	text, _, _ = strings.Cut(text, " ")
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// must ends the test on an error.
func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// eventually waits until ready returns nil and returns how long that took.
func (s *stage) eventually(what string, ready func(context.Context) error) time.Duration {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	began := time.Now()
	s.must(s.Wait(ctx, what, ready))
	return time.Since(began)
}

// stays looks for a while whether something goes on being so.
func (s *stage) stays(what string, during time.Duration, so func(context.Context) error) {
	s.t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := so(s.t.Context()); err != nil {
			s.t.Fatalf("%s: %v", what, err)
		}
	}
}

// create makes a Service that goes with the test.
func (s *stage) create(name string, edits ...scene.Edit) *corev1.Service {
	s.t.Helper()
	made, err := s.Services().Create(s.t.Context(), scene.Service(name, edits...), metav1.CreateOptions{})
	s.must(err)
	s.t.Cleanup(func() { s.must(s.remove(context.Background(), name)) })
	return made
}

// remove deletes a Service and waits until it is gone.
func (s *stage) remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.Wait(ctx, "Service "+name+" to be gone", func(ctx context.Context) error {
		err := s.Services().Delete(ctx, name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is there"), err)
	})
}

// service waits until a Service is as wanted and returns it as it is then.
func (s *stage) service(name, what string, wanted func(*corev1.Service) error) *corev1.Service {
	s.t.Helper()
	var got *corev1.Service
	s.eventually("Service "+name+" to be "+what, func(ctx context.Context) (err error) {
		if got, err = s.Services().Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		return wanted(got)
	})
	return got
}

// announced waits until a Service is announced and returns its addresses, in the order of its status.
func (s *stage) announced(name string) (*corev1.Service, []netip.Addr) {
	s.t.Helper()
	got := s.service(name, "announced", scene.IsAnnounced)
	return got, s.ingress(got)
}

// withAddress waits until a Service has its addresses.
func (s *stage) withAddress(name string) []netip.Addr {
	s.t.Helper()
	return s.ingress(s.service(name, "given its addresses", scene.Complete))
}

func (s *stage) ingress(o *corev1.Service) []netip.Addr {
	s.t.Helper()
	list, err := scene.Ingress(o)
	s.must(err)
	return list
}

// refused waits until a Service is refused for a reason, has no address, and the message has these words.
func (s *stage) refused(name, reason string, words ...string) {
	s.t.Helper()
	s.service(name, "refused: "+reason, func(o *corev1.Service) error {
		if len(o.Status.LoadBalancer.Ingress) > 0 {
			return fmt.Errorf("it has %+v", o.Status.LoadBalancer.Ingress)
		}
		return errors.Join(scene.Has(o, scene.Allocated, metav1.ConditionFalse, reason), says(scene.Condition(o, scene.Allocated), words...))
	})
}

// says returns nil when a condition's message has all the words.
func says(c metav1.Condition, words ...string) error {
	for _, w := range words {
		if !strings.Contains(c.Message, w) {
			return fmt.Errorf("%s=%s: %s: %q does not say %q", c.Type, c.Status, c.Reason, c.Message, w)
		}
	}
	return nil
}

// owner waits until exactly one node answers for an address on the LAN and returns its name.
func (s *stage) owner(ip netip.Addr) (name string) {
	s.t.Helper()
	s.eventually("one node to answer for "+ip.String(), func(ctx context.Context) (err error) {
		name, err = s.Owner(ctx, ip)
		return err
	})
	return name
}

// nobody waits until no machine on the LAN answers for an address.
func (s *stage) nobody(ips ...netip.Addr) {
	s.t.Helper()
	for _, ip := range ips {
		s.eventually("nobody to answer for "+ip.String(), func(ctx context.Context) error {
			names, err := s.Answering(ctx, ip)
			if err == nil && len(names) > 0 {
				err = fmt.Errorf("answered by %v", names)
			}
			return err
		})
	}
}

// routed waits until the router sends packets for an address to exactly these nodes; to none: has no route.
func (s *stage) routed(ip netip.Addr, nodes ...string) time.Duration {
	s.t.Helper()
	return s.eventually(fmt.Sprintf("the router to reach %s by %v", ip, nodes), func(context.Context) error {
		return s.routedNow(ip, nodes...)
	})
}

func (s *stage) routedNow(ip netip.Addr, nodes ...string) error {
	hops, err := s.NextHops(ip)
	if err == nil && !slices.Equal(hops, nodes) {
		err = fmt.Errorf("%s goes to %v, want %v", ip, hops, nodes)
	}
	return err
}

// allNodes are the names of all nodes.
func (s *stage) allNodes() []string {
	var names []string
	for _, n := range s.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// apply applies YAML for the time of the test; objects are the kinds and names it has, as kubectl takes them.
func (s *stage) apply(yaml string, objects ...string) {
	s.t.Helper()
	s.t.Cleanup(func() { // also what was applied in part
		if len(objects) > 0 {
			_, err := s.Kubectl(context.Background(), append([]string{"delete", "--ignore-not-found", "--wait"}, objects...)...)
			s.must(err)
		}
	})
	s.must(s.Apply(s.t.Context(), yaml))
}

// reconfigure changes what scene.Config has applied, and puts it back after the test.
func (s *stage) reconfigure(yaml string) {
	s.t.Helper()
	s.t.Cleanup(func() {
		s.must(errors.Join(s.Apply(context.Background(), scene.Config), s.WaitSpeakers(context.Background())))
	})
	s.must(s.Apply(s.t.Context(), yaml))
}

// judged waits until a config object's condition Ready has this status and reason, and words in its message.
func (s *stage) judged(plural, name string, status metav1.ConditionStatus, reason string, words ...string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%s %s to be judged %s", plural, name, reason), func(ctx context.Context) error {
		c, err := s.Ready(ctx, plural, name)
		if err != nil {
			return err
		}
		if c.Status != status || reason != "" && c.Reason != reason {
			return fmt.Errorf("it is %s: %s: %s", c.Status, c.Reason, c.Message)
		}
		return says(c, words...)
	})
}

// inPool tells a pool's addresses from others.
func inPool(ip netip.Addr, ranges ...string) error {
	for _, r := range ranges {
		if from, to, ok := strings.Cut(r, "-"); ok {
			if a, b := netip.MustParseAddr(from), netip.MustParseAddr(to); ip.BitLen() == a.BitLen() && !ip.Less(a) && !b.Less(ip) {
				return nil
			}
		} else if netip.MustParsePrefix(r).Contains(ip) {
			return nil
		}
	}
	return fmt.Errorf("%s is not in %v", ip, ranges)
}
