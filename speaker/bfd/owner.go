package bfd

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/config"
)

// owner is the state of Run's goroutine. Each turn looks at every seat: there are as many as there are neighbours, so a heap would not
// be quicker.
type owner struct {
	*Runner
	ctx     context.Context // of the ports, which are needed until the goodbyes are said
	cancel  context.CancelFunc
	events  chan event
	ports   map[Port]*port
	seats   map[Endpoint]*seat
	byLocal map[uint32]*seat  // by our discriminator
	blocked map[string]Status // wants that cannot be, by key
	tallies map[string]tally  // by key
	dirty   bool              // seats or keys changed: publish
}

func newOwner(ctx context.Context, r *Runner) *owner {
	o := &owner{
		Runner: r, events: make(chan event),
		ports: map[Port]*port{}, seats: map[Endpoint]*seat{}, byLocal: map[uint32]*seat{}, blocked: map[string]Status{}, tallies: map[string]tally{},
	}
	o.ctx, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return o
}

// close ends the ports and closes what is open.
func (o *owner) close() {
	o.cancel()
	for _, p := range o.ports {
		<-p.done
	}
	for _, s := range o.seats {
		s.close()
	}
}

// apply starts, changes and ends sessions so that they are the wanted ones.
func (o *owner) apply(wants []Want) {
	now := time.Now()
	byEndpoint, blocked := group(wants)
	o.blocked, o.dirty = blocked, true
	for e, s := range o.seats {
		if byEndpoint[e] == nil {
			s.leave(now)
		}
	}
	for e, group := range byEndpoint {
		s := o.seats[e]
		profile := merge(group)
		if s == nil {
			s = newSeat(e, o.discriminator(), profile, o.opt.Log)
			o.seats[e], o.byLocal[s.session.local] = s, s
		}
		s.port = o.port(e.Port())
		s.keys = s.keys[:0:0]
		for _, w := range group {
			s.keys = append(s.keys, w.Key)
		}
		slices.Sort(s.keys)
		s.configure(profile)
		s.comeBack(now)
	}
	o.makeWay()
}

// group sorts the wants by endpoint, and out of them those that cannot be.
func group(wants []Want) (map[Endpoint][]Want, map[string]Status) {
	byEndpoint, blocked := map[Endpoint][]Want{}, map[string]Status{}
	for _, w := range wants {
		e := Endpoint{Peer: plain(w.Peer), Local: plain(w.Local), Interface: w.Interface, VRF: w.VRF, Multihop: w.Multihop}
		if e.Interface == "" {
			e.Interface = w.Peer.Zone()
		}
		if why := impossible(e); why != "" {
			blocked[w.Key] = Status{Key: w.Key, Peer: e.Peer, Local: e.Local, Multihop: e.Multihop, State: Down, RemoteState: Down, LastError: why}
			continue
		}
		byEndpoint[e] = append(byEndpoint[e], w)
	}
	return byEndpoint, blocked
}

// impossible says why there can be no session; empty when there can.
func impossible(e Endpoint) string {
	switch {
	case !e.Peer.IsValid() || e.Peer.IsUnspecified() || e.Peer.IsMulticast():
		return fmt.Sprintf("%s is not the address of a neighbour", e.Peer)
	case e.Local.IsValid() && e.Local.Is4() != e.Peer.Is4():
		return fmt.Sprintf("%s and %s are not of one address family", e.Local, e.Peer)
	case e.Peer.IsLinkLocalUnicast() && e.Peer.Is6() && e.Interface == "":
		return fmt.Sprintf("%s is a link-local address: the interface must be given too", e.Peer)
	}
	return ""
}

// merge returns the profile of a session that serves several wants: for each of them it is at least as quick as asked.
func merge(group []Want) config.BFDProfile {
	p := complete(group[0].Profile)
	for _, w := range group[1:] {
		q := complete(w.Profile)
		p.ReceiveInterval = min(p.ReceiveInterval, q.ReceiveInterval)
		p.TransmitInterval = min(p.TransmitInterval, q.TransmitInterval)
		p.DetectMultiplier = min(p.DetectMultiplier, q.DetectMultiplier)
		p.Passive = p.Passive && q.Passive
		p.MinimumTTL = max(p.MinimumTTL, q.MinimumTTL)
	}
	return p
}

// complete fills in what the profile leaves open.
func complete(p config.BFDProfile) config.BFDProfile {
	if p.ReceiveInterval <= 0 {
		p.ReceiveInterval = 300 * time.Millisecond
	}
	if p.TransmitInterval <= 0 {
		p.TransmitInterval = 300 * time.Millisecond
	}
	if p.DetectMultiplier == 0 {
		p.DetectMultiplier = 3
	}
	if p.MinimumTTL == 0 {
		p.MinimumTTL = 254
	}
	return p
}

// discriminator returns one that no session has. It is not to be guessed, and differs from those before a restart.
func (o *owner) discriminator() uint32 {
	for {
		if d := rand.Uint32(); d != 0 && o.byLocal[d] == nil {
			return d
		}
	}
}

// port returns the port, which is opened if it was not.
func (o *owner) port(key Port) *port {
	if p := o.ports[key]; p != nil {
		return p
	}
	p := &port{Port: key, network: o.opt.Network, events: o.events, resume: make(chan struct{}, 1), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(o.ctx)
	p.cancel = cancel
	o.ports[key] = p
	go p.run(ctx)
	return p
}

// makeWay drops goodbyes to neighbours with which there is a new session by another address or interface of ours: they would be taken
// for its end.
func (o *owner) makeWay() {
	type neighbour struct {
		peer netip.Addr
		port Port
	}
	wanted := map[neighbour]bool{}
	for e, s := range o.seats {
		if s.leaving.IsZero() {
			wanted[neighbour{e.Peer, e.Port()}] = true
		}
	}
	now := time.Now()
	for e, s := range o.seats {
		if !s.leaving.IsZero() && wanted[neighbour{e.Peer, e.Port()}] {
			s.tick(now) // says it once
			o.drop(s)
		}
	}
}

// leaveAll has every session say goodbye.
func (o *owner) leaveAll() {
	now := time.Now()
	for _, s := range o.seats {
		s.leave(now)
	}
	o.blocked, o.dirty = nil, true
}

// drop forgets a session.
func (o *owner) drop(s *seat) {
	s.close()
	delete(o.seats, s.endpoint)
	delete(o.byLocal, s.session.local)
	for _, other := range o.seats {
		if other.port == s.port {
			return
		}
	}
	s.port.stop()
	delete(o.ports, s.port.Port)
}

// heed takes up what a port has to say.
func (o *owner) heed(e event) {
	p := e.port
	if o.ports[p.Port] != p {
		return // ended meanwhile
	}
	opened := p.listener == nil && e.listener != nil
	failed := e.err != nil
	p.listener, p.trouble = e.listener, ""
	if failed {
		p.trouble = e.err.Error()
	}
	if opened || failed {
		for _, s := range o.seats {
			s.idle = s.idle && s.port != p
		}
	}
	if p.listener != nil {
		o.drain(p)
		signal(p.resume)
	}
}

// atOnce is how many datagrams are read in one go: more than a socket's buffer holds by default.
const atOnce = 512

// drain reads what has come in.
func (o *owner) drain(p *port) {
	for range atOnce {
		d, ok := p.listener.Receive()
		if !ok {
			return
		}
		o.rx(p, &d)
	}
}

// rx hands a datagram to its session.
func (o *owner) rx(p *port, d *Datagram) {
	packet, err := Parse(d.Payload)
	if err != nil {
		o.dropped.malformed.Add(1)
		return
	}
	s := o.find(p, d, packet.Yours)
	if s == nil {
		o.dropped.noSession.Add(1)
		return
	}
	switch s.rx(packet, d.TTL, time.Now()) {
	case tooFar:
		o.dropped.ttl.Add(1)
	case notBelieved:
		o.dropped.refused.Add(1)
	case believed:
	}
}

// find returns the session a packet is for (RFC 5880 section 6.3); nil if there is none.
func (o *owner) find(p *port, d *Datagram, discriminator uint32) *seat {
	if discriminator != 0 {
		if s := o.byLocal[discriminator]; s != nil && s.accepts(p, d) {
			return s
		}
		return nil
	}
	var best *seat
	fit := 0
	for _, s := range o.seats {
		if f := s.hears(p, d); f > fit {
			best, fit = s, f
		}
	}
	return best
}

// turn does what is due, and returns when something is due again; the zero time when nothing will be.
func (o *owner) turn() time.Time {
	o.read(time.Now())
	now := time.Now()
	var next time.Time
	for _, s := range o.seats {
		if !s.due(now) {
			next = earliest(next, s.next)
			continue
		}
		s.tick(now)
		if s.gone(now) {
			o.drop(s)
			continue
		}
		next = earliest(next, s.next)
		if st := s.status(); st != s.published {
			s.published, o.dirty = st, true
			s.report(st.LastError)
		}
	}
	o.publish()
	return next
}

// read reads everything that has come in when some neighbour is about to count as lost: if it was us who were late, its packets are
// waiting there.
func (o *owner) read(now time.Time) {
	for _, s := range o.seats {
		if s.overdue(now) && s.port.listener != nil {
			o.drain(s.port)
		}
	}
}

// publish makes the state of the sessions known, if it changed.
func (o *owner) publish() {
	if !o.dirty {
		return
	}
	o.dirty = false
	next := make([]Status, 0, len(o.seats))
	for _, s := range o.seats {
		for _, key := range s.keys {
			st := s.published
			st.Key = key
			next = append(next, st)
		}
	}
	next = slices.AppendSeq(next, maps.Values(o.blocked))
	slices.SortFunc(next, func(a, b Status) int { return strings.Compare(a.Key, b.Key) })
	o.tallies = carry(o.tallies, next)
	o.sessions.Store(&next)
	signal(o.changed)
}

// tally is what was counted for a key: by the session there is, and by those before.
type tally struct {
	session      uint32 // its discriminator
	now, earlier Tally
}

// carry completes statuses by what was counted before their sessions, and returns the tallies of their keys.
func carry(before map[string]tally, list []Status) map[string]tally {
	after := make(map[string]tally, len(list))
	for i := range list {
		st := &list[i]
		t := before[st.Key]
		if t.session != st.Discriminator {
			t = tally{session: st.Discriminator, earlier: Tally{t.earlier.Ups + t.now.Ups, t.earlier.Losses + t.now.Losses}}
		}
		t.now = Tally{st.Ups, st.Losses}
		st.Earlier = t.earlier
		after[st.Key] = t
	}
	return after
}
