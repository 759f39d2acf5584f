package member

import (
	"fmt"
	"maps"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// gate is a transport on which connections to one address wait to be let through, as to a node that is gone.
type gate struct {
	*transport
	to   string
	open <-chan struct{}

	mu        sync.Mutex
	now, most int
}

func (g *gate) DialAddressTimeout(a memberlist.Address, d time.Duration) (net.Conn, error) {
	g.mu.Lock()
	wait := a.Addr == g.to && d >= streamTimeout // not the failure detector's
	g.mu.Unlock()
	if wait {
		g.mu.Lock()
		g.now++
		g.most = max(g.most, g.now)
		g.mu.Unlock()
		<-g.open
		g.mu.Lock()
		g.now--
		g.mu.Unlock()
	}
	return g.transport.DialAddressTimeout(a, d)
}

// TestOneThatHangsHoldsUpNobody: what needs a stream reaches the others however often it changes, and the one that hangs when it is back.
func TestOneThatHangsHoldsUpNobody(t *testing.T) {
	open := make(chan struct{})
	let := sync.OnceFunc(func() { close(open) })
	var g *gate
	all := clusterWith(t, 3, func(m *Member) {
		if m.opt.Node != "node-00" {
			return
		}
		m.adjust = func(c *memberlist.Config) {
			tr, err := openTransport(m.book.addr, unheeded())
			if err != nil {
				t.Errorf("transport: %v", err)
				return
			}
			g = &gate{transport: tr, open: open}
			c.Transport = g
		}
	})
	t.Cleanup(let) // before the members end, which wait for it
	g.mu.Lock()
	g.to = all[1].addr.String()
	g.mu.Unlock()
	const rounds = 2*streams + 5
	last := manyClaims(300, 1)
	for i := range rounds {
		last = manyClaims(300, uint64(i+2))
		all[0].Publish(self(0, last))
		all[2].waitFor(t, fmt.Sprintf("version %d", i), func(v *View) bool { return maps.Equal(claimsOf(v, "node-00"), last) })
	}
	g.mu.Lock()
	most := g.most
	g.mu.Unlock()
	if most < 1 || most > 3 { // ours, a push/pull and another that was asked for
		t.Errorf("%d connections at once to the one that hangs, want one of ours", most)
	}
	let()
	all[1].waitFor(t, "the last version", func(v *View) bool { return maps.Equal(claimsOf(v, "node-00"), last) })
}
