package kube

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/config/v1beta1"
)

// TestMetrics looks at what both daemons say of one configuration.
func TestMetrics(t *testing.T) {
	client, err := newClient(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	meta := func(name string, generation int64) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Generation: generation, ResourceVersion: "1"}
	}
	for role, name := range map[Role]string{Controller: "controller", Speaker: "speaker"} {
		t.Run(name, func(t *testing.T) {
			src := NewSource(client, SourceOptions{Role: role, Log: discard()})
			m := NewMetrics(client, src)
			expect := func(generation, connected, problems int) {
				t.Helper()
				want := fmt.Sprintf(`
# HELP herald_api_connected Whether everything read from the API server is being watched.
# TYPE herald_api_connected gauge
herald_api_connected %d
# HELP herald_config_generation Sum of the generations of all config objects read: equal in daemons that see the same configuration.
# TYPE herald_config_generation gauge
herald_config_generation %d
`, connected, generation)
				if problems > 0 {
					want += fmt.Sprintf(`
# HELP herald_config_problems Problems found in config objects, by kind.
# TYPE herald_config_problems gauge
herald_config_problems{kind="IPAddressPool"} %d
`, problems)
				}
				if err := testutil.CollectAndCompare(m, strings.NewReader(want), "herald_api_connected", "herald_config_generation", "herald_config_problems"); err != nil {
					t.Error(err)
				}
			}
			expect(0, 0, 0)
			for _, table := range []interface {
				Replace([]any, string) error
			}{
				src.services, src.slices, src.nodes, src.pools, src.l2Adverts, src.peers, src.bgpAdverts, src.bfdProfiles, src.communities,
				src.passwords, src.speakers, src.reservations, src.namespaces,
			} {
				if err := table.Replace(nil, "1"); err != nil {
					t.Fatal(err)
				}
			}
			expect(0, 1, 0)
			src.pools.set(&v1beta1.IPAddressPool{ObjectMeta: meta("a", 3), Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"192.0.2.0/24"}}})
			src.l2Adverts.set(&v1beta1.L2Advertisement{ObjectMeta: meta("a", 4)})
			if role == Controller {
				src.reservations.set(&v1beta1.IPReservation{ObjectMeta: meta("r", 50), Spec: v1beta1.IPReservationSpec{Addresses: []string{"192.0.2.7"}, Service: v1beta1.ServiceReference{Namespace: "default", Name: "web"}}})
			}
			expect(7, 1, 0)
			bad := &v1beta1.IPAddressPool{ObjectMeta: meta("b", 1), Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"192.0.2.0/99"}}}
			src.pools.set(bad)
			expect(8, 1, 1)
			src.health.report("nodes", errors.New("connection refused"))
			expect(8, 0, 1)
			src.health.report("nodes", nil)
			src.pools.drop(bad, false)
			expect(7, 1, 0)
		})
	}
	client.writes.count(Write{"Service", WriteOK})
	m := NewMetrics(client, NewSource(client, SourceOptions{Role: Speaker, Log: discard()}))
	if err := testutil.CollectAndCompare(m, strings.NewReader(`
# HELP herald_api_writes_total Write requests to the API server, by kind of object and result.
# TYPE herald_api_writes_total counter
herald_api_writes_total{kind="Service",result="conflict"} 0
herald_api_writes_total{kind="Service",result="error"} 0
herald_api_writes_total{kind="Service",result="gone"} 0
herald_api_writes_total{kind="Service",result="ok"} 1
`), "herald_api_writes_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(m); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}
