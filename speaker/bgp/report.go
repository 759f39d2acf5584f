package bgp

import (
	"cmp"
	"maps"
	"slices"

	"github.com/heraldlb/herald/config"
)

// publish makes the state of the sessions known, when it changed.
func (o *owner) publish() {
	next := make([]config.Session, 0, len(o.seats))
	for _, name := range slices.Sorted(maps.Keys(o.seats)) {
		next = append(next, o.seats[name].report(name))
	}
	held := maps.Clone(o.accounts)
	o.held.Store(&held)
	if last := o.Announcer.sessions.Load(); last != nil && slices.EqualFunc(*last, next, sameSession) {
		return
	}
	o.Announcer.sessions.Store(&next)
	signal(o.changed)
}

func (s *seat) report(name string) config.Session {
	n := s.neighbor
	out := config.Session{
		Peer:       name,
		Address:    n.address(),
		State:      string(Idle),
		LocalASN:   n.LocalASN,
		PeerASN:    n.PeerASN,
		Advertised: map[config.Family]int{},
		LastError:  s.blocked,
	}
	if n.Source.IsValid() {
		out.LocalAddress = n.Source.String()
	}
	if s.session == nil {
		return out
	}
	st := s.session.Status()
	out.State, out.Since, out.LastError, out.HoldTime, out.Restart = string(st.State), st.Since, st.LastError, st.Hold, st.Restart
	if st.Remote.IsValid() {
		out.Address = st.Remote.String()
	}
	if st.PeerASN != 0 {
		out.PeerASN = st.PeerASN
	}
	if st.Local.IsValid() {
		out.LocalAddress = st.Local.String()
	}
	if s.bfd != nil {
		out.BFD = cmp.Or(s.sight.State, "Down")
		if out.LastError == "" && s.sight.LastError != "" {
			out.LastError = "BFD: " + s.sight.LastError
		}
	}
	out.Families = st.Families.List()
	for _, f := range out.Families {
		out.Advertised[f] = *st.Advertised.Of(f)
	}
	return out
}

// address is that of the router as far as it is configured.
func (n Neighbor) address() string {
	if n.Interface != "" {
		return n.Interface
	}
	return n.Address.String()
}

func sameSession(a, b config.Session) bool {
	return a.Peer == b.Peer && a.Address == b.Address && a.LocalAddress == b.LocalAddress && a.State == b.State && a.Since.Equal(b.Since) &&
		a.LocalASN == b.LocalASN && a.PeerASN == b.PeerASN && slices.Equal(a.Families, b.Families) && a.HoldTime == b.HoldTime &&
		maps.Equal(a.Advertised, b.Advertised) && a.Restart == b.Restart && a.BFD == b.BFD && a.LastError == b.LastError
}
