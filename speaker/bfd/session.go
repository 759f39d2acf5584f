package bfd

import (
	"math/rand/v2"
	"time"

	"github.com/heraldlb/herald/config"
)

// slow is the least interval of transmission while a session is not up (RFC 5880 section 6.8.3).
const slow = time.Second

// soonest is what a neighbour is taken to accept until it says something else (bfd.RemoteMinRxInterval, RFC 5880 section 6.8.1).
const soonest = time.Microsecond

// Session is one BFD session as a value: it has no clock and no socket. Its owner hands it packets and the time, and sends what Tick
// returns. The time must not go backwards. It is not safe for concurrent use.
//
// One poll sequence runs at a time; what is configured meanwhile waits for its end (RFC 5880 section 6.5).
type Session struct {
	local   uint32
	profile config.BFDProfile // as wanted
	state   State
	diag    Diagnostic
	said    intervals // what our packets carry
	used    intervals // what is in force, which may lag behind while the neighbour has not confirmed
	polling bool
	final   bool // a Poll waits for its answer
	urgent  bool // the neighbour should hear of a change before the next regular packet
	remote  remote
	heard   time.Time // the last packet; zero when the neighbour is not known
	sent    time.Time // the last packet of ours; zero before the first
	spread  float64   // the part of the interval after which the next one goes out
	random  *rand.Rand
}

// intervals are bfd.DesiredMinTxInterval and bfd.RequiredMinRxInterval.
type intervals struct{ tx, rx time.Duration }

// remote is what the neighbour last said of itself.
type remote struct {
	discriminator uint32 // 0: not known
	state         State
	diag          Diagnostic
	tx, rx        time.Duration // DesiredMinTx and RequiredMinRx
	multiplier    uint8
	demand        bool
}

func stranger() remote { return remote{state: Down, rx: soonest} }

// NewSession returns a session in state Down. The discriminator, which must not be 0, tells it from the other sessions of this host
// and seeds its jitter. The profile's intervals and multiplier must not be 0.
func NewSession(discriminator uint32, p config.BFDProfile) *Session {
	s := &Session{
		local:   discriminator,
		profile: p,
		state:   Down,
		remote:  stranger(),
		random:  rand.New(rand.NewPCG(uint64(discriminator), 0)),
	}
	s.said = s.wanted()
	s.used = s.said
	return s
}

// wanted is what our packets should carry in this state.
func (s *Session) wanted() intervals {
	w := intervals{tx: s.profile.TransmitInterval, rx: s.profile.ReceiveInterval}
	if s.state != Up {
		w.tx = max(w.tx, slow)
	}
	return w
}

// Configure changes the profile without a break: while the session is up, by a poll sequence.
func (s *Session) Configure(p config.BFDProfile) {
	if p.DetectMultiplier != s.profile.DetectMultiplier {
		s.urgent = true
	}
	s.profile = p
	s.retime()
}

// retime starts to use another profile, unless a poll sequence is under way, which is to be answered first.
func (s *Session) retime() {
	if !s.polling || s.state != Up {
		s.adopt()
	}
}

// adopt says what is wanted. RFC 5880 section 6.8.3: every change is polled for; while the session is up, a longer interval of
// transmission and a shorter one of reception are used only when the poll has been answered, because until then the neighbour goes by
// the old ones.
func (s *Session) adopt() {
	want := s.wanted()
	if want == s.said {
		return
	}
	s.said = want
	if s.state == Up {
		s.used.tx = min(s.used.tx, want.tx)
		s.used.rx = max(s.used.rx, want.rx)
	} else {
		s.used = want
	}
	s.polling = s.remote.discriminator != 0
	s.urgent = true
}

// confirmed ends a poll sequence: the neighbour knows what we said.
func (s *Session) confirmed() {
	s.polling = false
	s.used = s.said
	s.adopt()
}

// Enable ends being administratively down.
func (s *Session) Enable() { s.step(Enable) }

// Disable makes the session administratively down. It goes on saying so when it is ticked.
func (s *Session) Disable() { s.step(Disable) }

func (s *Session) step(e Event) {
	next, do := Step(s.state, e)
	s.state = next
	if do.Record {
		s.diag = do.Diagnostic
	}
	if do.Retime {
		s.used = s.said // whoever is not up holds nothing back
		s.adopt()
	}
	s.urgent = s.urgent || do.Tell
}

// Rx takes in a packet that was found to be for this session. It reports false when the packet was not believed. Call Tick afterwards.
func (s *Session) Rx(p Packet, now time.Time) bool {
	if p.Authenticated || p.Yours != 0 && p.Yours != s.local {
		return false
	}
	s.remote = remote{
		discriminator: p.Mine, state: p.State, diag: p.Diagnostic,
		tx: p.DesiredMinTx, rx: p.RequiredMinRx, multiplier: p.Multiplier, demand: p.Demand,
	}
	s.heard = now
	if p.Final && s.polling {
		s.confirmed()
	}
	if s.state == AdminDown {
		return true // noted, not acted upon (RFC 5880 section 6.8.6)
	}
	s.step(hears(p.State))
	s.final = s.final || p.Poll
	return true
}

// Tick does what is due. It returns a packet to send, and true, until there is nothing more to send now.
func (s *Session) Tick(now time.Time) (Packet, bool) {
	if d := s.Deadline(); !d.IsZero() && !now.Before(d) {
		s.lost()
	}
	switch {
	case s.final:
		s.final = false
		return s.packet(now, true), true
	case s.urgent && s.speaks():
		return s.packet(now, false), true
	case s.periodic() && !now.Before(s.nextTx()):
		return s.packet(now, false), true
	}
	return Packet{}, false
}

// lost is what a detection time without a packet means. That the neighbour's interval of reception is forgotten too goes beyond RFC 5880
// section 6.8.1: had it been 0, two ends that both forgot each other might wait for each other for ever.
func (s *Session) lost() {
	s.remote, s.heard, s.polling, s.final = stranger(), time.Time{}, false, false
	s.step(Expire)
}

// Next returns when Tick has something to do again, the zero time when only a packet can change anything. It is to be asked after Tick
// has returned false.
func (s *Session) Next() time.Time {
	next := s.Deadline()
	if !s.periodic() {
		return next
	}
	if tx := s.nextTx(); next.IsZero() || tx.Before(next) {
		next = tx
	}
	return next
}

// Deadline returns when the neighbour counts as lost unless a packet comes; the zero time when it is not known.
func (s *Session) Deadline() time.Time {
	if s.heard.IsZero() {
		return time.Time{}
	}
	return s.heard.Add(s.DetectionTime())
}

// DetectionTime returns how long the neighbour may be silent (RFC 5880 section 6.8.4); 0 when it is not known.
func (s *Session) DetectionTime() time.Duration {
	return time.Duration(s.remote.multiplier) * max(s.used.rx, s.remote.tx)
}

// Interval returns the time between two of our packets before jitter (RFC 5880 section 6.8.2).
func (s *Session) Interval() time.Duration { return max(s.used.tx, s.remote.rx) }

// speaks reports whether anything but the answer to a Poll may be sent: a passive end waits to be spoken to (RFC 5880 section 6.8.7).
func (s *Session) speaks() bool { return !s.profile.Passive || s.remote.discriminator != 0 }

// periodic reports whether packets go out regularly (RFC 5880 section 6.8.7).
func (s *Session) periodic() bool {
	if !s.speaks() || s.remote.rx == 0 {
		return false
	}
	asked := s.remote.demand && s.state == Up && s.remote.state == Up
	return !asked || s.polling
}

func (s *Session) nextTx() time.Time {
	if s.sent.IsZero() {
		return s.sent // at once
	}
	return s.sent.Add(time.Duration(s.spread * float64(s.Interval())))
}

// packet returns the packet to send now and counts it as sent.
func (s *Session) packet(now time.Time, final bool) Packet {
	s.urgent = s.urgent && final && s.polling // an answer says everything that has changed, but cannot poll
	s.sent, s.spread = now, s.jitter()
	return Packet{
		Diagnostic:    s.diag,
		State:         s.state,
		Poll:          s.polling && !final,
		Final:         final,
		Multiplier:    s.profile.DetectMultiplier,
		Mine:          s.local,
		Yours:         s.remote.discriminator,
		DesiredMinTx:  s.said.tx,
		RequiredMinRx: s.said.rx,
	}
}

// jitter returns the part of the interval to wait: 75 to 100 %, and at most 90 % where one lost packet is a lost session
// (RFC 5880 section 6.8.7).
func (s *Session) jitter() float64 {
	least, most := 0.75, 1.0
	if s.profile.DetectMultiplier == 1 {
		most = 0.9
	}
	return least + (most-least)*s.random.Float64()
}

// State returns the state of the session.
func (s *Session) State() State { return s.state }

// Discriminator returns the session's own discriminator.
func (s *Session) Discriminator() uint32 { return s.local }

// Heeded reports whether the neighbour need not be told any more that the session is administratively down: it has heard it, or there
// is none.
func (s *Session) Heeded() bool {
	return s.state == AdminDown && !s.urgent && (s.remote.discriminator == 0 || s.remote.state == Down || s.remote.state == AdminDown)
}
