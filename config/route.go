package config

import "time"

// Number is a number that may be absent, which is not the same as 0.
type Number struct {
	Value uint32
	Given bool
}

// Some returns a Number that is given.
func Some(v uint32) Number { return Number{Value: v, Given: true} }

// RouteAttributes is what advertisements say of a route. Values are comparable; the zero value says nothing.
type RouteAttributes struct {
	Communities Communities
	LocalPref   Number // told to internal peers (RFC 4271 section 5.1.5)
	MED         Number
	Prepend     uint8 // how often our AS is put before the path once more; for external peers

	// Weight is the share of traffic this node should get, in ready endpoints behind the route; it is told as a link bandwidth
	// community (draft-ietf-idr-link-bandwidth). 0: nothing is told.
	Weight uint32
}

// Merge returns what is said of a route by both together: communities unite, weights add up, the longer AS path counts. Numbers
// that differ are a conflict that is settled before it comes here; if it does come here, the lower one counts on both sides.
func (a RouteAttributes) Merge(b RouteAttributes) RouteAttributes {
	return RouteAttributes{
		Communities: a.Communities.Union(b.Communities),
		LocalPref:   a.LocalPref.or(b.LocalPref),
		MED:         a.MED.or(b.MED),
		Prepend:     max(a.Prepend, b.Prepend),
		Weight:      a.Weight + b.Weight,
	}
}

func (n Number) or(o Number) Number {
	switch {
	case !n.Given:
		return o
	case !o.Given:
		return n
	}
	return Some(min(n.Value, o.Value))
}

// Password is a secret that does not print itself.
type Password string

// String returns asterisks.
func (p Password) String() string {
	if p == "" {
		return ""
	}
	return "***"
}

// GoString returns what String does.
func (p Password) GoString() string { return p.String() }

// MarshalText returns what String does.
func (p Password) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// GracefulRestart says how long a peer should keep our routes while the speaker is away (RFC 4724, RFC 9494).
type GracefulRestart struct {
	Enabled     bool
	RestartTime time.Duration // whole seconds, at most 4095 s
	LongLived   time.Duration // whole seconds, at most 2^24-1 s; 0: not at all
}
