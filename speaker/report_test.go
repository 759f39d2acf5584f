package speaker

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/speaker/decide"
)

// A foreign user of an address is reported; another speaker that answers for it is none.
func TestForeignUsersAreReported(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		w.change(func(w *world) { w.snap, w.view = asked(), viewOf(other(decide.Draining, nil)) })
		time.Sleep(settleMost)
		w.holds(t, "the only one that does not drain", true)
		for mac, want := range map[string]int{"02:00:00:00:00:0b": 0, "02:00:00:00:00:ff": 1} {
			w.change(claim(mac))
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			w.read(func(w *world) {
				if got := w.report.Conflicts; len(got) != want || want > 0 && got[0].MAC != mac {
					t.Errorf("claimed by %s: reported %v, want %d", mac, got, want)
				}
			})
		}
		w.read(func(w *world) {
			status := w.report.status("v1", time.Now(), []metav1.Condition{w.report.ready(metav1.Condition{}, time.Now())})
			if len(status.L2.Conflicts) != len(w.report.Conflicts) || len(status.L2.Addresses) != 1 {
				t.Errorf("status %+v of report %+v", status.L2, w.report)
			}
		})
		stop()
	})
}

// What a node answers in another's name is the other's to report.
func TestStandInIsNotReported(t *testing.T) {
	story(t, func(t *testing.T, w *town) {
		before := w.where("before")
		w.restart("b")
		time.Sleep(time.Second)
		stands := 0
		for _, name := range []string{"a", "c", "d"} {
			h := w.houses[name]
			w.mu.Lock()
			all := len(h.holds)
			report := h.report
			w.mu.Unlock()
			own := 0
			for _, x := range report.L2 {
				if before[x.Address] != name {
					t.Errorf("%s reports %s, which is %s's", name, x.Address, before[x.Address])
				}
				own++
			}
			stands += all - own
		}
		if stands != len(of(before, "b")) {
			t.Errorf("%d addresses are stood in for, want b's %d", stands, len(of(before, "b")))
		}
	})
}

func TestStaleViewIsReported(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		at := time.Now().Add(-time.Hour)
		w.change(func(w *world) { w.snap, w.view, w.stale = asked(), viewOf(), at })
		for _, want := range []int{1, 0} {
			time.Sleep(time.Second)
			synctest.Wait()
			w.read(func(w *world) {
				if got := w.report.Troubles; len(got) != want || want > 0 && got[0].Reason != "ViewStale" {
					t.Errorf("troubles %v, want %d", got, want)
				}
			})
			w.change(func(w *world) { w.stale = time.Time{} })
		}
		stop()
	})
}

// TestReportsAreRetriedMoreAndMoreRarely: while the API server refuses, whatever changes meanwhile; and the report is written soon after it takes it.
func TestReportsAreRetriedMoreAndMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const outage = 10 * time.Minute
		began := time.Now()
		var tries, writes int
		r := NewRecorder("v1", began, func(context.Context, v1beta1.SpeakerStatusStatus) error {
			if time.Since(began) < outage {
				tries++
				return errors.New("refused")
			}
			writes++
			return nil
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		for time.Since(began) < outage {
			r.Report(Report{Known: 3, Alive: 3})
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if tries < 10 || tries > 80 {
			t.Errorf("%d tries in %v, want one in 10 to 20 s in the end", tries, outage)
		}
		time.Sleep(reportRetry().Max + time.Second)
		synctest.Wait()
		if writes != 1 {
			t.Errorf("%d writes when the API server was back, want one", writes)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestFarewellDoesNotWaitForAWrite: an API server that hangs does not hold up who takes his leave for longer than he has.
func TestFarewellDoesNotWaitForAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder("v1", time.Now(), func(context.Context, v1beta1.SpeakerStatusStatus) error {
			time.Sleep(time.Minute) // deaf to the end of its context, as a connection may be
			return nil
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		r.Report(Report{Known: 3, Alive: 3})
		time.Sleep(time.Second) // the write is under way
		began := time.Now()
		farewell, end := context.WithTimeout(t.Context(), 2*time.Second)
		defer end()
		r.Flush(farewell)
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("the farewell took %s", took)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
