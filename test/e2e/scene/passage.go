package scene

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/heraldlb/herald/test/lab/probe"
	"github.com/heraldlb/herald/test/lab/router"
)

// Load is what a client behind the router puts on each of some addresses.
type Load struct {
	Every   time.Duration // between two new connections
	Limit   time.Duration // for a connection to come about
	Streams int           // held all the time
}

// Passage is what a client behind the router, and the router itself, saw of some addresses while something happened.
type Passage struct {
	Attempts probe.Attempts
	Streams  probe.Streams
	Changes  []router.Event // of the addresses' routes in the router's kernel
}

// Slowest is how long the slowest connection took that came about.
func (p *Passage) Slowest() time.Duration {
	var slowest time.Duration
	for _, a := range p.Attempts {
		if a.Err == nil {
			slowest = max(slowest, a.Took)
		}
	}
	return slowest
}

// Deleted are the changes by which the router had no route to an address any more.
func (p *Passage) Deleted() (list []router.Event) {
	for _, c := range p.Changes {
		if c.Deleted {
			list = append(list, c)
		}
	}
	return list
}

// noticed is how long after a change of a route its notice may be read; the machine may be busy.
const noticed = 100 * time.Millisecond

// Diverted returns the change of a route that broke a connection off while it came about: the router sent its first packet to one node and
// the next to another, which knows nothing of it, and resets it or sends it back to the router until its hops are used up. That is what happens
// to connections there are, too; nil for every other error.
func (p *Passage) Diverted(a probe.Attempt) *router.Event {
	if !errors.Is(a.Err, syscall.ECONNRESET) && !errors.Is(a.Err, syscall.EHOSTUNREACH) {
		return nil
	}
	for i, c := range p.Changes {
		if !c.Time.Before(a.Begin) && !c.Time.After(a.Begin.Add(a.Took+noticed)) {
			return &p.Changes[i]
		}
	}
	return nil
}

// inARow is how often an address has to answer before load is put on it: every node that the router chooses is ready then.
const inARow = 20

// Pass puts load on addresses from behind the router while something is done. It waits until the addresses answer there.
func (s *Scene) Pass(ctx context.Context, ips []netip.Addr, l Load, do func()) (*Passage, error) {
	for _, ip := range ips {
		if err := s.Wait(ctx, "pages from "+ip.String(), func(ctx context.Context) error { return s.answers(ctx, ip) }); err != nil {
			return nil, err
		}
	}
	watch, err := router.NewWatch(s.RouterHost)
	if err != nil {
		return nil, err
	}
	p := &Passage{}
	var watching, loading sync.WaitGroup
	watching.Go(func() {
		for e := range watch.Events() {
			if slices.ContainsFunc(ips, func(ip netip.Addr) bool { return e.Route.Prefix == netip.PrefixFrom(ip, ip.BitLen()) }) {
				p.Changes = append(p.Changes, e)
			}
		}
	})
	ctx, stop := context.WithCancel(ctx)
	end := sync.OnceValue(func() error {
		stop()
		loading.Wait()
		err := watch.Close()
		watching.Wait()
		return err
	})
	defer func() { _ = end() }() // do may end the test
	s.load(ctx, p, &loading, ips, l)
	do()
	return p, end()
}

// answers asks an address again and again from behind the router.
func (s *Scene) answers(ctx context.Context, ip netip.Addr) error {
	for range inARow {
		if _, err := probe.Get(ctx, s.FarClient, "http://"+netip.AddrPortFrom(ip, httpPort).String()+"/", time.Second); err != nil {
			return err
		}
	}
	return nil
}

// load returns when all streams are open.
func (s *Scene) load(ctx context.Context, p *Passage, running *sync.WaitGroup, ips []netip.Addr, l Load) {
	var mu sync.Mutex
	var opened sync.WaitGroup
	for _, ip := range ips {
		at := netip.AddrPortFrom(ip, httpPort).String()
		opened.Add(1)
		running.Go(func() {
			held := probe.HoldStreams(ctx, s.FarClient, "http://"+at+"/hold?every=100ms", l.Streams, opened.Done)
			mu.Lock()
			defer mu.Unlock()
			p.Streams = append(p.Streams, held...)
		})
	}
	opened.Wait()
	for _, ip := range ips {
		at := netip.AddrPortFrom(ip, httpPort).String()
		running.Go(func() {
			made := probe.NewConnects(s.FarClient, at, l.Every, l.Limit).Run(ctx)
			mu.Lock()
			defer mu.Unlock()
			p.Attempts = append(p.Attempts, made...)
		})
	}
}
