package chart

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// field returns what stands at a path of an object: names of fields, and of list entries by their name.
func field(t *testing.T, o *unstructured.Unstructured, path ...string) any {
	t.Helper()
	var v any = o.Object
	for _, key := range path {
		switch at := v.(type) {
		case map[string]any:
			v = at[key]
		case []any:
			i := slices.IndexFunc(at, func(e any) bool { m, ok := e.(map[string]any); return ok && m["name"] == key })
			if i < 0 {
				t.Fatalf("%s %s: no %s in %v", o.GetKind(), o.GetName(), key, path)
			}
			v = at[i]
		default:
			t.Fatalf("%s %s: no %s in %v", o.GetKind(), o.GetName(), key, path)
		}
	}
	return v
}

func find(t *testing.T, all []*unstructured.Unstructured, kind, component string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range all {
		if o.GetKind() == kind && o.GetLabels()["app.kubernetes.io/component"] == component {
			return o
		}
	}
	t.Fatalf("no %s of the %s is rendered", kind, component)
	return nil
}

func named(t *testing.T, all []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range all {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	t.Fatalf("no %s %s is rendered", kind, name)
	return nil
}

func allValues(t *testing.T) string {
	t.Helper()
	v := readYAML(t, filepath.Join("testdata", "all.yaml"))
	v["crds"] = map[string]any{"keep": false} // so that the job that deletes is looked at, too
	return toYAML(t, v)
}

// TestNames makes sure that nothing depends on what release and namespace are called, and that two releases do not meet.
func TestNames(t *testing.T) {
	text := func(release, namespace string) []*unstructured.Unstructured {
		out, err := templateAs(t, release, namespace, allValues(t))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out, "herald-system") {
			t.Error("the name herald-system stands in what is rendered for another namespace")
		}
		return objects(t, out)
	}
	type key struct{ kind, namespace, name string }
	seen := map[key]string{}
	for _, at := range [][2]string{{"a", "one"}, {"a", "two"}, {"b", "one"}, {"herald", "one"}} {
		for _, o := range text(at[0], at[1]) {
			if o.GroupVersionKind().Group == "heraldlb.io" || o.GetKind() == "Namespace" {
				continue // named by the user
			}
			k := key{o.GetKind(), o.GetNamespace(), o.GetName()}
			if other, ok := seen[k]; ok {
				t.Errorf("%v is rendered by release %v and by release %s", k, at, other)
			}
			seen[k] = strings.Join(at[:], " in ")
		}
	}
}

// TestLeastPrivilege checks the promises about permissions: no wildcard; Secrets only in the own namespace, where those of one type are
// read, and one is written, by name once it is made.
func TestLeastPrivilege(t *testing.T) {
	for _, o := range mustTemplate(t, allValues(t)) {
		kind := o.GetKind()
		if kind != "Role" && kind != "ClusterRole" {
			continue
		}
		rules, _, _ := unstructured.NestedSlice(o.Object, "rules")
		for _, r := range rules {
			rule := r.(map[string]any)
			list := func(name string) []string {
				l, _, _ := unstructured.NestedStringSlice(rule, name)
				return l
			}
			for _, name := range []string{"apiGroups", "resources", "verbs", "resourceNames"} {
				if slices.ContainsFunc(list(name), func(s string) bool { return strings.Contains(s, "*") }) {
					t.Errorf("%s %s: a wildcard in %v", kind, o.GetName(), rule)
				}
			}
			if slices.Contains(list("resources"), "secrets") {
				if kind == "ClusterRole" {
					t.Errorf("ClusterRole %s reads Secrets of all namespaces", o.GetName())
				}
				if verbs := list("verbs"); len(list("resourceNames")) == 0 && !slices.Equal(verbs, []string{"create"}) && !slices.Equal(verbs, []string{"list", "watch"}) {
					t.Errorf("%s %s: Secrets without a name: %v", kind, o.GetName(), rule)
				}
			}
			writes := slices.ContainsFunc(list("verbs"), func(v string) bool { return !slices.Contains([]string{"get", "list", "watch"}, v) })
			if writes && slices.ContainsFunc(list("resources"), func(s string) bool { return s == "services" || s == "nodes" }) {
				t.Errorf("%s %s writes what is the user's: %v", kind, o.GetName(), rule)
			}
		}
	}
}

// TestPods checks what every container of the chart gives away.
func TestPods(t *testing.T) {
	added := map[string][]any{"speaker": {"NET_RAW"}}
	n := 0
	for _, o := range mustTemplate(t, allValues(t)) {
		spec, ok, _ := unstructured.NestedMap(o.Object, "spec", "template", "spec")
		if !ok {
			continue
		}
		n++
		pod := &unstructured.Unstructured{Object: spec}
		component := o.GetLabels()["app.kubernetes.io/component"]
		if profile := field(t, pod, "securityContext", "seccompProfile", "type"); profile != "RuntimeDefault" {
			t.Errorf("%s: seccomp profile %v", component, profile)
		}
		containers, _, _ := unstructured.NestedSlice(spec, "containers")
		for _, c := range containers {
			container := &unstructured.Unstructured{Object: map[string]any{"securityContext": c.(map[string]any)["securityContext"]}}
			for what, want := range map[string]any{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true} {
				if have := field(t, container, "securityContext", what); have != want {
					t.Errorf("%s: %s is %v", component, what, have)
				}
			}
			drop := field(t, container, "securityContext", "capabilities", "drop")
			if !slices.Equal(drop.([]any), []any{"ALL"}) {
				t.Errorf("%s drops %v", component, drop)
			}
			add, _ := field(t, container, "securityContext", "capabilities", "add").([]any)
			if !slices.Equal(add, added[component]) {
				t.Errorf("%s adds %v, not %v", component, add, added[component])
			}
			if nonRoot := field(t, pod, "securityContext", "runAsNonRoot"); component != "speaker" && nonRoot != true {
				t.Errorf("%s may run as root", component)
			}
		}
	}
	if n != 3 {
		t.Errorf("%d kinds of pods are rendered, want controller, speaker and the job that deletes CRDs", n)
	}
}

// TestJoins checks that names that must be equal in several objects are.
func TestJoins(t *testing.T) {
	all := mustTemplate(t, allValues(t))
	speaker, controller := find(t, all, "DaemonSet", "speaker"), find(t, all, "Deployment", "controller")
	arg := func(o *unstructured.Unstructured, container, flag string) string {
		args := field(t, o, "spec", "template", "spec", "containers", container, "args").([]any)
		for _, a := range args {
			if v, ok := strings.CutPrefix(a.(string), flag+"="); ok {
				return v
			}
		}
		t.Fatalf("%s is not given %s", container, flag)
		return ""
	}
	roleName := func(component, resource string) string {
		rules, _, _ := unstructured.NestedSlice(find(t, all, "Role", component).Object, "rules")
		for _, r := range rules {
			resources, _, _ := unstructured.NestedStringSlice(r.(map[string]any), "resources")
			names, _, _ := unstructured.NestedStringSlice(r.(map[string]any), "resourceNames")
			if slices.Contains(resources, resource) && len(names) == 1 {
				return names[0]
			}
		}
		t.Fatalf("the Role of the %s names no %s", component, resource)
		return ""
	}
	secret := arg(speaker, "speaker", "--gossip-secret")
	for what, have := range map[string]string{
		"--gossip-secret of the controller": arg(controller, "controller", "--gossip-secret"),
		"the speaker's volume":              field(t, speaker, "spec", "template", "spec", "volumes", "gossip", "secret", "secretName").(string),
		"the speaker's Role":                roleName("speaker", "secrets"),
		"the controller's Role":             roleName("controller", "secrets"),
	} {
		if have != secret {
			t.Errorf("%s says Secret %s, the speaker's --gossip-secret %s", what, have, secret)
		}
	}
	service := named(t, all, "Service", arg(speaker, "speaker", "--gossip-service"))
	if have, want := roleName("controller", "leases"), arg(controller, "controller", "--leader-election-id"); have != want {
		t.Errorf("Role for Lease %s, but --leader-election-id=%s", have, want)
	}
	if field(t, service, "spec", "publishNotReadyAddresses") != true || field(t, service, "spec", "clusterIP") != "None" {
		t.Error("speakers that are not ready could not be found through the gossip Service")
	}
	for _, port := range []string{"gossip-tcp", "gossip-udp"} {
		if have := field(t, service, "spec", "ports", port, "port"); fmt.Sprint(have) != "17947" {
			t.Errorf("port %s of the gossip Service is %v", port, have)
		}
	}
	mount := field(t, speaker, "spec", "template", "spec", "containers", "speaker", "volumeMounts", "gossip", "mountPath")
	if have := arg(speaker, "speaker", "--gossip-key-dir"); have != mount {
		t.Errorf("--gossip-key-dir=%s, but the Secret is mounted at %v", have, mount)
	}
}

// TestConfigGoesWithTheRelease: what a release made of its values is Helm's to change and delete. An object kept after an uninstall would keep
// a release of another name from being installed, and an entry taken out of the values would stay in force unseen.
func TestConfigGoesWithTheRelease(t *testing.T) {
	values := `{config: {ipAddressPools: [{name: a, annotations: {x: z}, spec: {addresses: [192.0.2.0/24]}}], l2Advertisements: [{name: a}]}}`
	n := 0
	for _, o := range mustTemplate(t, values) {
		if o.GroupVersionKind().Group != "heraldlb.io" {
			continue
		}
		n++
		if have, ok := o.GetAnnotations()["helm.sh/resource-policy"]; ok {
			t.Errorf("%s has the policy %q", o.GetKind(), have)
		}
		if want := o.GetKind() == "IPAddressPool"; (o.GetAnnotations()["x"] == "z") != want {
			t.Errorf("%s has the annotations %v", o.GetKind(), o.GetAnnotations())
		}
	}
	if n != 2 {
		t.Errorf("%d objects, want 2", n)
	}
}
