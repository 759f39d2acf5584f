package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heraldlb/herald/test/lab/cluster"
	"github.com/heraldlb/herald/test/lab/kubelet"
	"github.com/heraldlb/herald/test/lab/netlab"
)

// Node is one of the cluster's nodes.
type Node struct {
	Name      string
	Host      *netlab.Host
	LAN       *netlab.Port // eth0: cut it, and the node is off the LAN
	Mgmt      *netlab.Port // eth1: cut it, and the node loses the API server and the other nodes' Pods
	Addresses []netip.Addr // InternalIPs: on the LAN, IPv4 first
	PodCIDRs  []netip.Prefix

	lab    *Lab
	number int

	mu      sync.Mutex
	kubelet *kubelet.Kubelet
	cancel  context.CancelFunc
	stopped chan struct{}
}

// readyLimit is how long nodes may take to become ready.
const readyLimit = 2 * time.Minute

// startNodes starts kube-proxy and a kubelet on all nodes and waits until Pods can be scheduled to them.
func (l *Lab) startNodes(ctx context.Context) error {
	var group errgroup.Group
	for _, n := range l.Nodes {
		group.Go(func() error {
			if err := l.Cluster.StartProxy(n.Name, n.Host); err != nil {
				return err
			}
			return n.StartKubelet()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return l.waitNodes(ctx)
}

// waitNodes waits until every node is ready and nothing keeps Pods off it.
func (l *Lab) waitNodes(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(l.Cluster.RESTConfig())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	return l.Wait(ctx, "the nodes to become ready", func(ctx context.Context) error {
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(nodes.Items) != len(l.Nodes) {
			return fmt.Errorf("%d of %d nodes have registered", len(nodes.Items), len(l.Nodes))
		}
		for i := range nodes.Items {
			if err := schedulable(&nodes.Items[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func schedulable(n *corev1.Node) error {
	for _, t := range n.Spec.Taints {
		return fmt.Errorf("node %s has the taint %s", n.Name, t.Key)
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("node %s is not ready", n.Name)
}

// StartKubelet starts the node's kubelet, if it does not run.
func (n *Node) StartKubelet() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kubelet != nil {
		return nil
	}
	k, err := n.newKubelet()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.kubelet, n.cancel, n.stopped = k, cancel, make(chan struct{})
	go func() {
		defer close(n.stopped)
		if err := k.Run(ctx); err != nil && ctx.Err() == nil {
			n.lab.o.Log.Error("a kubelet has ended", "node", n.Name, "err", err)
		}
	}()
	return nil
}

func (n *Node) newKubelet() (*kubelet.Kubelet, error) {
	c := n.lab.Cluster
	config, err := c.NodeConfig(n.Host.DialContext, n.Name)
	if err != nil {
		return nil, err
	}
	certificate, key, err := c.NodeServing(n.Name, n.Addresses...)
	if err != nil {
		return nil, err
	}
	return kubelet.New(kubelet.Options{
		Node: n.Name, Host: n.Host, Network: n.lab.Network, Addresses: n.Addresses, PodCIDRs: n.PodCIDRs,
		Config: config, Service: cluster.ServiceIPs()[0], Version: n.lab.programs.ControlPlane.Version,
		Images: n.lab.images(), Certificate: certificate, Key: key, ClientCA: c.CA(),
		Dir: filepath.Join(n.lab.Dir(), "nodes", n.Name), Log: n.lab.o.Log.With(slog.String("node", n.Name)),
	})
}

// StopKubelet kills everything that the node's kubelet runs, and the kubelet, without a word to the API server: to the
// cluster the node has died, while its network still forwards. Cut its ports as well for a node without power.
func (n *Node) StopKubelet() { n.stopKubelet() }

func (n *Node) stopKubelet() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kubelet == nil {
		return
	}
	n.cancel()
	<-n.stopped
	n.kubelet = nil
}

// Kubelet returns the node's kubelet, nil while it is stopped.
func (n *Node) Kubelet() *kubelet.Kubelet {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kubelet
}

// PowerOff makes the node vanish: no process, no carrier.
func (n *Node) PowerOff() error {
	err := errors.Join(n.LAN.Cut(), n.Mgmt.Cut())
	n.stopKubelet()
	return err
}

// PowerOn undoes PowerOff; the node's Pods start anew.
func (n *Node) PowerOn() error {
	return errors.Join(n.LAN.Restore(), n.Mgmt.Restore(), n.StartKubelet())
}
