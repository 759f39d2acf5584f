// Package router runs BGP routers for the laboratory: a host with a BGP daemon that takes neighbours from whole subnets and puts what
// it learns into the host's kernel. FRR is used where it is installed, GoBGP otherwise; both are told the same things and asked the same way.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Kind is a router implementation.
type Kind string

// The implementations. Auto is FRR if it can be used here (see [FRRAvailable]), GoBGP otherwise.
const (
	Auto  Kind = ""
	FRR   Kind = "frr"
	GoBGP Kind = "gobgp"
)

// Config says what a router is. It only waits for neighbours, it does not open sessions.
type Config struct {
	Kind     Kind
	Host     *netlab.Host // forwards already, see Host.EnableForwarding
	ASN      uint32
	RouterID netip.Addr     // IPv4
	Listen   []netip.Prefix // neighbours from these subnets are accepted, with both families
	PeerASN  uint32         // 0: any AS but the router's own (GoBGP v3 then has a data race of its own when a session ends)
	Password string         // TCP MD5 of all neighbours; empty: none
	HoldTime time.Duration  // whole seconds; 0: 90 s
	RunDir   string         // for configuration and logs, made if absent; must be traversable by everybody when FRR is used
	Log      *slog.Logger
}

func (c Config) validate() error {
	switch {
	case c.Host == nil || c.Log == nil || c.RunDir == "":
		return errors.New("router: Host, Log and RunDir are required")
	case c.ASN == 0:
		return errors.New("router: ASN is required")
	case !c.RouterID.Is4():
		return fmt.Errorf("router: RouterID %s is not an IPv4 address", c.RouterID)
	case len(c.Listen) == 0:
		return errors.New("router: Listen needs at least one subnet")
	case c.HoldTime%time.Second != 0:
		return fmt.Errorf("router: HoldTime %s is not a number of whole seconds", c.HoldTime)
	}
	return nil
}

// holdTime is the hold time to configure.
func (c Config) holdTime() time.Duration {
	if c.HoldTime == 0 {
		return 90 * time.Second
	}
	return c.HoldTime
}

// Neighbor is a session as the router sees it.
type Neighbor struct {
	Address     netip.Addr
	ASN         uint32
	Established bool
	State       string // as the implementation spells it
}

// Router is a running router. What it learned is read from the host's kernel: see [Routes] and [NewWatch].
type Router interface {
	Kind() Kind
	// Neighbors lists the sessions, those not established included, sorted by address.
	Neighbors(ctx context.Context) ([]Neighbor, error)
	// Close ends the router; it withdraws what it installed.
	Close() error
}

// Start starts a router and returns when it accepts neighbours.
func Start(ctx context.Context, c Config) (Router, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	kind := c.Kind
	if kind == Auto {
		kind = FRR
		if err := FRRAvailable(); err != nil {
			c.Log.Debug("FRR is not used", "reason", err)
			kind = GoBGP
		}
	}
	switch kind {
	case FRR:
		return startFRR(ctx, c)
	case GoBGP:
		return startGoBGP(ctx, c)
	default:
		return nil, fmt.Errorf("router: unknown kind %q", kind)
	}
}
