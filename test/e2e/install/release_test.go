package install

import (
	"strings"
	"testing"

	"github.com/heraldlb/herald/test/lab"
)

// checkSecond installs a second release: two would write the statuses of the same objects by turns. The first one may be changed as ever.
func checkSecond(t *testing.T, l *lab.Lab) {
	err := l.HelmInstall(deadline(t), "second", "elsewhere", "loadBalancerClass: example.com/second")
	refused(t, "a second release", err, "installed already, as release "+chartRelease+" in namespace "+chartNamespace)
	if out := kubectl(t, l, "get", "daemonsets", "--all-namespaces", "-l", "app.kubernetes.io/component=speaker", "-o", "name"); strings.Count(out, "\n") != 0 {
		t.Errorf("speakers: %s", out)
	}
}

const pinned = "pod-security.kubernetes.io/enforce"

// checkPodSecurity asks for the labels in a namespace that Helm has made, one of which says something else by now; an upgrade with everything in
// place needs no job.
func checkPodSecurity(t *testing.T, l *lab.Lab) {
	kubectl(t, l, "label", "namespace", chartNamespace, pinned+"=baseline", "example.com/mine=kept")
	values := chartValues + "podSecurityLabels: {enabled: true}\n"
	if err := l.HelmUpgrade(deadline(t), chartRelease, chartNamespace, values); err != nil {
		jobs, _ := l.Kubectl(deadline(t), "--namespace", chartNamespace, "describe", "jobs,pods")
		t.Fatalf("%v\n%s", err, jobs)
	}
	for key, want := range map[string]string{
		pinned: "privileged", "pod-security.kubernetes.io/audit": "privileged", "pod-security.kubernetes.io/warn": "privileged", "example.com/mine": "kept",
	} {
		if have := kubectl(t, l, "get", "namespace", chartNamespace, "-o", "jsonpath={.metadata.labels."+strings.ReplaceAll(key, ".", `\.`)+"}"); have != want {
			t.Errorf("label %s is %q, want %q", key, have, want)
		}
	}
	eventually(t, l, "", "get", "jobs,serviceaccounts,roles,rolebindings", "--all-namespaces", "-l", "app.kubernetes.io/component=namespace", "-o", "name")
	if err := l.HelmUpgrade(deadline(t), chartRelease, chartNamespace, values); err != nil {
		t.Fatal(err)
	}
	if hooks, err := l.Helm(deadline(t), "get", "hooks", chartRelease, "--namespace", chartNamespace); err != nil || strings.TrimSpace(hooks) != "" {
		t.Errorf("nothing is missing, and yet there are jobs: %v\n%s", err, hooks)
	}
}

// claimer declares Herald's ports, and listens on others.
const claimer = `
apiVersion: v1
kind: Pod
metadata: {name: claimer}
spec:
  nodeName: node-1
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
    - name: claimer
      image: herald
      command: [herald-controller, --namespace=nowhere, "--http-address=127.0.0.1:29473", "--metrics-address=127.0.0.1:29472"]
      ports: [{containerPort: 7947}, {containerPort: 7947, protocol: UDP}, {containerPort: 9472}, {containerPort: 9473}]
`

// checkPortClaim lets a Pod on a node's network declare the ports that Herald uses: the scheduler keeps no speaker from the node for that.
func checkPortClaim(t *testing.T, l *lab.Lab) {
	if err := l.Apply(deadline(t), claimer); err != nil {
		t.Fatal(err)
	}
	defer kubectl(t, l, "delete", "pod", "claimer", "--wait")
	eventually(t, l, "Running", "get", "pod", "claimer", "-o", "jsonpath={.status.phase}")
	speaker := []string{"--namespace", chartNamespace, "get", "pods", "-l", "app.kubernetes.io/component=speaker", "--field-selector", "spec.nodeName=node-1"}
	old := kubectl(t, l, append(speaker, "-o", "jsonpath={.items[*].metadata.name}")...)
	kubectl(t, l, "--namespace", chartNamespace, "delete", "pod", old, "--wait")
	eventually(t, l, "true", append(speaker, "-o", "jsonpath={.items[*].status.containerStatuses[*].ready}")...)
}
