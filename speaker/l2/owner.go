package l2

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/l2/frame"
	"github.com/heraldlb/herald/speaker/reconcile"
)

// owner is the state of one Run; its goroutine alone touches it, but for what endpoints share by atomic values and channels.
type owner struct {
	*Reconciler
	wants     map[key]want // what the endpoints were told last
	endpoints map[key]*endpoint
	ending    map[*endpoint]struct{} // told to stop, not stopped yet
	counters  map[key]*frame.Counters
	conflicts map[conflictKey]Conflict
	published time.Time           // when conflicts were published last
	stale     bool                // claims have been heard since
	looked    map[netip.Addr]bool // addresses to probe that were found free (true) or in use, while they are wanted
	refused   bool                // the lack of CAP_NET_RAW has been logged

	own   atomic.Pointer[map[[6]byte]struct{}] // MACs of this node
	dirty chan struct{}                        // an endpoint's status changed
	heard chan claim
	wg    sync.WaitGroup
}

// Run answers for what Set says until ctx ends.
func (r *Reconciler) Run(ctx context.Context) error {
	o := &owner{
		Reconciler: r,
		endpoints:  map[key]*endpoint{},
		ending:     map[*endpoint]struct{}{},
		counters:   map[key]*frame.Counters{},
		conflicts:  map[conflictKey]Conflict{},
		looked:     map[netip.Addr]bool{},
		dirty:      make(chan struct{}, 1),
		heard:      make(chan claim, 64),
	}
	o.own.Store(&map[[6]byte]struct{}{})
	defer o.wg.Wait()
	for {
		var expire <-chan time.Time
		if next := o.nextLook(); !next.IsZero() {
			expire = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.inbox.poke:
			m := r.inbox.take()
			if m.wish != nil {
				o.apply(ctx, m.wish)
			}
			o.announce(m.announce)
		case <-o.dirty:
			o.collect()
		case c := <-o.heard:
			o.take(c, time.Now())
		case <-expire:
			o.expire(time.Now())
		}
	}
}

// apply brings the endpoints in line with a wish.
func (o *owner) apply(ctx context.Context, w *wish) {
	o.know(w.links)
	o.remember(w.desired)
	wants := w.wants(o.wants, o.mayLook)
	for _, step := range rules().Diff(o.wants, wants) {
		switch step.Kind {
		case reconcile.Remove:
			e := o.endpoints[step.Key]
			delete(o.endpoints, step.Key)
			o.ending[e] = struct{}{}
			e.stop()
		case reconcile.Change:
			o.endpoints[step.Key].tell(step.New)
		case reconcile.Add:
			o.endpoints[step.Key] = o.start(ctx, step.Key, step.New)
		}
	}
	o.wants = wants
	o.prune()
}

// know takes down the MACs of this node, and forgets the counts of interfaces that are gone.
func (o *owner) know(links []config.Interface) {
	macs, names := map[[6]byte]struct{}{}, map[string]bool{}
	for _, l := range links {
		names[l.Name] = true
		if mac, err := net.ParseMAC(l.MAC); err == nil && len(mac) == 6 {
			macs[[6]byte(mac)] = struct{}{}
		}
	}
	o.own.Store(&macs)
	before := len(o.counters)
	maps.DeleteFunc(o.counters, func(k key, _ *frame.Counters) bool { return !names[k.name] })
	if len(o.counters) != before {
		o.publishCounts()
	}
}

func (o *owner) isOwn(mac net.HardwareAddr) bool {
	if len(mac) != 6 {
		return false
	}
	_, ok := (*o.own.Load())[[6]byte(mac)]
	return ok
}

func (o *owner) start(ctx context.Context, k key, v want) *endpoint {
	countKey := key{name: k.name, protocol: k.protocol}
	c := o.counters[countKey]
	if c == nil {
		c = &frame.Counters{}
		o.counters[countKey] = c
		o.publishCounts()
	}
	ctx, cancel := context.WithCancel(ctx)
	e := &endpoint{key: k, stop: cancel, poke: make(chan struct{}, 1), dirty: o.dirty}
	heard := o.listener(e)
	e.open = func(ifi config.Interface) (responder, error) { return o.open[k.protocol](ifi, c, heard, o.isOwn) }
	e.status.Store(&status{})
	e.tell(v)
	o.wg.Go(func() { e.run(ctx) })
	return e
}

func (o *owner) publishCounts() {
	var out []counted
	for _, k := range slices.SortedFunc(maps.Keys(o.counters), compareKeys) {
		out = append(out, counted{k.name, k.protocol, o.counters[k]})
	}
	o.counts.Store(&out)
}

func (o *owner) announce(addrs []netip.Addr) {
	if len(addrs) == 0 {
		return
	}
	for _, e := range o.endpoints {
		e.again(addrs)
	}
}

// collect publishes what the endpoints do now, and logs what went wrong with them once.
func (o *owner) collect() {
	var lists [][]config.L2Holding
	var users []Conflict
	add := func(e *endpoint) *status {
		s := e.status.Load()
		if len(s.held) > 0 {
			lists = append(lists, s.held)
		}
		users = append(users, s.taken...)
		return s
	}
	denied := false
	for _, k := range slices.SortedFunc(maps.Keys(o.endpoints), compareKeys) {
		e := o.endpoints[k]
		s := add(e)
		denied = denied || errors.Is(s.err, fs.ErrPermission)
		o.report(e, s)
	}
	if o.denied.Swap(denied) != denied {
		signal(o.changed)
	}
	for e := range o.ending {
		if add(e).done {
			delete(o.ending, e)
		}
	}
	o.learn(users, time.Now())
	out := join(lists)
	o.noteFree(out)
	if !slices.Equal(out, o.Actual()) {
		o.actual.Store(&out)
		signal(o.changed)
	}
}

// join makes one sorted list of several. An endpoint that is about to end may still answer for what its successor answers for already.
func join(lists [][]config.L2Holding) []config.L2Holding {
	if len(lists) == 1 {
		return lists[0]
	}
	out := slices.Concat(lists...)
	slices.SortFunc(out, func(a, b config.L2Holding) int {
		if c := a.Address.Compare(b.Address); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.Interface, b.Interface), a.Since.Compare(b.Since))
	})
	return slices.CompactFunc(out, func(a, b config.L2Holding) bool { return a.Address == b.Address && a.Interface == b.Interface })
}

// report logs the trouble of an endpoint when it is new, and its end.
func (o *owner) report(e *endpoint, s *status) {
	text := ""
	if s.err != nil {
		text = s.err.Error()
	}
	if text == e.logged {
		return
	}
	e.logged = text
	switch {
	case s.err == nil:
		o.refused = false
		o.log.Info("answering on the interface again", "interface", e.key.name, "protocol", e.key.protocol)
	case errors.Is(s.err, fs.ErrPermission):
		if !o.refused {
			o.refused = true
			o.log.Error("cannot answer for addresses: packet sockets are not permitted; add the capability NET_RAW to the speaker's securityContext",
				"interface", e.key.name, "error", s.err)
		}
	default:
		o.log.Warn("cannot answer on the interface; trying again", "interface", e.key.name, "protocol", e.key.protocol, "error", s.err)
	}
}
