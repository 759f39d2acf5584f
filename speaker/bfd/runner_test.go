package bfd

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
)

func TestRunnerUpAndStop(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.both(50 * ms)
		pass(3 * time.Second)
		s.expectUp()
		a := s.a.of("b")
		if a.Local != addr("10.0.0.1") || a.TransmitInterval != 50*ms || a.DetectionTime != 150*ms || a.Ups != 1 || a.Losses != 0 || a.LastError != "" {
			t.Errorf("%+v", a)
		}
		if b := s.b.of("a"); b.Discriminator != a.RemoteDiscriminator || b.RemoteDiscriminator != a.Discriminator {
			t.Errorf("discriminators: %+v and %+v", a, b)
		}
		<-s.a.Changed()
		pass(time.Minute)
		select {
		case <-s.a.Changed():
			t.Error("news although nothing happened")
		default:
		}

		began := time.Now()
		s.b.stop()
		if took := time.Since(began); took > 100*ms {
			t.Errorf("the goodbye took %s", took)
		}
		pass(time.Second)
		a = s.a.of("b")
		if a.State != Down || a.RemoteState != AdminDown || a.RemoteDiagnostic != AdministrativelyDown || a.Losses != 0 {
			t.Errorf("after the neighbour stopped on purpose: %+v", a)
		}
		pass(10 * time.Second)
		if a := s.a.of("b"); !strings.Contains(a.LastError, "10.0.0.2 does not run BFD: it refuses UDP port 3784") {
			t.Errorf("with nobody there: %+v", a)
		}
	})
}

func TestRunnerDetects(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.both(50 * ms)
		pass(3 * time.Second)
		s.expectUp()
		s.setCut("10.0.0.1", "10.0.0.2", true)
		pass(155 * ms)
		for _, st := range []Status{s.a.of("b"), s.b.of("a")} {
			if st.State != Down || st.Diagnostic != DetectionTimeExpired || st.Losses != 1 || st.RemoteDiscriminator != 0 {
				t.Errorf("%+v", st)
			}
		}
		began := time.Now()
		s.a.stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the goodbye to a neighbour that is not there took %s", took)
		}
	})
}

func TestRunnerHeals(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.both(50 * ms)
		for i := range uint64(5) {
			pass(3 * time.Second)
			s.expectUp()
			if a := s.a.of("b"); a.Ups != i+1 || a.Losses != i {
				t.Fatalf("round %d: %+v", i, a)
			}
			s.setCut("10.0.0.1", "10.0.0.2", true)
			pass(time.Second)
			s.setCut("10.0.0.1", "10.0.0.2", false)
		}
	})
}

// TestRunnerReadsBeforeItDeclares: packets that have come in count, even if the goroutine that waits for them gets no turn.
func TestRunnerReadsBeforeItDeclares(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.both(50 * ms)
		pass(3 * time.Second)
		s.expectUp()
		s.change(func() { s.ports[socket{"a", Port{Family: config.IPv4}}].starved = true })
		pass(time.Minute)
		s.expectUp()
		if a := s.a.of("b"); a.Losses != 0 {
			t.Errorf("%+v", a)
		}
		s.setCut("10.0.0.1", "10.0.0.2", true)
		pass(305 * ms) // what was read late counts from then on
		if a := s.a.of("b"); a.State != Down {
			t.Errorf("when nothing came in: %+v", a)
		}
	})
}

func TestRunnerProfileWhileUp(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.both(50 * ms)
		pass(3 * time.Second)
		discriminator := s.a.of("b").Discriminator
		for _, interval := range []time.Duration{300 * ms, 20 * ms, 2 * time.Second, 50 * ms} {
			s.a.Set([]Want{{Key: "b", Peer: addr("10.0.0.2"), Profile: profile(interval, interval, 4)}})
			pass(10 * time.Second)
			s.expectUp()
			a, b := s.a.of("b"), s.b.of("a")
			want := max(interval, 50*ms)
			if a.TransmitInterval != want || b.TransmitInterval != want || b.DetectionTime != 4*want || a.DetectionTime != 3*want {
				t.Errorf("%s:\n%+v\n%+v", interval, a, b)
			}
			if a.Discriminator != discriminator || a.Ups != 1 || b.Ups != 1 {
				t.Errorf("%s: not without a break:\n%+v\n%+v", interval, a, b)
			}
		}
	})
}

// TestRunnerComeBack: a session that is wanted again while it says goodbye comes back as itself.
func TestRunnerComeBack(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.both(300 * ms)
		pass(3 * time.Second)
		was := s.a.of("b")
		s.change(func() { s.latency = 200 * ms })
		s.a.Set(nil)
		pass(10 * ms)
		if list := s.a.Sessions(); len(list) > 0 {
			t.Errorf("nothing is wanted, there is %+v", list)
		}
		s.both(300 * ms)
		pass(5 * time.Second)
		s.expectUp()
		if a := s.a.of("b"); a.Discriminator != was.Discriminator || a.Losses != 0 || a.Ups != 2 {
			t.Errorf("%+v", a)
		}
		if b := s.b.of("a"); b.Losses != 0 {
			t.Errorf("the neighbour counts a failure: %+v", b)
		}
	})
}

// TestRunnerOtherAddress: a session by another of our addresses is not disturbed by the end of the old one.
func TestRunnerOtherAddress(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.both(50 * ms)
		pass(3 * time.Second)
		p := profile(50*ms, 50*ms, 3)
		s.a.Set([]Want{{Key: "b", Peer: addr("10.0.0.2"), Local: addr("10.0.0.1"), Profile: p}})
		pass(10 * time.Second)
		s.expectUp()
		if b := s.b.of("a"); b.Losses != 0 || b.Ups != 2 {
			t.Errorf("the neighbour: %+v", b)
		}
		if a := s.a.of("b"); a.Ups != 1 {
			t.Errorf("the new session came up %d times", a.Ups)
		}
	})
}

// TestRunnerTallies: what was counted for a key goes on with another session, and is forgotten with the key.
func TestRunnerTallies(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		p := profile(50*ms, 50*ms, 3)
		locals := []string{"", "10.0.0.1"} // each change makes another session
		lose := func() {
			s.setCut("10.0.0.1", "10.0.0.2", true)
			pass(time.Second)
			s.setCut("10.0.0.1", "10.0.0.2", false)
			pass(5 * time.Second)
		}
		s.both(50 * ms)
		pass(3 * time.Second)
		for i := range uint64(6) {
			lose()
			s.expectUp()
			if a := s.a.of("b"); a.Ups+a.Earlier.Ups != 2*(i+1) || a.Losses+a.Earlier.Losses != i+1 {
				t.Errorf("session %d: %d and %d times up, %d and %d losses", i, a.Earlier.Ups, a.Ups, a.Earlier.Losses, a.Losses)
			}
			w := Want{Key: "b", Peer: addr("10.0.0.2"), Profile: p}
			if local := locals[(i+1)%2]; local != "" {
				w.Local = addr(local)
			}
			s.a.Set([]Want{w})
			pass(10 * time.Second)
		}
		s.a.Set(nil)
		pass(10 * time.Second)
		s.a.Set([]Want{{Key: "b", Peer: addr("10.0.0.2"), Profile: p}})
		pass(10 * time.Second)
		if a := s.a.of("b"); a.Ups != 1 || a.Earlier != (Tally{}) {
			t.Errorf("after nobody wanted it: %+v", a)
		}
	})
}

func TestRunnerPortTaken(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		key := socket{"a", Port{Family: config.IPv4}}
		s.change(func() { s.taken[key] = true })
		p := profile(50*ms, 50*ms, 3)
		s.a.Set([]Want{{Key: "4", Peer: addr("10.0.0.2"), Profile: p}, {Key: "6", Peer: addr("fd00::2"), Profile: p}, {Key: "far", Peer: addr("10.0.0.2"), Multihop: true, Profile: p}})
		s.b.Set([]Want{{Key: "4", Peer: addr("10.0.0.1"), Profile: p}, {Key: "6", Peer: addr("fd00::1"), Profile: p}, {Key: "far", Peer: addr("10.0.0.1"), Multihop: true, Profile: p}})
		pass(20 * time.Second)
		want := "4 10.0.0.2 Down (UDP port 3784 (IPv4): somebody else has it)\n6 fd00::2 Up\nfar 10.0.0.2 Up\n"
		if diff := cmp.Diff(want, brief(s.a.Sessions())); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if b := s.b.of("4"); b.RemoteDiscriminator != 0 {
			t.Errorf("a node that cannot hear spoke: %+v", b)
		}
		s.change(func() { delete(s.taken, key) })
		pass(10 * time.Second)
		if a := s.a.of("4"); a.State != Up || a.LastError != "" {
			t.Errorf("when the port was free again: %+v", a)
		}
		s.change(func() { s.taken[key] = true; signal(s.ports[key].broken) })
		pass(10 * time.Second)
		if diff := cmp.Diff(want, brief(s.a.Sessions())); diff != "" {
			t.Errorf("when the socket broke: -want +got:\n%s", diff)
		}
	})
}

func TestRunnerCannotSend(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		why := errors.New("no way there")
		s.change(func() { s.a.node.failDial = why })
		s.both(50 * ms)
		pass(5 * time.Second)
		if a := s.a.of("b"); a.State == Up || a.LastError != why.Error() {
			t.Errorf("%+v", a)
		}
		s.change(func() { s.a.node.failDial = nil })
		pass(5 * time.Second)
		s.expectUp()
		s.change(func() { s.a.node.failDial = why })
		pass(40 * ms)
		s.change(func() { s.a.node.failDial = nil })
		pass(5 * time.Second)
		s.expectUp()
		if a := s.a.of("b"); a.Losses != 0 || a.LastError != "" {
			t.Errorf("a failure shorter than the detection time: %+v", a)
		}
	})
}

func TestRunnerTTL(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.change(func() { s.ttl = 253 })
		p := profile(50*ms, 50*ms, 3)
		far := p
		far.MinimumTTL = 253
		set := func(r *runner, key, peer string) {
			r.Set([]Want{
				{Key: key + "1", Peer: addr(peer), Profile: p},
				{Key: key + "2", Peer: addr(peer), Multihop: true, Profile: p},
				{Key: key + "3", Peer: addr(strings.Replace(peer, "10.0.0.", "fd00::", 1)), Multihop: true, Profile: far},
			})
		}
		set(s.a, "b", "10.0.0.2")
		set(s.b, "a", "10.0.0.1")
		pass(5 * time.Second)
		want := "b1 10.0.0.2 Down (packets from 10.0.0.2 arrive with TTL 253, so it is more than one hop away; a multihop session is needed)\n" +
			"b2 10.0.0.2 Down (packets from 10.0.0.2 arrive with TTL 253, less than minimumTtl 254 allows)\nb3 fd00::2 Up\n"
		if diff := cmp.Diff(want, brief(s.a.Sessions())); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if n := s.a.Dropped().TTL; n < 8 || n > 16 {
			t.Errorf("%d packets counted", n)
		}
		s.change(func() { s.ttl = 255 })
		pass(5 * time.Second)
		if diff := cmp.Diff("b1 10.0.0.2 Up\nb2 10.0.0.2 Up\nb3 fd00::2 Up\n", brief(s.a.Sessions())); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestRunnerStrangePackets(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.both(50 * ms)
		pass(3 * time.Second)
		s.expectUp()
		a := s.a.of("b")
		good := Packet{State: Down, Multiplier: 3, Mine: 5, Yours: a.Discriminator, DesiredMinTx: time.Second, RequiredMinRx: time.Second}
		send := func(from string, p Packet, change func([]byte) []byte) {
			b := p.Append(nil)
			if change != nil {
				b = change(b)
			}
			s.change(func() {
				s.ports[socket{"a", Port{Family: config.IPv4}}].deliver(Datagram{From: addr(from), To: addr("10.0.0.1"), Interface: 1, TTL: 255, Payload: b})
			})
			pass(2 * ms)
		}
		earlier := good
		earlier.Yours++
		unknown := good
		unknown.Yours = 0
		send("10.0.0.2", good, func(b []byte) []byte { return b[:20] })
		send("10.0.0.2", good, func([]byte) []byte { return nil })
		send("10.0.0.2", earlier, nil)
		send("10.0.0.9", unknown, nil)
		send("10.0.0.2", good, func(b []byte) []byte { b[1] |= flagAuth; b[3] = 26; return append(b, 1, 2) })
		if diff := cmp.Diff(Dropped{Malformed: 2, NoSession: 2, Refused: 1}, s.a.Dropped()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		s.expectUp()
		send("10.0.0.2", unknown, nil) // the neighbour has restarted
		if a := s.a.of("b"); a.State != Down || a.Diagnostic != NeighborSignaledDown || a.Losses != 1 {
			t.Errorf("%+v", a)
		}
		pass(5 * time.Second)
		s.expectUp()
	})
}

func TestRunnerImpossible(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.a.Set([]Want{
			{Key: "1"},
			{Key: "2", Peer: addr("fe80::1")},
			{Key: "3", Peer: addr("10.0.0.2"), Local: addr("fd00::1")},
			{Key: "4", Peer: addr("10.0.0.2"), Local: addr("10.0.0.77")},
			{Key: "5", Peer: addr("224.0.0.1")},
		})
		pass(time.Second)
		want := "1 invalid IP Down (invalid IP is not the address of a neighbour)\n" +
			"2 fe80::1 Down (fe80::1 is a link-local address: the interface must be given too)\n" +
			"3 10.0.0.2 Down (fd00::1 and 10.0.0.2 are not of one address family)\n" +
			"4 10.0.0.2 Down (10.0.0.77 is not an address of this node)\n" +
			"5 224.0.0.1 Down (224.0.0.1 is not the address of a neighbour)\n"
		if diff := cmp.Diff(want, brief(s.a.Sessions())); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		s.a.Set(nil)
		pass(time.Second)
		if got := brief(s.a.Sessions()); got != "" {
			t.Errorf("nothing is wanted, there is %s", got)
		}
	})
}

// TestRunnerShared: two wants for one path have one session, as quick as the quicker one asks.
func TestRunnerShared(t *testing.T) {
	bubble(t, func(t *testing.T, s *scene) {
		s.both(50 * ms)
		slow, quick := Want{Key: "slow", Peer: addr("10.0.0.2")}, Want{Key: "quick", Peer: addr("10.0.0.2"), Profile: profile(60*ms, 50*ms, 5)}
		s.a.Set([]Want{slow, quick})
		pass(3 * time.Second)
		q, l := s.a.of("quick"), s.a.of("slow")
		if q.State != Up || q.TransmitInterval != 60*ms || q.Discriminator != l.Discriminator || l.State != Up {
			t.Errorf("%+v\n%+v", q, l)
		}
		s.a.Set([]Want{slow})
		pass(3 * time.Second)
		if l := s.a.of("slow"); l.State != Up || l.TransmitInterval != 300*ms || l.Ups != 1 || len(s.a.Sessions()) != 1 {
			t.Errorf("%+v", s.a.Sessions())
		}
	})
}

// TestRunnerJourneys goes from any set of wants to any other, with trouble on the way, and looks whether the right sessions are up.
func TestRunnerJourneys(t *testing.T) {
	p, q := profile(50*ms, 50*ms, 3), profile(100*ms, 300*ms, 5)
	all := [][2]Want{
		{{Key: "1", Peer: addr("10.0.0.2"), Profile: p}, {Key: "1", Peer: addr("10.0.0.1"), Profile: q}},
		{{Key: "2", Peer: addr("fd00::2"), Profile: q}, {Key: "2", Peer: addr("fd00::1"), Profile: p}},
		{{Key: "3", Peer: addr("10.0.0.2"), Multihop: true, Profile: p}, {Key: "3", Peer: addr("10.0.0.1"), Multihop: true, Profile: p}},
		{{Key: "4", Peer: addr("10.0.0.22"), Local: addr("10.0.0.11"), Profile: q}, {Key: "4", Peer: addr("10.0.0.11"), Local: addr("10.0.0.22"), Profile: q}},
		{{Key: "5", Peer: addr("10.0.0.22"), Local: addr("10.0.0.1"), Interface: "eth0", Profile: p}, {Key: "5", Peer: addr("10.0.0.1"), Local: addr("10.0.0.22"), Profile: p}},
	}
	for seed := range uint64(20) {
		bubble(t, func(t *testing.T, s *scene) {
			r := rand.New(rand.NewPCG(seed, 3))
			for range 10 {
				var a, b []Want
				want := ""
				for _, w := range all {
					switch r.IntN(3) {
					case 0:
						a, b = append(a, w[0]), append(b, w[1])
						want += w[0].Key + " up\n"
					case 1:
						a = append(a, w[0])
						want += w[0].Key + " down\n"
					}
				}
				s.a.Set(a)
				s.b.Set(b)
				s.change(func() {
					for _, l := range s.ports {
						if r.IntN(4) == 0 {
							signal(l.broken)
						}
					}
				})
				pass(time.Duration(r.IntN(2000)) * ms)
				if r.IntN(3) == 0 {
					continue
				}
				pass(12 * time.Second)
				got := ""
				for _, st := range s.a.Sessions() {
					if st.State == Up {
						got += st.Key + " up\n"
					} else {
						got += st.Key + " down\n"
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("seed %d: -want +got:\n%s%s%s", seed, diff, brief(s.a.Sessions()), brief(s.b.Sessions()))
				}
			}
		})
	}
}
