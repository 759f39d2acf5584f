package speaker

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/member"
)

// Keyed is gossip that waits for its key, as on a fresh installation speakers start before the controller has made one, and follows it when
// it changes. It is a Gossip.
type Keyed struct {
	key     func() ([]byte, error) // nil key: not there yet
	open    func(key []byte) *member.Member
	changed chan struct{}
	urgent  chan struct{}
	log     *slog.Logger

	mu     sync.Mutex
	member *member.Member // nil until the key is known
	self   *decide.Member // what to publish then
	seeds  []netip.AddrPort
}

// NewKeyed returns a Keyed that does nothing until Run. key returns nil while there is no key; an error is logged, and asked again.
func NewKeyed(key func() ([]byte, error), open func(key []byte) *member.Member, log *slog.Logger) *Keyed {
	return &Keyed{key: key, open: open, changed: make(chan struct{}, 1), urgent: make(chan struct{}, 1), log: log}
}

// How often the key is looked for, and, once there is one, whether it is another. All must have seen a new one before any speaks with it,
// see member.SetKey.
const (
	keyEvery    = 100 * time.Millisecond
	followEvery = 400 * time.Millisecond
)

// Run takes part in the gossip as soon as there is a key, until ctx ends.
func (k *Keyed) Run(ctx context.Context) error {
	key := k.await(ctx)
	if key == nil {
		return nil // ctx ended
	}
	m := k.open(key)
	k.mu.Lock()
	k.member = m
	m.SetSeeds(k.seeds)
	if k.self != nil {
		m.Publish(*k.self)
	}
	k.mu.Unlock()
	forwarding, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { k.forward(forwarding, m) })
	wg.Go(func() { k.follow(forwarding, m, key) })
	err := m.Run(ctx)
	stop()
	wg.Wait()
	return err
}

// await returns the key when it is there; nil when ctx ended first.
func (k *Keyed) await(ctx context.Context) []byte {
	tick := time.NewTicker(keyEvery)
	defer tick.Stop()
	said := ""
	for {
		key, err := k.key()
		switch {
		case err != nil && err.Error() != said:
			said = err.Error()
			k.log.Error("no gossip key; nothing is announced by ARP or NDP from this node until there is one", "error", err)
		case err == nil && key != nil:
			return key
		case err == nil && said == "":
			said = "absent"
			k.log.Info("waiting for the gossip key, which the controller makes")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// follow looks whether there is another key, until ctx ends. That the key is gone for a while changes nothing.
func (k *Keyed) follow(ctx context.Context, m *member.Member, last []byte) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		key, err := k.key()
		if err == nil && (key == nil || bytes.Equal(key, last)) {
			said = ""
			continue
		}
		if err == nil {
			err = m.SetKey(key)
		}
		switch {
		case err == nil:
			k.log.Info("there is a new gossip key")
			last = key
		case err.Error() != said:
			said = err.Error()
			k.log.Error("the new gossip key is not used", "error", err)
		}
	}
}

func (k *Keyed) forward(ctx context.Context, m *member.Member) {
	for {
		poke(k.changed)
		select {
		case <-ctx.Done():
			return
		case <-m.Changed():
		case <-m.Urgent():
			poke(k.urgent)
		}
	}
}

// poke leaves a signal, unless there is one already.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (k *Keyed) current() *member.Member {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.member
}

// View is nil until gossip runs.
func (k *Keyed) View() *member.View {
	if m := k.current(); m != nil {
		return m.View()
	}
	return nil
}

// Changed tells that View may have changed.
func (k *Keyed) Changed() <-chan struct{} { return k.changed }

// Urgent tells that a speaker came or went, or is in another state.
func (k *Keyed) Urgent() <-chan struct{} { return k.urgent }

// Publish replaces what this speaker says of itself.
func (k *Keyed) Publish(self decide.Member) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.self = &self
	if k.member != nil {
		k.member.Publish(self)
	}
}

// Resync asks the other speakers for all they know.
func (k *Keyed) Resync() {
	if m := k.current(); m != nil {
		m.Resync()
	}
}

// SetSeeds replaces the addresses where speakers should run.
func (k *Keyed) SetSeeds(seeds []netip.AddrPort) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seeds = seeds
	if k.member != nil {
		k.member.SetSeeds(seeds)
	}
}

// Leave tells the others that this speaker stops for good.
func (k *Keyed) Leave(ctx context.Context) error {
	if m := k.current(); m != nil {
		return m.Leave(ctx)
	}
	return nil
}
