package speaker

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/config"
)

// stays fails when an address is elsewhere than before.
func (w *town) stays(when string, before map[netip.Addr]string) {
	w.t.Helper()
	if diff := cmp.Diff(before, w.where(when), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		w.t.Errorf("%s: moved (-before +after):\n%s", when, diff)
	}
}

func TestRestartInPlaceMovesNothing(t *testing.T) {
	story(t, func(t *testing.T, w *town) {
		before := w.where("before")
		w.restart("b")
		w.stays("while b is away", before)
		time.Sleep(20 * time.Second)
		w.stays("long after b went", before)
		w.start("b")
		time.Sleep(5 * time.Second)
		w.stays("when b is back", before)
		if silent, double, moves := w.seen(); silent > 0 || double > 0 || moves > 0 {
			t.Errorf("unanswered for %v, answered in two names for %v, %d moves", silent, double, moves)
		}
		w.mu.Lock()
		for _, h := range w.houses {
			for _, a := range h.answers {
				if a.For != "" {
					t.Errorf("%s still stands in for %s", h.name, a.For)
				}
			}
		}
		w.mu.Unlock()
	})
}

func TestRollingRestartMovesNothing(t *testing.T) {
	story(t, func(t *testing.T, w *town) {
		before := w.where("before")
		for _, name := range []string{"a", "b", "c", "d", "a", "b", "c", "d"} {
			w.restart(name)
			time.Sleep(time.Second)
			w.start(name)
			for !w.houses[name].speaker.Ready() {
				time.Sleep(10 * time.Millisecond)
			}
		}
		time.Sleep(5 * time.Second)
		w.stays("afterwards", before)
		if silent, double, moves := w.seen(); silent > 0 || double > 0 || moves > 0 {
			t.Errorf("unanswered for %v, answered in two names for %v, %d moves", silent, double, moves)
		}
	})
}

// Two restart at once, and each may be the other's stand-in.
func TestTwoRestartAtOnce(t *testing.T) {
	story(t, func(t *testing.T, w *town) {
		before := w.where("before")
		both := make(chan struct{})
		go func() { w.restart("a"); close(both) }()
		w.restart("b")
		<-both
		time.Sleep(time.Second)
		w.stays("while both are away", before)
		w.start("a", "b")
		time.Sleep(5 * time.Second)
		w.stays("afterwards", before)
		if _, double, moves := w.seen(); double > 0 || moves > 0 {
			t.Errorf("answered in two names for %v, %d moves", double, moves)
		}
	})
}

// The node dies while its speaker restarts: its addresses move, once.
func TestNodeDiesWhileItsSpeakerRestarts(t *testing.T) {
	story(t, func(t *testing.T, w *town) {
		before := w.where("before")
		w.restart("b")
		time.Sleep(time.Second)
		w.forget("b", w.houses["b"].run)
		time.Sleep(time.Second)
		after := w.where("afterwards")
		if n := len(of(after, "b")); n > 0 {
			t.Errorf("b still has %d addresses", n)
		}
		if _, _, moves := w.seen(); moves != len(of(before, "b")) {
			t.Errorf("%d moves, want those of b's %d addresses", moves, len(of(before, "b")))
		}
	})
}

func TestDrainMovesNewOwnerFirst(t *testing.T) {
	for name, edit := range map[string]func(*config.Node, bool){
		"taint":   func(n *config.Node, on bool) { n.Drain = on },
		"exclude": func(n *config.Node, on bool) { n.ExcludeLB = on },
		"service": func(n *config.Node, on bool) { n.OutOfService = on },
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, w *town) {
				before := w.where("before")
				w.node("b", func(n *config.Node) { edit(n, true) })
				time.Sleep(100 * time.Millisecond)
				after := w.where("drained")
				if n := len(of(after, "b")); n > 0 {
					t.Errorf("b still has %d addresses", n)
				}
				if silent, _, moves := w.seen(); silent > 0 || moves != len(of(before, "b")) {
					t.Errorf("unanswered for %v, %d moves, want %d", silent, moves, len(of(before, "b")))
				}
				w.node("b", func(n *config.Node) { edit(n, false) })
				time.Sleep(5 * time.Second)
				w.stays("undrained", after)
			})
		})
	}
}

func TestFailback(t *testing.T) {
	story(t, func(t *testing.T, w *town) {
		delay := 30 * time.Second
		w.change(func(s *config.Snapshot) {
			ad := *s.L2Advertisements[0]
			ad.FailbackDelay = &delay
			s.L2Advertisements = []*config.L2Advertisement{&ad}
		})
		time.Sleep(time.Minute)
		before := w.where("with the delay over")
		w.kill("b")
		time.Sleep(time.Second)
		if len(of(w.where("b is dead"), "b")) > 0 {
			t.Fatal("b is dead and has addresses")
		}
		w.start("b")
		time.Sleep(20 * time.Second)
		w.seen()
		if len(of(w.where("b is back"), "b")) > 0 {
			t.Error("addresses went back before the delay was over")
		}
		w.kill("b") // it flaps: the delay starts anew
		time.Sleep(time.Second)
		w.start("b")
		time.Sleep(20 * time.Second)
		if len(of(w.where("b is back again"), "b")) > 0 {
			t.Error("addresses went back to a node that flaps")
		}
		time.Sleep(20 * time.Second)
		w.stays("the delay is over", before)
		if silent, _, _ := w.seen(); silent > 0 {
			t.Errorf("unanswered for %v", silent)
		}
	})
}

func TestNodeReturnsAndNothingMoves(t *testing.T) {
	story(t, func(t *testing.T, w *town) {
		before := w.where("before")
		w.kill("b")
		time.Sleep(5 * time.Second)
		after := w.where("b is dead")
		if silent, double, moves := w.seen(); silent > notice+50*time.Millisecond || double > 0 || moves != len(of(before, "b")) {
			t.Errorf("unanswered for %v, double %v, %d moves, want %d", silent, double, moves, len(of(before, "b")))
		}
		w.start("b")
		time.Sleep(10 * time.Second)
		w.stays("b is back", after)
		if silent, double, moves := w.seen(); silent > 0 || double > 0 || moves > 0 {
			t.Errorf("unanswered for %v, double %v, %d moves", silent, double, moves)
		}
	})
}

// A process that is killed and is back before anybody noticed has its addresses, and nobody else ever had.
func TestKilledAndBackBeforeItWasNoticed(t *testing.T) {
	story(t, func(t *testing.T, w *town) {
		before := w.where("before")
		w.kill("b")
		time.Sleep(100 * time.Millisecond)
		w.start("b")
		time.Sleep(5 * time.Second)
		w.stays("afterwards", before)
		if silent, double, moves := w.seen(); silent > 300*time.Millisecond || double > 0 || moves > 0 {
			t.Errorf("unanswered for %v, double %v, %d moves", silent, double, moves)
		}
	})
}

// A process is frozen and goes on: others have its addresses, and it must find that out before it answers.
func TestFrozenAndThawed(t *testing.T) {
	story(t, func(t *testing.T, w *town) {
		before := w.where("before")
		w.freeze("b")
		time.Sleep(10 * time.Second)
		after := w.where("frozen")
		if silent, _, moves := w.seen(); silent > notice+50*time.Millisecond || moves != len(of(before, "b")) {
			t.Errorf("unanswered for %v, %d moves, want %d", silent, moves, len(of(before, "b")))
		}
		w.thaw("b")
		time.Sleep(10 * time.Second)
		w.stays("thawed", after)
		if silent, double, moves := w.seen(); silent > 0 || double > 10*time.Millisecond || moves > 0 {
			t.Errorf("unanswered for %v, answered in two names for %v, %d moves", silent, double, moves)
		}
	})
}

func TestSplitAndHeal(t *testing.T) {
	for _, long := range []time.Duration{10 * time.Second, time.Minute} {
		t.Run(long.String(), func(t *testing.T) {
			story(t, func(t *testing.T, w *town) {
				before := w.where("before")
				w.split(map[string]int{"b": 1})
				time.Sleep(long)
				w.seen()
				w.heal()
				time.Sleep(500 * time.Millisecond)
				w.seen()
				after := w.where("half a second after the heal")
				time.Sleep(10 * time.Second)
				w.stays("later", after)
				if silent, double, moves := w.seen(); silent > 0 || double > 0 || moves > 0 {
					t.Errorf("after the heal: unanswered for %v, double %v, %d moves", silent, double, moves)
				}
				for a, was := range before {
					if is := after[a]; was != "b" && is != was {
						t.Errorf("%s moved from %s to %s", a, was, is)
					}
				}
			})
		})
	}
}

// The API server goes away, in the middle of which nodes fail and restart.
func TestWithoutTheAPIServer(t *testing.T) {
	story(t, func(t *testing.T, w *town) { // nothing in the story asks it: what changes is that nothing comes from it any more
		before := w.where("before")
		w.restart("c")
		time.Sleep(time.Second)
		w.start("c")
		time.Sleep(5 * time.Second)
		w.stays("restarted", before)
		w.kill("d")
		time.Sleep(time.Second)
		if n := len(of(w.where("d is dead"), "d")); n != 0 {
			t.Errorf("d has %d addresses", n)
		}
	})
}

func TestRetireHandsOverEverything(t *testing.T) {
	story(t, func(t *testing.T, w *town) {
		before := w.where("before")
		w.retire("b")
		time.Sleep(time.Second)
		if n := len(of(w.where("b is gone"), "b")); n != 0 {
			t.Errorf("b has %d addresses", n)
		}
		if silent, _, moves := w.seen(); silent > 0 || moves != len(of(before, "b")) {
			t.Errorf("unanswered for %v, %d moves, want %d", silent, moves, len(of(before, "b")))
		}
	})
}
