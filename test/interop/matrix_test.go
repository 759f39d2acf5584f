package interop

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/router/peer"
)

// atOnce is how many cells are worked on at the same time. They wait most of the time.
const atOnce = 6

// feature is a row of the matrix.
type feature struct {
	name string
	test func(*cell)
	// unable says why a make cannot do it.
	unable map[peer.Kind]string
	// note says what is left of the feature with a make that does it in part only; it is tested nevertheless.
	note map[peer.Kind]string
}

func features() []feature {
	return []feature{
		{name: "IPv4", test: ipv4},
		{name: "IPv6", test: ipv6},
		{name: "v6 over v4", test: ipv6OverIPv4},
		{name: "v4 over v6", test: ipv4OverIPv6, note: map[peer.Kind]string{
			peer.OpenBGPD: "it does not offer RFC 8950, so the next hop is the node's IPv4 address",
		}},
		{name: "MD5", test: md5},
		{name: "GTSM", test: gtsm, note: map[peer.Kind]string{
			peer.ExaBGP: "it sends a TTL of 255 and checks none: its Python knows no IP_MINTTL",
		}},
		{name: "multihop", test: multihop},
		{name: "4-byte AS", test: fourByteAS},
		{name: "communities", test: communities, note: map[peer.Kind]string{
			peer.OpenBGPD: "it drops what is not transitive of an external neighbour, so no link bandwidth (RFC 4360 section 6)",
		}},
		{name: "attributes", test: attributes},
		{name: "aggregation", test: aggregation},
		{name: "graceful restart", test: gracefulRestart, note: map[peer.Kind]string{
			peer.ExaBGP: "it has no table to keep routes in: what it hears is tested, the capability and End-of-RIB",
		}},
		{name: "graceful shutdown", test: gracefulShutdown, note: map[peer.Kind]string{
			peer.ExaBGP: "4.2.21 cannot read a NOTIFICATION with a shutdown message (RFC 9003): that it came is tested, not what it says",
		}},
		{name: "hold time", test: holdTime},
		{name: "unnumbered", test: unnumbered, unable: map[peer.Kind]string{
			peer.OpenBGPD: "its configuration names neighbours by address, and takes no link-local one with an interface",
			peer.ExaBGP:   "its configuration names neighbours by address, and takes no link-local one with an interface",
		}},
	}
}

// outcome of a cell.
type outcome struct {
	word string // as it stands in the table
	why  string
	took time.Duration
}

// matrix collects outcomes.
type matrix struct {
	mu    sync.Mutex
	cells map[string]map[peer.Kind]outcome
}

func (m *matrix) set(row string, kind peer.Kind, o outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cells[row] == nil {
		m.cells[row] = map[peer.Kind]outcome{}
	}
	m.cells[row][kind] = o
}

// TestMatrix works on every cell and prints the table.
func TestMatrix(t *testing.T) {
	netlab.Need(t)
	rows := features()
	m := &matrix{cells: map[string]map[peer.Kind]outcome{}}
	began := time.Now()
	t.Run("cells", func(t *testing.T) {
		slots := make(chan struct{}, atOnce)
		var wg sync.WaitGroup
		for _, f := range rows {
			for _, kind := range peer.Kinds() {
				slots <- struct{}{}
				wg.Go(func() {
					defer func() { <-slots }()
					m.work(t, f, kind)
				})
			}
		}
		wg.Wait()
	})
	t.Logf("%d cells in %s\n%s", len(rows)*len(peer.Kinds()), time.Since(began).Round(time.Second), m.print(rows))
	if os.Getenv("HERALD_INTEROP_PARTIAL") == "" { // -run may have left cells out
		m.complete(t, rows)
	}
}

// work decides one cell.
func (m *matrix) work(t *testing.T, f feature, kind peer.Kind) {
	if why := f.unable[kind]; why != "" {
		m.set(f.name, kind, outcome{word: "cannot", why: why})
		return
	}
	if err := peer.Available(kind); err != nil {
		m.set(f.name, kind, outcome{word: "not here", why: err.Error()})
		return
	}
	began := time.Now()
	t.Run(string(kind)+"/"+f.name, func(t *testing.T) {
		o := outcome{word: "FAILED"}
		defer func() { o.took = time.Since(began); m.set(f.name, kind, o) }()
		f.test(newCell(t, kind))
		if !t.Failed() {
			o.word, o.why = "ok", f.note[kind]
		}
	})
}

// print returns the table, then the reasons.
func (m *matrix) print(rows []feature) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\t")
	for _, k := range peer.Kinds() {
		fmt.Fprintf(w, "%s\t", k)
	}
	fmt.Fprintln(w)
	var reasons []string
	for _, f := range rows {
		fmt.Fprintf(w, "%s\t", f.name)
		for _, k := range peer.Kinds() {
			o := m.cells[f.name][k]
			word := o.word
			if word == "ok" {
				word = fmt.Sprintf("ok %.1fs", o.took.Seconds())
			}
			if o.why != "" {
				reason := fmt.Sprintf("%s, %s: %s", k, f.name, o.why)
				if o.word == "not here" {
					reason = fmt.Sprintf("%s: %s", k, o.why)
				}
				if !slices.Contains(reasons, reason) {
					reasons = append(reasons, reason)
				}
				word += fmt.Sprintf(" [%d]", 1+slices.Index(reasons, reason))
			}
			fmt.Fprintf(w, "%s\t", word)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	for i, r := range reasons {
		fmt.Fprintf(&b, "[%d] %s\n", i+1, r)
	}
	return b.String()
}

// complete fails the test unless every cell is decided.
func (m *matrix) complete(t *testing.T, rows []feature) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range rows {
		for _, k := range peer.Kinds() {
			switch o := m.cells[f.name][k]; {
			case o.word == "":
				t.Errorf("%s with %s is neither tested nor explained", f.name, k)
			case o.word != "ok" && o.word != "FAILED" && o.why == "":
				t.Errorf("%s with %s: %s, and nobody says why", f.name, k, o.word)
			}
		}
	}
}
