package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/test/lab"
)

// The release and its namespace are called something that nothing could rely on.
const (
	chartRelease   = "edge"
	chartNamespace = "net-system"
	chartName      = "edge-herald" // what the chart makes of the release's name
)

const chartValues = `
metrics: {certSecret: metrics-tls, serverName: metrics.example.com}
config:
  ipAddressPools:
    - name: lan
      spec: {addresses: [192.168.100.200-192.168.100.219, "fd00:100::200-fd00:100::2ff"]}
  l2Advertisements:
    - name: lan
      spec: {ipAddressPools: [lan]}
  bgpPeers:
    - name: tor
      spec: {myASN: 64513, peerASN: 64512, peerAddress: 192.168.100.1}
  bgpAdvertisements:
    - name: fabric
      spec: {ipAddressPools: [lan], peers: [tor]}
`

// TestChart is the life of a release: one helm install carries the kinds and the objects, rules and permissions hold, definitions are brought
// up to date, and what the user made outlives an uninstall.
func TestChart(t *testing.T) {
	l := start(t, lab.Options{Nodes: 2, NoRouter: true})
	t.Cleanup(func() {
		if t.Failed() {
			objects, _ := l.Kubectl(context.WithoutCancel(t.Context()), "get", "herald", "-o", "yaml")
			t.Log(objects)
			logs, err := l.Logs(chartNamespace, "")
			t.Logf("logs of the pods: %v\n%s", err, logs)
		}
	})
	install(t, l)
	for _, step := range []struct {
		name string
		run  func(*testing.T, *lab.Lab)
	}{
		{"one install is enough", checkInstalled},
		{"a second release is refused", checkSecond},
		{"rules", checkRules},
		{"a speaker writes about its own node only", checkPolicy},
		{"permissions", checkPermissions},
		{"metrics with a certificate that comes late", checkCertificate},
		{"labels of the namespace", checkPodSecurity},
		{"a port that another Pod claims", checkPortClaim},
		{"definitions are brought up to date", checkStaleDefinitions},
		{"the user's objects outlive an uninstall", checkUninstall},
		{"everything goes when that is asked for", checkDelete},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, l) }) {
			t.Fatalf("%s failed: what follows builds on it", step.name)
		}
	}
}

func install(t *testing.T, l *lab.Lab) {
	t.Helper()
	if err := l.HelmInstall(deadline(t), chartRelease, chartNamespace, chartValues); err != nil {
		pods, _ := l.Kubectl(deadline(t), "--namespace", chartNamespace, "describe", "pods")
		t.Fatalf("%v\n%s", err, pods)
	}
}

// kubectl returns what kubectl prints; an error fails the test.
func kubectl(t *testing.T, l *lab.Lab, args ...string) string {
	t.Helper()
	out, err := l.Kubectl(deadline(t), args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(out)
}

// eventually waits until a kubectl command prints what is wanted.
func eventually(t *testing.T, l *lab.Lab, want string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(deadline(t), 3*time.Minute) // the garbage collector takes its time
	defer cancel()
	last := ""
	err := l.Wait(ctx, strings.Join(args, " "), func(ctx context.Context) error {
		out, err := l.Kubectl(ctx, args...)
		if err != nil {
			return err
		}
		if last = strings.TrimSpace(out); last != want {
			return fmt.Errorf("%q instead of %q", last, want)
		}
		return nil
	})
	if err != nil {
		t.Errorf("%v; it printed %q, not %q", err, last, want)
	}
}

func checkInstalled(t *testing.T, l *lab.Lab) {
	for _, object := range []string{"ipaddresspool/lan", "l2advertisement/lan", "bgppeer/tor", "bgpadvertisement/fabric"} {
		eventually(t, l, "True", "get", object, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	}
	eventually(t, l, "20 256", "get", "ipaddresspool/lan", "-o", "jsonpath={.status.ipv4.total} {.status.ipv6.total}")
	eventually(t, l, "node-1 node-2", "get", "speakerstatuses", "-o", "jsonpath={.items[*].metadata.name}")
	if hooks, err := l.Helm(deadline(t), "get", "hooks", chartRelease, "--namespace", chartNamespace); err != nil || strings.TrimSpace(hooks) != "" {
		t.Errorf("a first install needs no job: %v\n%s", err, hooks)
	}
	out := kubectl(t, l, "get", "herald")
	for _, want := range []string{"ADDRESSES", "IPV4 USED", "MY ASN", "MEMBERS", "speakerstatus.heraldlb.io/node-1"} {
		if !strings.Contains(out, want) {
			t.Errorf("kubectl get herald does not show %s:\n%s", want, out)
		}
	}
	for _, field := range []string{"ipaddresspool.spec.addresses", "bgppeer.spec.holdTime", "l2advertisement.spec.interfaces", "speakerstatus.status.bgp.sessions.state"} {
		if out := kubectl(t, l, "explain", field); strings.Contains(out, "<empty>") {
			t.Errorf("kubectl explain %s has nothing to say:\n%s", field, out)
		}
	}
}

// checkPolicy writes as the speaker of node-1 does, with a token bound to its pod, and as one who stole the ServiceAccount.
func checkPolicy(t *testing.T, l *lab.Lab) {
	pod := kubectl(t, l, "--namespace", chartNamespace, "get", "pods", "-l", "app.kubernetes.io/component=speaker",
		"--field-selector", "spec.nodeName=node-1", "-o", "jsonpath={.items[0].metadata.name}")
	bound := kubectl(t, l, "--namespace", chartNamespace, "create", "token", chartName+"-speaker", "--bound-object-kind", "Pod", "--bound-object-name", pod)
	loose := kubectl(t, l, "--namespace", chartNamespace, "create", "token", chartName+"-speaker")
	touch := func(token, node string) error {
		_, err := as(t, l, token).Patch(deadline(t), node, types.MergePatchType, []byte(`{"status": {"conditions": []}}`),
			metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, "status")
		return err
	}
	if err := touch(bound, "node-1"); err != nil {
		t.Errorf("the speaker of node-1 may not write about node-1: %v", err)
	}
	refused(t, "about another node", touch(bound, "node-2"), "the speaker of node node-1 may write its own SpeakerStatus only, not node-2")
	refused(t, "with a token of no node", touch(loose, "node-1"), "a speaker's token must be bound to a pod")
	create := func(token, node string) error {
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(v1beta1.GroupVersion.WithKind("SpeakerStatus"))
		o.SetName(node)
		_, err := as(t, l, token).Create(deadline(t), o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	refused(t, "making one for another node", create(bound, "node-9"), "the speaker of node node-1 may write its own SpeakerStatus only, not node-9")
}

// as returns a client for SpeakerStatuses that has nothing but a token.
func as(t *testing.T, l *lab.Lab, token string) dynamic.ResourceInterface {
	t.Helper()
	config := rest.AnonymousClientConfig(l.Cluster.RESTConfig())
	config.BearerToken = token
	config.Dial = l.Cluster.RESTConfig().Dial
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(v1beta1.GroupVersion.WithResource("speakerstatuses"))
}

func refused(t *testing.T, what string, err error, says string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: it is allowed", what)
	case !strings.Contains(err.Error(), says):
		t.Errorf("%s: want a refusal that says %q, got: %v", what, says, err)
	}
}

// checkPermissions asks the API server what the two ServiceAccounts may do.
func checkPermissions(t *testing.T, l *lab.Lab) {
	tests := []struct {
		as        string
		can, cant []string
	}{
		{
			"controller",
			[]string{
				"patch services/status", "patch ipaddresspools.heraldlb.io/status", "create events.events.k8s.io", "get secrets/" + chartName + "-gossip",
				"create secrets", "watch secrets", "patch bfdprofiles.heraldlb.io/status", "patch communities.heraldlb.io/status",
			},
			[]string{
				"update services", "patch services", "patch nodes", "get secrets/other", "update secrets/other", "delete secrets", "create pods", "patch speakerstatuses.heraldlb.io/status",
				"patch ipaddresspools.heraldlb.io", "delete ipaddresspools.heraldlb.io", "update customresourcedefinitions.apiextensions.k8s.io", "get configmaps",
			},
		},
		{
			"speaker",
			[]string{
				"list services", "watch endpointslices.discovery.k8s.io", "create speakerstatuses.heraldlb.io", "patch speakerstatuses.heraldlb.io/status",
				"get secrets/" + chartName + "-gossip", "watch secrets", "watch bfdprofiles.heraldlb.io", "watch communities.heraldlb.io",
			},
			[]string{
				"patch services/status", "update services", "patch nodes", "get secrets/other", "create secrets", "update secrets", "create leases.coordination.k8s.io",
				"patch ipaddresspools.heraldlb.io/status", "delete speakerstatuses.heraldlb.io", "get configmaps",
			},
		},
	}
	for _, tt := range tests {
		user := "system:serviceaccount:" + chartNamespace + ":" + chartName + "-" + tt.as
		ask := func(what string) bool {
			verb, resource, _ := strings.Cut(what, " ")
			args := []string{"auth", "can-i", "--as", user, "--namespace", chartNamespace, "-q", verb}
			if base, sub, ok := strings.Cut(resource, "/status"); ok && sub == "" {
				args = append(args, base, "--subresource", "status")
			} else {
				args = append(args, resource)
			}
			_, err := l.Kubectl(deadline(t), args...)
			return err == nil
		}
		for _, what := range tt.can {
			if !ask(what) {
				t.Errorf("the %s may not %s", tt.as, what)
			}
		}
		for _, what := range tt.cant {
			if ask(what) {
				t.Errorf("the %s may %s", tt.as, what)
			}
		}
		for _, verb := range []string{"create", "list"} {
			if _, err := l.Kubectl(deadline(t), "auth", "can-i", "--as", user, "--namespace", "default", "-q", verb, "secrets"); err == nil {
				t.Errorf("the %s may %s Secrets in other namespaces", tt.as, verb)
			}
		}
	}
}

// checkStaleDefinitions plays an upgrade from a version whose kinds looked different.
func checkStaleDefinitions(t *testing.T, l *lab.Lab) {
	const name = "ipaddresspools.heraldlb.io"
	column := []string{"get", "crd", name, "-o", "jsonpath={.spec.versions[0].additionalPrinterColumns[0].name}"}
	kubectl(t, l, "patch", "crd", name, "--type", "json", "-p",
		`[{"op": "replace", "path": "/spec/versions/0/additionalPrinterColumns/0/name", "value": "Old"},
		  {"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/gone", "value": {"type": "string"}}]`)
	kubectl(t, l, "annotate", "crd", name, "example.com/mine=kept")
	if have := kubectl(t, l, column...); have != "Old" {
		t.Fatalf("the column is called %q", have)
	}
	if err := l.HelmUpgrade(deadline(t), chartRelease, chartNamespace, strings.Replace(chartValues, "metrics: {", "metrics: {secure: false, ", 1)); err != nil {
		jobs, _ := l.Kubectl(deadline(t), "--namespace", chartNamespace, "describe", "jobs,pods")
		t.Fatalf("%v\n%s", err, jobs)
	}
	if have := kubectl(t, l, column...); have != "Addresses" {
		t.Errorf("after the upgrade the column is called %q", have)
	}
	if have := kubectl(t, l, "get", "crd", name, "-o", "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.gone}"); have != "" {
		t.Errorf("a field that is not in the chart's definition is still in the cluster's: %s", have)
	}
	if have := kubectl(t, l, "get", "crd", name, "-o", `jsonpath={.metadata.annotations.example\.com/mine}`); have != "kept" {
		t.Errorf("the annotation of another is %q", have)
	}
	nothingOf(t, l, "jobs", "crds-apply")
	checkPlain(t, l)
}

// nothingOf makes sure that the chart's job and what it was allowed are gone.
func nothingOf(t *testing.T, l *lab.Lab, kinds, component string) {
	t.Helper()
	eventually(t, l, "", "get", kinds+",serviceaccounts,clusterroles,clusterrolebindings", "--all-namespaces", "-l", "app.kubernetes.io/component="+component, "-o", "name")
}

const userService = `
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {heraldlb.io/loadBalancerIPs: 192.168.100.207}}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}
`

const userPool = `
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: mine}
spec: {addresses: [203.0.113.0/28]}
`

func checkUninstall(t *testing.T, l *lab.Lab) {
	if err := l.Apply(deadline(t), userPool); err != nil {
		t.Fatal(err)
	}
	if err := l.Apply(deadline(t), userService); err != nil {
		t.Fatal(err)
	}
	address := []string{"get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"}
	eventually(t, l, "192.168.100.207", address...)
	mine := []string{"get", "ipaddresspool/mine", "-o", "jsonpath={.metadata.uid} {.spec.addresses}"}
	before := kubectl(t, l, mine...)
	if err := l.HelmUninstall(deadline(t), chartRelease, chartNamespace); err != nil {
		t.Fatal(err)
	}
	eventually(t, l, "", "--namespace", chartNamespace, "get", "pods,deployments,daemonsets,services,serviceaccounts,roles,rolebindings",
		"-l", "app.kubernetes.io/name=herald", "-o", "name")
	eventually(t, l, "", "get", "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings",
		"-l", "app.kubernetes.io/name=herald", "-o", "name")
	eventually(t, l, "ipaddresspool.heraldlb.io/mine", "get", "ipaddresspools,l2advertisements,bgppeers,bgpadvertisements", "-o", "name")
	eventually(t, l, "192.168.100.207", address...) // nobody is there to take it away
	install(t, l)
	eventually(t, l, "192.168.100.207", address...)
	if after := kubectl(t, l, mine...); after != before {
		t.Errorf("before the uninstall: %s, after it was installed again: %s", before, after)
	}
	eventually(t, l, "True", "get", "ipaddresspool/mine", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
}

func checkDelete(t *testing.T, l *lab.Lab) {
	if err := l.HelmUpgrade(deadline(t), chartRelease, chartNamespace, chartValues+"crds: {keep: false}\n"); err != nil {
		t.Fatal(err)
	}
	if err := l.HelmUninstall(deadline(t), chartRelease, chartNamespace); err != nil {
		jobs, _ := l.Kubectl(deadline(t), "--namespace", chartNamespace, "describe", "jobs,pods")
		t.Fatalf("%v\n%s", err, jobs)
	}
	err := l.Wait(deadline(t), "the definitions to go", func(ctx context.Context) error {
		out, err := l.Kubectl(ctx, "get", "crds", "-o", "name")
		if err == nil && strings.Contains(out, "heraldlb.io") {
			err = errors.New(out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	nothingOf(t, l, "jobs", "crds-delete")
}
