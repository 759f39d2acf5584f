package check

import (
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
)

// proxyKey is the entry of kube-proxy's ConfigMap that holds its configuration, where kubeadm puts it.
const proxyKey = "config.conf"

// proxy looks whether kube-proxy answers ARP for the Services' addresses. In IPVS mode it gives them to an interface of each node, and
// without strictARP the kernel answers for those on all interfaces.
func proxy(p *picture.Picture) ([]finding.Finding, string) {
	if p.Cluster.Proxy == nil {
		return nil, "its configuration is not in kube-system/kube-proxy: another implementation, or a cluster that kubeadm has not made"
	}
	var conf struct {
		Mode string `json:"mode"`
		IPVS struct {
			StrictARP bool `json:"strictARP"`
		} `json:"ipvs"`
	}
	if err := yaml.Unmarshal([]byte(p.Cluster.Proxy.Data[proxyKey]), &conf); err != nil {
		return nil, "its configuration in kube-system/kube-proxy cannot be read: " + err.Error()
	}
	if conf.Mode != "ipvs" || conf.IPVS.StrictARP {
		return nil, ""
	}
	level := finding.Error
	if len(p.Snapshot.L2Advertisements) == 0 && len(p.Snapshot.BGPAdvertisements) > 0 {
		level = finding.Warning // who only routes to the addresses is not asked by ARP
	}
	return []finding.Finding{{
		Level: level, About: "kube-proxy", Reason: "StrictARPOff",
		Message: "it runs in IPVS mode without strictARP, so every node answers ARP for every address",
		Remedy:  "set ipvs.strictARP to true in ConfigMap kube-system/kube-proxy and restart kube-proxy",
	}}, ""
}
