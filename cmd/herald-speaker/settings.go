package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/heraldlb/herald/cmd/daemon"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/speaker/link"
	"github.com/heraldlb/herald/speaker/member"
)

// settings are the flags.
type settings struct {
	daemon.Common
	node            string
	gossipBind      string
	gossipPort      uint16
	gossipKeyDir    string
	gossipService   string
	gossipSecret    string
	exclude         []string
	ignoreExcludeLB bool
	drainOnCordon   bool
	conflictProbe   bool
	announcements   bool
	bgpDrainWait    time.Duration
	daemonSet       string
	stateDir        string

	bind     netip.Addr       // of gossipBind; zero: the node's first address
	excluded []*regexp.Regexp // of exclude
}

func parse(args []string, lookup func(string) (string, bool), version string) (*settings, error) {
	s := &settings{}
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	s.Add(flags, daemon.Defaults{HTTPAddress: "127.0.0.1:9473", MetricsAddress: ":9472"})
	flags.StringVar(&s.node, "node-name", "", "`name` of the Node this speaker runs on; empty: the host's name")
	flags.StringVar(&s.gossipBind, "gossip-bind-address", "", "`address` of this node for gossip; empty: the first that its Node lists")
	flags.Uint16Var(&s.gossipPort, "gossip-port", 7947, "TCP and UDP `port` for gossip, the same on all nodes")
	flags.StringVar(&s.gossipKeyDir, "gossip-key-dir", "", "`directory` with the gossip key in the file "+kube.GossipKeyEntry+"; without it the key is read from the Secret")
	flags.StringVar(&s.gossipService, "gossip-service", "herald-gossip", "`name` of the headless Service that lists all speakers")
	flags.StringVar(&s.gossipSecret, "gossip-secret", "herald-gossip", "`name` of the Secret that holds the gossip key")
	flags.StringSliceVar(&s.exclude, "exclude-interfaces", strings.Split(link.DefaultExclude, ","), "regular `expressions` for names of interfaces that never announce")
	flags.BoolVar(&s.ignoreExcludeLB, "ignore-exclude-lb", false, "announce also from nodes labelled node.kubernetes.io/exclude-from-external-load-balancers")
	flags.BoolVar(&s.drainOnCordon, "drain-on-cordon", false, "take announcements away from nodes that are cordoned, too")
	flags.BoolVar(&s.conflictProbe, "l2-conflict-probe", true, "look for somebody else who uses an address before it is first answered for by ARP or NDP (RFC 5227)")
	flags.BoolVar(&s.announcements, "metrics-announcements", true, "serve herald_announcement, a series for each address of a Service that this node announces")
	flags.DurationVar(&s.bgpDrainWait, "bgp-drain-wait", 3*time.Second, "how `long` routers are given to move traffic elsewhere (RFC 8326) before routes of a node that drains, or whose speaker stops for good, are withdrawn")
	flags.StringVar(&s.daemonSet, "daemon-set", "", "`name` of the DaemonSet this speaker is of, to tell an update or a restart, which moves nothing, from an end; empty: every end is one")
	flags.StringVar(&s.stateDir, "state-dir", "", "`directory` to keep in what a restart needs while the API server is away; it will hold Secrets, so it should be memory; empty: nowhere")
	if err := daemon.Parse(flags, args, lookup, version, os.Stdout); err != nil {
		return nil, err
	}
	return s, s.check()
}

// check turns strings into what they mean.
func (s *settings) check() error {
	if s.node == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("--node-name is not given, and the host has no name: %w", err)
		}
		s.node = strings.ToLower(host)
	}
	if s.bgpDrainWait < 0 {
		return errors.New("--bgp-drain-wait must not be negative")
	}
	if s.gossipPort == 0 {
		return errors.New("--gossip-port must not be 0")
	}
	if s.gossipBind != "" {
		addr, err := netip.ParseAddr(s.gossipBind)
		if err != nil {
			return fmt.Errorf("--gossip-bind-address %q: must be an IP address of this node", s.gossipBind)
		}
		s.bind = addr.Unmap()
	}
	excluded, err := link.ParseExclude(strings.Join(s.exclude, ","))
	if err != nil {
		return fmt.Errorf("--exclude-interfaces: %w", err)
	}
	s.excluded = excluded
	return nil
}

// keyFromDir reads the gossip key from a directory; nil when it is not there.
func keyFromDir(dir string) ([]byte, error) {
	if dir == "" {
		return nil, nil
	}
	file := filepath.Join(dir, kube.GossipKeyEntry)
	key, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	return key, checkKey(key, file)
}

// checkKey says what is wrong with a key that came from somewhere.
func checkKey(key []byte, from string) error {
	if len(key) != member.KeySize {
		return fmt.Errorf("the gossip key in %s must have %d bytes, it has %d: delete the Secret, and the controller makes a good one",
			from, member.KeySize, len(key))
	}
	return nil
}
