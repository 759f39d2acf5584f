package drill

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// script makes attempts 10 ms apart: '.' succeeded, 'x' and 't' failed.
func script(at time.Time, text string) []Try {
	var out []Try
	for i, r := range text {
		t := Try{At: at.Add(time.Duration(i) * Every)}
		switch r {
		case 'x':
			t.Fail = "connection refused"
		case 't':
			t.Fail = "no answer in time"
		}
		out = append(out, t)
	}
	return out
}

func TestSummarise(t *testing.T) {
	at := time.Unix(0, 0)
	for text, want := range map[string]Summary{
		"":           {},
		"....":       {Tries: 4},
		".x..":       {Tries: 4, Failed: 1, Longest: 10 * time.Millisecond, Why: "connection refused"},
		".xx.ttt..":  {Tries: 9, Failed: 5, Longest: 30 * time.Millisecond, Why: "no answer in time"},
		"x.t":        {Tries: 3, Failed: 2, Longest: 10 * time.Millisecond, Why: "connection refused"},
		"..tt":       {Tries: 4, Failed: 2, Longest: 20 * time.Millisecond, Why: "no answer in time"},
		"ttt":        {Tries: 3, Failed: 3, Longest: 30 * time.Millisecond, Why: "no answer in time"},
		".t.t.t.t.t": {Tries: 10, Failed: 5, Longest: 10 * time.Millisecond, Why: "no answer in time"},
	} {
		got := Summarise(script(at, text), at.Add(time.Duration(len(text))*Every))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func TestMedian(t *testing.T) {
	for want, of := range map[time.Duration][]time.Duration{0: nil, 3: {3}, 5: {1, 5}, 2: {9, 2, 1}, 4: {4, 4, 1, 9}} {
		if got := Median(of); got != want {
			t.Errorf("%v: %d, want %d", of, got, want)
		}
	}
}

func TestSilence(t *testing.T) {
	from := time.Unix(0, 0)
	at := func(ms int) time.Time { return from.Add(time.Duration(ms) * time.Millisecond) }
	longest, macs := Silence([]Answer{{at(10), "a"}, {at(20), "a"}, {at(70), "b"}, {at(80), "b"}}, from, at(100))
	if longest != 50*time.Millisecond || !slices.Equal(macs, []string{"a", "b"}) {
		t.Errorf("%s, %v", longest, macs)
	}
	if longest, macs := Silence(nil, from, at(100)); longest != 100*time.Millisecond || macs != nil {
		t.Errorf("%s, %v", longest, macs)
	}
}

// TestProbe connects to something that is away from the second second to the third: refused at first, then silent.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := &Probe{Dial: func(ctx context.Context) error {
			switch since := time.Since(began); {
			case since >= time.Second && since < 1500*time.Millisecond:
				return &net.OpError{Op: "dial", Err: errors.New("connection refused")}
			case since >= 1500*time.Millisecond && since < 2*time.Second:
				<-ctx.Done()
				return &net.OpError{Op: "dial", Err: ctx.Err()}
			}
			return nil
		}}
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Second+Every/2)
		defer stop()
		p.Run(ctx)
		want := Summary{Tries: 300, Failed: 100, Longest: time.Second, Why: "connection refused"}
		if diff := cmp.Diff(want, Summarise(p.Between(began, time.Now()), time.Now())); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if n := len(p.Between(began.Add(time.Second), began.Add(2*time.Second))); n != 100 {
			t.Errorf("%d attempts in one second", n)
		}
		if time.Since(began) > 4*time.Second {
			t.Errorf("it took %s to stop", time.Since(began))
		}
	})
}

// TestTCP connects to a listener that is there, and to one that is not.
func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dial := TCP(l.Addr().String())
	if err := dial(t.Context()); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := dial(t.Context()); err == nil || reason(err) != "connection refused" {
		t.Errorf("nobody listens: %v", err)
	}
}

// TestSegment says why there is nothing to ask by ARP.
func TestSegment(t *testing.T) {
	for _, a := range []string{"2001:db8::1", "240.0.0.1"} {
		if x, err := OpenARP(netip.MustParseAddr(a)); err == nil {
			t.Errorf("%s is on the segment: %v", a, x)
		}
	}
}
