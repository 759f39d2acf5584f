package probe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// answeredSome says how often an address has been answered for.
func answeredSome(reports map[netip.Addr]*Report) map[netip.Addr]bool {
	some := map[netip.Addr]bool{}
	for ip, r := range reports {
		some[ip] = len(r.Answers) > 0
	}
	return some
}

func TestSurvey(t *testing.T) {
	w := newWorld(t)
	own(t, w.b, v4)
	own(t, w.c, v6)
	absent := netip.MustParseAddr("192.0.2.77")
	waitFor(t, "an answer", func() bool {
		answers, err := Resolve(t.Context(), w.client, "eth0", v6, 100*time.Millisecond)
		must(t, err)
		return len(answers) > 0
	})
	s, err := NewSurvey(w.client, "eth0", v4, v6, absent)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	reports, err := s.Run(ctx, 10*time.Millisecond)
	must(t, err)
	if some := answeredSome(reports); len(some) != 3 || !some[v4] || !some[v6] || some[absent] {
		t.Errorf("answered: %v", some)
	}
	if got := reports[v4].MACs(); len(got) != 1 || got[0] != mac(t, w.b) {
		t.Errorf("%v answer for %s, want %s", got, v4, mac(t, w.b))
	}
	if reports[absent].Wait < 400*time.Millisecond || reports[v4].Wait > reports[absent].Wait {
		t.Errorf("waited %s for nobody and %s for somebody", reports[absent].Wait, reports[v4].Wait)
	}
	if gap := reports[absent].LongestGap().Duration(); gap < 500*time.Millisecond {
		t.Errorf("nobody has %s, and the longest gap is %s", absent, gap)
	}
}

func TestSweep(t *testing.T) {
	w := newWorld(t)
	var ips []netip.Addr
	for i := range 120 {
		ip := netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)})
		ips = append(ips, ip)
		if i%2 == 0 {
			own(t, w.b, ip)
		}
	}
	s, err := NewSurvey(w.client, "eth0", ips...)
	must(t, err)
	answers, err := s.Sweep(t.Context(), 3)
	must(t, err)
	for i, ip := range ips {
		if got := MACs(answers[ip]); i%2 == 0 && (len(got) != 1 || got[0] != mac(t, w.b)) || i%2 == 1 && len(got) > 0 {
			t.Errorf("%s: answered by %v", ip, got)
		}
	}
}

func TestStreams(t *testing.T) {
	w := newWorld(t)
	l, err := w.b.Listen("tcp", "192.0.2.2:80")
	must(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		for i := 0; r.URL.Path == "/ever" || i < 3; i++ {
			fmt.Fprintln(out, "line")
			if http.NewResponseController(out).Flush() != nil || r.Context().Err() != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		must(t, server.Close())
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	for path, broken := range map[string]int{"/ever": 0, "/short": 4} {
		ctx, cancel := context.WithCancel(t.Context())
		streams := HoldStreams(ctx, w.client, "http://192.0.2.2"+path, 4, func() { time.AfterFunc(2*time.Second, cancel) })
		cancel()
		if streams.Broken() != broken {
			t.Errorf("%s: %d of %d streams broken, want %d: %+v", path, streams.Broken(), len(streams), broken, streams)
		}
		if s := streams[0]; s.Lines < 3 || streams.LongestSilence() == 0 {
			t.Errorf("%s: %+v", path, s)
		}
	}
}

func TestRequestsAndLatency(t *testing.T) {
	w := newWorld(t)
	own(t, w.b, v4)
	absent := netip.MustParseAddr("192.0.2.77")
	l, err := NewLatency(w.client, "eth0")
	must(t, err)
	r, err := NewRequests(w.client, "eth0", v4, absent)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	sent, err := r.Send(ctx, 200)
	must(t, err)
	must(t, <-done)
	if sent < 50 || sent > 250 {
		t.Errorf("asked %d times in a second, want about 200", sent)
	}
	took, lost := l.Took(), l.Unanswered()
	if len(took) < sent/2-2 || lost < sent/2-2 || len(took)+lost != sent {
		t.Errorf("asked %d times by turns for one address that is there and one that is not: %d answers, %d without", sent, len(took), lost)
	}
	for _, d := range took {
		if d <= 0 || d > time.Second {
			t.Fatalf("an answer after %s", d)
		}
	}
}
