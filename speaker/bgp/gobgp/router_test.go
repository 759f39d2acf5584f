package gobgp

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/bgp"
)

// routerConn is one end of a connection in memory with addresses of its own.
type routerConn struct {
	net.Conn
	local netip.Addr
}

func (c routerConn) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.local, 40000))
}

// router is the other side of a session, played by the test: a hand-driven BGP speaker over connections in memory.
type router struct {
	t       *testing.T
	dialled chan net.Conn // connections from the session, one for each dial while the router is up
	local   netip.Addr    // the session's end
	refuse  atomic.Bool
	dials   []time.Time
	conn    net.Conn
	found   chan netip.Addr // hands an unnumbered session the router's address
}

// finder is the Finder of an unnumbered session. It knows of no router until it is told.
type finder struct {
	*router
	mu      sync.Mutex
	addr    netip.Addr
	changed chan struct{}
}

func (f *finder) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-f.found:
			f.mu.Lock()
			f.addr = a
			f.mu.Unlock()
			f.changed <- struct{}{}
		}
	}
}

func (f *finder) Changed() <-chan struct{} { return f.changed }

func (f *finder) Router() (netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.addr.IsValid() {
		return f.addr, errors.New("nobody there")
	}
	return f.addr, nil
}

func (r *router) dial(ctx context.Context, n bgp.Neighbor) (net.Conn, error) {
	r.dials = append(r.dials, time.Now())
	if r.refuse.Load() {
		return nil, &net.OpError{Op: "dial", Err: unix.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	select {
	case r.dialled <- theirs:
		return routerConn{ours, r.local}, nil
	case <-time.After(n.Connect):
		return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// accept waits for the next connection.
func (r *router) accept() {
	r.t.Helper()
	select {
	case r.conn = <-r.dialled:
	case <-time.After(10 * time.Minute):
		r.t.Fatal("no connection")
	}
}

func (r *router) send(messages ...*packet.BGPMessage) {
	r.t.Helper()
	for _, m := range messages {
		b, err := m.Serialize()
		if err != nil {
			r.t.Fatal(err)
		}
		r.write(b)
	}
}

func (r *router) write(b []byte) {
	r.t.Helper()
	r.conn.SetWriteDeadline(time.Now().Add(time.Hour))
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatalf("write to the session: %v", err)
	}
}

// next returns the next message, its bytes, and false when the session closed the connection.
func (r *router) next() (*packet.BGPMessage, []byte, bool) {
	r.t.Helper()
	head := make([]byte, packet.BGP_HEADER_LENGTH)
	r.conn.SetReadDeadline(time.Now().Add(24 * time.Hour))
	if _, err := io.ReadFull(r.conn, head); errors.Is(err, io.EOF) {
		return nil, nil, false
	} else if err != nil {
		r.t.Fatalf("read from the session: %v", err)
	}
	var h packet.BGPHeader
	if err := h.DecodeFromBytes(head); err != nil {
		r.t.Fatal(err)
	}
	body := make([]byte, int(h.Len)-len(head))
	if _, err := io.ReadFull(r.conn, body); err != nil {
		r.t.Fatal(err)
	}
	m, err := packet.ParseBGPBody(&h, body)
	if err != nil {
		r.t.Fatalf("the session sent something malformed: %v", err)
	}
	return m, append(head, body...), true
}

// expect returns the next message, which must be of the given type; KEEPALIVEs are skipped unless one is asked for.
func (r *router) expect(kind uint8) (*packet.BGPMessage, []byte) {
	r.t.Helper()
	for {
		m, raw, ok := r.next()
		if !ok {
			r.t.Fatalf("connection closed while waiting for a message of type %d", kind)
		}
		if m.Header.Type == kind {
			return m, raw
		}
		if m.Header.Type != packet.BGP_MSG_KEEPALIVE {
			r.t.Fatalf("message of type %d (%x), want type %d", m.Header.Type, raw, kind)
		}
	}
}

// expectNotification reads until a NOTIFICATION with the given codes, then until the end.
func (r *router) expectNotification(code, subcode uint8) {
	r.t.Helper()
	m, _ := r.expect(packet.BGP_MSG_NOTIFICATION)
	body := m.Body.(*packet.BGPNotification)
	if body.ErrorCode != code || body.ErrorSubcode != subcode {
		r.t.Errorf("NOTIFICATION %d/%d, want %d/%d", body.ErrorCode, body.ErrorSubcode, code, subcode)
	}
	r.conn.Close()
}

// closed fails the test unless the session closes the connection now.
func (r *router) closed() {
	r.t.Helper()
	if m, _, ok := r.next(); ok {
		r.t.Fatalf("message of type %d, want the end of the connection", m.Header.Type)
	}
	r.conn.Close()
}

// open is the router's OPEN with what the tests vary.
type open struct {
	asn  uint32
	hold uint16
	id   string
	caps []packet.ParameterCapabilityInterface
	raw  []packet.OptionParameterInterface
}

func (o open) message() *packet.BGPMessage {
	if o.id == "" {
		o.id = "10.0.0.1"
	}
	params := append([]packet.OptionParameterInterface{packet.NewOptionParameterCapability(o.caps)}, o.raw...)
	if o.caps == nil {
		params = o.raw
	}
	return packet.NewBGPOpenMessage(twoOctets(o.asn), o.hold, o.id, params)
}

var (
	v4Capability  = packet.NewCapMultiProtocol(packet.RF_IPv4_UC)
	v6Capability  = packet.NewCapMultiProtocol(packet.RF_IPv6_UC)
	extCapability = packet.NewCapExtendedNexthop([]*packet.CapExtendedNexthopTuple{packet.NewCapExtendedNexthopTuple(packet.RF_IPv4_UC, packet.AFI_IP6)})
)

func fourOctets(asn uint32) packet.ParameterCapabilityInterface {
	return packet.NewCapFourOctetASNumber(asn)
}

// routerOpen is an ordinary router's OPEN.
func routerOpen(asn uint32) open {
	return open{asn: asn, hold: 90, caps: []packet.ParameterCapabilityInterface{v4Capability, v6Capability, fourOctets(asn)}}
}

// establish answers a connection attempt with the given OPEN until the session is up, and returns the session's OPEN.
func (r *router) establish(o open) *packet.BGPOpen {
	r.t.Helper()
	r.accept()
	m, _ := r.expect(packet.BGP_MSG_OPEN)
	r.send(o.message())
	r.expect(packet.BGP_MSG_KEEPALIVE)
	r.send(packet.NewBGPKeepAliveMessage())
	return m.Body.(*packet.BGPOpen)
}

// quiet fails the test when the session says anything but KEEPALIVE within d.
func (r *router) quiet(d time.Duration) {
	r.t.Helper()
	deadline := time.Now().Add(d)
	for {
		r.conn.SetReadDeadline(deadline)
		f, err := readFrame(r.conn, make([]byte, packet.BGP_MAX_MESSAGE_LENGTH))
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return
		}
		if err != nil {
			r.t.Fatalf("the session ended: %v", err)
		}
		if f.kind != packet.BGP_MSG_KEEPALIVE {
			r.t.Fatalf("message of type %d (%x), want silence", f.kind, f.body)
		}
	}
}

// speaker is a session under test.
type speaker struct {
	bgp.Session
	cancel  context.CancelCauseFunc
	done    chan struct{}
	changes atomic.Int64
}

func (s *speaker) stop(cause error) {
	s.cancel(cause)
	<-s.done
}

// An ordinary eBGP neighbour.
func neighbor() bgp.Neighbor {
	return bgp.Neighbor{
		Name: "router", Address: netip.MustParseAddr("10.0.0.1"), Port: 179, LocalASN: 64512, PeerASN: 64513,
		RouterID: netip.MustParseAddr("10.0.0.5"), Families: bgp.Families{IPv4: true},
		Hold: 90 * time.Second, Keepalive: 30 * time.Second, Connect: 10 * time.Second,
	}
}

// run starts a session with a router that the test plays, in a bubble of fake time.
func run(t *testing.T, n bgp.Neighbor, test func(*router, *speaker)) {
	synctest.Test(t, func(t *testing.T) {
		r := &router{t: t, dialled: make(chan net.Conn), found: make(chan netip.Addr), local: netip.MustParseAddr("10.0.0.5")}
		if n.Address.Is6() {
			r.local = netip.MustParseAddr("2001:db8::5")
		}
		nics := func() ([]bgp.NIC, error) {
			return []bgp.NIC{{Name: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("2001:db8::5")}}}, nil
		}
		find := func(string) Finder { return &finder{router: r, changed: make(chan struct{}, 8)} }
		s := &speaker{done: make(chan struct{})}
		s.Session = New(Options{Log: slog.New(slog.DiscardHandler), Dial: r.dial, NICs: nics, Find: find}).Session(n, func() { s.changes.Add(1) })
		ctx, cancel := context.WithCancelCause(t.Context())
		s.cancel = cancel
		go func() {
			defer close(s.done)
			s.Run(ctx)
		}()
		test(r, s)
		if r.conn != nil {
			r.conn.Close()
		}
		s.stop(nil)
	})
}

func advert(prefixes ...string) bgp.Advert {
	var a bgp.Advert
	var page []bgp.Path
	for _, p := range prefixes {
		page = append(page, bgp.Path{Prefix: netip.MustParsePrefix(p)})
	}
	if len(page) > 0 {
		a.Paths = [][]bgp.Path{page}
	}
	return a
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	var clean []byte
	for f := range bytes.FieldsSeq([]byte(s)) {
		clean = append(clean, f...)
	}
	b, err := hex.DecodeString(string(clean))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
