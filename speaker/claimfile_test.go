package speaker

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/member"
)

func TestClaimFile(t *testing.T) {
	dir := t.TempDir()
	log := &strings.Builder{}
	open := func() *ClaimFile { return NewClaimFile(dir, slog.New(slog.NewTextHandler(log, nil))) }
	if c := open().Claims(); c != nil {
		t.Errorf("at the first start: %v", c)
	}
	want := map[netip.Addr]decide.Claim{
		netip.MustParseAddr("192.0.2.1"):   {Counter: 7, Majority: true},
		netip.MustParseAddr("2001:db8::1"): {Counter: 1, Provisional: true, To: "b"},
	}
	f := open()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	f.Keep(nil)
	f.Keep(want) // what came last counts, also at the end
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := open().Claims(); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", log)
	}
	if err := os.WriteFile(filepath.Join(dir, claimsFile), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := open().Claims(); got != nil || !strings.Contains(log.String(), "not used") {
		t.Errorf("of a damaged file: %v, log %s", got, log)
	}
}

// kept is a Keeper that knows something.
type kept map[netip.Addr]decide.Claim

func (k kept) Claims() map[netip.Addr]decide.Claim { return maps.Clone(k) }
func (k kept) Keep(map[netip.Addr]decide.Claim)    {}

// TestResume: who knows what an earlier run claimed is asked in turn: the others, then the file.
func TestResume(t *testing.T) {
	now := time.Unix(1000, 0)
	a := netip.MustParseAddr("192.0.2.1")
	former := map[netip.Addr]decide.Claim{a: {Counter: 7, Majority: true}}
	file := kept{a: {Counter: 5, Majority: true}}
	type ask struct {
		after  time.Duration
		view   *member.View
		seeds  int
		synced bool
	}
	for name, c := range map[string]struct {
		asks     []ask // all but the last must be told to wait
		want     map[netip.Addr]decide.Claim
		returned bool
	}{
		"the others know": {
			asks:     []ask{{view: &member.View{Alive: 1}, seeds: 3}, {after: 50 * time.Millisecond, view: &member.View{Alive: 3, Heard: now, Former: former}, seeds: 3}},
			want:     former,
			returned: true,
		},
		"the first that is met does not know, the second does": {
			asks: []ask{
				{view: &member.View{Alive: 2, Heard: now}, seeds: 3, synced: true},
				{after: 100 * time.Millisecond, view: &member.View{Alive: 3, Heard: now.Add(time.Second), Former: former}, seeds: 3, synced: true},
			},
			want:     former,
			returned: true,
		},
		"nobody knows: what the file says counts less than any claim of others": {
			asks: []ask{
				{view: &member.View{Alive: 3, Heard: now}, seeds: 3, synced: true},
				{after: resumeMeet, view: &member.View{Alive: 3, Heard: now}, seeds: 3, synced: true},
			},
			want: map[netip.Addr]decide.Claim{a: {Counter: 5, Provisional: true}},
		},
		"the others do not answer": {
			asks: []ask{
				{view: &member.View{Alive: 1}, seeds: 3, synced: true},
				{after: settleMost, view: &member.View{Alive: 1}, seeds: 3, synced: true},
			},
			want: map[netip.Addr]decide.Claim{a: {Counter: 5, Provisional: true}},
		},
		"the only speaker": {
			asks:     []ask{{view: &member.View{Alive: 1}}, {after: time.Millisecond, view: &member.View{Alive: 1}, seeds: 1, synced: true}},
			want:     map[netip.Addr]decide.Claim{a: {Counter: 5, Provisional: true}},
			returned: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var r resume
			if claims, wait := r.check(now, nil, file, 3, true); claims != nil || wait != 0 || r.done {
				t.Error("did not wait for gossip")
			}
			for i, x := range c.asks {
				claims, wait := r.check(now.Add(x.after), x.view, file, x.seeds, x.synced)
				if last := i == len(c.asks)-1; r.done != last || !last && wait <= 0 {
					t.Fatalf("ask %d: done %v, wait %v", i, r.done, wait)
				} else if last && !maps.Equal(claims, c.want) {
					t.Errorf("claims %v, want %v", claims, c.want)
				}
			}
			if r.returned != c.returned {
				t.Errorf("returned %v, want %v", r.returned, c.returned)
			}
			if claims, _ := r.check(now, &member.View{Former: former, Heard: now}, file, 3, true); claims != nil {
				t.Error("claims are given twice")
			}
		})
	}
}
