package bfd

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/config"
)

// seat is a wanted session, or one that is saying goodbye.
type seat struct {
	endpoint Endpoint
	log      *slog.Logger
	keys     []string // of the wants it serves, sorted
	profile  config.BFDProfile
	port     *port
	session  *Session
	leaving  time.Time // not zero: nobody wants it any more, and it goes at this time at the latest
	next     time.Time // when there is something to do; zero: when something comes in
	idle     bool      // next holds; false: look now

	sender   Sender    // nil while there is none
	failures int       // to open one, in a row
	retry    time.Time // when to try again
	trouble  string    // why there is none
	refused  bool      // nobody listens at the neighbour's
	far      int       // TTL of packets that came from too far away; 0: none since the last good one

	since        time.Time
	ups, losses  uint64
	published    Status // without key
	lastReported string
}

// newSeat returns the seat for an endpoint, in state Down.
func newSeat(e Endpoint, discriminator uint32, p config.BFDProfile, log *slog.Logger) *seat {
	return &seat{
		endpoint: e, profile: p, session: NewSession(discriminator, p), since: time.Now(),
		log: log.With("peer", e.Peer, "interface", e.Interface, "multihop", e.Multihop),
	}
}

// configure takes another profile.
func (s *seat) configure(p config.BFDProfile) {
	if p != s.profile {
		s.profile = p
		s.session.Configure(p)
		s.idle = false
	}
}

// leave has the session say goodbye. It may come back.
func (s *seat) leave(now time.Time) {
	if !s.leaving.IsZero() {
		return
	}
	s.leaving, s.keys, s.idle = now.Add(linger), nil, false
	before := s.session.State()
	s.session.Disable()
	s.watch(now, before)
}

// comeBack ends the goodbye.
func (s *seat) comeBack(now time.Time) {
	if s.leaving.IsZero() {
		return
	}
	s.leaving, s.idle = time.Time{}, false
	s.session.Enable()
	s.watch(now, AdminDown)
}

// gone reports whether the goodbye has been heard, or there was time enough for it, or nobody to say it to.
func (s *seat) gone(now time.Time) bool {
	if s.leaving.IsZero() {
		return false
	}
	return s.sender == nil || s.session.Heeded() || !now.Before(s.leaving)
}

// due reports whether tick has something to do.
func (s *seat) due(now time.Time) bool { return !s.idle || !s.next.IsZero() && !now.Before(s.next) }

// overdue reports whether the neighbour will count as lost at the next tick.
func (s *seat) overdue(now time.Time) bool {
	d := s.session.Deadline()
	return !d.IsZero() && !now.Before(d)
}

// tick lets the session do what is due and sends what it wants to send. While it cannot hear, a session does not speak to a neighbour that
// it has not heard before: another BFD daemon of this node may be talking with it.
func (s *seat) tick(now time.Time) {
	s.idle = true
	if s.leaving.IsZero() {
		if s.port.listener == nil && s.session.Deadline().IsZero() {
			s.next = time.Time{} // the port will say when
			return
		}
		s.open(now)
	}
	before := s.session.State()
	for {
		p, ok := s.session.Tick(now)
		before = s.watch(now, before)
		if !ok {
			break
		}
		s.send(p, now)
	}
	s.next = earliest(s.session.Next(), s.leaving)
	if s.sender == nil {
		s.next = earliest(s.session.Deadline(), s.leaving, s.retry)
	}
}

// earliest returns the earliest of the times that are not zero; the zero time if all are.
func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if first.IsZero() || !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	return first
}

// open makes sure that there is a sender, if it is time to try.
func (s *seat) open(now time.Time) {
	if s.sender != nil || now.Before(s.retry) {
		return
	}
	sender, err := s.port.network.Dial(s.endpoint)
	if err != nil {
		s.broken(err, now)
		return
	}
	s.sender, s.trouble = sender, ""
}

// broken notes that there is no sender, and when to try again.
func (s *seat) broken(err error, now time.Time) {
	s.failures++
	s.trouble, s.retry = err.Error(), now.Add(min(backoff().After(s.failures), s.session.Interval()))
}

// send sends a packet. A sender that fails is opened anew: the address it was bound to may be gone.
func (s *seat) send(p Packet, now time.Time) {
	if s.sender == nil {
		return
	}
	err := s.sender.Send(p.Append(make([]byte, 0, packetSize)))
	switch {
	case errors.Is(err, ErrRefused):
		s.refused = true
	case err != nil:
		s.broken(err, now)
		s.close()
	default:
		s.failures = 0
	}
}

// rx takes in a packet that is for this session. It reports what to count it as.
func (s *seat) rx(p Packet, ttl int, now time.Time) verdict {
	least := 255
	if s.endpoint.Multihop {
		least = int(s.profile.MinimumTTL)
	}
	if ttl < least {
		if s.far == 0 && s.session.State() != Up {
			s.far, s.idle = ttl, false
		}
		return tooFar
	}
	before := s.session.State()
	if !s.session.Rx(p, now) {
		return notBelieved
	}
	s.far, s.refused, s.idle = 0, false, false
	s.watch(now, before)
	return believed
}

// verdict is what became of a packet.
type verdict uint8

const (
	believed verdict = iota
	tooFar
	notBelieved
)

// watch notes and logs a change of state since before. It returns the state.
func (s *seat) watch(now time.Time, before State) State {
	state := s.session.State()
	if state == before {
		return state
	}
	s.since = now
	switch {
	case state == Up:
		s.ups++
		s.log.Info("BFD session is up")
	case before != Up:
	case state == AdminDown:
		s.log.Info("BFD session ended on purpose")
	case s.session.remote.state == AdminDown:
		s.log.Info("the neighbour ended the BFD session on purpose")
	default:
		s.losses++
		s.log.Warn("BFD session went down", "reason", s.session.diag.String(), "neighborReason", s.session.remote.diag.String())
	}
	return state
}

// status returns the state of the seat, without a key.
func (s *seat) status() Status {
	r := &s.session.remote
	st := Status{
		Peer: s.endpoint.Peer, Local: s.endpoint.Local, Multihop: s.endpoint.Multihop,
		State: s.session.state, Since: s.since, Diagnostic: s.session.diag,
		RemoteState: r.state, RemoteDiagnostic: r.diag,
		Discriminator: s.session.local, RemoteDiscriminator: r.discriminator,
		TransmitInterval: s.session.Interval(), DetectionTime: s.session.DetectionTime(),
		Ups: s.ups, Losses: s.losses, LastError: s.problem(),
	}
	if s.sender != nil {
		st.Local = s.sender.Local()
	}
	return st
}

// problem says what keeps the session from working; empty when nothing is known to.
func (s *seat) problem() string {
	switch {
	case s.port.trouble != "":
		return s.port.trouble
	case s.trouble != "":
		return s.trouble
	case s.far > 0 && s.endpoint.Multihop:
		return fmt.Sprintf("packets from %s arrive with TTL %d, less than minimumTtl %d allows", s.endpoint.Peer, s.far, s.profile.MinimumTTL)
	case s.far > 0:
		return fmt.Sprintf("packets from %s arrive with TTL %d, so it is more than one hop away; a multihop session is needed", s.endpoint.Peer, s.far)
	case s.refused:
		return fmt.Sprintf("%s does not run BFD: it refuses UDP port %d; configure BFD for this node's address there", s.endpoint.Peer, s.endpoint.Port().Number())
	}
	return ""
}

// report logs what keeps the session from working, once.
func (s *seat) report(problem string) {
	if problem == s.lastReported {
		return
	}
	s.lastReported = problem
	if problem != "" {
		s.log.Warn("BFD session cannot work", "reason", problem)
	}
}

// hears reports how well a packet without our discriminator fits: 0 not at all, and the more the better. Its addresses must be those that
// we send with, also where the kernel has chosen ours: the neighbour would not take our packets for an answer otherwise.
func (s *seat) hears(p *port, d *Datagram) int {
	if p != s.port || d.From != s.endpoint.Peer || s.sender == nil || d.To != s.sender.Local() {
		return 0
	}
	fit := 1
	if s.leaving.IsZero() {
		fit += 2
	}
	if s.endpoint.Interface != "" {
		if d.Interface != s.sender.Interface() {
			return 0
		}
		fit++
	}
	return fit
}

// accepts reports whether a packet that carries our discriminator may be for us. Within one hop the discriminator alone decides (RFC
// 5880 section 6.3), as a router may answer from another of its addresses; from further away the address must be right too.
func (s *seat) accepts(p *port, d *Datagram) bool {
	return p == s.port && (!s.endpoint.Multihop || d.From == s.endpoint.Peer)
}

// close closes the sender.
func (s *seat) close() {
	if s.sender == nil {
		return
	}
	if err := s.sender.Close(); err != nil {
		s.log.Debug("closing a socket failed", "error", err)
	}
	s.sender = nil
}

// plain returns the address as datagrams carry it.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
