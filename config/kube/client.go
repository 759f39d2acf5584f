// Package kube is the only room that talks to the API server: a Source watches what Herald reads and gives it away as config.Snapshot
// values; a Writer writes statuses; Events, leader election and the gossip Secret live here too.
package kube

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/heraldlb/herald/config/v1beta1"
)

const protobuf = "application/vnd.kubernetes.protobuf"

// Client holds the connections to one API server. It is safe for use by many goroutines.
type Client struct {
	core     kubernetes.Interface
	metadata metadata.Interface // of objects of which only the metadata is read
	writes   *writes

	// Of a Client made by Open; else empty.
	clock     *clock
	namespace string

	pools        *gentype.ClientWithList[*v1beta1.IPAddressPool, *v1beta1.IPAddressPoolList]
	reservations *gentype.ClientWithList[*v1beta1.IPReservation, *v1beta1.IPReservationList]
	l2Adverts    *gentype.ClientWithList[*v1beta1.L2Advertisement, *v1beta1.L2AdvertisementList]
	peers        *gentype.ClientWithList[*v1beta1.BGPPeer, *v1beta1.BGPPeerList]
	bgpAdverts   *gentype.ClientWithList[*v1beta1.BGPAdvertisement, *v1beta1.BGPAdvertisementList]
	bfdProfiles  *gentype.ClientWithList[*v1beta1.BFDProfile, *v1beta1.BFDProfileList]
	communities  *gentype.ClientWithList[*v1beta1.Community, *v1beta1.CommunityList]
	speakers     *gentype.ClientWithList[*v1beta1.SpeakerStatus, *v1beta1.SpeakerStatusList]
}

// Connect reads the kubeconfig file, or in-cluster credentials when the name is empty, and makes a Client. It sends nothing: an absent
// API server shows up in the Source, which keeps trying.
func Connect(kubeconfig string) (*Client, error) {
	read := rest.InClusterConfig
	if kubeconfig != "" {
		read = func() (*rest.Config, error) { return clientcmd.BuildConfigFromFlags("", kubeconfig) }
	}
	cfg, err := read()
	if err != nil {
		return nil, fmt.Errorf("credentials for the API server: %w (outside a Pod, give --kubeconfig)", err)
	}
	return newClient(cfg)
}

func newClient(cfg *rest.Config) (*Client, error) {
	// No rate limit on our side: client-go's default (5 requests a second) would hold an assignment back for seconds in a burst of
	// Services. The API server's priority and fairness governs, and the number of requests under way is bounded by our few workers.
	cfg.QPS = -1
	cfg.UserAgent = rest.DefaultKubernetesUserAgent()
	written := newWrites()
	cfg.Wrap(written.wrap)

	core := rest.CopyConfig(cfg)
	core.ContentType = protobuf // a third of the bytes and of the decoding time of JSON
	core.AcceptContentTypes = protobuf + ",application/json"
	set, err := kubernetes.NewForConfig(core)
	if err != nil {
		return nil, fmt.Errorf("client for the API server %s: %w", cfg.Host, err)
	}

	meta, err := metadata.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client for the API server %s: %w", cfg.Host, err)
	}

	scheme := runtime.NewScheme()
	if err := v1beta1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering %s: %w", v1beta1.GroupVersion, err)
	}
	own := rest.CopyConfig(cfg)
	own.APIPath = "/apis"
	own.GroupVersion = &v1beta1.GroupVersion
	own.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	rc, err := rest.RESTClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", v1beta1.GroupVersion, err)
	}
	pc := runtime.NewParameterCodec(scheme)
	return &Client{
		core:     set,
		metadata: meta,
		writes:   written,
		pools: gentype.NewClientWithList("ipaddresspools", rc, pc, "",
			func() *v1beta1.IPAddressPool { return &v1beta1.IPAddressPool{} },
			func() *v1beta1.IPAddressPoolList { return &v1beta1.IPAddressPoolList{} }),
		reservations: gentype.NewClientWithList("ipreservations", rc, pc, "",
			func() *v1beta1.IPReservation { return &v1beta1.IPReservation{} },
			func() *v1beta1.IPReservationList { return &v1beta1.IPReservationList{} }),
		l2Adverts: gentype.NewClientWithList("l2advertisements", rc, pc, "",
			func() *v1beta1.L2Advertisement { return &v1beta1.L2Advertisement{} },
			func() *v1beta1.L2AdvertisementList { return &v1beta1.L2AdvertisementList{} }),
		peers: gentype.NewClientWithList("bgppeers", rc, pc, "",
			func() *v1beta1.BGPPeer { return &v1beta1.BGPPeer{} },
			func() *v1beta1.BGPPeerList { return &v1beta1.BGPPeerList{} }),
		bgpAdverts: gentype.NewClientWithList("bgpadvertisements", rc, pc, "",
			func() *v1beta1.BGPAdvertisement { return &v1beta1.BGPAdvertisement{} },
			func() *v1beta1.BGPAdvertisementList { return &v1beta1.BGPAdvertisementList{} }),
		bfdProfiles: gentype.NewClientWithList("bfdprofiles", rc, pc, "",
			func() *v1beta1.BFDProfile { return &v1beta1.BFDProfile{} },
			func() *v1beta1.BFDProfileList { return &v1beta1.BFDProfileList{} }),
		communities: gentype.NewClientWithList("communities", rc, pc, "",
			func() *v1beta1.Community { return &v1beta1.Community{} },
			func() *v1beta1.CommunityList { return &v1beta1.CommunityList{} }),
		speakers: gentype.NewClientWithList("speakerstatuses", rc, pc, "",
			func() *v1beta1.SpeakerStatus { return &v1beta1.SpeakerStatus{} },
			func() *v1beta1.SpeakerStatusList { return &v1beta1.SpeakerStatusList{} }),
	}, nil
}
