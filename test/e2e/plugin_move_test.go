package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/test/e2e/scene"
)

// TestPluginMove moves an address to the node that is named, and to the next one: it is answered for all the time, stays where it was put,
// and nothing is left of the asking.
func TestPluginMove(t *testing.T) {
	s := on(t)
	ip := s.only("moved")
	s.reached(ip)
	old := s.owner(ip)
	for _, to := range s.allNodes() {
		if to == old {
			continue
		}
		report := s.watched(ip, func() {
			var r struct {
				Done      bool
				Addresses []struct {
					From    string
					Seconds float64
				}
			}
			status, err := s.told(t.Context(), &r, "move", "moved", to)
			s.must(err)
			if status != 0 || !r.Done || len(r.Addresses) != 1 || r.Addresses[0].From != old {
				t.Errorf("move ended with %d: %+v", status, r)
				return
			}
			t.Logf("reported after %.1f s", r.Addresses[0].Seconds)
			s.moves(ip, to)
			time.Sleep(quiet)
		})
		s.describe(report)
		if gap := report.LongestGap().Duration(); gap > cold {
			t.Errorf("nobody answered for %s", gap)
		}
		old = to
	}
	s.stays(old+" answers", quiet, func(ctx context.Context) error { return s.ownedBy(ctx, ip, old) })
	o, err := s.Services().Get(t.Context(), "moved", metav1.GetOptions{})
	s.must(err)
	if text, ok := o.Annotations[parse.MoveAnnotation]; ok {
		t.Errorf("the annotation is still there: %s", text)
	}
}

// TestPluginMoveRefused asks for moves that make no sense.
func TestPluginMoveRefused(t *testing.T) {
	s := on(t)
	ip := s.only("unmoved")
	s.create("unmoved-bgp", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("routed"))
	s.announced("unmoved-bgp")
	var other string
	for _, n := range s.allNodes() {
		if n != s.owner(ip) {
			other = n
		}
	}
	s.label(other, excludeLabel, "true")
	s.eventually("the plugin to see the label", func(ctx context.Context) error {
		got, err := s.plugin(ctx, "move", "unmoved", other)
		if err == nil && (got.status != 1 || !strings.Contains(got.err, excludeLabel)) {
			err = fmt.Errorf("status %d: %s%s", got.status, got.out, got.err)
		}
		return err
	})
	for _, args := range [][]string{{"unmoved-bgp", other}, {"unmoved", "no-such-node"}, {"no-such-service", other}} {
		got, err := s.plugin(t.Context(), append([]string{"move"}, args...)...)
		s.must(err)
		if got.status != 1 || got.out != "" {
			t.Errorf("move %v ended with %d: %s%s", args, got.status, got.out, got.err)
		}
	}
}

// pluginOnLAN calls the plugin on the client host of the LAN, from where the addresses can be reached.
func (s *stage) pluginOnLAN(ctx context.Context, args ...string) (said, error) {
	l, err := s.Client.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return said{}, err
	}
	var carried sync.WaitGroup
	defer carried.Wait()
	defer l.Close()
	carried.Go(func() { s.carryToAPI(ctx, l) })
	program := filepath.Join(s.Dir(), "images", "herald", "kubectl-herald")
	cmd := exec.CommandContext(ctx, program, append(args, "--server=https://"+l.Addr().String())...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Cluster.KubeconfigPath(), "HOME="+filepath.Join(s.Dir(), "home"))
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err = s.Client.Run(cmd)
	got := said{out: out.String(), err: complaints.String()}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got.status, err = exit.ExitCode(), nil
	}
	return got, err
}

// carryToAPI carries connections of a host that has no way to the API server there, until the listener is closed.
func (s *stage) carryToAPI(ctx context.Context, l net.Listener) {
	ctx, cancel := context.WithCancel(ctx)
	var carried sync.WaitGroup
	defer carried.Wait()
	defer cancel()
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		carried.Go(func() {
			defer from.Close()
			to, err := s.Control.DialContext(ctx, "tcp", s.Cluster.APIAddress())
			if err != nil {
				return // the plugin sees its connection closed
			}
			defer to.Close()
			stop := context.AfterFunc(ctx, func() { from.Close(); to.Close() })
			defer stop()
			carried.Go(func() { _, _ = io.Copy(to, from); to.Close() })
			_, _ = io.Copy(from, to)
		})
	}
}
