package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// said is what a call of the plugin ended with.
type said struct {
	status   int
	out, err string
}

// plugin calls kubectl herald as the cluster's administrator: through kubectl, as a user does.
func (s *stage) plugin(ctx context.Context, args ...string) (said, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.BinDir(), "kubectl"), append([]string{"herald"}, args...)...)
	cmd.Env = append(
		os.Environ(), "KUBECONFIG="+s.Cluster.KubeconfigPath(), "HOME="+filepath.Join(s.Dir(), "home"),
		"PATH="+filepath.Join(s.Dir(), "images", "herald")+string(os.PathListSeparator)+os.Getenv("PATH"),
	)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := s.Control.Run(cmd)
	got := said{out: out.String(), err: complaints.String()}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got.status, err = exit.ExitCode(), nil
	}
	return got, err
}

// told calls the plugin for a value in JSON.
func (s *stage) told(ctx context.Context, into any, args ...string) (status int, err error) {
	got, err := s.plugin(ctx, append(args, "-o", "json")...)
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal([]byte(got.out), into); err != nil {
		return 0, fmt.Errorf("kubectl herald %v: %w\n%s%s", args, err, got.out, got.err)
	}
	return got.status, nil
}

// cause is a part of what the plugin finds.
type cause struct{ Level, About, Reason, Message, Remedy string }

// chain is a part of what explain says.
type chain struct {
	Healthy bool
	Causes  []cause
}

// explained waits until explain says of a Service first that it is unwell for a reason.
func (s *stage) explained(service, about, reason string, words ...string) {
	s.t.Helper()
	s.eventually("explain to say of "+service+": "+reason, func(ctx context.Context) error {
		var c chain
		status, err := s.told(ctx, &c, "explain", "service", service)
		if err != nil {
			return err
		}
		if c.Healthy || status != 1 || len(c.Causes) == 0 || c.Causes[0].Reason != reason || !strings.HasPrefix(c.Causes[0].About, about) {
			return fmt.Errorf("status %d, %+v", status, c)
		}
		for _, w := range words {
			if !strings.Contains(c.Causes[0].Message+c.Causes[0].Remedy, w) {
				return fmt.Errorf("%q is not in %+v", w, c.Causes[0])
			}
		}
		return nil
	})
}

// TestPluginWell looks at an installation in which all is well, with every verb that shows something.
func TestPluginWell(t *testing.T) {
	s := on(t)
	s.create("seen", scene.SingleStack(corev1.IPv4Protocol))
	_, ips := s.announced("seen")
	owner := s.owner(ips[0])
	s.eventually("status to find no error", func(ctx context.Context) error {
		var status struct {
			Healthy  bool
			Findings []cause
			Nodes    []struct {
				Name    string
				Speaker bool
			}
		}
		code, err := s.told(ctx, &status, "status")
		if err == nil && (!status.Healthy || code != 0 || len(status.Nodes) != len(s.Nodes)) {
			err = fmt.Errorf("exit status %d, %+v", code, status)
		}
		for _, n := range status.Nodes {
			if !n.Speaker {
				err = errors.Join(err, fmt.Errorf("the speaker of %s is not seen alive", n.Name))
			}
		}
		return err
	})
	s.eventually("vips to say who answers", func(ctx context.Context) error {
		got, err := s.plugin(ctx, "vips")
		for line := range strings.Lines(got.out) {
			if strings.HasPrefix(line, ips[0].String()+" ") && strings.Contains(line, "default/seen") && strings.Contains(line, owner+" on eth") {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("status %d:\n%s%s", got.status, got.out, got.err))
	})
	for _, args := range [][]string{{"bgp"}, {"check"}, {"explain", "service", "seen"}} {
		var got said
		s.eventually("kubectl herald "+strings.Join(args, " ")+" to find nothing wrong", func(ctx context.Context) (err error) {
			if got, err = s.plugin(ctx, args...); err == nil && (got.status != 0 || got.out == "") {
				err = fmt.Errorf("status %d:\n%s%s", got.status, got.out, got.err)
			}
			return err
		})
		t.Logf("kubectl herald %s\n%s%s", strings.Join(args, " "), got.out, got.err)
	}
	if got, err := s.plugin(t.Context(), "bogus"); err != nil || got.status != 2 {
		t.Errorf("wrong usage ended with %d, %v", got.status, err)
	}
}

// TestPluginExplains provokes troubles, and asks why.
func TestPluginExplains(t *testing.T) {
	s := on(t)
	one := scene.SingleStack(corev1.IPv4Protocol)
	s.create("why-pool", one, scene.FromPool("none"))
	s.explained("default/why-pool", "Service", "NoPool", "none")
	s.create("why-address", one, scene.Annotate(scene.IPsAnnotation, "198.51.100.200"))
	s.explained("default/why-address", "Service", "AddressNotInPool", "198.51.100.200")
	s.create("why-many", one, scene.FromPool("many"))
	s.withAddress("why-many")
	s.explained("default/why-many", "Service", "NoAdvertisement", "many")
	s.create("why-empty", one, scene.Selecting("nothing-has-this"))
	s.withAddress("why-empty")
	s.explained("default/why-empty", "Service", "NoReadyEndpoints", "selector")
	s.create("why-class", one, func(o *corev1.Service) { class := "example.com/other"; o.Spec.LoadBalancerClass = &class })
	s.explained("default/why-class", "Service", "OtherClass", "example.com/other")

	s.apply(pool("why", "192.168.100.220-192.168.100.250"), "ipaddresspool/why")
	s.judged(scene.Pools, "why", "False", "OverlappingPool")
	s.create("why-overlap", one, scene.FromPool("why"))
	s.explained("default/why-overlap", "IPAddressPool why", "OverlappingPool", "lan")

	s.create("why-nobody", one)
	s.announced("why-nobody")
	for _, n := range s.allNodes() {
		s.label(n, corev1.LabelNodeExcludeBalancers, "true")
	}
	s.explained("default/why-nobody", "Service", "NoEligibleNode", "exclude-from-external-load-balancers", "ignoreExcludeLB")
	got, err := s.plugin(t.Context(), "check")
	s.must(err)
	if got.status != 1 || !strings.Contains(got.out, "NoNodeMayAnnounce") {
		t.Errorf("check ended with %d:\n%s%s", got.status, got.out, got.err)
	}
}

// TestPluginDrain drains the node that answers, and lets it announce again: the addresses go elsewhere and stay there.
func TestPluginDrain(t *testing.T) {
	s := on(t)
	s.create("drained", scene.SingleStack(corev1.IPv4Protocol))
	_, ips := s.announced("drained")
	old := s.owner(ips[0])
	t.Cleanup(func() {
		_, err := s.plugin(context.Background(), "undrain", old)
		s.must(err)
	})
	got, err := s.plugin(t.Context(), "drain", old)
	s.must(err)
	if got.status != 0 {
		t.Errorf("drain ended with %d: %s%s", got.status, got.out, got.err)
	}
	s.another(ips[0], old)
	now := s.owner(ips[0])
	got, err = s.plugin(t.Context(), "undrain", old)
	s.must(err)
	if got.status != 0 || !strings.Contains(got.out, "may announce again") {
		t.Errorf("undrain ended with %d: %s%s", got.status, got.out, got.err)
	}
	s.stays(now+" answers", quiet, func(ctx context.Context) error { return s.ownedBy(ctx, ips[0], now) })
}
