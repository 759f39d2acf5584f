package l2

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/reconcile"
)

// wish is what Set was told.
type wish struct {
	desired []decide.L2Address
	links   []config.Interface
}

func protocols() [2]Protocol { return [...]Protocol{ARP, NDP} }

// key names a responder. A renamed interface is another one, and so is a new one with the name of an old.
type key struct {
	name     string
	index    int
	protocol Protocol
}

func compareKeys(a, b key) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.index, b.index), cmp.Compare(a.protocol, b.protocol))
}

// want is what one responder should do.
type want struct {
	ifi   config.Interface
	mac   net.HardwareAddr
	tasks []task // sorted by address, each once
}

// task is an address to answer for.
type task struct {
	addr    netip.Addr
	refresh time.Duration // announce it this often; 0 = only on change
	probe   bool          // look for a foreign user before the first use
	sure    bool          // it is this node's to take whoever else uses it
	standIn bool          // answer with mac, which is another node's
	mac     [6]byte
}

func compareTasks(a, b task) int { return a.addr.Compare(b.addr) }

func (v want) has(a netip.Addr) bool {
	_, ok := slices.BinarySearchFunc(v.tasks, a, func(t task, a netip.Addr) int { return t.addr.Compare(a) })
	return ok
}

func sameWant(a, b want) bool { return !a.stirred(b) && slices.Equal(a.tasks, b.tasks) }

// stirred reports whether the neighbours have to be told anew of all addresses when the want becomes b: they have another MAC in their
// caches, or switches may have forgotten where it is.
func (v want) stirred(b want) bool { return v.ifi.MAC != b.ifi.MAC || v.ifi.Stirred != b.ifi.Stirred }

// rules take responders away before others are set up: there is one answer for an address.
func rules() reconcile.Rules[key, want] {
	return reconcile.Rules[key, want]{Compare: compareKeys, Equal: sameWant, Order: reconcile.RemoveFirst}
}

// sure reports whether the address is this node's to take whoever else uses it: it is another speaker that does, and has to give it up.
func sure(d *decide.L2Address) bool {
	switch d.Taken {
	case decide.TookOver, decide.Won, decide.Returned, decide.Moved:
		return true
	}
	return false
}

// wants sorts a wish by responder. Probe says whether an address is to be probed before it is answered for. Old is what a former wish
// came to: how much room it took this one is likely to need, too.
func (w *wish) wants(old map[key]want, probe func(*decide.L2Address) bool) map[key]want {
	by := make(map[string]*[2]want, len(w.links)) // in the order of protocols
	for _, l := range w.links {
		if mac, err := net.ParseMAC(l.MAC); err == nil && len(mac) == 6 && l.Up {
			v := want{ifi: l, mac: mac}
			by[l.Name] = &[2]want{v, v}
			for i, p := range protocols() {
				if n := len(old[key{name: l.Name, index: l.Index, protocol: p}].tasks); n > 0 {
					by[l.Name][i].tasks = make([]task, 0, n+n/8+1)
				}
			}
		}
	}
	for i := range w.desired {
		add(by, &w.desired[i], probe)
	}
	out := make(map[key]want, 2*len(by))
	for name, vs := range by {
		for i, p := range protocols() {
			if v := vs[i]; len(v.tasks) > 0 {
				v.tasks = tidy(v.tasks)
				out[key{name: name, index: v.ifi.Index, protocol: p}] = v
			}
		}
	}
	return out
}

// add adds an address to the wants of its interfaces.
func add(by map[string]*[2]want, d *decide.L2Address, probe func(*decide.L2Address) bool) {
	t := task{
		addr:    d.Addr,
		refresh: d.Refresh,
		probe:   probe(d),
		sure:    sure(d),
		standIn: d.For != "",
	}
	family := 0
	if d.Addr.Is6() {
		family = 1
	}
	for i, name := range d.Interfaces {
		vs, ok := by[name]
		if !ok {
			continue
		}
		if t.standIn {
			if t.mac, ok = macAt(d.MACs, i); !ok {
				continue
			}
		}
		vs[family].tasks = append(vs[family].tasks, t)
	}
}

// macAt returns the MAC at an index, if there is a usable one.
func macAt(macs []string, i int) ([6]byte, bool) {
	if i >= len(macs) {
		return [6]byte{}, false
	}
	mac, err := net.ParseMAC(macs[i])
	if err != nil || len(mac) != 6 {
		return [6]byte{}, false
	}
	return [6]byte(mac), true
}

// tidy sorts tasks; of several for one address it keeps the first.
func tidy(tasks []task) []task {
	if !slices.IsSortedFunc(tasks, compareTasks) {
		slices.SortStableFunc(tasks, compareTasks)
	}
	return slices.CompactFunc(tasks, func(a, b task) bool { return a.addr == b.addr })
}
