package bfd

import (
	"fmt"
	"testing"
)

// TestStep has every pair of state and event.
func TestStep(t *testing.T) {
	type row struct {
		rfc   string // section of RFC 5880
		state State
		event Event
		next  State
		diag  Diagnostic // recorded, or -
	}
	const keep Diagnostic = 0xff
	rows := []row{
		{"6.8.6: AdminDown discards", AdminDown, HearAdminDown, AdminDown, keep},
		{"6.8.6: AdminDown discards", AdminDown, HearDown, AdminDown, keep},
		{"6.8.6: AdminDown discards", AdminDown, HearInit, AdminDown, keep},
		{"6.8.6: AdminDown discards", AdminDown, HearUp, AdminDown, keep},
		{"6.8.4: the timer is for Init and Up", AdminDown, Expire, AdminDown, keep},
		{"6.8.16: already disabled", AdminDown, Disable, AdminDown, keep},
		{"6.8.16: enabled, diagnostic afresh", AdminDown, Enable, Down, NoDiagnostic},

		{"6.8.6: AdminDown received, Down already", Down, HearAdminDown, Down, keep},
		{"6.8.6: Down, Down received", Down, HearDown, Init, keep},
		{"6.8.6: Down, Init received", Down, HearInit, Up, NoDiagnostic},
		{"6.2: Down ignores Up", Down, HearUp, Down, keep},
		{"6.8.4: the timer is for Init and Up", Down, Expire, Down, keep},
		{"6.8.16: disabled", Down, Disable, AdminDown, AdministrativelyDown},
		{"6.8.16: enabled already", Down, Enable, Down, keep},

		{"6.8.6: AdminDown received", Init, HearAdminDown, Down, NeighborSignaledDown},
		{"6.2: Init waits for Init or Up", Init, HearDown, Init, keep},
		{"6.8.6: Init, Init received", Init, HearInit, Up, NoDiagnostic},
		{"6.8.6: Init, Up received", Init, HearUp, Up, NoDiagnostic},
		{"6.8.4: detection time", Init, Expire, Down, DetectionTimeExpired},
		{"6.8.16: disabled", Init, Disable, AdminDown, AdministrativelyDown},
		{"6.8.16: enabled already", Init, Enable, Init, keep},

		{"6.8.6: AdminDown received", Up, HearAdminDown, Down, NeighborSignaledDown},
		{"6.8.6: Up, Down received", Up, HearDown, Down, NeighborSignaledDown},
		{"6.2: Up stays with Init", Up, HearInit, Up, keep},
		{"6.2: Up stays with Up", Up, HearUp, Up, keep},
		{"6.8.4: detection time", Up, Expire, Down, DetectionTimeExpired},
		{"6.8.16: disabled", Up, Disable, AdminDown, AdministrativelyDown},
		{"6.8.16: enabled already", Up, Enable, Up, keep},
	}
	seen := map[string]bool{}
	for _, r := range rows {
		pair := fmt.Sprintf("%s, %s", r.state, r.event)
		seen[pair] = true
		t.Run(pair, func(t *testing.T) {
			next, do := Step(r.state, r.event)
			if next != r.next {
				t.Errorf("RFC 5880 section %s: next %s, want %s", r.rfc, next, r.next)
			}
			want := Actions{Tell: r.next != r.state, Retime: (r.next == Up) != (r.state == Up)}
			if r.diag != keep {
				want.Record, want.Diagnostic = true, r.diag
			}
			if do != want {
				t.Errorf("RFC 5880 section %s: actions %+v, want %+v", r.rfc, do, want)
			}
		})
	}
	if len(seen) != 4*events {
		t.Errorf("%d pairs tested, there are %d", len(seen), 4*events)
	}
}

func TestStepNoSuchPair(t *testing.T) {
	for _, f := range []func(){func() { Step(Up+1, HearUp) }, func() { Step(Up, Enable+1) }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		}()
	}
}
