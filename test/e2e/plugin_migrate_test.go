package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// foreign is what a cluster with MetalLB has: a kind of its, without the schema, and objects.
const foreignKind = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]s.metallb.io}
spec:
  group: metallb.io
  scope: Namespaced
  names: {kind: %[2]s, plural: %[1]s, singular: %[3]s}
  versions:
  - name: v1beta1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

const foreignObjects = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: migrated, namespace: default}
spec: {addresses: [192.168.100.170-192.168.100.175], autoAssign: false}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: migrated, namespace: default}
spec: {ipAddressPools: [migrated]}
`

// TestPluginMigrate takes over the objects that a cluster has of MetalLB, applies what is printed, and has a Service of a chart that was
// written for MetalLB served from it.
func TestPluginMigrate(t *testing.T) {
	s := on(t)
	for plural, kind := range map[string]string{"ipaddresspools": "IPAddressPool", "l2advertisements": "L2Advertisement"} {
		s.apply(fmt.Sprintf(foreignKind, plural, kind, strings.ToLower(kind)), "crd/"+plural+".metallb.io")
	}
	s.eventually("the foreign objects to be taken", func(ctx context.Context) error {
		return s.Apply(ctx, foreignObjects)
	})
	var printed string
	s.eventually("the plugin to find them", func(ctx context.Context) error {
		got, err := s.plugin(ctx, "migrate", "metallb", "--live")
		if err == nil && (got.status != 0 || strings.Count(got.out, "\nkind: ") != 2) {
			err = fmt.Errorf("status %d:\n%s%s", got.status, got.out, got.err)
		}
		printed = got.out
		return err
	})
	s.apply(printed, "ipaddresspools.heraldlb.io/migrated", "l2advertisements.heraldlb.io/migrated")
	s.judged(scene.Pools, "migrated", metav1.ConditionTrue, "")
	ip := s.only("migrated", scene.Annotate("metallb.universe.tf/address-pool", "migrated"))
	if err := inPool(ip, "192.168.100.170-192.168.100.175"); err != nil {
		t.Error(err)
	}
}
