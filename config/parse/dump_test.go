package parse

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// load reads YAML documents into Objects.
func load(t testing.TB, text []byte) Objects {
	t.Helper()
	in := Objects{Synced: true}
	for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		var tm metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &tm); err != nil {
			t.Fatal(err)
		}
		switch tm.Kind {
		case "Service":
			s := decode(t, doc, &corev1.Service{})
			if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
				in.Services = append(in.Services, s)
			} else {
				in.Left = append(in.Left, s)
			}
		case "EndpointSlice":
			in.EndpointSlices = append(in.EndpointSlices, decode(t, doc, &discoveryv1.EndpointSlice{}))
		case "Node":
			in.Nodes = append(in.Nodes, decode(t, doc, &corev1.Node{}))
		case KindPool:
			in.Pools = append(in.Pools, decode(t, doc, &v1beta1.IPAddressPool{}))
		case KindReservation:
			in.Reservations = append(in.Reservations, decode(t, doc, &v1beta1.IPReservation{}))
		case "Namespace":
			in.Namespaces = append(in.Namespaces, decode(t, doc, &metav1.PartialObjectMetadata{}))
		case "ServiceCIDR":
			in.ServiceCIDRs = append(in.ServiceCIDRs, decode(t, doc, &networkingv1.ServiceCIDR{}))
		case KindL2Advertisement:
			in.L2Advertisements = append(in.L2Advertisements, decode(t, doc, &v1beta1.L2Advertisement{}))
		case KindPeer:
			in.Peers = append(in.Peers, decode(t, doc, &v1beta1.BGPPeer{}))
		case KindBGPAdvertisement:
			in.BGPAdvertisements = append(in.BGPAdvertisements, decode(t, doc, &v1beta1.BGPAdvertisement{}))
		case KindBFDProfile:
			in.BFDProfiles = append(in.BFDProfiles, decode(t, doc, &v1beta1.BFDProfile{}))
		case KindCommunity:
			in.Communities = append(in.Communities, decode(t, doc, &v1beta1.Community{}))
		case "Secret":
			s := decode(t, doc, &corev1.Secret{})
			s.Data = make(map[string][]byte)
			for k, v := range s.StringData {
				s.Data[k] = []byte(v)
			}
			in.Secrets = append(in.Secrets, s)
		case "SpeakerStatus":
			in.Speakers = append(in.Speakers, decode(t, doc, &v1beta1.SpeakerStatus{}))
		default:
			t.Fatalf("kind %q", tm.Kind)
		}
	}
	return in
}

func decode[T any](t testing.TB, doc []byte, o *T) *T {
	t.Helper()
	if err := yaml.UnmarshalStrict(doc, o); err != nil {
		t.Fatalf("%v in\n%s", err, doc)
	}
	return o
}

// dump prints everything in a snapshot; equal text means equal snapshots.
func dump(s *config.Snapshot) string {
	var b strings.Builder
	for _, n := range s.Nodes {
		fmt.Fprintf(&b, "node %s %v ready=%t netdown=%t exclude=%t%s\n", n.Name, n.Addresses, n.Ready, n.NetworkUnavailable, n.ExcludeLB, uid(n.UID))
	}
	for _, v := range s.Services {
		dumpService(&b, v)
	}
	for _, r := range s.Released {
		fmt.Fprintf(&b, "released %s %v%s\n", r.Key, r.Ingress, uid(r.UID))
	}
	for _, f := range s.Foreign {
		fmt.Fprintf(&b, "foreign %s %s\n", f.Addr, f.Owner)
	}
	for _, p := range s.Pools {
		fmt.Fprintf(&b, "pool %s %v auto=%t", p.Name, p.Ranges, p.AutoAssign)
		if p.Status != (config.PoolStatus{}) {
			fmt.Fprintf(&b, " status=%v", p.Status)
		}
		dumpAllocation(&b, p)
		fmt.Fprintln(&b, uid(p.UID))
	}
	for _, r := range s.Reservations {
		fmt.Fprintf(&b, "reservation %s %v for %s", r.Name, r.Addresses, r.Service)
		if !r.ExpiresAt.IsZero() {
			fmt.Fprintf(&b, " until %s", r.ExpiresAt.UTC().Format(time.RFC3339))
		}
		dumpFlags(&b, []printed{{"expired", true, r.Expired}, {"retained", true, r.Retained}})
		fmt.Fprintln(&b, uid(r.UID))
	}
	if s.ServiceCIDRs != nil {
		fmt.Fprintln(&b, "clusterips", s.ServiceCIDRs)
	}
	for _, a := range s.L2Advertisements {
		fmt.Fprintf(&b, "l2 %s pools=%s services=%s nodes=%s interfaces=%v refresh=%s", a.Name,
			sel(a.Pools, poolNames(s)), sel(a.Services, serviceKeys(s)), sel(a.Nodes, nodeNames(s)), a.Interfaces, a.RefreshInterval)
		for _, p := range a.Preferred {
			fmt.Fprintf(&b, " prefer=%d:%s", p.Weight, sel(p.Nodes, nodeNames(s)))
		}
		if a.FailbackDelay != nil {
			fmt.Fprintf(&b, " failback=%s", *a.FailbackDelay)
		}
		fmt.Fprintln(&b)
	}
	for _, p := range s.Peers {
		dumpPeer(&b, p, nodeNames(s))
	}
	for _, a := range s.BGPAdvertisements {
		fmt.Fprintf(&b, "bgp %s pools=%s services=%s nodes=%s peers=%s", a.Name,
			sel(a.Pools, poolNames(s)), sel(a.Services, serviceKeys(s)), sel(a.Nodes, nodeNames(s)), sel(a.Peers, peerNames(s)))
		dumpFlags(&b, []printed{
			{"length", a.AggregationLength, a.AggregationLength != 32},
			{"length6", a.AggregationV6, a.AggregationV6 != 128},
			{"localpref", a.Attributes.LocalPref.Value, a.Attributes.LocalPref.Given},
			{"med", a.Attributes.MED.Value, a.Attributes.MED.Given},
			{"prepend", a.Attributes.Prepend, a.Attributes.Prepend != 0},
			{"communities", fmt.Sprintf("%q", a.Attributes.Communities), a.Attributes.Communities.Len() > 0},
			{"weigh", true, a.WeightByEndpoints},
		})
		fmt.Fprintln(&b)
	}
	for _, v := range s.Speakers {
		fmt.Fprintf(&b, "speaker %s %q stopped=%t sees=%d misses=%v %v conflicts=%v %+v", v.Node, v.Version, v.Stopped, v.Alive, v.Missing, v.L2, v.Conflicts, v.Sessions)
		for _, i := range v.Interfaces {
			fmt.Fprintf(&b, " %s(%s up=%t %v)", i.Name, i.MAC, i.Up, i.Subnets)
		}
		fmt.Fprintln(&b)
	}
	for _, o := range s.Objects {
		if o.Ready != (config.Condition{}) {
			fmt.Fprintf(&b, "object %s generation=%d ready=%v\n", o.Ref, o.Generation, o.Ready)
		}
	}
	for _, p := range s.Problems {
		kind := "problem"
		if p.Warning {
			kind = "warning"
		}
		fmt.Fprintf(&b, "%s %s %s %s: %s", kind, p.Ref, p.Field, p.Reason, p.Message)
		if p.LastGood {
			b.WriteString(" [last good]")
		}
		b.WriteByte('\n')
	}
	if !s.Synced {
		b.WriteString("not synced\n")
	}
	return b.String()
}

func dumpPeer(b *strings.Builder, p *config.Peer, nodes []string) {
	who := "any"
	if p.PeerASN != 0 {
		who = fmt.Sprintf("AS%d", p.PeerASN)
	}
	where := fmt.Sprintf("%s:%d", p.Address, p.Port)
	if p.Interface != "" {
		where = fmt.Sprintf("%%%s:%d", p.Interface, p.Port)
	}
	fmt.Fprintf(b, "peer %s AS%d->%s %s families=%v hold=%s keepalive=%s connect=%s", p.Name, p.MyASN, who, where, p.Families, p.HoldTime, p.KeepaliveTime, p.ConnectTime)
	dumpFlags(b, []printed{
		{"local", p.LocalASN, p.LocalASN != 0},
		{"source", p.Source, p.Source.IsValid()},
		{"id", p.RouterID, p.RouterID.IsValid()},
		{"multihop", true, p.EBGPMultiHop},
		{"gtsm", true, p.TTLSecurity},
		{"vrf", p.VRF, p.VRF != ""},
		{"password", string(p.Password), p.Password != ""},
		{"restart", p.Restart, p.Restart != config.GracefulRestart{Enabled: true, RestartTime: 2 * time.Minute}},
	})
	if p.BFD != nil {
		fmt.Fprintf(b, " bfd=%+v", *p.BFD)
	}
	fmt.Fprintf(b, " nodes=%s\n", sel(p.Nodes, nodes))
}

func dumpService(b *strings.Builder, v *config.Service) {
	policy := [...]string{"single", "prefer-dual", "require-dual"}[v.FamilyPolicy]
	traffic := [...]string{"cluster", "local"}[v.TrafficPolicy]
	fmt.Fprintf(b, "service %s %v %s %s ports=%v", v.Key, v.Families, policy, traffic, v.Ports)
	dumpFlags(b, []printed{
		{"version", v.Version, v.Version != ""},
		{"deleting", true, v.Deleting},
		{"share", v.SharingKey, v.SharingKey != ""},
		{"backend", v.Backend, v.Backend != ""},
		{"want-pools", v.Request.Pools, v.Request.Pools != nil},
		{"want", v.Request.Addresses, v.Request.Addresses != nil},
		{"invalid", fmt.Sprintf("%q", v.Request.Invalid), v.Request.Invalid != ""},
		{"admitted", v.Admitted, v.Admitted != nil},
		{"waiting", true, v.Waiting},
		{"ingress", v.Ingress, v.Ingress != nil},
		{"foreign", true, v.ForeignStatus},
		{"allocated", v.Allocated, v.Allocated != (config.Condition{})},
		{"announced", v.Announced, v.Announced != (config.Condition{})},
		{"ready", v.Endpoints.Ready, v.Endpoints.Ready != nil},
		{"serving", v.Endpoints.Serving, v.Endpoints.Serving != nil},
	})
	fmt.Fprintln(b, uid(v.UID))
}

func dumpAllocation(b *strings.Builder, p *config.Pool) {
	dumpFlags(b, []printed{
		{"exclude", p.Excluded, p.Excluded != nil},
		{"avoid-buggy", true, p.AvoidBuggy},
		{"paused", true, p.Paused},
		{"priority", p.Priority, p.Scoped},
		{"admits", fmt.Sprintf("%q", p.Admits), p.Scoped},
		{"quota", p.NamespaceQuota, p.NamespaceQuota != 0},
		{"retain", p.RetainFor, p.RetainFor != 0},
	})
}

// printed is something that is printed only where it says something.
type printed struct {
	name string
	v    any
	show bool
}

func dumpFlags(b *strings.Builder, flags []printed) {
	for _, f := range flags {
		if f.show {
			fmt.Fprintf(b, " %s=%v", f.name, f.v)
		}
	}
}

func uid(s string) string {
	if s == "" {
		return ""
	}
	return " uid=" + s
}

// sel prints a selection; of a fixed set, those of all that it has, and how many it has beside them.
func sel[K comparable](s config.Selection[K], all []K) string {
	if s.IsAll() {
		return "*"
	}
	var has []K
	for _, k := range all {
		if s.Has(k) {
			has = append(has, k)
		}
	}
	if more := s.Len() - len(has); more > 0 {
		return fmt.Sprintf("%v+%d", has, more)
	}
	return fmt.Sprint(has)
}

func names[T any](list []*T, name func(*T) string) []string {
	var out []string
	for _, v := range list {
		out = append(out, name(v))
	}
	return out
}

func poolNames(s *config.Snapshot) []string {
	return names(s.Pools, func(p *config.Pool) string { return p.Name })
}

func peerNames(s *config.Snapshot) []string {
	return names(s.Peers, func(p *config.Peer) string { return p.Name })
}

func nodeNames(s *config.Snapshot) []string {
	return names(s.Nodes, func(n *config.Node) string { return n.Name })
}

func serviceKeys(s *config.Snapshot) []config.Key {
	var out []config.Key
	for _, v := range s.Services {
		out = append(out, v.Key)
	}
	return out
}
