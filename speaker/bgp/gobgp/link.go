package gobgp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/speaker/bgp"
)

// link is a connection that a session stands on, or tries to.
type link struct {
	*session
	bgp.Neighbor // with the address that was found, if it is not configured
	wire         *wire
	terms        terms
	local        bgp.Local
	resolver     bgp.Resolver
	sent         bgp.Table // what the peer was told
	complete     bool      // the peer was told that it knows all routes
}

// part reports the end, says goodbye as fits the error, and returns the error.
func (l *link) part(ctx context.Context, up time.Time, err error) error {
	l.failed(ctx, up, err) // first: a peer that is gone takes a while to say goodbye to
	if ctx.Err() != nil {
		if cause := context.Cause(ctx); l.stay(cause) {
			l.wire.hangUp(rebuke) // the connection just ends, and that keeps the routes (RFC 4724 section 4.2)
		} else {
			l.leave(ctx, cause)
		}
		return err
	}
	var f *fault
	if errors.As(err, &f) && l.wire.send(ctx, rebuke, f.message()) == nil {
		l.wire.drain(rebuke)
	}
	return err
}

// leave ends the session for good. A peer that keeps routes over a restart has them withdrawn by name, so that nothing stays there whatever
// it makes of the NOTIFICATION.
func (l *link) leave(ctx context.Context, cause error) {
	var messages [][]byte
	if l.terms.graceful {
		_, withdraw := bgp.Diff(l.sent, nil)
		messages = updates(l.Neighbor, l.terms, nil, withdraw)
	}
	if l.wire.send(ctx, goodbye, append(messages, cease(cause).message())...) == nil {
		l.wire.drain(goodbye)
	}
}

// stay reports whether our routes are to stay at the peer when the session ends for the given cause, and will.
func (l *link) stay(cause error) bool {
	return l.terms.graceful && (errors.Is(cause, bgp.ErrRestarting) || errors.Is(cause, bgp.ErrReopened))
}

// next returns the peer's next message. It ends with ctx, after the given time (with late), or with the connection.
func (l *link) next(ctx context.Context, within time.Duration, late *fault) (frame, error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return frame{}, context.Cause(ctx)
	case <-timer.C:
		return frame{}, late
	case f, ok := <-l.wire.frames:
		if !ok {
			return frame{}, l.lost()
		}
		if f.kind == packet.BGP_MSG_NOTIFICATION {
			return frame{}, notified(l.Neighbor, f.body)
		}
		return f, nil
	}
}

// lost says why reading ended.
func (l *link) lost() error {
	var f *fault
	switch err := l.wire.err; {
	case errors.As(err, &f):
		return f
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		if !l.wire.up.Load() {
			return &refusal{"the router closed the connection without a word; is this node configured there as neighbour, with this address?"}
		}
		return &refusal{"the router closed the connection"}
	default:
		return &refusal{fmt.Sprintf("connection lost: %s", rootCause(err))}
	}
}

// handshake exchanges OPEN and KEEPALIVE (RFC 4271 section 8.2.2, states OpenSent and OpenConfirm).
func (l *link) handshake(ctx context.Context) (terms, error) {
	if err := l.tell(ctx, l.limit(l.Hold), openMessage(l.Neighbor, !l.held)); err != nil {
		return terms{}, err
	}
	l.board.enter(bgp.OpenSent)
	f, err := l.next(ctx, l.limit(l.Hold), newFault(packet.BGP_ERROR_HOLD_TIMER_EXPIRED, 0, nil,
		fmt.Sprintf("the router accepted the connection but said nothing for %s%s", l.limit(l.Hold), muteHint(l.Neighbor))))
	if err != nil {
		return terms{}, err
	}
	if f.kind != packet.BGP_MSG_OPEN {
		return terms{}, unexpected(f, packet.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENSENT_STATE)
	}
	t, err := negotiate(l.Neighbor, f.body)
	if err != nil {
		return terms{}, err
	}
	if err := l.tell(ctx, l.limit(t.hold), keepalive()); err != nil {
		return terms{}, err
	}
	l.board.enter(bgp.OpenConfirm)
	f, err = l.next(ctx, l.limit(t.hold), newFault(packet.BGP_ERROR_HOLD_TIMER_EXPIRED, 0, nil,
		fmt.Sprintf("the router did not confirm the session within %s%s", l.limit(t.hold), muteHint(l.Neighbor))))
	if err != nil {
		return terms{}, err
	}
	if f.kind != packet.BGP_MSG_KEEPALIVE {
		return terms{}, unexpected(f, packet.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENCONFIRM_STATE)
	}
	return t, nil
}

// muteHint says why nothing may get through a connection although it exists: routers apply TTL security after they accepted it.
func muteHint(n bgp.Neighbor) string {
	switch {
	case n.TTLSecurity:
		return "; spec.ttlSecurity is on: is it on at the router, too?"
	case !n.Internal() && !n.MultiHop:
		return "; if the router has TTL security on, spec.ttlSecurity is needed"
	}
	return ""
}

// limit returns the given hold time, or our patience when there is none.
func (l *link) limit(hold time.Duration) time.Duration {
	if hold <= 0 {
		return patience
	}
	return hold
}

func unexpected(f frame, subcode uint8) *fault {
	return newFault(packet.BGP_ERROR_FSM_ERROR, subcode, nil, fmt.Sprintf("the router sent a message of type %d out of turn", f.kind))
}

// tell sends messages. A write that fails because the peer went away is explained by what the peer said last, if it said anything.
func (l *link) tell(ctx context.Context, within time.Duration, messages ...[]byte) error {
	err := l.wire.send(ctx, within, messages...)
	var timeout net.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &timeout) && timeout.Timeout():
		return &refusal{fmt.Sprintf("the router has read nothing of what it was sent for %s", within)}
	}
	l.wire.conn.SetReadDeadline(time.Now().Add(rebuke))
	for f := range l.wire.frames {
		if f.kind == packet.BGP_MSG_NOTIFICATION {
			return notified(l.Neighbor, f.body)
		}
	}
	return l.lost()
}

// hold keeps an established session: it tells the peer what changes, sends KEEPALIVEs and watches the peer's (RFC 4271 section 8.2.2,
// state Established). It returns why the session ended.
func (l *link) hold(ctx context.Context) error {
	l.establish()
	if err := l.update(ctx); err != nil {
		return err
	}
	alive, silent := newTimer(l.nextKeepalive()), newTimer(l.terms.hold)
	defer alive.Stop()
	defer silent.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.wake:
			err = l.update(ctx)
		case f, ok := <-l.wire.frames:
			if !ok {
				return l.lost()
			}
			err = l.receive(ctx, f)
		case <-alive.C:
			err = l.tell(ctx, l.limit(l.terms.hold), keepalive())
			alive.Reset(l.nextKeepalive())
		case <-silent.C:
			rest := l.terms.hold - l.wire.silence()
			if rest <= 0 {
				return newFault(packet.BGP_ERROR_HOLD_TIMER_EXPIRED, 0, nil,
					fmt.Sprintf("hold timer expired: nothing heard from the router for %s", l.terms.hold))
			}
			silent.Reset(rest)
		}
		if err != nil {
			return err
		}
	}
}

// newTimer returns a timer, or one that never fires when d is not positive.
func newTimer(d time.Duration) *time.Timer {
	t := time.NewTimer(max(d, time.Hour))
	t.Stop()
	if d > 0 {
		t.Reset(d)
	}
	return t
}

func (l *link) nextKeepalive() time.Duration { return jitter(l.terms.keepalive) }

func (l *link) establish() {
	l.wire.up.Store(true)
	l.local = bgp.Local{
		Address:         localAddress(l.wire.conn),
		Families:        l.terms.families,
		ExtendedNextHop: l.terms.extendedNextHop,
		Unnumbered:      l.Interface != "",
		Internal:        l.Internal(),
	}
	up := bgp.Status{
		Local:    l.local.Address.WithZone(""),
		Remote:   l.Address,
		PeerASN:  l.terms.asn,
		Families: l.terms.families,
		Hold:     l.terms.hold,
	}
	if l.terms.graceful {
		up.Restart = l.Restart.RestartTime
	}
	l.board.establish(up, l.terms.complaint)
	l.log.Info("BGP session established", "local", l.local.Address, "families", familyList(l.terms.families), "hold", l.terms.hold,
		"gracefulRestart", up.Restart)
	if l.terms.complaint != "" {
		l.log.Warn("BGP session is not all that was asked for", "reason", l.terms.complaint)
	}
}

// receive handles a message in state Established.
func (l *link) receive(ctx context.Context, f frame) error {
	switch f.kind {
	case packet.BGP_MSG_KEEPALIVE:
		return nil
	case packet.BGP_MSG_NOTIFICATION:
		return notified(l.Neighbor, f.body)
	case packet.BGP_MSG_UPDATE: // read before the session was established on our side
		l.board.count(f.body)
		return nil
	case packet.BGP_MSG_ROUTE_REFRESH:
		return l.refresh(ctx, f.body)
	default:
		return unexpected(f, packet.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_ESTABLISHED_STATE)
	}
}

// refresh tells the peer everything of one family again (RFC 2918 section 4). The octet between AFI and SAFI is 0 in a plain request;
// others mark the borders of an enhanced refresh, which we do not offer.
func (l *link) refresh(ctx context.Context, body []byte) error {
	if len(body) != 4 || body[2] != 0 {
		return nil
	}
	if err := l.update(ctx); err != nil { // withdrawals that are due would get lost below
		return err
	}
	for _, f := range l.terms.families.List() {
		afi, safi := packet.RouteFamilyToAfiSafi(routeFamily(f))
		if body[0] != byte(afi>>8) || body[1] != byte(afi) || body[3] != safi {
			continue
		}
		l.sent = l.sent.Without(f)
	}
	return l.update(ctx)
}

// update tells the peer the difference between what it was told and what it should be told; the first time also that this is all, so that
// it drops what it kept from an earlier session and was not told again (RFC 4724 section 4.1).
func (l *link) update(ctx context.Context) error {
	a := l.advert.Load()
	if a == nil {
		return nil // nobody has said yet what there is to advertise
	}
	l.local.NICs = l.interfaces()
	want, left := l.resolver.Resolve(*a, l.local)
	announce, withdraw := bgp.Diff(l.sent, want)
	messages := updates(l.Neighbor, l.terms, announce, withdraw)
	told := len(messages)
	if !l.complete && l.terms.graceful {
		for _, f := range l.terms.families.List() {
			messages = append(messages, endOfRIB(f))
		}
	}
	if len(messages) > 0 {
		if err := l.tell(ctx, l.limit(l.terms.hold), messages...); err != nil {
			return err
		}
	}
	l.complete = true
	l.sent = want
	l.board.update(func(st *bgp.Status) {
		st.Sent += uint64(told)
		st.Advertised = want.Count()
		if words := complaint(left); words != "" {
			st.LastError = words
		}
	})
	return nil
}

// complaint says what is not advertised, and why.
func complaint(left bgp.Left) string {
	switch {
	case left.Stranded != bgp.Families{}:
		return fmt.Sprintf("%s routes are not advertised: this node has no %s address that could be their next hop",
			familyList(left.Stranded), familyList(left.Stranded))
	case left.Oversized > 0:
		return fmt.Sprintf("%d routes are not advertised: they have more communities than a BGP message can carry", left.Oversized)
	}
	return ""
}

// interfaces returns the node's interfaces; they are asked for only when a family needs more than the session's own address.
func (l *link) interfaces() []bgp.NIC {
	f := l.terms.families
	if own := l.local.Address; !own.IsLinkLocalUnicast() && (own.Is4() && !f.IPv6 || own.Is6() && (!f.IPv4 || l.terms.extendedNextHop)) {
		return nil
	}
	nics, err := l.nics()
	if err != nil {
		l.log.Warn("next hops are chosen among the addresses that Kubernetes knows", "reason", err)
	}
	return nics
}
