package ndp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ndp"

	"github.com/heraldlb/herald/speaker/l2/frame"
)

// A stand-in answers with the other station's MAC in the option, from its own: switches must not look for the other one here. It announces
// nothing, and hears no conflict in what the other one says.
func TestStandIn(t *testing.T) {
	inWorlds(t, func(t *testing.T, b *bench) {
		b.setRoles(t, frame.Answer{Addr: vip, Role: frame.StandIn, MAC: [6]byte(otherMAC)}, frame.Answer{Addr: sentinel})
		if err := b.r.Announce(vip); err != nil {
			t.Fatal(err)
		}
		b.Send(na(t, otherMAC, vip, vip, otherMAC)) // the owner
		b.Send(ns(t, nil, peerMAC, peer, vip, peerMAC))
		b.Send(ns(t, nil, peerMAC, none, vip, nil))
		b.Send(na(t, peerMAC, vip, vip, peerMAC)) // somebody else
		answer := func(to net.HardwareAddr, dst netip.Addr, solicited bool) string {
			return fmt.Sprintf("to %v %v: %v is at %v router=false solicited=%v override=true, from %v %v", to, dst, vip, otherMAC, solicited, b.mac, vip)
		}
		want := []string{answer(peerMAC, peer, true), answer(multicastMAC(allNodes), allNodes, false)}
		if diff := cmp.Diff(want, b.until(t)); diff != "" {
			t.Errorf("frames (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{fmt.Sprint(vip, " by ", peerMAC)}, b.conflicts()); diff != "" {
			t.Errorf("conflicts (-want +got):\n%s", diff)
		}
	})
}

// An address that is looked for is asked for as duplicate address detection does it and not answered; who uses it or looks for it is heard.
func TestWatched(t *testing.T) {
	inWorlds(t, func(t *testing.T, b *bench) {
		b.setRoles(t, frame.Answer{Addr: vip, Role: frame.Watched}, frame.Answer{Addr: sentinel})
		if err := errors.Join(b.r.Announce(vip), b.r.Probe(vip)); err != nil {
			t.Fatal(err)
		}
		for sent := false; !sent; { // the kernel on the cable has things to say as well
			m, err := parse(b.Next())
			body, ok := m.body.(*ndp.NeighborSolicitation)
			if sent = err == nil && ok && body.TargetAddress == vip; !sent {
				continue
			}
			if m.src != none || m.dst != groupOf(vip) || len(body.Options) > 0 || !bytes.Equal(m.from, b.mac) || !bytes.Equal(m.to, multicastMAC(m.dst)) {
				t.Errorf("probe %+v", m)
			}
		}
		b.Send(ns(t, nil, peerMAC, peer, vip, peerMAC)) // a client: says nothing of who uses it
		b.Send(na(t, otherMAC, vip, vip, otherMAC))     // the user's answer
		b.Send(ns(t, nil, otherMAC, vip, peer, otherMAC))
		b.Send(ns(t, nil, otherMAC, none, vip, nil))
		b.Send(ns(t, nil, ownOther, none, vip, nil)) // another interface of ours looks too
		if diff := cmp.Diff([]string{}, b.until(t)); diff != "" {
			t.Errorf("frames (-want +got):\n%s", diff)
		}
		by := fmt.Sprint(vip, " by ", otherMAC, " watched")
		if diff := cmp.Diff([]string{by, by, by + " probed"}, b.conflicts()); diff != "" {
			t.Errorf("heard (-want +got):\n%s", diff)
		}
	})
}
