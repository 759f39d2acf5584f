package adjacent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/ndp"
	"go.uber.org/goleak"
	"golang.org/x/net/ipv6"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var mac = net.HardwareAddr{2, 0, 0, 0, 0, 5}

// link is a model of a link: what the node sends is remembered, what the test says is heard. It fails when a closed connection is used.
type link struct {
	t         *testing.T
	mu        sync.Mutex
	down      error // why it cannot be listened on
	neighbors []netip.Addr
	opened    int
	open      *linkConn
	sent      []string // when and what
	began     time.Time
}

type heard struct {
	m    ndp.Message
	hop  int
	from netip.Addr
}

type linkConn struct {
	*link
	in     chan heard
	closed chan struct{}
}

func (l *link) Listen(iface string) (Conn, net.HardwareAddr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down != nil {
		return nil, nil, l.down
	}
	if l.open != nil {
		l.t.Error("listening twice")
	}
	l.opened++
	l.open = &linkConn{link: l, in: make(chan heard), closed: make(chan struct{})}
	return l.open, mac, nil
}

func (l *link) Neighbors(string) ([]netip.Addr, error) { return l.neighbors, nil }

func (c *linkConn) ReadFrom() (ndp.Message, *ipv6.ControlMessage, netip.Addr, error) {
	select {
	case h := <-c.in:
		if h.m == nil {
			return nil, nil, netip.Addr{}, net.ErrClosed // the interface went down
		}
		return h.m, &ipv6.ControlMessage{HopLimit: h.hop}, h.from.WithZone("eth0"), nil
	case <-c.closed:
		return nil, nil, netip.Addr{}, net.ErrClosed
	}
}

func (c *linkConn) WriteTo(m ndp.Message, _ *ipv6.ControlMessage, to netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.closed:
		c.t.Error("a closed connection is used")
	default:
	}
	what := ""
	switch m := m.(type) {
	case *ndp.RouterAdvertisement:
		what = fmt.Sprintf("RA lifetime %s", m.RouterLifetime)
	case *ndp.RouterSolicitation:
		what = "RS"
	}
	c.sent = append(c.sent, fmt.Sprintf("%s %s to %s", time.Since(c.began), what, to))
	return nil
}

func (c *linkConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.closed)
	c.link.open = nil
	return nil
}

// hears has the node hear a message.
func (l *link) hears(m ndp.Message, hop int, from string) {
	l.mu.Lock()
	conn := l.open
	l.mu.Unlock()
	conn.in <- heard{m, hop, netip.MustParseAddr(from)}
	synctest.Wait()
}

func (l *link) takeSent() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := strings.Join(l.sent, "\n")
	l.sent = nil
	return s
}

// on runs a Finder on a link in fake time.
func on(t *testing.T, test func(*Finder, *link)) {
	synctest.Test(t, func(t *testing.T) {
		l := &link{t: t, began: time.Now()}
		f := On(l, "eth0", slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.Run(ctx)
		}()
		synctest.Wait()
		test(f, l)
		cancel()
		<-done
		if l.open != nil {
			t.Error("the connection was not closed")
		}
	})
}

func ra(lifetime time.Duration) ndp.Message {
	return &ndp.RouterAdvertisement{RouterLifetime: lifetime}
}

func TestAdvertises(t *testing.T) {
	on(t, func(f *Finder, l *link) {
		time.Sleep(13 * time.Second)
		synctest.Wait()
		want := ""
		for _, at := range []string{"0s", "1s", "2s", "12s"} {
			want += at + " RA lifetime 0s to ff02::1\n" + at + " RS to ff02::2\n"
		}
		if got := l.takeSent(); got != strings.TrimSpace(want) {
			t.Errorf("sent:\n%s\nwant:\n%s", got, want)
		}
		l.hears(ra(0), 255, "fe80::1")
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if got := l.takeSent(); got != "22s RA lifetime 0s to ff02::1" {
			t.Errorf("sent with a router known: %s", got)
		}
		time.Sleep(time.Second)
		for range 3 { // a router asks, in a hurry
			l.hears(&ndp.RouterSolicitation{}, 255, "fe80::1")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := l.takeSent(); got != "23s RA lifetime 0s to ff02::1\n24s RA lifetime 0s to ff02::1" {
			t.Errorf("sent when asked: %s", got)
		}
	})
}

func TestRouter(t *testing.T) {
	on(t, func(f *Finder, l *link) {
		expect := func(when, want string) {
			t.Helper()
			got, err := f.Router()
			if s := fmt.Sprint(got, " ", err); !strings.Contains(s, want) {
				t.Errorf("%s: router %s, want %s", when, s, want)
			}
		}
		expect("at first", "no router was heard on eth0")
		<-f.Changed() // that it listens
		l.neighbors = []netip.Addr{netip.MustParseAddr("fe80::9")}
		expect("with one neighbour", "fe80::9%eth0 <nil>")
		l.neighbors = append(l.neighbors, netip.MustParseAddr("fe80::8"))
		expect("with two neighbours", "it has 2 neighbours")
		l.hears(ra(0), 64, "fe80::1")
		expect("after an advertisement from afar", "it has 2 neighbours")
		l.hears(ra(0), 255, "2001:db8::1")
		expect("after one from an address that is not link-local", "it has 2 neighbours")
		l.hears(ra(0), 255, "fe80::1")
		expect("after one", "fe80::1%eth0 <nil>")
		<-f.Changed()
		time.Sleep(time.Second)
		l.hears(ra(0), 255, "fe80::2")
		expect("after one of another", "fe80::2%eth0 <nil>")
		time.Sleep(time.Second)
		l.hears(ra(30*time.Minute), 255, "fe80::3")
		expect("after one of a default router", "fe80::3%eth0 <nil>")
		l.hears(ra(0), 255, "fe80::1")
		expect("which stays the first choice", "fe80::3%eth0 <nil>")
		time.Sleep(20 * time.Minute)
		l.hears(ra(0), 255, "fe80::2")
		time.Sleep(20 * time.Minute)
		expect("when it falls silent", "fe80::2%eth0 <nil>")
	})
}

func TestManyRoutersDoNotFillMemory(t *testing.T) {
	on(t, func(f *Finder, l *link) {
		for i := range 1000 {
			l.hears(ra(0), 255, fmt.Sprintf("fe80::%x", i+1))
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.heard) > mostOf {
			t.Errorf("%d routers remembered", len(f.heard))
		}
	})
}

func TestInterfaceComesAndGoes(t *testing.T) {
	on(t, func(f *Finder, l *link) {
		l.mu.Lock()
		l.down = errors.New("this node has no interface eth0")
		conn := l.open
		l.mu.Unlock()
		conn.in <- heard{}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if _, err := f.Router(); err == nil || err.Error() != "this node has no interface eth0" {
			t.Errorf("error %v", err)
		}
		l.mu.Lock()
		l.down = nil
		l.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		l.hears(ra(0), 255, "fe80::1")
		if a, err := f.Router(); err != nil || a.String() != "fe80::1%eth0" {
			t.Errorf("router %s, %v", a, err)
		}
	})
}
