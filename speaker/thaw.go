package speaker

import (
	"time"

	"github.com/heraldlb/herald/speaker/member"
)

const (
	beatEvery   = 200 * time.Millisecond
	frozenAfter = time.Second // well beyond what the others need to find a speaker dead
)

// sleptAfter is the same by the wall clock, which may have been set.
const sleptAfter = 5 * time.Second

// pulse tells when the process, or the whole machine, has stood still.
type pulse struct {
	last   time.Time
	thawed time.Time // when it was noticed; zero when all is well
	silent bool      // and nothing is answered for since
}

// beat notes that the loop runs; it reports whether it had stood still for so long that the others have found this speaker dead. A machine
// that slept shows that on its wall clock only.
func (p *pulse) beat(now time.Time) bool {
	still := !p.last.IsZero() && (now.Sub(p.last) > frozenAfter || now.Round(0).Sub(p.last.Round(0)) > sleptAfter)
	p.last = now
	if still {
		p.thawed = now
	}
	return still
}

// thaw keeps a speaker that has stood still from answering until it has heard what happened meanwhile: others have taken its addresses over.
// It reports whether to wait, and how long at most.
func (s *Speaker) thaw(now time.Time, view *member.View) (held bool, wait time.Duration) {
	p := &s.pulse
	p.beat(now)
	if p.thawed.IsZero() {
		return false, 0
	}
	left := settleMost - now.Sub(p.thawed)
	heard := view != nil && view.Heard.After(p.thawed)
	if view == nil || view.Known <= 1 || heard || left <= 0 {
		if p.silent {
			s.opt.Log.Info("answering for addresses again", "heardOthers", heard)
		}
		p.thawed, p.silent = time.Time{}, false
		return false, 0
	}
	if !p.silent {
		p.silent = true
		s.opt.Log.Warn("this process stood still for too long; asking the others what happened before answering for addresses again")
		s.opt.L2.Set(nil, s.opt.Links.Interfaces())
		s.opt.Gossip.Resync()
	}
	return true, left
}
