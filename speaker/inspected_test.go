package speaker

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/speaker/inspect"
)

// inspector is a node that a test changes.
type inspector struct {
	node    *inspect.Node
	changed chan struct{}
}

func (i *inspector) Node() *inspect.Node      { return i.node }
func (i *inspector) Changed() <-chan struct{} { return i.changed }

// TestInspected reports the troubles of the node as conditions of their own: the speaker is Ready all the same, and a trouble that stays
// keeps its time.
func TestInspected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inspector{node: &inspect.Node{Drifting: true}, changed: make(chan struct{}, 1)}
		s := New(Options{Inspect: in})
		pools := []*config.Pool{{Name: "lan", Ranges: []config.Range{{From: netip.MustParseAddr("192.0.2.1"), To: netip.MustParseAddr("192.0.2.9")}}}}
		var written v1beta1.SpeakerStatusStatus
		r := NewRecorder("v1", time.Now(), func(_ context.Context, status v1beta1.SpeakerStatusStatus) error { written = status; return nil }, slog.New(slog.DiscardHandler))
		report := func(node *inspect.Node) []metav1.Condition {
			in.node = node
			troubles, gateways := s.inspected(nil, pools)
			r.Report(Report{Node: troubles, Gateways: gateways})
			r.Flush(t.Context())
			return written.Conditions
		}
		first := report(in.node)
		if !meta.IsStatusConditionTrue(first, "Ready") || !meta.IsStatusConditionTrue(first, inspect.ClockUnsynchronised) || len(first) != 2 {
			t.Fatalf("conditions %+v", first)
		}
		<-time.After(time.Minute)
		gateway := []inspect.Gateway{{Interface: "eth0", Addr: netip.MustParseAddr("fe80::1"), Family: config.IPv6}, {Interface: "eth0", Addr: netip.MustParseAddr("192.0.2.1"), Family: config.IPv4}}
		second := report(&inspect.Node{Drifting: true, Gateways: gateway})
		clock := meta.FindStatusCondition(second, inspect.ClockUnsynchronised)
		if len(second) != 3 || !clock.LastTransitionTime.Equal(&first[1].LastTransitionTime) || !meta.IsStatusConditionTrue(second, inspect.GatewayInPool) {
			t.Errorf("conditions %+v", second)
		}
		if diff := cmp.Diff([]string{"192.0.2.1"}, written.Gateways); diff != "" {
			t.Errorf("gateways (-want +got):\n%s", diff)
		}
		if third := report(&inspect.Node{}); len(third) != 1 {
			t.Errorf("conditions %+v", third)
		}
	})
}
