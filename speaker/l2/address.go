package l2

import (
	"time"

	"github.com/heraldlb/herald/speaker/l2/frame"
)

// phase is how far an endpoint is with an address.
type phase uint8

const (
	answering phase = iota // it is answered for
	looking                // probes go out: is it free?
	taken                  // somebody uses it: wait, then look again
)

// address is what an endpoint knows of one of its addresses.
type address struct {
	task
	phase phase
	held  time.Time // since when it is answered for and requests reach us; zero: not yet
	user  user      // whom probes found, until they find nobody
	hasty bool      // the next user that is found may be a speaker that is about to cease
	turn  turn
}

// user is a foreign station that uses an address.
type user struct {
	mac         string
	first, last time.Time
}

// answer returns what the responder is to do about the address.
func (a *address) answer() frame.Answer {
	switch {
	case a.phase != answering:
		return frame.Answer{Addr: a.addr, Role: frame.Watched}
	case a.standIn:
		return frame.Answer{Addr: a.addr, Role: frame.StandIn, MAC: a.mac}
	default:
		return frame.Answer{Addr: a.addr}
	}
}

// announced reports whether the neighbours are to be told of the address.
func (a *address) announced() bool { return a.phase == answering && !a.standIn }

// merge walks over two sorted lists: each address of the old one that is not in the new one is handed to gone, each of the new one to
// keep or come. It returns the addresses of the new list, in order.
func merge(old []*address, tasks []task, gone func(*address), keep func(*address, task), come func(task) *address) []*address {
	out := make([]*address, 0, len(tasks))
	for _, t := range tasks {
		for len(old) > 0 && old[0].addr.Less(t.addr) {
			gone(old[0])
			old = old[1:]
		}
		if len(old) > 0 && old[0].addr == t.addr {
			keep(old[0], t)
			out = append(out, old[0])
			old = old[1:]
			continue
		}
		out = append(out, come(t))
	}
	for _, a := range old {
		gone(a)
	}
	return out
}
