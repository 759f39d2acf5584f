package peer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	sameAddr   = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	samePrefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
)

func TestBIRDRoutes(t *testing.T) {
	const out = `BIRD 2.0.12 ready.
Table master4:
198.51.100.1/32      unicast [herald 12:00:00.000] * (100) [AS64512i]
	via 10.9.0.5 on eth1
	Type: BGP univ
	BGP.origin: IGP
	BGP.as_path: 64512 64512
	BGP.next_hop: 10.9.0.5
	BGP.med: 50
	BGP.local_pref: 100
	BGP.community: (65000,100) (65535,65284)
	BGP.ext_community: (rt, 65000, 100) (ro, 192.0.2.1, 7) (unknown 0x4004, 64512, 1232348160)
	BGP.large_community: (4200000000, 1, 2)
198.51.100.2/32      unicast [herald 12:00:00.000] * (100) [i]
	via fe80::5 on eth1
	BGP.origin: IGP
	BGP.as_path: 
	BGP.next_hop: :: fe80::5
	BGP.local_pref: 100
`
	want := []Route{
		{
			Prefix: netip.MustParsePrefix("198.51.100.1/32"), NextHop: netip.MustParseAddr("10.9.0.5"), ASPath: "64512 64512", Origin: "IGP",
			LocalPref: 100, MED: 50,
			Communities: []string{"65000:100", "65535:65284", "rt:65000:100", "soo:192.0.2.1:7", "bandwidth:64512:1000000", "large:4200000000:1:2"},
		},
		{Prefix: netip.MustParsePrefix("198.51.100.2/32"), NextHop: netip.MustParseAddr("fe80::5"), Origin: "IGP", LocalPref: 100, MED: -1},
	}
	if diff := cmp.Diff(want, parseBIRDRoutes(out), sameAddr, samePrefix); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

func TestBIRDProtocols(t *testing.T) {
	const out = `BIRD 2.0.12 ready.
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     12:00:00.000  
herald     BGP        ---        up     12:00:00.000  Established   
  BGP state:          Established
    Neighbor address: 10.9.0.5
    Neighbor AS:      64512
    Local AS:         64513
    Local capabilities
      Multiprotocol
        AF announced: ipv4
    Neighbor capabilities
      Multiprotocol
        AF announced: ipv4
      Graceful restart
        Restart time: 60
    Session:          external AS4
    Hold timer:       6.123/9
  Channel ipv4
    State:          UP
  Channel ipv6
    State:          DOWN
`
	want := Session{Established: true, HoldTime: 9 * time.Second, Families: "IPv4", RemoteASN: 64512, Restart: true}
	if diff := cmp.Diff(want, parseBIRDProtocols(out)); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}
}

// TestExaBGP: the table is made of the messages, and is empty when the session is down.
func TestExaBGP(t *testing.T) {
	const up = `{"type":"open","neighbor":{"open":{"asn":23456,"capabilities":{"65":{"name":"asn4","asn4":4200000001},"64":{"name":"graceful restart"}}}}}
{"type":"negotiated","neighbor":{"negotiated":{"hold_time":9,"families":["ipv4 unicast"]}}}
{"type":"state","neighbor":{"state":"up"}}
{"type":"update","neighbor":{"message":{"update":{"attribute":{"origin":"igp","as-path":[4200000001],"community":[[65000,100]],"large-community":[[1,2,3]],` +
		`"extended-community":[{"value":842122827661412,"string":"target:65000:100"}]},"announce":{"ipv4 unicast":{"10.9.0.5":[{"nlri":"198.51.100.1/32"},{"nlri":"198.51.100.2/32"}]}}}}}}
{"type":"update","neighbor":{"message":{"update":{"withdraw":{"ipv4 unicast":[{"nlri":"198.51.100.2/32"}]}}}}}
{"type":"update","neighbor":{"message":{"eor":{"afi":"ipv4","safi":"unicast"}}}}
`
	s, err := parseExaBGP([]byte(up + `{"type":"upd`)) // a line that is being written
	if err != nil {
		t.Fatal(err)
	}
	want := Session{Established: true, HoldTime: 9 * time.Second, Families: "IPv4", RemoteASN: 4200000001, Restart: true, EndOfRIB: "IPv4"}
	if diff := cmp.Diff(want, s.session); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}
	route := Route{
		Prefix: netip.MustParsePrefix("198.51.100.1/32"), NextHop: netip.MustParseAddr("10.9.0.5"), ASPath: "4200000001", Origin: "IGP", MED: -1,
		Communities: []string{"65000:100", "large:1:2:3", "rt:65000:100"},
	}
	if diff := cmp.Diff(map[string]Route{"198.51.100.1/32": route}, s.routes, sameAddr, samePrefix); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	s, err = parseExaBGP([]byte(up + `{"type":"state","neighbor":{"state":"down","reason":"peer reset"}}` + "\n"))
	if err != nil || s.session.Established || s.session.LastEnd != "peer reset" || len(s.routes) != 0 {
		t.Errorf("after the end: %+v, %d routes, error %v", s.session, len(s.routes), err)
	}
	if _, err := parseExaBGP([]byte("nonsense\n" + up)); err == nil {
		t.Error("nonsense is taken for a message")
	}
}

func TestExtended(t *testing.T) {
	for octets, want := range map[string]string{
		"0002fde800000064": "rt:65000:100",
		"0103c00002010007": "soo:192.0.2.1:7",
		"0202fa56ea000007": "rt:4200000000:7",
		"4004fc0049742400": "bandwidth:64512:1000000",
		"0605000000000001": "0605000000000001",
		"00":               "00",
	} {
		if got := extended(octets); got != want {
			t.Errorf("%s is %s, want %s", octets, got, want)
		}
	}
	if diff := cmp.Diff([]string{"rt:65000:100", "soo:192.0.2.1:7", "bandwidth:64512:1000000"},
		frrExtended("RT:65000:100 SoO:192.0.2.1:7 LB:64512:1000000 (8.000 Mbps)")); diff != "" {
		t.Errorf("FRR's words (-want +got):\n%s", diff)
	}
}

func TestFRRRoute(t *testing.T) {
	const out = `{"prefix":"2001:db8:1::1/128","paths":[{"aspath":{"string":"64512"},"origin":"IGP","metric":0,"valid":true,
		"community":{"string":"65000:100 no-peer"},"largeCommunity":{"string":"1:2:3"},"nexthops":[{"ip":"fe80::5","scope":"link-local"},{"ip":"fd09::5","scope":"global"}]}]}`
	got, err := parseFRRRoute([]byte(out))
	want := []Route{{
		Prefix: netip.MustParsePrefix("2001:db8:1::1/128"), NextHop: netip.MustParseAddr("fd09::5"), ASPath: "64512", Origin: "IGP",
		Communities: []string{"65000:100", "65535:65284", "large:1:2:3"},
	}}
	if diff := cmp.Diff(want, got, sameAddr, samePrefix); err != nil || diff != "" {
		t.Errorf("error %v; routes (-want +got):\n%s", err, diff)
	}
}
