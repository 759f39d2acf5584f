package demo

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/probe"
	"github.com/heraldlb/herald/test/lab/router"
)

//go:embed asker.yaml
var askerYAML string

// seeLimit is how long one thing may take to be seen: kube-proxy and the router have intervals of their own.
const seeLimit = 20 * time.Second

func (d *demo) showServices(ctx context.Context) (string, error) {
	for _, s := range []service{d.l2, d.bgp} {
		if err := d.quote(ctx, "get", "service", s.name); err != nil {
			return "", err
		}
		d.out.say("%s\n%s\n", conditionText(s.object, condAllocated), conditionText(s.object, condAnnounced))
	}
	return "kubectl get service shows the addresses, and the Services' conditions say who announces them", nil
}

func (d *demo) showOwners(ctx context.Context) (string, error) {
	var findings []string
	for _, ip := range d.l2.addresses {
		node, answer, err := d.owner(ctx, ip)
		if err != nil {
			return "", err
		}
		protocol := "ARP"
		if ip.Is6() {
			protocol = "ND"
		}
		d.out.say("%-3s %s is at %s, which is %s", protocol, ip, answer.MAC, node)
		findings = append(findings, fmt.Sprintf("%s answers %s for %s", node, protocol, ip))
	}
	return strings.Join(findings, ", ") + ": one node for each", nil
}

// owner asks who has an address on the LAN: exactly one node has to answer.
func (d *demo) owner(ctx context.Context, ip netip.Addr) (node string, answer probe.Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, seeLimit)
	defer cancel()
	err = d.lab.Wait(ctx, "one node to answer for "+ip.String(), func(ctx context.Context) error {
		answers, err := probe.Resolve(ctx, d.lab.Client, clientPort, ip, 200*time.Millisecond)
		if err != nil {
			return err
		}
		if macs := probe.MACs(answers); len(macs) != 1 {
			return fmt.Errorf("%d machines answer: %v", len(macs), macs)
		}
		answer = answers[0]
		node, err = d.nodeOf(answer.MAC.String())
		return err
	})
	return node, answer, err
}

// nodeOf is the node whose LAN interface has a hardware address.
func (d *demo) nodeOf(mac string) (string, error) {
	for _, n := range d.lab.Nodes {
		ifi, err := n.Host.Interface(n.LAN.Ifname())
		if err != nil {
			return "", err
		}
		if ifi.HardwareAddr.String() == mac {
			return n.Name, nil
		}
	}
	return "", fmt.Errorf("no node has the hardware address %s", mac)
}

func (d *demo) showRoutes(ctx context.Context) (string, error) {
	neighbors, err := d.lab.Router.Neighbors(ctx)
	if err != nil {
		return "", err
	}
	for _, n := range neighbors {
		d.out.say("neighbour %-18s AS %d  %s", n.Address, n.ASN, n.State)
	}
	ctx, cancel := context.WithTimeout(ctx, seeLimit)
	defer cancel()
	var routes []router.Route
	err = d.lab.Wait(ctx, "the routes by all nodes", func(context.Context) error {
		if routes, err = router.Routes(d.lab.RouterHost); err != nil {
			return err
		}
		return d.wantRoutes(routes)
	})
	for _, r := range routes {
		d.out.say("%s by %d next hops:%s", r.Prefix, len(r.NextHops), d.nameHops(r.NextHops))
	}
	return fmt.Sprintf("the router has %s/32 and %s/128, each by %d nodes", d.bgp.addresses[0], d.bgp.addresses[1], len(d.lab.Nodes)), err
}

// wantRoutes wants the two addresses of web-bgp by all nodes, and nothing else.
func (d *demo) wantRoutes(routes []router.Route) error {
	if len(routes) != len(d.bgp.addresses) {
		return fmt.Errorf("the router has %v", routes)
	}
	for family, ip := range d.bgp.addresses {
		var hops []netip.Addr
		for _, n := range d.lab.Nodes {
			hops = append(hops, n.Addresses[family])
		}
		want := netip.PrefixFrom(ip, ip.BitLen())
		if !slices.ContainsFunc(routes, func(r router.Route) bool { return r.Prefix == want && slices.Equal(r.NextHops, hops) }) {
			return fmt.Errorf("the router has %v, wanted %s via %v", routes, want, hops)
		}
	}
	return nil
}

func (d *demo) nameHops(hops []netip.Addr) string {
	var b strings.Builder
	for _, hop := range hops {
		name := "?"
		for _, n := range d.lab.Nodes {
			if slices.Contains(n.Addresses, hop) {
				name = n.Name
			}
		}
		fmt.Fprintf(&b, " %s (%s)", hop, name)
	}
	return b.String()
}

func (d *demo) showHTTP(ctx context.Context) (string, error) {
	count := 0
	for _, s := range []service{d.l2, d.bgp} {
		for _, from := range []*netlab.Host{d.lab.Client, d.lab.FarClient} {
			for _, ip := range s.addresses {
				if err := d.get(ctx, from, netip.AddrPortFrom(ip, 80)); err != nil {
					return "", fmt.Errorf("%s: %w", s.name, err)
				}
				count++
			}
		}
	}
	return fmt.Sprintf("%d of %d HTTP requests answered: two clients, two Services, two families", count, count), nil
}

// get asks a web server from outside until it answers, and shows the answer.
func (d *demo) get(ctx context.Context, from *netlab.Host, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, seeLimit)
	defer cancel()
	url := "http://" + strings.TrimSuffix(to.String(), ":80") + "/"
	r, err := probe.FirstGet(ctx, from, url, time.Second)
	if err != nil {
		return err
	}
	if err := fromWeb(r.Body); err != nil {
		return err
	}
	d.out.say("%-10s → %s  %s", from.Name(), url, strings.TrimSpace(r.Body))
	return nil
}

// fromWeb wants the answer of one of the Deployment's Pods.
func fromWeb(body string) error {
	if !strings.HasPrefix(body, "pod=web-") {
		return fmt.Errorf("the answer %q is not from the Deployment", body)
	}
	return nil
}

func (d *demo) showOldWays(ctx context.Context) (string, error) {
	if err := errors.Join(d.askClusterIPs(ctx), d.askNodePorts(ctx)); err != nil {
		return "", err
	}
	return "web-l2 also answers on its ClusterIPs and NodePorts", nil
}

func (d *demo) askClusterIPs(ctx context.Context) error {
	var b bytes.Buffer
	ips := struct{ IPv4, IPv6 string }{}
	for _, ip := range d.l2.object.Spec.ClusterIPs {
		if strings.Contains(ip, ":") {
			ips.IPv6 = ip
		} else {
			ips.IPv4 = ip
		}
	}
	t, err := template.New("asker").Parse(askerYAML)
	if err != nil {
		return err
	}
	if err := t.Execute(&b, ips); err != nil {
		return err
	}
	if err := d.lab.Apply(ctx, b.String()); err != nil {
		return err
	}
	if _, err := d.lab.Kubectl(ctx, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/asker", "--timeout=1m"); err != nil {
		return fmt.Errorf("a Pod asks the ClusterIPs %v: %w", d.l2.object.Spec.ClusterIPs, err)
	}
	text, err := d.lab.Kubectl(ctx, "logs", "asker")
	if err != nil {
		return err
	}
	answers := strings.Split(strings.TrimSpace(text), "\n")
	if len(answers) != len(d.l2.addresses) {
		return fmt.Errorf("a Pod asked the ClusterIPs and printed %q, not %d answers", text, len(d.l2.addresses))
	}
	for i, line := range answers {
		if err := fromWeb(line); err != nil {
			return err
		}
		d.out.say("%-10s → http://%s/  %s", "Pod asker", []string{ips.IPv4, "[" + ips.IPv6 + "]"}[i], line)
	}
	return nil
}

func (d *demo) askNodePorts(ctx context.Context) error {
	port := d.l2.object.Spec.Ports[0].NodePort
	if port == 0 {
		return errors.New("web-l2 has no NodePort")
	}
	for _, n := range d.lab.Nodes {
		for _, ip := range n.Addresses {
			to, err := netip.ParseAddrPort(net.JoinHostPort(ip.String(), strconv.Itoa(int(port))))
			if err != nil {
				return err
			}
			if err := d.get(ctx, d.lab.Client, to); err != nil {
				return fmt.Errorf("NodePort: %w", err)
			}
		}
	}
	return nil
}
