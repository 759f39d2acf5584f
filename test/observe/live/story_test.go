package live

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
)

// faulty is what is wrong with the configuration: a pool with few addresses that nobody announces, one that overlaps another, and a peer that
// is not there.
const faulty = `
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: small}
spec: {addresses: [10.99.0.0/28], autoAssign: false}
---
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: overlap}
spec: {addresses: [192.168.100.230/31], autoAssign: false}
---
apiVersion: heraldlb.io/v1beta1
kind: BFDProfile
metadata: {name: fast}
spec: {}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: nobody}
spec: {myASN: 64513, peerASN: 64999, peerAddress: 192.168.100.250, bfdProfile: fast}
`

// smallPool is how many addresses the pool small has.
const smallPool = 16

// nervous is the peer router-v4 with timers that notice soon that it is silent.
const nervous = `
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: router-v4}
spec: {myASN: 64513, peerASN: 64512, peerAddress: 192.168.100.1, holdTime: 3s, keepaliveTime: 1s, connectTime: 1s}
`

// TestDashboardsAndAlerts goes through a bad day: no alert fires before it, each fires in it for its own cause, every query of every panel has
// data in it, and none fires after it.
func TestDashboardsAndAlerts(t *testing.T) {
	s := open(t)
	s.create("by-arp")
	s.create("by-bgp", scene.FromPool("routed"))
	for _, name := range []string{"by-arp", "by-bgp"} {
		s.service(name, "announced", scene.IsAnnounced)
	}
	s.targets()
	s.silence()
	s.nothingIsFound()

	mend := s.spoilConfiguration()
	s.flap()
	s.fire("HeraldConfigProblem", "HeraldBGPSessionDown", "HeraldBGPNoSession", "HeraldBFDSessionDown", "HeraldAddressConflict", "HeraldSpeakerProblem",
		"HeraldServiceUnannounced", "HeraldPoolExhausted", "HeraldServicePending")
	s.everyPanel()
	mend()

	s.loseController()
	s.loseSpeaker()
	s.loseAPIServer()
	s.targets()
	s.silence()
	s.nothingIsFound()
	for _, r := range s.alerts {
		if !s.fired[r.Alert] {
			t.Errorf("%s has not fired", r.Alert)
		}
	}
}

// targets waits until all daemons are scraped, and known by node, Pod and job.
func (s *stage) targets() {
	s.t.Helper()
	want := len(s.Nodes) + 2 // the controller's replicas
	s.eventually(fmt.Sprintf("%d daemons to be scraped", want), func(ctx context.Context) error {
		found, err := s.prometheus.instant(ctx, `herald_build_info{job="herald", namespace="`+s.Namespace+`", pod!="", node!="", component!=""}`)
		if err == nil && len(found) != want {
			err = fmt.Errorf("%d are: %v", len(found), found)
		}
		return err
	})
}

// nothingIsFound asks the expression of every alert while nothing is wrong.
func (s *stage) nothingIsFound() {
	s.t.Helper()
	s.eventually("the expressions of all alerts to find nothing", func(ctx context.Context) error {
		var errs []error
		for _, r := range s.alerts {
			found, err := s.prometheus.instant(ctx, r.Expr)
			if err == nil && len(found) > 0 {
				err = fmt.Errorf("%v", found)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", r.Alert, err))
			}
		}
		return errors.Join(errs...)
	})
}

// everyPanel asks all dashboards.
func (s *stage) everyPanel() {
	s.t.Helper()
	boards, err := s.panels(s.t.Context())
	s.must(err)
	if len(boards) < 4 {
		s.t.Fatalf("the chart has %d dashboards", len(boards))
	}
	names := map[string]bool{}
	for _, d := range boards {
		s.eventually("data for all of "+d.Title, func(ctx context.Context) error {
			return errors.Join(s.askVariables(ctx, d), s.askAll(ctx, d))
		})
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				names[query(d, p, target)] = true
			}
		}
	}
	for name := range mayBeEmpty {
		if !names[name] {
			s.t.Errorf("%s: there is no such query", name)
		}
	}
	s.t.Logf("%d queries on %d dashboards", len(names), len(boards))
}

// spoilConfiguration provokes what comes of configuration and neighbours, and returns what mends it.
func (s *stage) spoilConfiguration() (mend func()) {
	s.t.Helper()
	used := netip.MustParseAddr("192.168.100.239")
	leave := s.stranger(used)
	node := s.Nodes[1].Host
	s.must(node.Sysctl("net.ipv4.conf.eth0.proxy_arp", "1"))
	s.must(s.Apply(s.t.Context(), faulty))

	s.create("conflict", scene.SingleStack(corev1.IPv4Protocol), scene.Annotate(scene.IPsAnnotation, used.String()))
	names := []string{"conflict"}
	fill := func(n int) {
		for range n {
			name := fmt.Sprintf("fill-%02d", len(names))
			s.create(name, scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("small"))
			names = append(names, name)
		}
	}
	fill(smallPool - 1)
	s.fire("HeraldPoolNearlyExhausted")
	fill(2) // one that takes the last address, and one that waits for it
	return func() {
		s.t.Helper()
		s.remove(names...)
		s.kubectl("delete", "ipaddresspool/small", "ipaddresspool/overlap", "bgppeer/nobody", "bfdprofile/fast")
		s.must(node.Sysctl("net.ipv4.conf.eth0.proxy_arp", "0"))
		leave()
	}
}

// stranger puts a machine on the LAN that uses an address, and shows it: every while it looks for another machine, in vain. It is there until
// it is told to leave, or until the test ends.
func (s *stage) stranger(used netip.Addr) (leave func()) {
	s.t.Helper()
	h, err := s.Network.Host("stranger")
	s.must(err)
	_, err = h.Join(s.LAN, "eth0", netip.MustParsePrefix("192.168.100.99/24"), netip.PrefixFrom(used, used.BitLen()))
	s.must(err)
	ctx, stop := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(lookAround)
		defer ticker.Stop()
		for number := 0; ctx.Err() == nil; number++ {
			_ = h.Do(func() error { return look(used, number) }) // that nobody is there is the point
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	}()
	left := false
	leave = func() {
		if left {
			return
		}
		left = true
		stop()
		<-done
		if err := h.Close(); err != nil {
			s.t.Error(err)
		}
	}
	s.t.Cleanup(leave)
	return leave
}

// lookAround is how often a stranger makes itself heard.
const lookAround = 500 * time.Millisecond

// look sends a datagram from an address to one of a few that nobody has: the kernel asks for that by ARP, with the sender's address in the frame.
func look(from netip.Addr, number int) error {
	c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), &net.UDPAddr{IP: net.IPv4(192, 168, 100, byte(60+number%30)), Port: 9})
	if err != nil {
		return err
	}
	_, err = c.Write([]byte{0})
	return errors.Join(err, c.Close())
}

// flap lets a session go down twice, by a cable that drops what it carries.
func (s *stage) flap() {
	s.t.Helper()
	n := s.Nodes[2]
	up := func(want int) {
		s.t.Helper()
		s.eventually(fmt.Sprintf("session_up of %s to be %d", n.Name, want), func(ctx context.Context) error {
			found, err := s.prometheus.instant(ctx, fmt.Sprintf(`herald_bgp_session_up{node=%q, peer="router-v4"} == %d`, n.Name, want))
			if err == nil && len(found) != 1 {
				err = fmt.Errorf("it is not: %v", found)
			}
			return err
		})
	}
	s.must(s.Apply(s.t.Context(), nervous))
	s.eventually("a session that notices soon", func(ctx context.Context) error {
		sessions, err := s.Sessions(ctx, n.Name)
		if now := sessions["router-v4"]; err == nil && (now.State != "Established" || now.HoldTime == nil || now.HoldTime.Duration != 3*time.Second) {
			err = fmt.Errorf("it is %s, with hold time %v", now.State, now.HoldTime)
		}
		return err
	})
	for range 2 {
		up(1)
		s.must(n.LAN.Drop(s.t.Context(), "tcp dport 179", "tcp sport 179"))
		up(0)
		s.must(n.LAN.Drop(s.t.Context()))
	}
	s.fire("HeraldBGPSessionFlapping")
	up(1)
	s.must(s.Apply(s.t.Context(), scene.Config))
}

// loseController takes all controllers away while one node does not hear the gossip, and brings one back in another version.
func (s *stage) loseController() {
	s.t.Helper()
	controller := "deployment/" + s.Name("controller")
	n := s.Nodes[0]
	s.kubectl("scale", controller, "--namespace", s.Namespace, "--replicas=0")
	s.must(n.LAN.Drop(s.t.Context(), "tcp dport 7947", "tcp sport 7947", "udp dport 7947"))
	s.fire("HeraldControllerAbsent", "HeraldGossipDegraded")
	s.must(n.LAN.Drop(s.t.Context()))

	text, err := s.Kubectl(s.t.Context(), "get", controller, "--namespace", s.Namespace, "--output=jsonpath={.spec.template.spec.containers[0].image}")
	s.must(err)
	s.kubectl("set", "image", controller, "--namespace", s.Namespace, "controller="+otherImage)
	s.kubectl("scale", controller, "--namespace", s.Namespace, "--replicas=1")
	s.fire("HeraldVersionSkew")
	s.kubectl("set", "image", controller, "--namespace", s.Namespace, "controller="+text)
	s.kubectl("scale", controller, "--namespace", s.Namespace, "--replicas=2")
	s.kubectl("rollout", "status", controller, "--namespace", s.Namespace, "--timeout=4m")
}

// loseSpeaker freezes a node's speaker.
func (s *stage) loseSpeaker() {
	s.t.Helper()
	s.signal(s.Nodes[1], unix.SIGSTOP)
	s.fire("HeraldSpeakerMissing")
	s.signal(s.Nodes[1], unix.SIGCONT)
}

func (s *stage) signal(n *lab.Node, signal unix.Signal) {
	s.t.Helper()
	s.must(n.Kubelet().Signal(s.Namespace, s.Name("speaker"), "", signal))
}

// loseAPIServer stops it for a while.
func (s *stage) loseAPIServer() {
	s.t.Helper()
	s.Cluster.StopAPIServer()
	s.fire("HeraldAPIDisconnected")
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	s.must(s.Cluster.StartAPIServer(ctx))
}
