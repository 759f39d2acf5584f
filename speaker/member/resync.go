package member

import (
	"context"
	"net/netip"
	"sync"

	"github.com/hashicorp/memberlist"
)

// resyncs is how many others are asked for all they know.
const resyncs = 3

// Resync asks some others for all they know, at once: for a speaker that may have slept through what they said. View.Heard tells when one
// has answered. It never blocks.
func (m *Member) Resync() { poke(m.resync) }

// catchUp does what Resync asks for.
func (m *Member) catchUp(ctx context.Context, ml *memberlist.Memberlist) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.resync:
		}
		var wg sync.WaitGroup
		for _, addr := range m.someone() {
			wg.Go(func() {
				if _, err := ml.Join([]string{addr.String()}); err != nil {
					m.opt.Log.Debug("a speaker does not tell what it knows", "address", addr, "error", err)
				}
			})
		}
		wg.Wait()
	}
}

// someone returns the addresses of some others: live ones, or, when none is, of where they should be.
func (m *Member) someone() []netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []netip.AddrPort
	for _, addr := range m.book.livePeers() {
		out = append(out, addr)
	}
	for seed := range m.book.seeds {
		if len(out) < resyncs && seed != m.book.addr {
			out = append(out, seed)
		}
	}
	return out[:min(len(out), resyncs)]
}
