package speaker

import (
	"context"
	"sync"
	"time"

	"github.com/heraldlb/herald/speaker/member"
)

const (
	beatEvery   = 400 * time.Millisecond
	frozenAfter = time.Second // well beyond what the others need to find a speaker dead
)

// sleptAfter is the same by the wall clock, which may have been set.
const sleptAfter = 5 * time.Second

// pulse tells when the process, or the whole machine, has stood still. It beats in a goroutine of its own: the owner loop may be busy for long, but
// this one only stands still when all does.
type pulse struct {
	hold   func() // for tests: returns when the process may go on; nil: at once
	silent bool   // nothing is answered for since it stood still; of the owner loop

	mu     sync.Mutex
	last   time.Time
	thawed time.Time // when it was noticed; zero when all is well
}

// run beats until ctx ends, and wakes the owner loop when the process had stood still.
func (p *pulse) run(ctx context.Context, wake chan<- struct{}) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		if p.hold != nil {
			p.hold()
		}
		if p.beat(time.Now()) {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// beat notes that the process runs; it reports whether it had stood still for so long that the others have found this speaker dead. A machine
// that slept shows that on its wall clock only.
func (p *pulse) beat(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	still := !p.last.IsZero() && (now.Sub(p.last) > frozenAfter || now.Round(0).Sub(p.last.Round(0)) > sleptAfter)
	p.last = now
	if still {
		p.thawed = now
	}
	return still
}

// stood returns when it was last noticed that the process had stood still, and that is not over; zero when it is.
func (p *pulse) stood() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.thawed
}

// over ends what began at a time that stood returned.
func (p *pulse) over(since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.thawed.Equal(since) {
		p.thawed = time.Time{}
	}
}

// thaw keeps a speaker that has stood still from answering until it has heard what happened meanwhile: others have taken its addresses over.
// It reports whether to wait, and how long at most.
func (s *Speaker) thaw(now time.Time, view *member.View) (held bool, wait time.Duration) {
	p := &s.pulse
	p.beat(now)
	thawed := p.stood()
	if thawed.IsZero() {
		return false, 0
	}
	left := settleMost - now.Sub(thawed)
	heard := view != nil && view.Heard.After(thawed)
	if view == nil || view.Known <= 1 || heard || left <= 0 {
		if p.silent {
			s.opt.Log.Info("answering for addresses again", "heardOthers", heard)
		}
		p.over(thawed)
		p.silent = false
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
