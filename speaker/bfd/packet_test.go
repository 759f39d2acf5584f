package bfd

import (
	"encoding/hex"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// wellFormed is an Up packet with discriminators 1 and 2 and 1 s intervals.
const wellFormed = "20c00318" + "00000001" + "00000002" + "000f4240" + "000f4240" + "00000000"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPacket(t *testing.T) {
	tests := []struct {
		name string
		wire string
		want Packet
	}{
		{
			"up", wellFormed,
			Packet{State: Up, Multiplier: 3, Mine: 1, Yours: 2, DesiredMinTx: time.Second, RequiredMinRx: time.Second},
		},
		{
			"down, final, independent, echo", "21580518" + "deadbeef" + "00000000" + "000f4240" + "0000c350" + "00002710",
			Packet{
				Diagnostic: DetectionTimeExpired, State: Down, Final: true, ControlPlaneIndependent: true, Multiplier: 5, Mine: 0xdeadbeef,
				DesiredMinTx: time.Second, RequiredMinRx: 50 * time.Millisecond, RequiredMinEchoRx: 10 * time.Millisecond,
			},
		},
		{
			"admin down", "27000318" + "00000001" + "00000000" + "000f4240" + "00000000" + "00000000",
			Packet{Diagnostic: AdministrativelyDown, State: AdminDown, Multiplier: 3, Mine: 1, DesiredMinTx: time.Second},
		},
		{
			"poll, demand, longest intervals", "3fe2ff18" + "ffffffff" + "ffffffff" + "ffffffff" + "ffffffff" + "ffffffff",
			Packet{
				Diagnostic: 31, State: Up, Poll: true, Demand: true, Multiplier: 255, Mine: math.MaxUint32, Yours: math.MaxUint32,
				DesiredMinTx: math.MaxUint32 * time.Microsecond, RequiredMinRx: math.MaxUint32 * time.Microsecond,
				RequiredMinEchoRx: math.MaxUint32 * time.Microsecond,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(unhex(t, tt.wire))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if s := hex.EncodeToString(got.Append(nil)); s != tt.wire {
				t.Errorf("written again: %s, want %s", s, tt.wire)
			}
		})
	}
}

// TestParseRefuses has what RFC 5880 section 6.8.6 wants to be discarded, in its order.
func TestParseRefuses(t *testing.T) {
	with := func(at int, v ...byte) []byte {
		b := unhex(t, wellFormed)
		copy(b[at:], v)
		return b
	}
	tests := []struct {
		name string
		b    []byte
		want error
	}{
		{"nothing", nil, errShort},
		{"cut short", with(0)[:23], errShort},
		{"version 0", with(0, 0x00), errVersion},
		{"version 2", with(0, 0x40), errVersion},
		{"length less than 24", with(3, 23), errLength},
		{"length beyond the payload", with(3, 25), errLength},
		{"authenticated, length less than 26", append(with(1, 0xc4), 0, 0), errLength},
		{"multiplier 0", with(2, 0), errMultiplier},
		{"multipoint", with(1, 0xc1), errMultipoint},
		{"my discriminator 0", with(4, 0, 0, 0, 0), errMine},
		{"your discriminator 0, up", with(8, 0, 0, 0, 0), errYours},
		{"your discriminator 0, init", with(1, 0x80, 3, 24, 0, 0, 0, 1, 0, 0, 0, 0), errYours},
		{"your discriminator 0, down", with(1, 0x40, 3, 24, 0, 0, 0, 1, 0, 0, 0, 0), nil},
		{"your discriminator 0, admin down", with(1, 0x00, 3, 24, 0, 0, 0, 1, 0, 0, 0, 0), nil},
		{"more than the packet", append(with(0), 1, 2, 3), nil},
		{"authenticated, length 26", append(with(1, 0xc4, 3, 26), 0, 0), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse(tt.b); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestMicros(t *testing.T) {
	for d, want := range map[time.Duration]uint32{
		-1: 0, 0: 0, 999: 0, time.Microsecond: 1, 1999: 1, time.Second: 1_000_000, time.Hour: 3_600_000_000, 2 * time.Hour: math.MaxUint32,
	} {
		if got := micros(d); got != want {
			t.Errorf("%s: %d, want %d", d, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unhex(f, wellFormed))
	f.Add(unhex(f, "21580518deadbeef00000000000f42400000c35000002710"))
	f.Add(unhex(f, "20c4031a0000000100000002000f4240000f4240000000000000"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		if p.Mine == 0 || p.Multiplier == 0 || p.Yours == 0 && p.State > Down {
			t.Fatalf("accepted %+v", p)
		}
		p.Authenticated = false // never written
		again, err := Parse(p.Append(nil))
		if err != nil {
			t.Fatalf("what was written is not understood: %v", err)
		}
		if diff := cmp.Diff(p, again); diff != "" {
			t.Fatalf("written and read: -want +got:\n%s", diff)
		}
	})
}
