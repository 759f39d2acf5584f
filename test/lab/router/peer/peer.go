// Package peer runs the BGP daemons of five makers, each as the one neighbour of a node under test: it waits for that node, takes what it
// is told, and says what it was told as it understood it. What they say is put into one form, so that a test reads the same for all.
package peer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Kind is a make.
type Kind string

// The makes.
const (
	FRR      Kind = "FRR"
	BIRD     Kind = "BIRD"
	OpenBGPD Kind = "OpenBGPD"
	ExaBGP   Kind = "ExaBGP"
	GoBGP    Kind = "GoBGP"
)

// Kinds lists the makes.
func Kinds() []Kind { return []Kind{FRR, BIRD, OpenBGPD, ExaBGP, GoBGP} }

// Config says how a daemon expects its neighbour.
type Config struct {
	Kind     Kind
	Host     *netlab.Host
	Dir      string // for configuration, sockets and logs; made if absent, must be traversable by everybody
	ASN      uint32
	RouterID netip.Addr // IPv4

	Local       netip.Addr // its own end of the session
	Neighbor    netip.Addr // the other end; with Interface its link-local address, for makes that need to know it
	NeighborASN uint32
	Interface   string // set: the session is unnumbered, over this interface

	IPv4, IPv6      bool // families
	ExtendedNextHop bool // IPv4 routes may have an IPv6 next hop (RFC 8950)
	Password        string
	TTLSecurity     bool
	MultiHop        bool
	HoldTime        time.Duration // whole seconds
	Restart         bool          // keep routes while the neighbour restarts (RFC 4724)
	BFD             bool          // watch the path, 300 ms x 3; FRR only
	TableOnly       bool          // nothing goes into the kernel; FRR then runs without zebra, and cannot be unnumbered
}

// Internal reports whether the session is iBGP.
func (c Config) Internal() bool { return c.ASN == c.NeighborASN }

func (c Config) hold() int { return int(c.HoldTime / time.Second) }

// Session is the session as the daemon sees it.
type Session struct {
	Established bool
	HoldTime    time.Duration // negotiated; 0 when the daemon does not say
	Families    string        // negotiated, such as "IPv4 IPv6"; "" when the daemon does not say
	RemoteASN   uint32
	Restart     bool   // the neighbour wants its routes kept while it restarts
	LastEnd     string // what the daemon says of how the last session ended, in its own words
	BFD         string // state of the path, in FRR's words
	EndOfRIB    string // families for which the neighbour said that it was all, such as "IPv4 IPv6"; "" when the daemon does not say
}

// Route is a route as the daemon has it.
type Route struct {
	Prefix      netip.Prefix
	NextHop     netip.Addr
	ASPath      string // numbers with blanks between
	Origin      string // IGP, EGP, incomplete
	LocalPref   uint32 // 0: none, and the daemon does not make one up
	MED         int64  // -1: none
	Communities []string
}

// Daemon is a running daemon.
type Daemon interface {
	// Session tells of the session with the neighbour.
	Session(ctx context.Context) (Session, error)
	// Routes lists what the neighbour announced, sorted by prefix.
	Routes(ctx context.Context) ([]Route, error)
	// Freeze stops the daemon's processes where they stand, Thaw lets them go on.
	Freeze() error
	Thaw() error
	// Close ends the daemon at once, without a word to the neighbour.
	Close() error
	// Log is what the daemon printed.
	Log() string
}

// Available says why a make cannot be used here; nil if it can.
func Available(k Kind) error {
	switch k {
	case FRR:
		return frrAvailable()
	case BIRD:
		return installed("bird2", "bird", "birdc")
	case OpenBGPD:
		return openbgpdAvailable()
	case ExaBGP:
		return installed("exabgp", "exabgp")
	case GoBGP:
		return nil
	}
	return fmt.Errorf("there is no make %q", k)
}

// Start starts a daemon and returns when it waits for the neighbour.
func Start(ctx context.Context, c Config) (Daemon, error) {
	if c.Host == nil || c.Dir == "" || c.ASN == 0 || c.NeighborASN == 0 || !c.RouterID.Is4() {
		return nil, errors.New("peer: Host, Dir, ASN, NeighborASN and RouterID are required")
	}
	if err := Available(c.Kind); err != nil {
		return nil, fmt.Errorf("peer: %s: %w", c.Kind, err)
	}
	start := map[Kind]func(context.Context, Config) (Daemon, error){
		FRR: startFRR, BIRD: startBIRD, OpenBGPD: startOpenBGPD, ExaBGP: startExaBGP, GoBGP: startGoBGP,
	}[c.Kind]
	d, err := start(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("peer: start %s: %w", c.Kind, err)
	}
	return d, nil
}

// wellKnown are the numbers of communities with names.
func wellKnown() map[string]string {
	return map[string]string{
		"graceful-shutdown": "65535:0", "gshut": "65535:0", "GRACEFUL_SHUTDOWN": "65535:0",
		"blackhole": "65535:666", "llgr-stale": "65535:6", "no-llgr": "65535:7",
		"no-export": "65535:65281", "NO_EXPORT": "65535:65281",
		"no-advertise": "65535:65282", "NO_ADVERTISE": "65535:65282",
		"local-AS": "65535:65283", "NO_EXPORT_SUBCONFED": "65535:65283",
		"no-peer": "65535:65284", "NO_PEER": "65535:65284",
	}
}

// standard returns a standard community as two numbers.
func standard(s string) string {
	s = strings.TrimSpace(s)
	if n, ok := wellKnown()[s]; ok {
		return n
	}
	return s
}

// tidy sorts routes and what is in them.
func tidy(list []Route) []Route {
	for i := range list {
		slices.Sort(list[i].Communities)
	}
	slices.SortFunc(list, func(a, b Route) int { return strings.Compare(a.Prefix.String(), b.Prefix.String()) })
	return list
}

// families names families in a fixed order.
func families(v4, v6 bool) string {
	var out []string
	if v4 {
		out = append(out, "IPv4")
	}
	if v6 {
		out = append(out, "IPv6")
	}
	return strings.Join(out, " ")
}
