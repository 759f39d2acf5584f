package bgp

// account is what the sessions with one peer have been through, one after the other.
type account struct {
	past     Counters  // of sessions that are forgotten
	sessions []sitting // the others, in order
}

// sitting is a session of an account.
type sitting struct {
	Session
	gone <-chan struct{} // closed when the session has said goodbye: it counts nothing any more
}

// sum adds up what is counted now.
func (a account) sum() Counters {
	out := a.past
	for _, s := range a.sessions {
		out = out.plus(s.Status().Counters)
	}
	return out
}

// next returns the account with one more session, and without those that are over but for what they counted. The account itself stays as it
// is, as others may be reading it.
func (a account) next(s sitting) account {
	out := account{past: a.past}
	for _, old := range a.sessions {
		select {
		case <-old.gone:
			out.past = out.past.plus(old.Status().Counters)
		default:
			out.sessions = append(out.sessions, old)
		}
	}
	out.sessions = append(out.sessions, s)
	return out
}

func (c Counters) plus(d Counters) Counters {
	return Counters{
		Sent: c.Sent + d.Sent, Received: c.Received + d.Received, Refused: c.Refused + d.Refused, Ups: c.Ups + d.Ups, Downs: c.Downs + d.Downs,
	}
}
