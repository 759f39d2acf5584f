// Package link follows the node's network interfaces through netlink and publishes those that Herald may answer on. The kernel's
// notifications only say when to look; what is published comes from a full dump each time, so a lost notification cannot leave a wrong
// picture behind.
package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/reconcile"
)

// DefaultExclude is the default of --exclude-interfaces, a comma-separated list: devices of container networks, tunnels and virtual
// machines, on which no client of a Service asks for addresses.
const DefaultExclude = `^lo$,^br-[0-9a-f]{12}$,^(br-int|br-tun|ovs-system|kube-bridge)$,` +
	`^(cni|cbr|docker|podman|nerdctl|lxc|lxd|virbr|vnet|veth|tap|dummy|ifb)[0-9a-zA-Z_.-]*$,` +
	`^(cali|cilium|flannel|weave|vxlan|geneve|genev_sys|antrea|ovn-k8s-|kube-ipvs|nodelocaldns)[0-9a-zA-Z_.-]*$,` +
	`^(tunl|gre|erspan|sit|ip6tnl|wg|tailscale)[0-9a-zA-Z_.-]*$`

// ParseExclude reads a comma-separated list of regular expressions, as --exclude-interfaces takes it.
func ParseExclude(list string) ([]*regexp.Regexp, error) {
	var out []*regexp.Regexp
	for text := range strings.SplitSeq(list, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		r, err := regexp.Compile(text)
		if err != nil {
			return nil, fmt.Errorf("interfaces to exclude: %w", err)
		}
		out = append(out, r)
	}
	return out, nil
}

// Options of a Watcher.
type Options struct {
	Exclude []*regexp.Regexp // interfaces whose name one of them matches are left out
	Log     *slog.Logger
}

// Watcher publishes the usable interfaces. Make it with New, run it with Run.
type Watcher struct {
	opt        Options
	stirred    map[int]uint64 // how often each link was, by index; Run's goroutine owns it
	interfaces atomic.Pointer[[]config.Interface]
	changed    chan struct{}
}

// New returns a Watcher that knows no interface until Run has looked.
func New(opt Options) *Watcher {
	return &Watcher{opt: opt, stirred: map[int]uint64{}, changed: make(chan struct{}, 1)}
}

// Interfaces returns the usable interfaces, sorted by name. The caller must not change the slice.
func (w *Watcher) Interfaces() []config.Interface {
	if p := w.interfaces.Load(); p != nil {
		return *p
	}
	return nil
}

// Changed tells that Interfaces has something new.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// How often to look: at once at the first notification after a pause, then not closer than minGap nor than ten times what a look takes
// (a node with many container interfaces has much to list), and in any case every maxGap.
const (
	minGap = 20 * time.Millisecond
	maxGap = time.Minute
)

// Run publishes until ctx ends. When netlink fails it keeps what was published and starts over.
func (w *Watcher) Run(ctx context.Context) error {
	backoff := reconcile.Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second}
	failures := 0
	for ctx.Err() == nil {
		began := time.Now()
		err := w.watch(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > backoff.Max {
			failures = 0
		}
		failures++
		w.opt.Log.Warn("following network interfaces failed; starting over with what is known", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(backoff.After(failures)):
		}
	}
	return nil
}

// watch looks whenever a notification came, until ctx ends or netlink fails.
func (w *Watcher) watch(ctx context.Context) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer handle.Close()
	sub, err := subscribe()
	if err != nil {
		return err
	}
	defer sub.stop() // joins the reader
	for {
		began := time.Now()
		if err := w.look(handle, sub); errors.Is(err, netlink.ErrDumpInterrupted) {
			sub.notice() // it changed while we looked: what came may lack something, so look again
		} else if err != nil {
			return fmt.Errorf("list interfaces: %w", err)
		}
		rest := time.NewTimer(max(minGap, 10*time.Since(began)))
		select {
		case <-ctx.Done():
			rest.Stop()
			return nil
		case <-rest.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-sub.failed:
			return err
		case <-sub.noticed:
		case <-time.After(maxGap):
		}
	}
}

// look lists everything and publishes what changed.
func (w *Watcher) look(handle *netlink.Handle, sub *subscription) error {
	links, addrs, err := list(handle)
	if err == nil {
		next := usable(links, addrs, w.opt.Exclude)
		w.count(next, sub.take())
		w.publish(next)
	}
	return err
}

// count counts how often each interface was stirred. One that is down says so itself.
func (w *Watcher) count(next []config.Interface, stirred map[int]struct{}) {
	counts := make(map[int]uint64, len(next))
	for i := range next {
		n := w.stirred[next[i].Index]
		if _, ok := stirred[next[i].Index]; ok && next[i].Up {
			n++
		}
		counts[next[i].Index] = n
		next[i].Stirred = n
	}
	w.stirred = counts
}

func list(handle *netlink.Handle) ([]netlink.Link, []netlink.Addr, error) {
	links, err := handle.LinkList()
	if err != nil {
		return nil, nil, err
	}
	addrs, err := handle.AddrList(nil, netlink.FAMILY_ALL)
	return links, addrs, err
}

func (w *Watcher) publish(next []config.Interface) {
	if old := w.interfaces.Load(); old != nil && slices.EqualFunc(*old, next, equal) {
		return
	}
	w.interfaces.Store(&next)
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func equal(a, b config.Interface) bool {
	return a.Name == b.Name && a.Index == b.Index && a.MAC == b.MAC && a.Up == b.Up && a.Stirred == b.Stirred && slices.Equal(a.Subnets, b.Subnets)
}
