package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/probe"
)

const (
	probeInterval = 10 * time.Millisecond
	// probePatience is how long a connection may take to come about; a first packet that is lost is repeated after a second only.
	probePatience = 500 * time.Millisecond
	// takeoverLimit is what the demonstration still accepts; the end-to-end suite is stricter.
	takeoverLimit = 10 * time.Second
	// quietTime goes on after a takeover, to see that it stays.
	quietTime = time.Second
)

// observation is what the clients saw of an address while a cable was cut.
type observation struct {
	ip       netip.Addr
	answers  probe.Report   // a cold client's: ARP or ND
	connects probe.Attempts // a warm client's: TCP
}

// showFailover cuts the LAN cable of the node that answers for the IPv4 address, watches both addresses, and mends it again.
func (d *demo) showFailover(ctx context.Context) (string, error) {
	old, _, err := d.owner(ctx, d.l2.addresses[0])
	if err != nil {
		return "", err
	}
	node := d.lab.Node(old)
	seen, cut, err := d.watchCut(ctx, node)
	if err := errors.Join(err, node.LAN.Restore()); err != nil {
		return "", err
	}
	d.out.say("cut %s off the LAN", old)
	spans := seen[0].answers.Spans()
	if len(spans) == 0 {
		return "", fmt.Errorf("nobody was heard to answer for %s", seen[0].ip)
	}
	successor, err := d.nodeOf(spans[len(spans)-1].MAC)
	if err != nil {
		return "", fmt.Errorf("who took %s over: %w", seen[0].ip, err)
	}
	for _, o := range seen {
		d.describe(o, cut)
	}
	if successor == old {
		return "", fmt.Errorf("%s went on answering for %s", old, seen[0].ip)
	}
	gap, outage := seen[0].answers.LongestGap().Duration(), seen[0].connects.LongestOutage()
	back, err := d.afterMending(ctx, seen[0].ip, successor)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s was cut off: %s answered for %s after %s without an answer (TCP connections failed for %s); with %s back, %s",
		old, successor, seen[0].ip, milliseconds(gap), milliseconds(outage), old, back), nil
}

// describe prints one address's outage.
func (d *demo) describe(o observation, cut time.Time) {
	gap := o.answers.LongestGap()
	if macs := o.answers.MACs(); len(macs) == 1 && gap.After != "" {
		d.out.say("%s: another node answered for it, before and after (longest time without an answer %s)", o.ip, milliseconds(gap.Duration()))
		return
	}
	d.out.say("%s: %s without an answer to a cold client; a warm one's TCP connections failed for %s (%d of %d attempts)",
		o.ip, milliseconds(gap.Duration()), milliseconds(o.connects.LongestOutage()), o.connects.Failed(), len(o.connects))
	for _, s := range o.answers.Spans() {
		name, err := d.nodeOf(s.MAC)
		if err != nil {
			name = s.MAC
		}
		d.out.say("    %s answered from %+d ms to %+d ms, %d times", name, s.From.Sub(cut).Milliseconds(), s.To.Sub(cut).Milliseconds(), s.Answers)
	}
}

// watchCut watches the Layer 2 addresses, cuts the node's cable and waits for another to answer.
func (d *demo) watchCut(ctx context.Context, node *lab.Node) ([]observation, time.Time, error) {
	watch, stop := context.WithCancel(ctx)
	defer stop()
	group, watch := errgroup.WithContext(watch)
	seen := make([]observation, len(d.l2.addresses))
	for i, ip := range d.l2.addresses {
		cold, err := probe.NewContinuous(d.lab.Client, clientPort, ip, probeInterval)
		if err != nil {
			stop()
			return nil, time.Time{}, errors.Join(err, group.Wait())
		}
		warm := probe.NewConnects(d.lab.Client, netip.AddrPortFrom(ip, 80).String(), probeInterval, probePatience)
		seen[i].ip = ip
		group.Go(func() (err error) { seen[i].answers, err = cold.Run(watch); return err })
		group.Go(func() error { seen[i].connects = warm.Run(watch); return nil })
	}
	cut, err := d.cut(watch, node)
	stop()
	return seen, cut, errors.Join(err, group.Wait())
}

// cut lets the probes see the good times, cuts, and waits until other nodes answer for all addresses, and a while longer.
func (d *demo) cut(ctx context.Context, node *lab.Node) (time.Time, error) {
	if err := pause(ctx, quietTime); err != nil {
		return time.Time{}, err
	}
	ifi, err := node.Host.Interface(node.LAN.Ifname())
	if err != nil {
		return time.Time{}, err
	}
	lost := ifi.HardwareAddr.String()
	cut := time.Now()
	if err := node.LAN.Cut(); err != nil {
		return cut, err
	}
	limit, cancel := context.WithTimeout(ctx, takeoverLimit)
	defer cancel()
	for _, ip := range d.l2.addresses {
		answer, err := probe.FirstAnswer(limit, d.lab.Client, clientPort, ip, probeInterval)
		if err != nil {
			return cut, fmt.Errorf("nobody answers for %s: %w", ip, err)
		}
		if answer.MAC.String() == lost {
			return cut, fmt.Errorf("the node that was cut off answers for %s", ip)
		}
	}
	return cut, pause(ctx, quietTime)
}

// afterMending wants one node to answer when the old one is back, and says whether it is still the successor.
func (d *demo) afterMending(ctx context.Context, ip netip.Addr, successor string) (string, error) {
	if err := pause(ctx, 2*quietTime); err != nil {
		return "", err
	}
	now, _, err := d.owner(ctx, ip)
	if err != nil {
		return "", err
	}
	d.out.say("the cable is mended: %s answers for %s, and nobody else", now, ip)
	if now != successor {
		return fmt.Sprintf("the address moved again, to %s", now), nil
	}
	return "the address stays where it is", nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
