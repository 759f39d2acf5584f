package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Options describe a node.
type Options struct {
	// Node is the node's name, and its kubernetes.io/hostname.
	Node string
	// Host is the node's network namespace, Network what it is part of: Pods get namespaces there.
	Host    *netlab.Host
	Network *netlab.Network
	// Addresses are the node's InternalIPs, the first family first.
	Addresses []netip.Addr
	// PodCIDRs are what the node's Pods get their addresses from, one per family.
	PodCIDRs []netip.Prefix
	// Labels are put on the Node beside the usual ones, as far as NodeRestriction lets a node label itself.
	Labels map[string]string
	// Config is the node's way into the API server, as user system:node:NAME.
	Config *rest.Config
	// Service is the Service address under which Pods find the API server, on port 443.
	Service netip.Addr
	// Version is what the node says its kubelet's version is.
	Version string
	// Images finds the programs of container images.
	Images Resolver
	// Certificate and Key serve the kubelet's API (container logs), ClientCA signs those who may ask; all PEM.
	Certificate, Key, ClientCA []byte
	// Dir is where Pods' volumes and logs are kept. It is left in place.
	Dir string
	Log *slog.Logger
}

// Kubelet runs the Pods of one node.
type Kubelet struct {
	o      Options
	client kubernetes.Interface
	net    *podNetwork

	mu      sync.Mutex
	workers map[types.UID]*worker
	wg      sync.WaitGroup // the workers
}

// New makes a kubelet; it does nothing before Run.
func New(o Options) (*Kubelet, error) {
	client, err := kubernetes.NewForConfig(o.Config)
	if err != nil {
		return nil, fmt.Errorf("kubelet %s: %w", o.Node, err)
	}
	for _, dir := range []string{"pods", "root", "logs"} {
		if err := os.MkdirAll(filepath.Join(o.Dir, dir), 0o755); err != nil {
			return nil, fmt.Errorf("kubelet %s: %w", o.Node, err)
		}
	}
	return &Kubelet{
		o: o, client: client, net: newPodNetwork(o.Network, o.Host, o.PodCIDRs), workers: map[types.UID]*worker{},
	}, nil
}

// Run registers the node and runs its Pods until the context ends. Then the node is gone as if its plug had been pulled:
// all processes are killed, and the API server is not told.
func (k *Kubelet) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server, err := k.listen()
	if err != nil {
		return err
	}
	if err := k.register(ctx); err != nil {
		return errors.Join(err, server.Close())
	}
	var wg sync.WaitGroup
	wg.Go(func() { k.heartbeat(ctx) })
	wg.Go(func() { k.serveLogs(ctx, server) })
	wg.Go(func() { k.watchPods(ctx) })
	wg.Wait()
	k.wg.Wait()
	return nil
}

// dispatch gives a Pod to its worker, which it starts for a new one. It is called by one goroutine.
func (k *Kubelet) dispatch(ctx context.Context, pod *corev1.Pod, gone bool) {
	k.mu.Lock()
	w := k.workers[pod.UID]
	if w == nil && !gone && !ended(pod) && ctx.Err() == nil {
		w = newWorker(k, pod)
		k.workers[pod.UID] = w
		k.wg.Go(func() {
			w.run(ctx)
			k.mu.Lock()
			defer k.mu.Unlock()
			delete(k.workers, pod.UID)
		})
	}
	k.mu.Unlock()
	if w != nil {
		w.tell(update{pod: pod, gone: gone})
	}
}

// ended reports whether there is nothing left to do for a Pod.
func ended(pod *corev1.Pod) bool {
	over := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	return over && pod.DeletionTimestamp == nil
}

// hostIPs returns the node's addresses as text.
func (k *Kubelet) hostIPs() []string {
	var list []string
	for _, a := range k.o.Addresses {
		list = append(list, a.String())
	}
	return list
}

// sleep waits, and reports whether the context is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
