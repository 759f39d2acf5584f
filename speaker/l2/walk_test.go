package l2

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// From any wish to any other, with interfaces that come, go, change and fail on the way: in the end exactly what is wanted is answered.
func TestWalk(t *testing.T) {
	for seed := range uint64(20) {
		inBubble(t, func(t *testing.T, w *world) { w.walk(rand.New(rand.NewPCG(seed, 1))) })
	}
}

func (w *world) walk(rnd *rand.Rand) {
	names := []string{"eth0", "eth1", "eth2"}
	last := map[string]uint64{}
	for range 40 {
		desired, links := randomWish(rnd, names)
		for _, n := range names {
			for _, p := range []Protocol{ARP, NDP} {
				name := fmt.Sprint(n, " ", p)
				switch rnd.IntN(6) {
				case 0:
					w.setRefuse(name, []error{errDenied, errors.New("no such device")}[rnd.IntN(2)])
				case 1:
					w.kill(name)
				case 2:
					w.setBroken(name, randomAddr(rnd), rnd.IntN(2) == 0)
				}
			}
		}
		w.r.Set(desired, links)
		pass(time.Duration(rnd.IntN(300)) * time.Millisecond)
		last = w.counted(last, links)
		if rnd.IntN(3) > 0 {
			continue
		}
		w.mu.Lock()
		clear(w.refuse)
		clear(w.broken)
		w.mu.Unlock()
		pass(11 * time.Second) // the longest back-off
		w.check("reached", expected(desired, links)...)
	}
}

// counted lets every open responder see a request, and returns the counts, which go on from the last wherever the interface is still there.
func (w *world) counted(last map[string]uint64, links []config.Interface) map[string]uint64 {
	synctest.Wait()
	w.mu.Lock()
	for _, responders := range w.open {
		for _, r := range responders {
			r.counters.Requests.Add(1)
		}
	}
	w.mu.Unlock()
	now := map[string]uint64{}
	for _, c := range w.r.Counts() {
		now[fmt.Sprint(c.Interface, " ", c.Protocol)] = c.Requests
	}
	for _, l := range links {
		for _, p := range []Protocol{ARP, NDP} {
			if name := fmt.Sprint(l.Name, " ", p); now[name] < last[name] {
				w.t.Errorf("%s has counted %d requests, and %d before", name, now[name], last[name])
			}
		}
	}
	for name := range now {
		if !slices.ContainsFunc(links, func(l config.Interface) bool { return strings.HasPrefix(name, l.Name+" ") }) {
			w.t.Errorf("%s is counted, which is gone", name)
		}
	}
	return now
}

func randomAddr(rnd *rand.Rand) netip.Addr {
	n := byte(rnd.IntN(6))
	if rnd.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{192, 0, 2, n})
	}
	return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 15: n})
}

func randomWish(rnd *rand.Rand, names []string) (desired []decide.L2Address, links []config.Interface) {
	for i, n := range names {
		if rnd.IntN(4) > 0 {
			links = append(links, config.Interface{Name: n, Index: 10*i + rnd.IntN(2), MAC: []string{macA, macB, ""}[rnd.IntN(3)], Up: rnd.IntN(4) > 0})
		}
	}
	seen := map[netip.Addr]bool{}
	for range rnd.IntN(8) {
		a := decide.L2Address{Addr: randomAddr(rnd)}
		for _, n := range names {
			if rnd.IntN(2) == 0 {
				a.Interfaces = append(a.Interfaces, n)
			}
		}
		if !seen[a.Addr] {
			desired = append(desired, a)
		}
		seen[a.Addr] = true
	}
	return desired, links
}

// expected is the slow and obvious reading of a wish.
func expected(desired []decide.L2Address, links []config.Interface) []string {
	var out []string
	for _, d := range desired {
		for _, l := range links {
			if l.Up && l.MAC != "" && slices.Contains(d.Interfaces, l.Name) {
				p := ARP
				if d.Addr.Is6() {
					p = NDP
				}
				out = append(out, fmt.Sprint(l.Name, " ", p, " ", d.Addr, " at ", l.MAC))
			}
		}
	}
	return out
}
