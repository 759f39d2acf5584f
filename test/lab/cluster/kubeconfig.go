package cluster

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// access is a way into the API server for one user.
type access struct {
	server string // URL
	ca     []byte
	client pair
}

// access issues a client certificate.
func (i *identities) access(server, user string, groups ...string) (access, error) {
	client, err := i.ca.issue(identity{user: user, groups: groups})
	return access{server: server, ca: i.ca.certificate, client: client}, err
}

// write puts the access into a kubeconfig file.
func (a access) write(path string) error {
	const name = "herald-lab"
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: a.server, CertificateAuthorityData: a.ca}
	config.AuthInfos[name] = &api.AuthInfo{ClientCertificateData: a.client.certificate, ClientKeyData: a.client.key}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return nil
}

// config returns the access for use within this process; the client does not limit its own rate.
func (a access) config(dial Dial) *rest.Config {
	return &rest.Config{
		Host:            a.server,
		Dial:            dial,
		QPS:             -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: a.ca, CertData: a.client.certificate, KeyData: a.client.key},
	}
}
