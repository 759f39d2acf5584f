package manifest

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/v1beta1"
)

// Add decodes an object and puts it where it belongs. It reports false for a kind that Herald does not ask about.
func Add(c *kube.Cluster, d Document) (known bool, err error) {
	switch d.APIVersion + " " + d.Kind {
	case "v1 Service":
		return true, add(d, &c.Services)
	case "v1 Node":
		return true, add(d, &c.Nodes)
	case "v1 Namespace":
		return true, addNamespace(c, d)
	case "v1 Pod":
		return true, add(d, &c.Pods)
	case "v1 ConfigMap":
		return addProxy(c, d)
	case "apps/v1 Deployment":
		return true, add(d, &c.Deployments)
	case "apps/v1 DaemonSet":
		return true, add(d, &c.DaemonSets)
	case coordinationv1.SchemeGroupVersion.String() + " Lease":
		return true, add(d, &c.Leases)
	case discoveryv1.SchemeGroupVersion.String() + " EndpointSlice":
		return true, add(d, &c.EndpointSlices)
	case networkingv1.SchemeGroupVersion.String() + " ServiceCIDR":
		return true, add(d, &c.ServiceCIDRs)
	}
	if d.APIVersion == v1beta1.GroupVersion.String() {
		return addOurs(c, d)
	}
	return false, nil
}

func addOurs(c *kube.Cluster, d Document) (bool, error) {
	switch d.Kind {
	case "IPAddressPool":
		return true, add(d, &c.Pools)
	case "IPReservation":
		return true, add(d, &c.Reservations)
	case "L2Advertisement":
		return true, add(d, &c.L2Advertisements)
	case "BGPPeer":
		return true, add(d, &c.Peers)
	case "BGPAdvertisement":
		return true, add(d, &c.BGPAdvertisements)
	case "BFDProfile":
		return true, add(d, &c.BFDProfiles)
	case "Community":
		return true, add(d, &c.Communities)
	case "SpeakerStatus":
		return true, add(d, &c.Speakers)
	}
	return false, nil
}

func add[T any](d Document, to *[]*T) error {
	o := new(T)
	if err := d.Decode(o); err != nil {
		return err
	}
	*to = append(*to, o)
	return nil
}

func addNamespace(c *kube.Cluster, d Document) error {
	var o corev1.Namespace
	if err := d.Decode(&o); err != nil {
		return err
	}
	c.Namespaces = append(c.Namespaces, &metav1.PartialObjectMetadata{ObjectMeta: o.ObjectMeta})
	return nil
}

// addProxy takes kube-proxy's configuration; other ConfigMaps are nothing to Herald.
func addProxy(c *kube.Cluster, d Document) (bool, error) {
	if d.Metadata.Name != "kube-proxy" || d.Metadata.Namespace != "kube-system" {
		return false, nil
	}
	c.Proxy = new(corev1.ConfigMap)
	return true, d.Decode(c.Proxy)
}
