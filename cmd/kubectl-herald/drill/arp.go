package drill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/arp"
)

// Answer is an answer to a question by ARP.
type Answer struct {
	At  time.Time
	MAC string
}

// ARP asks by ARP for an address, again and again.
type ARP struct {
	address netip.Addr
	client  *arp.Client

	mu      sync.Mutex
	answers []Answer
}

// OpenARP opens a socket on the segment of an IPv4 address. An error says why that cannot be: this machine is not on the segment, or the
// caller may not open such sockets.
func OpenARP(address netip.Addr) (*ARP, error) {
	if !address.Is4() {
		return nil, errors.New("ARP is for IPv4")
	}
	ifi, err := segment(address)
	if err != nil {
		return nil, err
	}
	client, err := arp.Dial(ifi)
	if err != nil {
		return nil, fmt.Errorf("ARP on %s: %w", ifi.Name, err)
	}
	return &ARP{address: address, client: client}, nil
}

// segment returns the interface that is in the subnet of an address.
func segment(address netip.Addr) (*net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	for _, ifi := range all {
		addrs, err := ifi.Addrs()
		if err != nil || ifi.Flags&net.FlagUp == 0 || ifi.Flags&net.FlagLoopback != 0 || len(ifi.HardwareAddr) != 6 {
			continue
		}
		if slices.ContainsFunc(addrs, func(a net.Addr) bool {
			p, err := netip.ParsePrefix(a.String())
			return err == nil && p.Contains(address)
		}) {
			return &ifi, nil
		}
	}
	return nil, fmt.Errorf("this machine has no interface in the subnet of %s", address)
}

// Run asks every 10 ms until ctx ends, and closes the socket.
func (a *ARP) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer a.client.Close() // ends the reading
	wg.Go(a.read)
	repeat(ctx, func() {
		_ = a.client.Request(a.address.AsSlice()) // one that is not sent is one that is not answered
	})
}

func (a *ARP) read() {
	for {
		p, _, err := a.client.Read()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			if e, ok := errors.AsType[net.Error](err); ok && !e.Timeout() {
				return // the interface is gone
			}
		case p.Operation == arp.OperationReply && sender(p) == a.address:
			a.mu.Lock()
			a.answers = append(a.answers, Answer{time.Now(), p.SenderHardwareAddr.String()})
			a.mu.Unlock()
		}
	}
}

// Between returns the answers that came in a span of time.
func (a *ARP) Between(from, to time.Time) []Answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Answer
	for _, x := range a.answers {
		if !x.At.Before(from) && x.At.Before(to) {
			out = append(out, x)
		}
	}
	return out
}

// Silence returns the longest time without an answer, and who answered, in the order of the first answers.
func Silence(answers []Answer, from, to time.Time) (longest time.Duration, macs []string) {
	last := from
	for _, x := range answers {
		longest, last = max(longest, x.At.Sub(last)), x.At
		if !slices.Contains(macs, x.MAC) {
			macs = append(macs, x.MAC)
		}
	}
	return max(longest, to.Sub(last)), macs
}

// sender returns the address that an ARP packet is from.
func sender(p *arp.Packet) netip.Addr {
	a, _ := netip.AddrFromSlice(p.SenderIP)
	return a.Unmap()
}
