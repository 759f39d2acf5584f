package parse

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// tenants has n Services in namespaces of one hundred each, and for each namespace a pool that its label opens.
func tenants(n int) Objects {
	in := manyServices(n)
	for i := range n / 100 {
		team := fmt.Sprintf("team-%03d", i)
		in.Namespaces = append(in.Namespaces, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name: team, ResourceVersion: "1", Labels: map[string]string{"team": team},
		}})
		in.Pools = append(in.Pools, &v1beta1.IPAddressPool{
			ObjectMeta: metav1.ObjectMeta{Name: "pool-of-" + team, Generation: 1},
			Spec: v1beta1.IPAddressPoolSpec{
				Addresses: []v1beta1.AddressRange{v1beta1.AddressRange(fmt.Sprintf("10.%d.%d.0/24", i/250, i%250))},
				ServiceAllocation: &v1beta1.ServiceAllocation{
					NamespaceSelectors: []v1beta1.LabelSelector{{MatchLabels: map[string]v1beta1.LabelValue{"team": v1beta1.LabelValue(team)}}},
					ServiceSelectors:   []v1beta1.LabelSelector{{MatchExpressions: []v1beta1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpExists}}}},
				},
			},
		})
		for _, s := range in.Services[i*100 : i*100+100] {
			s.Namespace = team
		}
	}
	return in
}

// relabel changes the team of a namespace.
func relabel(in *Objects, i int, version int, team string) {
	next := in.Namespaces[i].DeepCopy()
	next.ResourceVersion, next.Labels = strconv.Itoa(version), map[string]string{"team": team}
	in.Namespaces = slices.Clone(in.Namespaces)
	in.Namespaces[i] = next
}

// TestRelabelledNamespace: a label of a namespace changes the answer for its Services, and touches no other.
func TestRelabelledNamespace(t *testing.T) {
	in := tenants(500)
	first, memory := Parse(in, Memory{})
	relabel(&in, 2, 2, "team-004")
	second, memory := Parse(in, memory)
	for i, s := range second.Services {
		was := first.Services[i]
		switch {
		case s.Namespace != "team-002" && s != was:
			t.Fatalf("%s is another value", s.Key)
		case s.Namespace != "team-002":
		case !slices.Equal(was.Admitted, []string{"pool-of-team-002"}) || !slices.Equal(s.Admitted, []string{"pool-of-team-004"}):
			t.Fatalf("%s: admitted to %v, then to %v", s.Key, was.Admitted, s.Admitted)
		}
	}
	relabel(&in, 2, 3, "team-004") // nothing that anybody asks for
	third, memory := Parse(in, memory)
	samePointers(t, second.Services, third.Services)

	in.Options.Announcing = true
	speaker, _ := Parse(in, memory)
	if i := slices.IndexFunc(speaker.Services, func(s *config.Service) bool { return s.Admitted != nil || s.Waiting }); i >= 0 {
		t.Errorf("a speaker is told who may have what: %v", speaker.Services[i])
	}
}

func BenchmarkTenantsFirst10k(b *testing.B) {
	in := tenants(10000)
	for b.Loop() {
		Parse(in, Memory{})
	}
}

func BenchmarkTenantsOneOf10kChanged(b *testing.B) {
	in := shuffle(tenants(10000), rand.New(rand.NewPCG(1, 1)))
	_, memory := Parse(in, Memory{})
	for version := 2; b.Loop(); version++ {
		s := *in.Services[5000]
		s.ResourceVersion, s.Labels = strconv.Itoa(version), map[string]string{"app": strconv.Itoa(version)}
		in.Services[5000] = &s
		_, memory = Parse(in, memory)
	}
}

func BenchmarkTenantsNamespaceRelabelled10k(b *testing.B) {
	in := tenants(10000)
	_, memory := Parse(in, Memory{})
	for version := 2; b.Loop(); version++ {
		relabel(&in, 50, version, fmt.Sprintf("team-%03d", version%90))
		_, memory = Parse(in, memory)
	}
}
