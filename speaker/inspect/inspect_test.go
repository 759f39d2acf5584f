package inspect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }

// mute is a kernel that does not answer.
func mute(uint16) (bool, error) { return false, errors.New("no such protocol") }

// native prints an IPv4 address as net/route does.
func native(a string) string {
	b := netip.MustParseAddr(a).As4()
	return fmt.Sprintf("%08X", binary.NativeEndian.Uint32(b[:]))
}

// proc is a proc file system of a node with two interfaces, of which eth0 has the default route.
func proc(edits map[string]string) fstest.MapFS {
	files := map[string]string{
		"net/route": "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
			"eth0\t00000000\t" + native("192.0.2.1") + "\t0003\t0\t0\t100\t00000000\t0\t0\t0\n" +
			"eth0\t" + native("192.0.2.0") + "\t00000000\t0001\t0\t0\t100\t" + native("255.255.255.0") + "\t0\t0\t0\n" +
			"eth1\t" + native("198.51.100.0") + "\t00000000\t0001\t0\t0\t100\t" + native("255.255.255.0") + "\t0\t0\t0\n",
		"net/ipv6_route": "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n" +
			"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n" +
			"20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n",
		"net/tcp": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
			"   0: 00000000:1F0B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n" +
			"   1: 0100007F:A000 0200007F:00B3 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0\n",
	}
	for _, name := range []string{"all", "eth0", "eth1"} {
		for _, setting := range []string{"proxy_arp", "rp_filter", "arp_ignore"} {
			files["sys/net/ipv4/conf/"+name+"/"+setting] = "0\n"
		}
	}
	maps.Copy(files, edits)
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func interfaces() []config.Interface {
	return []config.Interface{
		{Name: "eth0", Up: true, Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		{Name: "eth1", Up: true, Subnets: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}},
		{Name: "eth2", Up: false},
	}
}

func pool(from, to string) *config.Pool {
	return &config.Pool{Name: "lan", Ranges: []config.Range{{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}}}
}

func TestJudge(t *testing.T) {
	conf := "sys/net/ipv4/conf/"
	ipvs := map[string]string{conf + "kube-ipvs0/arp_ignore": "0\n"}
	with := func(m map[string]string, more ...string) map[string]string {
		m = maps.Clone(m)
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for _, test := range []struct {
		name  string
		files map[string]string
		pools []*config.Pool
		want  string   // reasons
		says  []string // in the first message
	}{
		{name: "all is well", pools: []*config.Pool{pool("192.0.2.100", "192.0.2.200")}},
		{name: "IPVS without strictARP", files: ipvs, want: StrictARPOff, says: []string{"eth0, eth1", "strictARP"}},
		{name: "IPVS with strictARP", files: with(ipvs, conf+"all/arp_ignore", "1\n")},
		{name: "IPVS, strict on one interface", files: with(ipvs, conf+"eth0/arp_ignore", "1\n"), want: StrictARPOff, says: []string{"on eth1:"}},
		{name: "proxy_arp on one", files: map[string]string{conf + "eth1/proxy_arp": "1\n"}, want: ProxyARP, says: []string{"for eth1,"}},
		{name: "proxy_arp on all", files: map[string]string{conf + "all/proxy_arp": "1\n"}, want: ProxyARP, says: []string{"eth0, eth1"}},
		{name: "proxy_arp of a container's interface", files: map[string]string{conf + "cali1/proxy_arp": "1\n"}},
		{
			name: "strict filtering where answers leave elsewhere", files: map[string]string{conf + "eth1/rp_filter": "1\n"},
			pools: []*config.Pool{pool("198.51.100.10", "198.51.100.20")}, want: ReversePathFilter, says: []string{"eth1", "rp_filter to 2"},
		},
		{name: "strict filtering, no pool there", files: map[string]string{conf + "eth1/rp_filter": "1\n"}, pools: []*config.Pool{pool("192.0.2.9", "192.0.2.9")}},
		{
			name: "loose filtering wins over strict", files: map[string]string{conf + "eth1/rp_filter": "2\n", conf + "all/rp_filter": "1\n"},
			pools: []*config.Pool{pool("198.51.100.10", "198.51.100.20")},
		},
		{
			name: "strict filtering on the default route's interface", files: map[string]string{conf + "eth0/rp_filter": "1\n"},
			pools: []*config.Pool{pool("192.0.2.10", "192.0.2.20")},
		},
		{name: "a pool with the gateway", pools: []*config.Pool{pool("192.0.2.0", "192.0.2.255")}, want: GatewayInPool, says: []string{"IPAddressPool lan has 192.0.2.1", "eth0"}},
		{name: "a pool that excludes the gateway", pools: []*config.Pool{{
			Name: "lan", Ranges: []config.Range{{From: netip.MustParseAddr("192.0.2.0"), To: netip.MustParseAddr("192.0.2.255")}},
			Excluded: []config.Range{{From: netip.MustParseAddr("192.0.2.0"), To: netip.MustParseAddr("192.0.2.9")}},
		}}},
		{name: "a pool with the gateway of IPv6", pools: []*config.Pool{pool("fe80::1", "fe80::1")}, want: GatewayInPool, says: []string{"fe80::1"}},
		{
			name: "another BGP speaker", want: BGPSpeakerPresent, says: []string{"179"},
			files: map[string]string{"net/tcp6": "h\n   0: 00000000000000000000000000000000:00B3 00000000000000000000000000000000:0000 0A 0 0\n"},
		},
		{name: "two at once", files: with(ipvs, conf+"all/proxy_arp", "1\n"), want: ProxyARP + "," + StrictARPOff},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Judge(readProc(proc(test.files), mute), interfaces(), test.pools)
			var reasons []string
			for _, g := range got {
				reasons = append(reasons, g.Reason)
			}
			if strings.Join(reasons, ",") != test.want {
				t.Fatalf("got %+v, want %s", got, test.want)
			}
			for _, text := range test.says {
				if !strings.Contains(got[0].Message, text) {
					t.Errorf("%q is not in %q", text, got[0].Message)
				}
			}
		})
	}
}

// TestJudgeNothing says nothing of a node that was not looked at, nor of what could not be read.
func TestJudgeNothing(t *testing.T) {
	if got := Judge(nil, interfaces(), nil); got != nil {
		t.Errorf("of no node: %+v", got)
	}
	if got := Judge(readProc(fstest.MapFS{}, mute), interfaces(), []*config.Pool{pool("192.0.2.0", "192.0.2.255")}); got != nil {
		t.Errorf("of an empty proc: %+v", got)
	}
}

func TestJudgeKernel(t *testing.T) {
	got := Judge(&Node{Lacks: []Lack{{"packet socket", "ARP and NDP", "operation not permitted"}}, Drifting: true}, nil, nil)
	if len(got) != 2 || got[0].Reason != ClockUnsynchronised || got[1].Reason != SocketsMissing || !strings.Contains(got[1].Message, "NET_RAW") {
		t.Errorf("%+v", got)
	}
}

// FuzzProc reads nonsense without falling over.
func FuzzProc(f *testing.F) {
	for _, file := range proc(nil) {
		f.Add(file.Data)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, g := range append(parseRoutes(text), parseRoutes6(text)...) {
			if g.Interface == "" {
				t.Errorf("a gateway on no interface: %+v", g)
			}
		}
		listens(text, bgpPort)
	})
}

// TestWatcher tells of what changes, and only then.
func TestWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var drifting atomic.Bool
		w := newWatcher(proc(nil), mute, func(n *Node) { n.Drifting = drifting.Load() })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		<-w.Changed()
		if w.Node() == nil || w.Node().Drifting {
			t.Errorf("at first: %+v", w.Node())
		}
		synctest.Wait()
		drifting.Store(true)
		<-w.Changed()
		if !w.Node().Drifting {
			t.Errorf("then: %+v", w.Node())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestRealKernel provokes in a network namespace what the kernel's own files must then show.
func TestRealKernel(t *testing.T) {
	nettest.Need(t)
	mustRun := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	nettest.Veth(t, "eth7", "eth8")
	nettest.Veth(t, ipvsDevice, "eth9")
	link := nettest.Link(t, "eth7")
	addr, err := netlink.ParseAddr("192.0.2.2/24")
	mustRun("address", err)
	mustRun("address", netlink.AddrAdd(link, addr))
	mustRun("route", netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(192, 0, 2, 1)}))
	l, err := net.Listen("tcp", "192.0.2.2:179")
	mustRun("listening", err)
	t.Cleanup(func() { l.Close() })

	n := New().look()
	if len(n.Lacks) != 0 {
		t.Errorf("sockets that this test may open: %+v", n.Lacks)
	}
	want := []Gateway{{"eth7", netip.MustParseAddr("192.0.2.1"), config.IPv4}}
	if diff := cmp.Diff(want, n.Gateways, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("gateways (-want +got):\n%s", diff)
	}
	got := Judge(n, []config.Interface{{Name: "eth7", Up: true}}, []*config.Pool{pool("192.0.2.0", "192.0.2.9")})
	var reasons []string
	for _, g := range got {
		reasons = append(reasons, g.Reason)
	}
	reasons = slices.DeleteFunc(reasons, func(r string) bool { return r == ClockUnsynchronised }) // of the machine
	if diff := cmp.Diff([]string{BGPSpeakerPresent, GatewayInPool, StrictARPOff}, reasons); diff != "" {
		t.Errorf("troubles (-want +got):\n%s", diff)
	}
}

// TestListening tells who listens from who is connected, on either family and on the very port.
func TestListening(t *testing.T) {
	nettest.Need(t)
	nettest.Veth(t, "eth7", "eth8") // in a network namespace of its own
	if err := netlink.LinkSetUp(nettest.Link(t, "lo")); err != nil {
		t.Fatal(err)
	}
	listens := func(when string, want bool) {
		t.Helper()
		if got, err := askListening(bgpPort); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", when, got, err, want)
		}
	}
	open := func(address string) *net.TCPListener {
		t.Helper()
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.(*net.TCPListener)
	}
	listens("nobody", false)
	open("127.0.0.1:180")
	listens("on another port", false)
	l := open("127.0.0.1:179")
	listens("over IPv4", true)
	conn, err := net.Dial("tcp", "127.0.0.1:179")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	l.Close()
	listens("connected, and not listening any more", false)
	open("[::1]:179")
	listens("over IPv6", true)
}
