package interop

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/bfd/udp"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/paths"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/router/peer"
)

// bfdOn opens BFD's sockets on a host.
type bfdOn struct{ *netlab.Host }

// Listen implements bfd.Network.
func (n bfdOn) Listen(p bfd.Port) (l bfd.Listener, err error) {
	err = n.Do(func() (err error) { l, err = udp.Network{}.Listen(p); return err })
	return l, err
}

// Dial implements bfd.Network.
func (n bfdOn) Dial(e bfd.Endpoint) (s bfd.Sender, err error) {
	err = n.Do(func() (err error) { s, err = udp.Network{}.Dial(e); return err })
	return s, err
}

// watched lets a speaker watch paths by BFD.
func (c *cell) watched(o *bgp.Options) {
	o.Watcher = paths.Over(bfd.New(bfd.Options{Network: bfdOn{c.node}, Log: slog.New(slog.NewTextHandler(c, nil))}))
}

// TestBFD: the session goes with its path, long before a hold time of 90 s is over, at both ends; and a restart of the speaker, which ends
// BFD as well, is no failure of the path.
func TestBFD(t *testing.T) {
	netlab.Need(t)
	if err := peer.Available(peer.FRR); err != nil {
		t.Skip(err)
	}
	for _, tt := range []struct {
		name string
		asn  uint32
	}{{"external", routerAS}, {"internal", nodeAS}} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCell(t, peer.FRR)
			conf, p := c.external(), our()
			conf.ASN, p.PeerASN = tt.asn, tt.asn
			conf.HoldTime, p.HoldTime, p.KeepaliveTime = 90*time.Second, 90*time.Second, 30*time.Second
			conf.BFD, conf.Restart = true, true
			p.BFD = &config.BFDProfile{ReceiveInterval: 300 * time.Millisecond, TransmitInterval: 300 * time.Millisecond, DetectMultiplier: 3}
			p.Restart = config.GracefulRestart{Enabled: true, RestartTime: time.Minute}
			c.start(conf)
			s := c.speaker(c.watched)
			s.tell(p, route(service4))
			s.told.Interfaces = []config.Interface{{Name: nodeNIC, Up: true, Subnets: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}}}
			s.Set(s.told)
			s.up()
			s.watchedBy("Up")
			s.pathFails(p)
			s.stop(bgp.ErrRestarting)
			c.eventually("the router to notice", func() string {
				if x := c.session(); x.Established {
					return fmt.Sprintf("%+v", x)
				}
				return ""
			})
			if got := prefixes(c.routes()); len(got) != 1 {
				t.Errorf("while the speaker is away the router has %v, want the one route", got)
			}
		})
	}
}

// watchedBy waits until both ends say that the path is in a state.
func (s *speaker) watchedBy(state string) {
	s.c.Helper()
	s.c.eventually("BFD", func() string {
		ours, theirs := s.session(), s.c.session()
		if ours.BFD != state || theirs.BFD != state {
			return fmt.Sprintf("our end says %q (%s), the router %q", ours.BFD, ours.LastError, theirs.BFD)
		}
		return ""
	})
}

// pathFails makes the cable mute and whole again.
func (s *speaker) pathFails(p *config.Peer) {
	c := s.c
	c.Helper()
	c.must(c.port.Block())
	began := time.Now()
	s.fails("BFD: the path to " + p.Address.String() + " failed")
	c.Logf("our end notices after %s, hold time %s", time.Since(began).Round(time.Millisecond), p.HoldTime)
	c.eventually("the router to notice", func() string {
		if x := c.session(); x.Established || !strings.Contains(x.LastEnd, "BFD") {
			return fmt.Sprintf("%+v", x)
		}
		return ""
	})
	if took := time.Since(began); took > p.HoldTime/2 {
		c.Errorf("it took %s until both ends knew, which is no sooner than by the hold time of %s", took, p.HoldTime)
	}
	c.must(c.port.Unblock())
	began = time.Now()
	s.up()
	c.Logf("back %s after the path is whole", time.Since(began).Round(time.Millisecond))
	s.watchedBy("Up")
	c.eventually("the route", func() string {
		if len(c.routes()) != 1 {
			return "it is not there"
		}
		return ""
	})
}
