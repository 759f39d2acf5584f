package bgp

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
)

// Watcher watches the paths to routers, by BFD. It is told everything it should watch and says what it sees.
type Watcher interface {
	// Run watches until ctx ends, then tells the routers that this is no failure. It is called once.
	Run(ctx context.Context) error
	// Set replaces everything that should be watched. It never blocks; only the last value counts.
	Set([]Watch)
	// Sights returns what is seen of each watched path, by the name of the peer.
	Sights() map[string]Sight
	// Changed tells that Sights has something new to say. Several changes may be told once.
	Changed() <-chan struct{}
}

// Watch is a path that should be watched. It is comparable on purpose.
type Watch struct {
	Peer      string     // name of the BGPPeer
	Router    netip.Addr // with zone if it is link-local
	Local     netip.Addr // our end; zero: the kernel chooses
	Interface string     // of an unnumbered peer
	Device    string     // that of a VRF; "" = none
	MultiHop  bool       // the router need not be on a connected subnet
	Profile   config.BFDProfile
}

// Sight is what is seen of a path.
type Sight struct {
	State     string // AdminDown, Down, Init, Up (RFC 5880 section 4.1)
	ID        uint32 // of the BFD session: another one counts anew; 0 = there is none yet
	Losses    uint64 // how often the path, or the router, failed while the session was Up
	LastError string // what keeps BFD from working, for the operator
}

// heard reports whether the router is heard: its BFD runs, whether it hears us or not.
func (s Sight) heard() bool { return s.State == "Init" || s.State == "Up" }

// watch has the paths of the sessions watched that ask for it.
func (o *owner) watch() {
	if o.opt.Watcher == nil {
		return
	}
	var want []Watch
	for _, name := range slices.Sorted(maps.Keys(o.seats)) {
		if w, ok := o.seats[name].watch(name, o.told.Interfaces); ok {
			want = append(want, w)
		}
	}
	if !slices.Equal(want, o.watched) {
		o.watched = want
		o.opt.Watcher.Set(want)
	}
}

// watch returns the path to watch; false when there is none, or it is not known yet. Both ends must mean the same sort of BFD session: a router
// on a subnet of ours is one hop away inside the AS, too, as FRR has it.
func (s *seat) watch(name string, interfaces []config.Interface) (Watch, bool) {
	if s.bfd == nil || s.session == nil {
		return Watch{}, false
	}
	n := s.neighbor
	w := Watch{Peer: name, Router: n.Address, Local: n.Source, Interface: n.Interface, Device: n.Device, Profile: *s.bfd}
	if n.Interface != "" {
		w.Router = s.session.Status().Remote
	}
	w.MultiHop = n.MultiHop || n.Internal() && n.Interface == "" && !connected(n.Address, interfaces)
	return w, w.Router.IsValid()
}

// connected reports whether an address is on a subnet of one of the interfaces.
func connected(a netip.Addr, interfaces []config.Interface) bool {
	return slices.ContainsFunc(interfaces, func(i config.Interface) bool {
		return slices.ContainsFunc(i.Subnets, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// heed drops the sessions whose paths failed (RFC 5882 section 4.3), and hastens those whose routers are heard again. A path that never came up, or that
// the router gave up watching, says nothing about the session.
func (o *owner) heed() {
	if o.opt.Watcher == nil {
		return
	}
	sights := o.opt.Watcher.Sights()
	for name, s := range o.seats {
		now := sights[name]
		if s.bfd == nil || s.session == nil {
			now = Sight{}
		}
		before := s.sight
		if now.ID != before.ID {
			before.Losses = 0
		}
		s.sight = now
		if now.Losses > before.Losses {
			s.session.Drop(fmt.Sprintf("BFD: the path to %s failed", s.neighbor.target()))
		}
		if now.State != before.State && now.heard() {
			s.session.Hasten()
		}
	}
}
