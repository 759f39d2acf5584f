package bfd

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
)

// FuzzSession does anything to a session and looks at what it says.
func FuzzSession(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})
	f.Add([]byte{0x21, 0x05, 0x42, 0x05, 0x83, 0x06, 0x05, 0x05, 0x07, 0x05})
	f.Fuzz(func(t *testing.T, script []byte) {
		s := NewSession(9, profile(100*ms, 100*ms, 3))
		now := time.Unix(1_000_000, 0)
		for _, b := range script {
			now = play(s, b, now)
			for n := 0; ; n++ {
				p, ok := s.Tick(now)
				if !ok {
					break
				}
				if n > 3 {
					t.Fatal("does not stop talking")
				}
				checkSaid(t, s, p)
			}
			if next := s.Next(); !next.IsZero() && !next.After(now) {
				t.Fatalf("something is due %s before now", now.Sub(next))
			}
		}
	})
}

// play does one thing to the session: the low bits say what, the high ones how.
func play(s *Session, b byte, now time.Time) time.Time {
	how := b >> 3
	switch b & 7 {
	case 0, 1, 2, 3:
		yours := uint32(9)
		if how&4 != 0 && State(b&3) <= Down {
			yours = 0
		}
		s.Rx(Packet{
			State: State(b & 3), Poll: how&1 != 0, Final: how&2 != 0, Demand: how&8 != 0, Yours: yours, Mine: 1 + uint32(how&16), Multiplier: how&3 + 1,
			DesiredMinTx: time.Duration(how) * 40 * ms, RequiredMinRx: time.Duration(how&12) * 30 * ms,
		}, now)
	case 4:
		s.Configure(config.BFDProfile{
			TransmitInterval: time.Duration(how+1) * 100 * ms, ReceiveInterval: time.Duration(how&7+1) * 20 * ms, DetectMultiplier: how&3 + 1, Passive: how&16 != 0,
		})
	case 5:
		return now.Add(time.Duration(how*how) * 10 * ms)
	case 6:
		s.Disable()
	case 7:
		s.Enable()
	}
	return now.Add(ms)
}

// checkSaid looks for what may never be sent.
func checkSaid(t *testing.T, s *Session, p Packet) {
	t.Helper()
	if got, err := Parse(p.Append(nil)); err != nil || got != p {
		t.Fatalf("%+v is not well-formed: %v", p, err)
	}
	switch {
	case p.Poll && p.Final:
		t.Fatalf("Poll and Final: %+v", p)
	case p.State != Up && p.DesiredMinTx < time.Second:
		t.Fatalf("too fast for its state: %+v", p)
	case p.Poll && p.Yours == 0:
		t.Fatalf("polls nobody: %+v", p)
	case p.Mine != 9 || p.State != s.state:
		t.Fatalf("not what it is: %+v", p)
	case s.profile.Passive && p.Yours == 0:
		t.Fatalf("passive, and speaks first: %+v", p)
	}
}
