package arp

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"

	"github.com/heraldlb/herald/speaker/l2/frame"
)

// showFrom prints a frame with the MAC it comes from too.
func showFrom(b []byte) string {
	return fmt.Sprintf("from %v %s", net.HardwareAddr(b[6:12]), show(b))
}

// A stand-in answers with the other station's MAC in the packet, from its own: switches must not look for the other one here. It announces
// nothing, and hears no conflict in what the other one says.
func TestStandIn(t *testing.T) {
	inWorlds(t, func(t *testing.T, b *bench) {
		b.setRoles(t, frame.Answer{Addr: vip, Role: frame.StandIn, MAC: [6]byte(otherMAC)}, frame.Answer{Addr: sentinel})
		if err := b.r.Announce(vip); err != nil {
			t.Fatal(err)
		}
		b.Send(packetOf(t, ethernet.Broadcast, arp.OperationReply, otherMAC, vip, vip)) // the owner
		b.Send(packetOf(t, ethernet.Broadcast, arp.OperationRequest, peerMAC, peer, vip))
		want := fmt.Sprintf("from %v to %v op 2: %v is at %v, for %v", b.mac, peerMAC, vip, otherMAC, peer)
		if got := showFrom(b.Next()); got != want {
			t.Errorf("answer %q, want %q", got, want)
		}
		b.Send(packetOf(t, ethernet.Broadcast, arp.OperationRequest, peerMAC, vip, peer)) // somebody else
		if diff := cmp.Diff([]string{}, b.until(t)); diff != "" {
			t.Errorf("frames (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{fmt.Sprint(vip, " by ", peerMAC)}, b.conflicts()); diff != "" {
			t.Errorf("conflicts (-want +got):\n%s", diff)
		}
	})
}

// An address that is looked for is asked for as RFC 5227 has it and not answered; who uses it or looks for it is heard.
func TestWatched(t *testing.T) {
	inWorlds(t, func(t *testing.T, b *bench) {
		b.setRoles(t, frame.Answer{Addr: vip, Role: frame.Watched}, frame.Answer{Addr: sentinel})
		if err := errors.Join(b.r.Announce(vip), b.r.Probe(vip)); err != nil {
			t.Fatal(err)
		}
		request, reply := arp.OperationRequest, arp.OperationReply
		for _, f := range [][]byte{
			packetOf(t, ethernet.Broadcast, request, peerMAC, peer, vip), // a client: says nothing of who uses it
			packetOf(t, b.mac, reply, otherMAC, vip, zero),               // the user's answer
			packetOf(t, ethernet.Broadcast, request, otherMAC, vip, peer),
			packetOf(t, ethernet.Broadcast, request, otherMAC, zero, vip),
			packetOf(t, ethernet.Broadcast, request, ownOther, zero, vip), // another interface of ours looks too
		} {
			b.Send(f)
		}
		want := []string{fmt.Sprintf("to ff:ff:ff:ff:ff:ff op 1: 0.0.0.0 is at %v, for %v", b.mac, vip)}
		if diff := cmp.Diff(want, b.until(t)); diff != "" {
			t.Errorf("frames (-want +got):\n%s", diff)
		}
		by := fmt.Sprint(vip, " by ", otherMAC, " watched")
		if diff := cmp.Diff([]string{by, by, by + " probed"}, b.conflicts()); diff != "" {
			t.Errorf("heard (-want +got):\n%s", diff)
		}
	})
}
