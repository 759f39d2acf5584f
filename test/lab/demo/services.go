package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/test/lab/probe"
	"github.com/heraldlb/herald/test/lab/router"
)

//go:embed service-l2.yaml
var serviceL2 string

//go:embed service-bgp.yaml
var serviceBGP string

// service is a Service as created, and what became of it.
type service struct {
	name      string
	created   time.Time    // just before the API server was asked
	addresses []netip.Addr // one per family, IPv4 first
	object    *corev1.Service
}

const (
	condAllocated = "heraldlb.io/Allocated"
	condAnnounced = "heraldlb.io/Announced"
)

// clientPort is the clients' interface, to their segment.
const clientPort = "eth0"

// createServices creates both, and measures how long it takes until they are announced.
func (d *demo) createServices(ctx context.Context) (string, error) {
	heard, err := probe.NewAnnouncements(d.lab.Client, clientPort)
	if err != nil {
		return "", err
	}
	watch, err := router.NewWatch(d.lab.RouterHost)
	if err != nil {
		return "", err
	}
	listen, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- heard.Run(listen) }()
	err = d.createBoth(ctx)
	var announced, learned time.Duration
	if err == nil {
		announced, err = d.firstAnnouncement(ctx, heard)
	}
	if err == nil {
		learned, err = d.firstRoute(ctx, watch)
	}
	stop()
	if err := errors.Join(err, <-ended, watch.Close()); err != nil {
		return "", err
	}
	d.out.say("web-l2 was announced on the LAN %s after its creation; web-bgp stood in the router's kernel %s after its own",
		milliseconds(announced), milliseconds(learned))
	return fmt.Sprintf("web-l2 got %s and %s, announced after %s; web-bgp got %s and %s, at the router after %s",
		d.l2.addresses[0], d.l2.addresses[1], milliseconds(announced), d.bgp.addresses[0], d.bgp.addresses[1], milliseconds(learned)), nil
}

func (d *demo) createBoth(ctx context.Context) (err error) {
	if d.l2, err = d.create(ctx, serviceL2); err != nil {
		return err
	}
	if d.bgp, err = d.create(ctx, serviceBGP); err != nil {
		return err
	}
	return errors.Join(d.settle(ctx, &d.l2), d.settle(ctx, &d.bgp))
}

func (d *demo) create(ctx context.Context, manifest string) (service, error) {
	var object corev1.Service
	if err := yaml.UnmarshalStrict([]byte(manifest), &object); err != nil {
		return service{}, fmt.Errorf("read manifest: %w", err)
	}
	s := service{name: object.Name, created: time.Now()}
	_, err := d.client.CoreV1().Services(object.Namespace).Create(ctx, &object, metav1.CreateOptions{})
	if err != nil {
		return s, fmt.Errorf("create Service %s: %w", s.name, err)
	}
	return s, nil
}

// settle waits until a Service has an address in each family and somebody announces it.
func (d *demo) settle(ctx context.Context, s *service) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return d.lab.Wait(ctx, "Service "+s.name+" to be announced", func(ctx context.Context) error {
		object, err := d.client.CoreV1().Services(corev1.NamespaceDefault).Get(ctx, s.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		addresses, err := assigned(object)
		if err != nil {
			return err
		}
		s.object, s.addresses = object, addresses
		return announced(object)
	})
}

// assigned reads the addresses that a Service has, IPv4 first; it wants one of each family.
func assigned(s *corev1.Service) ([]netip.Addr, error) {
	var v4, v6 netip.Addr
	for _, in := range s.Status.LoadBalancer.Ingress {
		ip, err := netip.ParseAddr(in.IP)
		if err != nil {
			return nil, fmt.Errorf("the status has %q for an address: %w", in.IP, err)
		}
		if ip.Is4() {
			v4 = ip
		} else {
			v6 = ip
		}
	}
	if !v4.IsValid() || !v6.IsValid() {
		return nil, fmt.Errorf("the status has the addresses %v, not one of each family (%s)", s.Status.LoadBalancer.Ingress, conditionText(s, condAllocated))
	}
	return []netip.Addr{v4, v6}, nil
}

func announced(s *corev1.Service) error {
	for _, c := range s.Status.Conditions {
		if c.Type == condAnnounced && c.Status == metav1.ConditionTrue {
			return nil
		}
	}
	return errors.New(conditionText(s, condAnnounced))
}

// conditionText says how a condition of a Service stands.
func conditionText(s *corev1.Service, kind string) string {
	for _, c := range s.Status.Conditions {
		if c.Type == kind {
			return fmt.Sprintf("%s=%s: %s: %s", kind, c.Status, c.Reason, c.Message)
		}
	}
	return "no condition " + kind
}

// firstAnnouncement is the time from the creation of web-l2 to the first gratuitous ARP for its IPv4 address.
func (d *demo) firstAnnouncement(ctx context.Context, heard *probe.Announcements) (time.Duration, error) {
	var first time.Time
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := d.lab.Wait(ctx, "a gratuitous ARP", func(context.Context) error {
		for _, ip := range d.l2.addresses {
			list := heard.Of(ip)
			if len(list) == 0 {
				return fmt.Errorf("nobody has announced %s", ip)
			}
			if first.IsZero() {
				first = list[0].Time
			}
		}
		return nil
	})
	return first.Sub(d.l2.created), err
}

// firstRoute is the time from the creation of web-bgp to the first route for one of its addresses.
func (d *demo) firstRoute(ctx context.Context, watch *router.Watch) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("no route to %v came to the router: %w", d.bgp.addresses, ctx.Err())
		case e, ok := <-watch.Events():
			if !ok {
				return 0, fmt.Errorf("watching the router's kernel ended: %w", watch.Close())
			}
			if ip := e.Route.Prefix.Addr(); !e.Deleted && (ip == d.bgp.addresses[0] || ip == d.bgp.addresses[1]) {
				return e.Time.Sub(d.bgp.created), nil
			}
		}
	}
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
