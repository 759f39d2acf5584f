package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// State is the state of a session (RFC 5880 section 4.1, Sta).
type State uint8

// The states, with their numbers on the wire.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

// String returns the state as the RFC spells it.
func (s State) String() string {
	switch s {
	case AdminDown:
		return "AdminDown"
	case Down:
		return "Down"
	case Init:
		return "Init"
	case Up:
		return "Up"
	default:
		return fmt.Sprintf("State(%d)", uint8(s))
	}
}

// Diagnostic says why a session last changed its state (RFC 5880 section 4.1, Diag).
type Diagnostic uint8

// The diagnostic codes, with their numbers on the wire.
const (
	NoDiagnostic Diagnostic = iota
	DetectionTimeExpired
	EchoFailed
	NeighborSignaledDown
	ForwardingPlaneReset
	PathDown
	ConcatenatedPathDown
	AdministrativelyDown
	ReverseConcatenatedPathDown
)

// String returns the meaning of the code in words.
func (d Diagnostic) String() string {
	switch d {
	case NoDiagnostic:
		return "no diagnostic"
	case DetectionTimeExpired:
		return "detection time expired"
	case EchoFailed:
		return "echo function failed"
	case NeighborSignaledDown:
		return "neighbor signaled session down"
	case ForwardingPlaneReset:
		return "forwarding plane reset"
	case PathDown:
		return "path down"
	case ConcatenatedPathDown:
		return "concatenated path down"
	case AdministrativelyDown:
		return "administratively down"
	case ReverseConcatenatedPathDown:
		return "reverse concatenated path down"
	default:
		return fmt.Sprintf("diagnostic %d", uint8(d))
	}
}

// Packet is a BFD control packet (RFC 5880 section 4.1). Intervals are counted in microseconds on the wire; what is finer is cut off.
type Packet struct {
	Diagnostic              Diagnostic
	State                   State
	Poll                    bool // the sender wants an answer with Final
	Final                   bool // the answer to a Poll
	ControlPlaneIndependent bool // the sender's BFD outlives its control plane
	Authenticated           bool // an authentication section follows, which nobody here reads
	Demand                  bool // the sender asks us to stop sending while both are up
	Multiplier              uint8
	Mine                    uint32 // the sender's discriminator, never 0
	Yours                   uint32 // ours as the sender knows it; 0 when it does not
	DesiredMinTx            time.Duration
	RequiredMinRx           time.Duration // 0: the sender wants no periodic packets
	RequiredMinEchoRx       time.Duration
}

const (
	version    = 1
	packetSize = 24 // without authentication
	authSize   = 2  // the least that an authentication section has
)

// The flags of the second byte.
const (
	flagMultipoint = 1 << iota
	flagDemand
	flagAuth
	flagIndependent
	flagFinal
	flagPoll
)

// Append appends the packet's wire form to b. A packet that is sent never has an authentication section.
func (p Packet) Append(b []byte) []byte {
	flags := uint8(p.State) << 6
	for _, f := range []struct {
		set bool
		bit uint8
	}{{p.Poll, flagPoll}, {p.Final, flagFinal}, {p.ControlPlaneIndependent, flagIndependent}, {p.Demand, flagDemand}} {
		if f.set {
			flags |= f.bit
		}
	}
	b = append(b, version<<5|uint8(p.Diagnostic)&0x1f, flags, p.Multiplier, packetSize)
	for _, v := range [...]uint32{p.Mine, p.Yours, micros(p.DesiredMinTx), micros(p.RequiredMinRx), micros(p.RequiredMinEchoRx)} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// micros returns d in microseconds, as near as the wire can say it.
func micros(d time.Duration) uint32 {
	return uint32(min(max(d/time.Microsecond, 0), math.MaxUint32))
}

func fromMicros(v uint32) time.Duration { return time.Duration(v) * time.Microsecond }

// Parse reads a packet and refuses what RFC 5880 section 6.8.6 says must be discarded whatever the session. Errors say what is wrong and
// are the same value each time.
func Parse(b []byte) (Packet, error) {
	if len(b) < packetSize {
		return Packet{}, errShort
	}
	p := Packet{
		Diagnostic:              Diagnostic(b[0] & 0x1f),
		State:                   State(b[1] >> 6),
		Poll:                    b[1]&flagPoll != 0,
		Final:                   b[1]&flagFinal != 0,
		ControlPlaneIndependent: b[1]&flagIndependent != 0,
		Authenticated:           b[1]&flagAuth != 0,
		Demand:                  b[1]&flagDemand != 0,
		Multiplier:              b[2],
		Mine:                    binary.BigEndian.Uint32(b[4:]),
		Yours:                   binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx:            fromMicros(binary.BigEndian.Uint32(b[12:])),
		RequiredMinRx:           fromMicros(binary.BigEndian.Uint32(b[16:])),
		RequiredMinEchoRx:       fromMicros(binary.BigEndian.Uint32(b[20:])),
	}
	return p, p.check(b)
}

// check makes the tests of RFC 5880 section 6.8.6 in their order.
func (p Packet) check(b []byte) error {
	length, least := int(b[3]), packetSize
	if p.Authenticated {
		least += authSize
	}
	switch {
	case b[0]>>5 != version:
		return errVersion
	case length < least || length > len(b):
		return errLength
	case p.Multiplier == 0:
		return errMultiplier
	case b[1]&flagMultipoint != 0:
		return errMultipoint
	case p.Mine == 0:
		return errMine
	case p.Yours == 0 && p.State != Down && p.State != AdminDown:
		return errYours
	}
	return nil
}

// What makes a packet malformed.
var (
	errShort      = errors.New("shorter than a BFD control packet")
	errVersion    = errors.New("not BFD version 1")
	errLength     = errors.New("length field does not fit")
	errMultiplier = errors.New("detect multiplier is 0")
	errMultipoint = errors.New("multipoint bit is set")
	errMine       = errors.New("sender's discriminator is 0")
	errYours      = errors.New("receiver's discriminator is 0 although the sender's state is Init or Up")
)
