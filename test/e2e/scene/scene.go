// Package scene is what the end-to-end suite and the benchmarks of the whole have in common: a laboratory with Herald's chart
// installed, pools and peers applied as a user would with kubectl, web servers as backends, and questions to the API server and
// to the network. Nothing in it fails a test: it returns what is, and errors.
package scene

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/test/lab"
)

// Config is what is applied: pool "lan" announced by ARP and NDP, pool "routed" (on request only) announced by BGP over one session
// for each family, pool "many" (on request only) announced by nobody.
//
//go:embed config.yaml
var Config string

//go:embed web.yaml
var web string

// The LAN client's interface, and the nodes' on the LAN.
const lanIfname = "eth0"

// Names of the installation that Open makes.
const (
	Release   = "herald"
	Namespace = "herald-system"
)

// Scene is a laboratory with Herald in it.
type Scene struct {
	*lab.Lab
	API     kubernetes.Interface
	dynamic dynamic.Interface

	// Release and Namespace are those of the installation there is now; whoever replaces it changes them.
	Release, Namespace string
}

// Open brings the laboratory up, installs the chart and applies Config and the web servers. It returns when all of it works.
func Open(ctx context.Context, o lab.Options) (*Scene, error) {
	l, err := lab.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &Scene{Lab: l, Release: Release, Namespace: Namespace}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, nil
}

func (s *Scene) prepare(ctx context.Context) (err error) {
	config := s.Cluster.RESTConfig()
	config.QPS = -1 // nobody waits for himself while measuring
	if s.API, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if s.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	if err := s.Apply(ctx, web); err != nil {
		return err
	}
	if err := s.Install(ctx, s.Release, s.Namespace, ""); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := s.Kubectl(ctx, "wait", "--for=condition=Available", "deployment/web", "--timeout=3m")
		return err
	})
	group.Go(func() error { return s.WaitSpeakers(ctx) })
	return group.Wait()
}

// Install installs the chart with values in YAML, under these names from now on, and applies Config.
func (s *Scene) Install(ctx context.Context, release, namespace, values string) error {
	if err := s.HelmInstall(ctx, release, namespace, values); err != nil {
		return err
	}
	s.Release, s.Namespace = release, namespace
	return s.Apply(ctx, Config)
}

// Name returns the name that the chart gives to one of the installation's parts, such as "speaker".
func (s *Scene) Name(part string) string {
	if strings.Contains(s.Release, "herald") {
		return s.Release + "-" + part
	}
	return s.Release + "-herald-" + part
}

// speakersLimit is how long speakers may take to find each other and their peers.
const speakersLimit = 3 * time.Minute

// WaitSpeakers waits until every node's speaker, the one that runs now, reports that it sees all others alive and has its BGP sessions up.
func (s *Scene) WaitSpeakers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, speakersLimit)
	defer cancel()
	return s.Wait(ctx, "all speakers to be up", func(ctx context.Context) error {
		for _, n := range s.Nodes {
			status, err := s.present(ctx, n)
			if err != nil {
				return err
			}
			if status.Gossip == nil || int(status.Gossip.Alive) != len(s.Nodes) {
				return fmt.Errorf("the speaker of %s sees %+v of %d speakers", n.Name, status.Gossip, len(s.Nodes))
			}
			if status.BGP == nil || len(status.BGP.Sessions) == 0 {
				return fmt.Errorf("the speaker of %s has no BGP session", n.Name)
			}
			for _, session := range status.BGP.Sessions {
				if session.State != "Established" {
					return fmt.Errorf("the session of %s to %s is %s: %s", n.Name, session.Peer, session.State, session.LastError)
				}
			}
		}
		return nil
	})
}

// present returns what the speaker that runs on a node now reports: the report of one that has ended stands until the next has written its own.
func (s *Scene) present(ctx context.Context, n *lab.Node) (v1beta1.SpeakerStatusStatus, error) {
	k := n.Kubelet()
	if k == nil {
		return v1beta1.SpeakerStatusStatus{}, fmt.Errorf("%s has no kubelet", n.Name)
	}
	p, err := k.Find(s.Namespace, s.Name("speaker"), "")
	if err != nil {
		return v1beta1.SpeakerStatusStatus{}, err
	}
	status, err := s.Speaker(ctx, n.Name)
	if err == nil && (status.StartedAt == nil || status.StartedAt.Time.Before(p.Started.Truncate(time.Second))) {
		err = fmt.Errorf("the report of %s is that of a speaker that started at %s; the present one did at %s", n.Name, status.StartedAt, p.Started)
	}
	return status, err
}
