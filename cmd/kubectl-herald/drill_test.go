package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/drill"
	"github.com/heraldlb/herald/cmd/kubectl-herald/fixture"
	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/v1beta1"
)

// pit is a place to drill in: connects fail for a while after anything was written to the API.
type pit struct {
	*fakeAPI
	hole  time.Duration
	until atomic.Int64 // Unix nanoseconds
	away  bool         // nothing can be connected to
}

func (p *pit) dig(err error) error {
	p.until.Store(time.Now().Add(p.hole).UnixNano())
	return err
}

// Drain drains, and digs the hole.
func (p *pit) Drain(ctx context.Context, node string, drain bool) (bool, error) {
	changed, err := p.fakeAPI.Drain(ctx, node, drain)
	s := p.speaker(node)
	s.Status.BGP.Sessions[0].Advertised.IPv4 = map[bool]int32{true: 0, false: 1}[drain]
	return changed, p.dig(err)
}

// DeletePod restarts the speaker, and digs the hole.
func (p *pit) DeletePod(ctx context.Context, namespace, name string) error {
	err := p.fakeAPI.DeletePod(ctx, namespace, name)
	for _, s := range p.cluster.Speakers {
		s.Status.StartedAt = &metav1.Time{Time: time.Now()}
	}
	return p.dig(err)
}

// drilling runs a drill in a bubble, with somebody at the terminal who types answer.
func drilling(t *testing.T, p *pit, ctx context.Context, answer string, args ...string) (status int, out, errs string) { //nolint:revive // t comes first in tests
	t.Helper()
	var o, e bytes.Buffer
	a := &app{
		in: strings.NewReader(answer), out: &o, err: &e, now: time.Now, terminal: answer != "", open: func(kube.Access) (API, error) { return p, nil },
		connect: func(string) func(context.Context) error {
			return func(context.Context) error {
				if p.away || time.Now().UnixNano() < p.until.Load() {
					return errors.New("connection refused")
				}
				return nil
			}
		},
		listen: func(netip.Addr) (*drill.ARP, error) { return nil, errors.New("not on the segment") },
	}
	status = a.run(ctx, append([]string{"drill"}, args...))
	return status, o.String(), e.String()
}

func newPit(t *testing.T) *pit {
	return &pit{fakeAPI: &fakeAPI{t: t, cluster: fixture.Cluster(t)}, hole: 95 * time.Millisecond}
}

func TestDrill(t *testing.T) {
	for _, test := range []struct {
		name  string
		args  []string
		wrote []string
		legs  []string
		worst [2]int64 // milliseconds, least and most
	}{
		{
			"l2",
			[]string{"l2", "web", "--node=node-3"},
			[]string{"heraldlb.io/move=node-2/node-3/", "heraldlb.io/move=", "heraldlb.io/move=node-3/node-2/", "heraldlb.io/move="},
			[]string{"move 192.168.1.100 from node-2 to node-3", "move 192.168.1.100 from node-3 to node-2"},
			[2]int64{0, 0},
		},
		{
			"l2 to the next in line",
			[]string{"L2", "shop/web"},
			[]string{"heraldlb.io/move=node-2/node-1/", "heraldlb.io/move=", "heraldlb.io/move=node-1/node-2/", "heraldlb.io/move="},
			[]string{"move 192.168.1.100 from node-2 to node-1", "move 192.168.1.100 from node-1 to node-2"},
			[2]int64{0, 0},
		},
		{
			"l2 by restart, twice",
			[]string{"l2", "web", "--by=restart", "--times=2"},
			[]string{"delete herald-speaker-2", "delete herald-speaker-2-new"},
			[]string{"restart the speaker of node-2", "restart the speaker of node-2"},
			[2]int64{80, 100},
		},
		{"bgp", []string{"bgp", "api", "--node=node-3"}, nil, []string{"drain node-3", "undrain node-3"}, [2]int64{80, 100}},
		{"bgp by restart", []string{"bgp", "api", "--by=restart"}, []string{"delete herald-speaker-1"}, []string{"restart the speaker of node-1"}, [2]int64{80, 100}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPit(t)
				status, out, errs := drilling(t, p, t.Context(), "", append(test.args, "-y", "-o", "json")...)
				var got drilled
				if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 || errs != "" || !got.Done {
					t.Fatalf("status %d, %v: %s%s", status, err, out, errs)
				}
				var legs []string
				for _, l := range got.Legs {
					legs = append(legs, l.What)
					if l.Tries < 190 {
						t.Errorf("only %d connects: %+v", l.Tries, l)
					}
				}
				if !slices.Equal(legs, test.legs) || got.WorstMS < test.worst[0] || got.WorstMS > test.worst[1] || got.MedianMS > got.WorstMS {
					t.Errorf("%+v", got)
				}
				if !slices.EqualFunc(p.wrote, test.wrote, strings.HasPrefix) {
					t.Errorf("wrote %q, want %q", p.wrote, test.wrote)
				}
				for _, n := range p.cluster.Nodes {
					if len(n.Spec.Taints) > 0 {
						t.Errorf("node %s is still drained", n.Name)
					}
				}
			})
		})
	}
}

// TestDrillInterrupted is called off at every stage: whatever was done is undone.
func TestDrillInterrupted(t *testing.T) {
	for _, after := range []time.Duration{time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second, 6 * time.Second} {
		for _, args := range [][]string{{"l2", "web"}, {"bgp", "api"}} {
			synctest.Test(t, func(t *testing.T) {
				p := newPit(t)
				ctx, cancel := context.WithTimeout(t.Context(), after)
				defer cancel()
				status, _, errs := drilling(t, p, ctx, "", append(args, "-y")...)
				if status != 1 || !strings.Contains(errs, "interrupted") {
					t.Errorf("%v after %s: status %d: %s", args, after, status, errs)
				}
				if l2 := p.speaker("node-2").Status.L2; len(l2.Addresses) != 1 {
					t.Errorf("%v after %s: the address is not where it was", args, after)
				}
				if _, ok := p.cluster.Services[0].Annotations["heraldlb.io/move"]; ok {
					t.Errorf("%v after %s: the annotation is still there", args, after)
				}
				for _, n := range p.cluster.Nodes {
					if len(n.Spec.Taints) > 0 {
						t.Errorf("%v after %s: node %s is still drained", args, after, n.Name)
					}
				}
			})
		}
	}
}

// TestDrillStuck provokes what does not come about: it says so, and undoes it.
func TestDrillStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPit(t)
		p.deaf = true
		status, out, errs := drilling(t, p, t.Context(), "", "l2", "web", "-y", "--wait=5s")
		if status != 1 || errs != "" || !strings.Contains(out, "not reported within 5s") {
			t.Errorf("status %d: %s%s", status, out, errs)
		}
		if last := p.wrote[len(p.wrote)-1]; last != "heraldlb.io/move=" {
			t.Errorf("wrote %q", p.wrote)
		}
	})
}

// TestDrillAsks does nothing unless somebody says yes.
func TestDrillAsks(t *testing.T) {
	for answer, want := range map[string]int{"": 2, "no\n": 1, "y\n": 1, "\n": 1, "yes\n": 0} {
		synctest.Test(t, func(t *testing.T) {
			p := newPit(t)
			status, _, errs := drilling(t, p, t.Context(), answer, "l2", "web")
			if status != want || (len(p.wrote) > 0) != (want == 0) {
				t.Errorf("%q: status %d, wrote %q: %s", answer, status, p.wrote, errs)
			}
			if answer != "" && !strings.Contains(errs, "move 192.168.1.100 from node-2 to") {
				t.Errorf("it does not say what it will do: %s", errs)
			}
		})
	}
}

// TestDrillRefused tells why there is nothing to measure, and writes nothing.
func TestDrillRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		args   []string
		says   string
		status int
		change func(*pit)
	}{
		{"no such Service", []string{"l2", "none", "-y"}, "no Service shop/none", 1, nil},
		{"not by L2", []string{"l2", "api", "-y"}, "no such address that is announced by L2", 1, nil},
		{"not by BGP", []string{"bgp", "web", "-y"}, "no such address that is announced by BGP", 1, nil},
		{"another address", []string{"l2", "web", "-y", "--address=192.0.2.1"}, "no such address", 1, nil},
		{"the owner", []string{"l2", "web", "-y", "--node=node-2"}, "answers for 192.168.1.100 already", 1, nil},
		{"no such node", []string{"l2", "web", "-y", "--node=node-9"}, "there is no node node-9", 1, nil},
		{"a node that does not announce", []string{"bgp", "api", "-y", "--node=node-9"}, `node "node-9" does not announce`, 1, nil},
		{"out of reach", []string{"l2", "web", "-y"}, "must be reachable from here", 1, func(p *pit) { p.away = true }},
		{"no TCP port", []string{"l2", "web", "-y"}, "no TCP port", 1, func(p *pit) { p.cluster.Services[0].Spec.Ports[0].Protocol = corev1.ProtocolUDP }},
		{"goes back", []string{"l2", "web", "-y"}, "by itself", 1, func(p *pit) {
			p.cluster.L2Advertisements[0].Spec.FailbackDelay = &metav1.Duration{Duration: time.Minute}
		}},
		{"nobody else", []string{"bgp", "api", "-y"}, "the only one", 1, func(p *pit) {
			p.cluster.BGPAdvertisements[0].Spec.NodeSelectors = []v1beta1.LabelSelector{onNode("node-2")}
		}},
		{"usage", nil, "say by what", 2, nil},
		{"no Service", []string{"l2"}, "accepts 1 arg", 2, nil},
		{"unknown way", []string{"l2", "web", "-y", "--by=fire"}, "must be move or restart", 2, nil},
		{"no times", []string{"bgp", "api", "-y", "--times=0"}, "must be 1 or more", 2, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPit(t)
				if test.change != nil {
					test.change(p)
				}
				status, out, errs := drilling(t, p, t.Context(), "", test.args...)
				if status != test.status || !strings.Contains(errs, test.says) || out != "" || len(p.wrote) > 0 {
					t.Errorf("status %d, wrote %q: %s%s", status, p.wrote, out, errs)
				}
			})
		})
	}
}

// TestGoldenDrill draws the result of a drill.
func TestGoldenDrill(t *testing.T) {
	r := drilled{
		Service: "shop/web", Protocol: "L2", Target: "192.168.1.100:80", MedianMS: 20, WorstMS: 30, Done: true,
		Legs: []leg{
			{What: "move 192.168.1.100 from node-2 to node-3", Summary: drill.Summary{Tries: 230, Failed: 3, Why: "connection refused"}, OutageMS: 30, SilenceMS: 21, Answered: []string{"02:00:00:00:00:02", "02:00:00:00:00:03"}, Seconds: 0.31},
			{What: "move 192.168.1.100 from node-3 to node-2", Summary: drill.Summary{Tries: 228}, SilenceMS: 20, Answered: []string{"02:00:00:00:00:03", "02:00:00:00:00:02"}, Seconds: 12.04},
		},
	}
	for _, format := range print.Formats() {
		var out bytes.Buffer
		a := &app{out: &out, output: format}
		if err := a.print(r, r.Done, r.draw); err != nil {
			t.Fatal(err)
		}
		golden(t, "drill."+format, out.String())
	}
}
