package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Users of the cluster whose names Kubernetes' own roles know.
const (
	userAdmin             = "kubernetes-admin"
	userControllerManager = "system:kube-controller-manager"
	userScheduler         = "system:kube-scheduler"
	userProxy             = "system:kube-proxy"
	groupAdmin            = "system:masters"
	groupNodes            = "system:nodes"
)

// identities holds what proves who is who in one cluster.
type identities struct {
	dir string // where the API server and the controller manager read them from
	ca  *authority
}

// newIdentities makes the authorities, the API server's certificates and the key for ServiceAccount tokens, and writes
// them to dir. The API server's certificate is good for all of the addresses.
func newIdentities(dir string, addresses []netip.Addr, now time.Time) (*identities, error) {
	ca, err := newAuthority("kubernetes", now)
	if err != nil {
		return nil, err
	}
	frontProxy, err := newAuthority("front-proxy", now)
	if err != nil {
		return nil, err
	}
	server, err := ca.issue(identity{user: "kube-apiserver", names: apiServerNames(), addresses: ips(addresses)})
	if err != nil {
		return nil, err
	}
	toKubelet, err := ca.issue(identity{user: "kube-apiserver-kubelet-client", groups: []string{groupAdmin}})
	if err != nil {
		return nil, err
	}
	aggregator, err := frontProxy.issue(identity{user: "front-proxy-client"})
	if err != nil {
		return nil, err
	}
	for name, p := range map[string]pair{
		"ca": ca.pair, "front-proxy-ca": frontProxy.pair, "apiserver": server,
		"apiserver-kubelet": toKubelet, "front-proxy": aggregator,
	} {
		if err := p.write(dir, name); err != nil {
			return nil, fmt.Errorf("writing certificates: %w", err)
		}
	}
	return &identities{dir: dir, ca: ca}, writeTokenKey(dir)
}

// writeTokenKey makes the key that signs ServiceAccount tokens.
func writeTokenKey(dir string) error {
	private, public, err := newKey()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "tokens.key"), private, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "tokens.pub"), public, 0o644)
}

// path returns the path of one of the files that newIdentities wrote.
func (i *identities) path(name string) string { return filepath.Join(i.dir, name) }

// apiServerNames are the names under which Pods know the API server.
func apiServerNames() []string {
	return []string{
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}
}

func ips(addresses []netip.Addr) []net.IP {
	var list []net.IP
	for _, a := range addresses {
		list = append(list, a.AsSlice())
	}
	return list
}
