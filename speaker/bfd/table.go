package bfd

import "fmt"

// Event is something that moves the state machine.
type Event uint8

// The events: a packet that carries one of the states, the detection timer, and the two words of the owner.
const (
	HearAdminDown Event = iota
	HearDown
	HearInit
	HearUp
	Expire  // a detection time without a packet (RFC 5880 section 6.8.4)
	Disable // administratively down (section 6.8.16)
	Enable
)

const events = int(Enable) + 1

// String names the event.
func (e Event) String() string {
	names := [events]string{"hear AdminDown", "hear Down", "hear Init", "hear Up", "Expire", "Disable", "Enable"}
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("Event(%d)", uint8(e))
}

// hears returns the event of a packet with the state s.
func hears(s State) Event { return Event(s) }

// Actions is what a step asks for besides the new state.
type Actions struct {
	Record     bool       // Diagnostic is the reason of the change
	Diagnostic Diagnostic // when Record
	Retime     bool       // Up was entered or left: other intervals apply (RFC 5880 section 6.8.3)
	Tell       bool       // tell the neighbour at once (section 6.8.7)
}

// Step is the state machine of RFC 5880 sections 6.2, 6.8.4, 6.8.6 and 6.8.16: what follows from an event in a state. It is total.
//
// The diagnostic stays while a session comes up again, so that the neighbour can read it, and is cleared when it is up.
func Step(s State, e Event) (State, Actions) {
	if s > Up || int(e) >= events {
		panic(fmt.Sprintf("bfd: %s and %s: no such pair", s, e))
	}
	o := table()[s][e]
	changed := o.next != s
	return o.next, Actions{
		Record:     o.record,
		Diagnostic: o.diag,
		Retime:     changed && (s == Up || o.next == Up),
		Tell:       changed,
	}
}

type outcome struct {
	next   State
	record bool
	diag   Diagnostic
}

func table() [4][events]outcome {
	var (
		adminDown = outcome{next: AdminDown}
		down      = outcome{next: Down}
		initial   = outcome{next: Init}
		up        = outcome{next: Up}
		cameUp    = outcome{next: Up, record: true, diag: NoDiagnostic}
		signaled  = outcome{next: Down, record: true, diag: NeighborSignaledDown}
		expired   = outcome{next: Down, record: true, diag: DetectionTimeExpired}
		disabled  = outcome{next: AdminDown, record: true, diag: AdministrativelyDown}
		enabled   = outcome{next: Down, record: true, diag: NoDiagnostic}
	)
	return [4][events]outcome{
		//          hear AdminDown, Down,   Init,      Up,        Expire,    Disable,   Enable
		AdminDown: {adminDown, adminDown, adminDown, adminDown, adminDown, adminDown, enabled},
		Down:      {down, initial, cameUp, down, down, disabled, down},
		Init:      {signaled, initial, cameUp, cameUp, expired, disabled, initial},
		Up:        {signaled, signaled, up, up, expired, disabled, up},
	}
}
