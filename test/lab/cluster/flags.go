package cluster

import "fmt"

// authentication lets anonymous callers see the API server's health and nothing else.
const authentication = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions:
  - path: /livez
  - path: /readyz
  - path: /healthz
`

// etcdArgs: one member, on loopback, that does not wait for the disk: the data lives as long as the laboratory.
func (c *Cluster) etcdArgs() []string {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return []string{
		"--name=lab", "--data-dir=" + c.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=lab=" + peer,
	}
}

func (c *Cluster) apiServerArgs() []string {
	return []string{
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=::", fmt.Sprintf("--secure-port=%d", apiPort),
		"--advertise-address=" + c.o.Addresses[0].String(),
		"--service-cluster-ip-range=" + ServiceCIDRs,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--authentication-config=" + c.path("apiserver-auth.yaml"),
		"--allow-privileged=true",
		"--client-ca-file=" + c.ids.path("ca.crt"),
		"--tls-cert-file=" + c.ids.path("apiserver.crt"), "--tls-private-key-file=" + c.ids.path("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.ids.path("tokens.pub"),
		"--service-account-signing-key-file=" + c.ids.path("tokens.key"),
		"--kubelet-certificate-authority=" + c.ids.path("ca.crt"),
		"--kubelet-client-certificate=" + c.ids.path("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + c.ids.path("apiserver-kubelet.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file=" + c.ids.path("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + c.ids.path("front-proxy.crt"), "--proxy-client-key-file=" + c.ids.path("front-proxy.key"),
		"--enable-aggregator-routing=true",
		"--profiling=false",
	}
}

func (c *Cluster) controllerManagerArgs() []string {
	kubeconfig := c.path("controller-manager.kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1", "--leader-elect=false",
		"--use-service-account-credentials", "--service-account-private-key-file=" + c.ids.path("tokens.key"),
		"--root-ca-file=" + c.ids.path("ca.crt"),
		"--cluster-signing-cert-file=" + c.ids.path("ca.crt"), "--cluster-signing-key-file=" + c.ids.path("ca.key"),
		"--allocate-node-cidrs", "--cluster-cidr=" + PodCIDRs, "--configure-cloud-routes=false",
		"--node-cidr-mask-size-ipv4=24", "--node-cidr-mask-size-ipv6=64",
		"--service-cluster-ip-range=" + ServiceCIDRs,
		"--kube-api-qps=500", "--kube-api-burst=1000", // thousands of Services at once are one of our tests
		"--concurrent-service-endpoint-syncs=10",
		"--profiling=false",
	}
}

func (c *Cluster) schedulerArgs() []string {
	kubeconfig := c.path("scheduler.kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1", "--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000", "--profiling=false",
	}
}
