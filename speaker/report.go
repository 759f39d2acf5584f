package speaker

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/pace"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/member"
)

// Report is what a speaker tells of itself, as values.
type Report struct {
	Interfaces []config.Interface
	Known      int // speakers known to gossip, this one included; 0 while gossip does not run
	Alive      int
	L2         []config.L2Holding
	Sessions   []config.Session
	Troubles   []Trouble // sorted by Reason; empty when all is well
}

// Trouble is something that keeps this speaker from doing its work.
type Trouble struct {
	Reason  string // CamelCase
	Message string // for the operator: what to do
}

func (r Report) equal(o Report) bool {
	return r.Known == o.Known && r.Alive == o.Alive &&
		slices.EqualFunc(r.Interfaces, o.Interfaces, sameInterface) &&
		slices.Equal(r.L2, o.L2) && slices.Equal(r.Troubles, o.Troubles) &&
		slices.EqualFunc(r.Sessions, o.Sessions, config.Session.Equal)
}

func (s *Speaker) report(facts decide.Facts, view *member.View) Report {
	r := Report{
		Interfaces: s.opt.Links.Interfaces(),
		L2:         s.opt.L2.Actual(),
		Sessions:   s.opt.BGP.Sessions(),
	}
	if view != nil {
		r.Known, r.Alive = view.Known, view.Alive
	} else {
		r.Troubles = append(r.Troubles, Trouble{
			Reason:  "GossipDown",
			Message: "gossip does not run (no key yet, or its port is taken): no address is announced by ARP or NDP from this node",
		})
	}
	if !facts.Config.Synced {
		r.Troubles = append(r.Troubles, Trouble{Reason: "NotSynced", Message: "the API server has not yet told what to announce"})
	}
	return r
}

// Bounds on how often a SpeakerStatus is written: the first change after a pause is written at once.
const (
	reportEvery = 250 * time.Millisecond
	reportRetry = 2 * time.Second
)

// StatusWriter writes the SpeakerStatus of this node.
type StatusWriter func(context.Context, Report) error

// Recorder writes reports, at a bounded rate and only when they changed. Make it with NewRecorder.
type Recorder struct {
	write  StatusWriter
	latest atomic.Pointer[Report]
	again  atomic.Bool // write even though nothing changed
	wrote  *Report     // owned by the pacer's goroutine
	pacer  *pace.Pacer
	log    *slog.Logger
}

// NewRecorder returns a Recorder that writes through write; it does nothing until Run.
func NewRecorder(write StatusWriter, log *slog.Logger) *Recorder {
	r := &Recorder{write: write, log: log}
	r.pacer = pace.New(reportEvery, reportRetry, 0, r.flush)
	return r
}

// Report takes what is to be written. It never blocks.
func (r *Recorder) Report(rep Report) {
	if last := r.latest.Swap(&rep); last == nil || !last.equal(rep) {
		r.pacer.Trigger()
	}
}

// Rewrite asks for a write even if nothing changed: the object was deleted or changed by somebody else.
func (r *Recorder) Rewrite() {
	r.again.Store(true)
	r.pacer.Trigger()
}

// Run writes until ctx ends.
func (r *Recorder) Run(ctx context.Context) error { return r.pacer.Run(ctx) }

func (r *Recorder) flush(ctx context.Context) error {
	rep := r.latest.Load()
	if rep == nil {
		return nil
	}
	again := r.again.Swap(false)
	if !again && r.wrote != nil && r.wrote.equal(*rep) {
		return nil
	}
	if err := r.write(ctx, *rep); err != nil {
		r.again.Store(true)
		return err
	}
	r.wrote = rep
	return nil
}
