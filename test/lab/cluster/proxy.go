package cluster

import (
	"errors"
	"fmt"
	"os"
)

// proxyConfig is kube-proxy's configuration. The minimum sync period of 0 makes a new Service work within milliseconds
// instead of a second; connection tracking is left as it is, since its sysctls belong to the machine.
const proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: %q
clientConnection:
  kubeconfig: %q
  qps: 500
  burst: 1000
bindAddress: 0.0.0.0
healthzBindAddress: 0.0.0.0:10256
metricsBindAddress: 127.0.0.1:10249
clusterCIDR: %q
detectLocalMode: ClusterCIDR
nftables:
  minSyncPeriod: 0s
  syncPeriod: 30s
conntrack:
  maxPerCore: 0
  min: 0
  tcpBeLiberal: false
  tcpEstablishedTimeout: 0s
  tcpCloseWaitTimeout: 0s
  udpTimeout: 0s
  udpStreamTimeout: 0s
`

// StartProxy starts kube-proxy for a node in the node's network namespace. It may be called before the Node exists.
func (c *Cluster) StartProxy(node string, host Host) error {
	name := "kube-proxy-" + node
	kubeconfig, err := c.writeKubeconfig(name, userProxy)
	if err != nil {
		return err
	}
	config := c.path(name + ".yaml")
	text := fmt.Sprintf(proxyConfig, node, kubeconfig, PodCIDRs)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	p := &proxy{name: name, host: host, config: config}
	if err := c.startProxy(p); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proxies = append(c.proxies, p)
	return nil
}

// proxy is a kube-proxy that can be started again.
type proxy struct {
	name    string
	host    Host
	config  string // path
	process *process
}

func (c *Cluster) startProxy(p *proxy) (err error) {
	p.process, err = start(p.host, c.logDir(), p.name, c.o.Binary, "kube-proxy", "--config="+p.config)
	return err
}

// restartProxies starts every kube-proxy anew. What each has told its kernel stays in force meanwhile.
func (c *Cluster) restartProxies() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []error
	for _, p := range c.proxies {
		p.process.kill()
		list = append(list, c.startProxy(p))
	}
	return errors.Join(list...)
}
