package probe

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 0xa}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 0xb}
	zero = net.HardwareAddr{0, 0, 0, 0, 0, 0}
	v4   = netip.MustParseAddr("192.0.2.80")
	v4b  = netip.MustParseAddr("192.0.2.1")
	v6   = netip.MustParseAddr("2001:db8::80")
	v6b  = netip.MustParseAddr("2001:db8::1")
)

func arpFrame(t *testing.T, op arp.Operation, to net.HardwareAddr, sender, target netip.Addr) []byte {
	t.Helper()
	p, err := arp.NewPacket(op, macA, sender.AsSlice(), zero, target.AsSlice())
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	f, err := ethernetFrame(to, macA, ethernet.EtherTypeARP, b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// naFrame advertises v6 at macA in a frame sent by macB.
func naFrame(t *testing.T, solicited bool, options ...ndp.Option) []byte {
	t.Helper()
	na := &ndp.NeighborAdvertisement{TargetAddress: v6, Solicited: solicited, Override: true, Options: options}
	body, err := ndp.MarshalMessageChecksum(na, v6, v6b)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, ipv6Header)
	b[0], b[5], b[6], b[7] = 6<<4, byte(len(body)), protoICMPv6, ndpHopLimit
	copy(b[8:], v6.AsSlice())
	copy(b[24:], v6b.AsSlice())
	f, err := ethernetFrame(macA, macB, ethernet.EtherTypeIPv6, append(b, body...))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestParseClaim(t *testing.T) {
	lla := &ndp.LinkLayerAddress{Direction: ndp.Target, Addr: macA}
	far := naFrame(t, true, lla)
	far[ethernetHead+7] = 64
	notICMP := naFrame(t, true, lla)
	notICMP[ethernetHead+6] = 17
	short := naFrame(t, true, lla)
	short[ethernetHead+5] = 200
	for _, tt := range []struct {
		name  string
		frame []byte
		want  *Claim
	}{
		{"arp reply", arpFrame(t, arp.OperationReply, macB, v4, v4b), &Claim{v4, macA, macA, false, KindARPReply}},
		{"arp reply to all", arpFrame(t, arp.OperationReply, ethernet.Broadcast, v4, v4b), &Claim{v4, macA, macA, true, KindARPReply}},
		{"gratuitous reply", arpFrame(t, arp.OperationReply, macB, v4, v4), &Claim{v4, macA, macA, true, KindARPReply}},
		{"gratuitous request", arpFrame(t, arp.OperationRequest, ethernet.Broadcast, v4, v4), &Claim{v4, macA, macA, true, KindARPRequest}},
		{"question", arpFrame(t, arp.OperationRequest, ethernet.Broadcast, v4, v4b), nil},
		{"advertisement", naFrame(t, true, lla), &Claim{v6, macA, macB, false, KindNA}},
		{"unsolicited", naFrame(t, false, lla), &Claim{v6, macA, macB, true, KindNA}},
		{"without option", naFrame(t, true), &Claim{v6, macB, macB, false, KindNA}},
		{"from afar", far, nil},
		{"not ICMPv6", notICMP, nil},
		{"length beyond the frame", short, nil},
		{"nothing", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseClaim(tt.frame)
			if tt.want == nil {
				if err == nil {
					t.Errorf("read %+v", got)
				}
				return
			}
			if diff := cmp.Diff(*tt.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

func TestQuestionIsNoClaim(t *testing.T) {
	for _, pair := range [][2]netip.Addr{{v4b, v4}, {v6b, v6}} {
		f, err := question(macA, pair[0], pair[1])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseClaim(f); !errors.Is(err, errNoClaim) {
			t.Errorf("question for %s: %v", pair[1], err)
		}
	}
	f, err := question(macA, v6b, v6)
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{0x33, 0x33, 0xff, 0, 0, 0x80}; !bytes.Equal(f[:6], want) {
		t.Errorf("sent to %x, want %x", f[:6], want)
	}
}

func FuzzParseClaim(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 60))
	q, err := question(macA, v6b, v6)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	f.Fuzz(func(t *testing.T, frame []byte) {
		if c, err := parseClaim(frame); err == nil && (!c.IP.IsValid() || c.Kind == "") {
			t.Errorf("half a claim: %+v", c)
		}
	})
}

// at makes a report's answers: a letter per 10 ms, '.' for silence.
func at(begin time.Time, pattern string) []Answer {
	var list []Answer
	for i, c := range pattern {
		if c != '.' {
			list = append(list, Answer{Claim: Claim{MAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(c)}}, Time: begin.Add(time.Duration(i) * 10 * time.Millisecond)})
		}
	}
	return list
}

func TestReport(t *testing.T) {
	begin := time.Unix(1000, 0)
	a, b := "02:00:00:00:00:61", "02:00:00:00:00:62"
	for _, tt := range []struct {
		pattern       string
		gap           time.Duration
		before, after string
		spans         int
		returned      bool
	}{
		{"aaaaa", 10 * time.Millisecond, "", a, 1, false},
		{"aa....bb", 50 * time.Millisecond, a, b, 2, false},
		{"....aa", 40 * time.Millisecond, "", a, 1, false},
		{"aa......", 70 * time.Millisecond, a, "", 1, false},
		{"........", 80 * time.Millisecond, "", "", 0, false},
		{"abab", 10 * time.Millisecond, a, b, 4, true},
		{"aabba", 10 * time.Millisecond, a, a, 3, true},
	} {
		t.Run(tt.pattern, func(t *testing.T) {
			r := Report{Begin: begin, End: begin.Add(time.Duration(len(tt.pattern)) * 10 * time.Millisecond), Answers: at(begin, tt.pattern)}
			gap := r.LongestGap()
			if gap.Duration() != tt.gap {
				t.Errorf("longest gap %s, want %s", gap.Duration(), tt.gap)
			}
			if tt.gap > 10*time.Millisecond && (gap.Before != tt.before || gap.After != tt.after) {
				t.Errorf("gap between %q and %q", gap.Before, gap.After)
			}
			if got := len(r.Spans()); got != tt.spans || r.Returned() != tt.returned {
				t.Errorf("%d spans, returned %t", got, r.Returned())
			}
		})
	}
}

func TestAttempts(t *testing.T) {
	begin := time.Unix(1000, 0)
	for pattern, want := range map[string]time.Duration{
		"":         0,
		"++++":     0,
		"++--++":   30 * time.Millisecond,
		"--++":     20 * time.Millisecond,
		"++--":     20 * time.Millisecond,
		"+-+--+-+": 30 * time.Millisecond,
		"----":     30 * time.Millisecond,
	} {
		var l Attempts
		for i, c := range pattern {
			a := Attempt{Begin: begin.Add(time.Duration(i) * 10 * time.Millisecond)}
			if c == '-' {
				a.Err = errNoClaim
			}
			l = append(l, a)
		}
		if got := l.LongestOutage(); got != want {
			t.Errorf("%q: outage %s, want %s", pattern, got, want)
		}
	}
}
