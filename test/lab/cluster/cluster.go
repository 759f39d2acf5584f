// Package cluster runs a Kubernetes control plane (etcd, kube-apiserver, kube-controller-manager, kube-scheduler) as
// child processes in one network namespace, and kube-proxy in those of the nodes. Nothing in it is simulated:
// authorisation, admission, ServiceAccount tokens, dual-stack Services and the garbage collector are Kubernetes' own.
// Only etcd is told not to wait for the disk.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// Addresses of a cluster that nothing outside it has to know.
const (
	// ServiceCIDRs are the ranges of ClusterIPs.
	ServiceCIDRs = "10.96.0.0/16,fd00:96::/112"
	// PodCIDRs are the ranges that the nodes' Pod ranges are cut from: one /24 and one /64 each.
	PodCIDRs = "10.244.0.0/16,fd00:244::/48"

	apiPort = 6443
)

// Dial opens a connection from somewhere in the laboratory.
type Dial = func(ctx context.Context, network, address string) (net.Conn, error)

// Options describe a control plane.
type Options struct {
	// Binary is herald-controlplane (see package build).
	Binary string
	// Host is where the control plane runs; it must be able to reach Address, and the nodes to reach it.
	Host Host
	// Dial opens connections from the control plane's host: this process's own way to the API server.
	Dial Dial
	// Addresses are the host's, one per family, the one to advertise first.
	Addresses []netip.Addr
	// Dir is an empty directory for certificates, data and logs. It is left in place.
	Dir string
	// Log receives what is worth knowing beside the components' own logs.
	Log *slog.Logger
}

// Cluster is a running control plane. Its methods may be called from several goroutines.
type Cluster struct {
	o     Options
	ids   *identities
	admin access

	mu        sync.Mutex
	api       *process   // nil while stopped
	leaders   []*process // controller manager and scheduler: they run while the API server does
	proxies   []*proxy
	processes []*process // all others, in the order of their start
}

// Start starts a control plane and waits until its API server is ready and its controllers run. When it returns an
// error nothing is left running.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c, err := prepare(o)
	if err != nil {
		return nil, fmt.Errorf("preparing the control plane: %w", err)
	}
	if err := c.start(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// prepare makes certificates and kubeconfigs.
func prepare(o Options) (*Cluster, error) {
	c := &Cluster{o: o}
	for _, dir := range []string{c.pkiDir(), c.logDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	c.ids, err = newIdentities(c.pkiDir(), c.serverAddresses(), time.Now())
	if err != nil {
		return nil, err
	}
	c.admin, err = c.ids.access(c.URL(), userAdmin, groupAdmin)
	if err != nil {
		return nil, err
	}
	if err := c.admin.write(c.KubeconfigPath()); err != nil {
		return nil, err
	}
	for user, file := range map[string]string{userControllerManager: "controller-manager", userScheduler: "scheduler"} {
		if _, err := c.writeKubeconfig(file, user); err != nil {
			return nil, err
		}
	}
	return c, os.WriteFile(c.path("apiserver-auth.yaml"), []byte(authentication), 0o644)
}

// serverAddresses are those that the API server's certificate must be good for: where it listens, where Pods find it
// (the first address of each Service range), and loopback, for people who reach it through a forwarded port.
func (c *Cluster) serverAddresses() []netip.Addr {
	list := append([]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}, c.o.Addresses...)
	return append(list, ServiceIPs()...)
}

// ServiceIPs returns the addresses of the Service "kubernetes", of which only the first family's is in use.
func ServiceIPs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00:96::1")}
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.run("etcd", c.etcdArgs()); err != nil {
		return err
	}
	if err := c.StartAPIServer(ctx); err != nil {
		return err
	}
	return c.waitController(ctx)
}

// run starts a component on the control plane's host.
func (c *Cluster) run(name string, args []string) error {
	p, err := start(c.o.Host, c.logDir(), name, c.o.Binary, append([]string{name}, args...)...)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.processes = append(c.processes, p)
	return nil
}

// StartAPIServer starts the API server, waits until it is ready, and lets controller manager and scheduler begin. It does nothing when they
// run already. Every kube-proxy begins anew too: after a few outages it would else come back up to a minute late, as its client waits twice
// as long after each error, and no test of ours is about that.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	started, err := c.ensureAPIServer()
	if err != nil {
		return err
	}
	if err := c.waitReady(ctx); err != nil {
		return err
	}
	if err := c.ensureLeaders(); err != nil || !started {
		return err
	}
	return c.restartProxies()
}

func (c *Cluster) ensureLeaders() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.leaders) > 0 {
		return nil
	}
	for name, args := range map[string][]string{
		"kube-controller-manager": c.controllerManagerArgs(),
		"kube-scheduler":          c.schedulerArgs(),
	} {
		p, err := start(c.o.Host, c.logDir(), name, c.o.Binary, append([]string{name}, args...)...)
		if err != nil {
			return err
		}
		c.leaders = append(c.leaders, p)
	}
	return nil
}

// ensureAPIServer says whether it had to start the API server.
func (c *Cluster) ensureAPIServer() (started bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.api != nil && c.api.failure() == nil {
		return false, nil
	}
	p, err := start(c.o.Host, c.logDir(), "kube-apiserver", c.o.Binary, append([]string{"kube-apiserver"}, c.apiServerArgs()...)...)
	if err != nil {
		return false, err
	}
	c.api = p
	return true, nil
}

// StopAPIServer kills the API server and with it every connection to it, and returns when it is gone. Controller manager and scheduler end
// too, as they do in a cluster where they lose their lease.
func (c *Cluster) StopAPIServer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.leaders {
		p.kill()
	}
	c.leaders = nil
	c.api.kill()
	c.api = nil
}

// Err returns an error when a component has ended by itself.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := []error{c.api.failure()}
	for _, p := range slices.Concat(c.leaders, c.processes) {
		list = append(list, p.failure())
	}
	for _, p := range c.proxies {
		list = append(list, p.process.failure())
	}
	return errors.Join(list...)
}

// Close ends everything that was started and waits for it.
func (c *Cluster) Close() {
	c.mu.Lock()
	all := slices.Clone(c.processes)
	for _, p := range c.proxies {
		all = append(all, p.process)
	}
	c.processes, c.proxies = nil, nil
	c.mu.Unlock()
	c.StopAPIServer()
	for _, p := range slices.Backward(all) {
		p.kill()
	}
}

// URL returns the API server's address as seen in the laboratory.
func (c *Cluster) URL() string {
	return fmt.Sprintf("https://%s", netip.AddrPortFrom(c.o.Addresses[0], apiPort))
}

// APIAddress returns the API server's address and port on its host.
func (c *Cluster) APIAddress() string {
	return netip.AddrPortFrom(c.o.Addresses[0], apiPort).String()
}

// KubeconfigPath returns the administrator's kubeconfig, for programs that run in the laboratory.
func (c *Cluster) KubeconfigPath() string { return c.path("admin.kubeconfig") }

// WriteKubeconfig writes an administrator's kubeconfig that reaches the API server at another URL, such as a forwarded
// port outside the laboratory.
func (c *Cluster) WriteKubeconfig(path, url string) error {
	a := c.admin
	a.server = url
	return a.write(path)
}

// RESTConfig returns the administrator's way into the API server, for this process.
func (c *Cluster) RESTConfig() *rest.Config { return c.admin.config(c.o.Dial) }

// UserConfig returns a way into the API server for a user with a client certificate, for this process.
func (c *Cluster) UserConfig(dial Dial, user string, groups ...string) (*rest.Config, error) {
	a, err := c.ids.access(c.URL(), user, groups...)
	if err != nil {
		return nil, err
	}
	return a.config(dial), nil
}

// NodeConfig returns the kubelet's way into the API server: as the node, so that node authorisation applies.
func (c *Cluster) NodeConfig(dial Dial, node string) (*rest.Config, error) {
	return c.UserConfig(dial, "system:node:"+node, groupNodes)
}

// NodeServing returns a serving certificate and its key for the kubelet of a node, in PEM.
func (c *Cluster) NodeServing(node string, addresses ...netip.Addr) (certificate, key []byte, err error) {
	p, err := c.ids.ca.issue(identity{user: "system:node:" + node, groups: []string{groupNodes}, names: []string{node}, addresses: ips(addresses)})
	return p.certificate, p.key, err
}

// CA returns the cluster's certificate authority in PEM.
func (c *Cluster) CA() []byte { return c.ids.ca.certificate }

// writeKubeconfig issues a certificate for user and writes its kubeconfig into the cluster's directory.
func (c *Cluster) writeKubeconfig(name, user string, groups ...string) (string, error) {
	a, err := c.ids.access(c.URL(), user, groups...)
	if err != nil {
		return "", err
	}
	path := c.path(name + ".kubeconfig")
	return path, a.write(path)
}

func (c *Cluster) path(name string) string { return filepath.Join(c.o.Dir, name) }
func (c *Cluster) pkiDir() string          { return c.path("pki") }
func (c *Cluster) logDir() string          { return c.path("logs") }
