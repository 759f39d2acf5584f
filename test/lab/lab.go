package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/test/lab/cluster"
	"github.com/heraldlb/herald/test/lab/kubelet"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/router"
)

// RouterASN is the AS of the laboratory's router; NodeASN is the one that the nodes are expected to use.
const (
	RouterASN = 64512
	NodeASN   = 64513
)

// heraldUser is the user of Herald's image, see cmd/Dockerfile.
const heraldUser = 65532

// Options describe a laboratory. The zero value is the usual one: three nodes and a router.
type Options struct {
	// Nodes is the number of nodes, 3 if it is 0.
	Nodes int
	// Router chooses the kind of router; NoRouter leaves BGP out, the router then only forwards.
	Router   router.Kind
	NoRouter bool
	// Dir receives logs, certificates and Pods' files, and is left in place. If it is empty a temporary directory is
	// used and removed again, unless Keep is set.
	Dir  string
	Keep bool
	// Images are known to the kubelets beside "herald" and "lab/web".
	Images map[string]kubelet.Image
	// Progress receives a line for each step; nil means silence.
	Progress io.Writer
	// Log receives what is worth knowing beside the logs in files; nil means nothing.
	Log *slog.Logger
}

// Lab is a running laboratory.
type Lab struct {
	o        Options
	programs Programs
	dir      *runDir

	Network        *netlab.Network
	LAN, Far, Mgmt *netlab.Segment
	Control        *netlab.Host // the control plane's
	Client         *netlab.Host // on the LAN
	FarClient      *netlab.Host // behind the router
	RouterHost     *netlab.Host
	Router         router.Router // nil with NoRouter
	Cluster        *cluster.Cluster
	Nodes          []*Node

	forward *netlab.Forwarder
	cancel  context.CancelFunc // ends what runs in this process
	running sync.WaitGroup     // what runs in this process
}

// Start brings a laboratory up and returns when its nodes are ready for Pods. When it returns an error nothing is left
// running. The context is for starting only: a laboratory runs until Close.
func Start(ctx context.Context, o Options) (*Lab, error) {
	l, err := newLab(o)
	if err != nil {
		return nil, err
	}
	if err := l.start(ctx); err != nil {
		err = fmt.Errorf("starting the laboratory (logs are in %s): %w", l.Dir(), err)
		l.dir.keep = true
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func newLab(o Options) (*Lab, error) {
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Nodes < 0 || o.Nodes > maxNodes {
		return nil, fmt.Errorf("a laboratory of %d nodes: between 1 and %d have addresses", o.Nodes, maxNodes)
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := newRunDir(o.Dir, o.Keep)
	if err != nil {
		return nil, err
	}
	return &Lab{o: o, programs: p, dir: dir, cancel: func() {}}, nil
}

func (l *Lab) start(ctx context.Context) error {
	began := time.Now()
	if err := l.provideImages(); err != nil {
		return err
	}
	if err := l.buildNetwork(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	l.progress(began, "network: %d nodes, a router, two clients", len(l.Nodes))
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.startCluster(groupCtx) })
	group.Go(func() error { return l.startRouter(groupCtx) })
	if err := group.Wait(); err != nil {
		return err
	}
	l.progress(began, "control plane: Kubernetes %s", l.programs.ControlPlane.Version)
	if err := l.startForward(); err != nil {
		return err
	}
	if err := l.startNodes(ctx); err != nil {
		return err
	}
	l.progress(began, "nodes are ready")
	return nil
}

func (l *Lab) progress(since time.Time, format string, args ...any) {
	fmt.Fprintf(l.o.Progress, "%s (after %.1fs)\n", fmt.Sprintf(format, args...), time.Since(since).Seconds())
}

func (l *Lab) startCluster(ctx context.Context) error {
	dir := filepath.Join(l.Dir(), "cluster")
	c, err := cluster.Start(ctx, cluster.Options{
		Binary: l.programs.ControlPlane.Binary, Host: l.Control, Dial: l.Control.DialContext,
		Addresses: mgmtPlan().addrs(controlNumber), Dir: dir, Log: l.o.Log,
	})
	if err != nil {
		return fmt.Errorf("control plane: %w", err)
	}
	l.Cluster = c
	return nil
}

func (l *Lab) startRouter(ctx context.Context) error {
	if l.o.NoRouter {
		return nil
	}
	r, err := router.Start(ctx, router.Config{
		Kind: l.o.Router, Host: l.RouterHost, ASN: RouterASN, RouterID: netip.MustParseAddr("192.168.100.1"),
		Listen: lanPlan().subnets(), PeerASN: NodeASN, RunDir: filepath.Join(l.Dir(), "router"), Log: l.o.Log,
	})
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	l.Router = r
	return nil
}

// startForward makes the API server reachable from outside, and writes the kubeconfig for that.
func (l *Lab) startForward() error {
	f, err := netlab.Forward(l.Control, l.Cluster.APIAddress())
	if err != nil {
		return err
	}
	l.forward = f
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.running.Go(func() {
		if err := f.Run(ctx); err != nil {
			l.o.Log.Error("forwarding the API server's port", "err", err)
		}
	})
	return l.Cluster.WriteKubeconfig(l.KubeconfigPath(), "https://"+f.Addr())
}

// Close ends everything that runs and removes the networks.
func (l *Lab) Close() error {
	for _, n := range l.Nodes {
		n.stopKubelet()
	}
	l.cancel()
	l.running.Wait()
	var errs []error
	if l.Router != nil {
		errs = append(errs, l.Router.Close())
	}
	if l.Cluster != nil {
		l.Cluster.Close()
	}
	if l.Network != nil {
		errs = append(errs, l.Network.Close())
	}
	return errors.Join(append(errs, l.dir.close())...)
}

// Err returns an error when a part of the cluster has ended by itself.
func (l *Lab) Err() error { return l.Cluster.Err() }

// Dir returns the directory with logs, certificates and Pods' files.
func (l *Lab) Dir() string { return l.dir.path }

// Source returns the checkout that Herald's programs and chart come from.
func (l *Lab) Source() string { return l.programs.Source }

// KubeconfigPath returns an administrator's kubeconfig for use outside the laboratory, on the user's own machine.
func (l *Lab) KubeconfigPath() string { return filepath.Join(l.Dir(), "kubeconfig") }

// BinDir returns a directory with kubectl and helm of the laboratory's versions, and kubectl-herald where Herald was built.
func (l *Lab) BinDir() string { return filepath.Join(l.Dir(), "bin") }

// Node returns a node by name, nil if there is none.
func (l *Lab) Node(name string) *Node {
	for _, n := range l.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// provideImages puts the programs of the images into the laboratory's own directory, where a later build does not
// change them, and links what a user types into BinDir.
func (l *Lab) provideImages() error {
	for name, dir := range map[string]string{"herald": l.programs.Herald, "web": l.programs.Web} {
		if dir == "" {
			continue
		}
		if err := copyPrograms(dir, l.imageDir(name)); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
	}
	if err := os.MkdirAll(l.BinDir(), 0o755); err != nil {
		return err
	}
	programs := map[string]string{"kubectl": l.programs.ControlPlane.Binary, "helm": l.programs.ControlPlane.Helm}
	if l.programs.Herald != "" {
		programs["kubectl-herald"] = filepath.Join(l.imageDir("herald"), "kubectl-herald")
	}
	var errs []error
	for name, target := range programs {
		errs = append(errs, os.Symlink(target, filepath.Join(l.BinDir(), name)))
	}
	return errors.Join(errs...)
}

func (l *Lab) imageDir(name string) string { return filepath.Join(l.Dir(), "images", name) }

// images returns what containers can run.
func (l *Lab) images() kubelet.Resolver {
	images := map[string]kubelet.Image{
		"lab/web": {Dir: l.imageDir("web"), Entrypoint: []string{"/labweb"}},
	}
	if l.programs.Herald != "" {
		images["herald"] = kubelet.Image{Dir: l.imageDir("herald"), User: heraldUser}
	}
	maps.Copy(images, l.o.Images)
	return kubelet.Images(images)
}
