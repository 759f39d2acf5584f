package member

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"
)

// How a new key replaces an old one. Every speaker hears of the new one by itself, and one that starts anew knows only that.
const (
	keySwitch = time.Second // the others have heard of it by then: it may be used
	keyExpiry = time.Minute // those that were cut off for a moment have heard of it, too: the old one is not believed any more
)

// SetKey replaces the key: what is said under the new one is understood at once, own messages use it a moment later, and after a while the old one
// is forgotten. It never blocks.
func (m *Member) SetKey(key []byte) error {
	if len(key) != KeySize {
		return fmt.Errorf("the gossip key must have %d bytes, got %d", KeySize, len(key))
	}
	if err := m.ring.AddKey(key); err != nil {
		return fmt.Errorf("gossip key: %w", err)
	}
	m.mu.Lock()
	m.newest = bytes.Clone(key)
	m.mu.Unlock()
	poke(m.rekeyed)
	return nil
}

// rekey carries SetKey out until ctx ends.
func (m *Member) rekey(ctx context.Context) {
	var use, forget <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.rekeyed:
			use, forget = time.After(m.switchAfter), nil
		case <-use:
			m.useNewest()
			use, forget = nil, time.After(m.forgetAfter)
		case <-forget:
			m.forgetOthers()
			forget = nil
		}
	}
}

func (m *Member) useNewest() {
	if err := m.ring.UseKey(m.newestKey()); err != nil { // SetKey has added it
		m.opt.Log.Error("the new gossip key cannot be used", "error", err)
		return
	}
	m.opt.Log.Info("using the new gossip key")
}

// forgetOthers forgets all keys but the newest.
func (m *Member) forgetOthers() {
	newest := m.newestKey()
	for _, key := range slices.Clone(m.ring.GetKeys()) {
		if !bytes.Equal(key, newest) {
			_ = m.ring.RemoveKey(key) // fails for the one in use only, which is the newest
		}
	}
}

func (m *Member) newestKey() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newest
}
