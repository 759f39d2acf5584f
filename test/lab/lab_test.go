package lab

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heraldlb/herald/test/lab/netlab"
)

func TestMain(m *testing.M) { Main(m, Build{}) }

// startLab starts a laboratory that ends with the test.
func startLab(t *testing.T, o Options) *Lab {
	t.Helper()
	netlab.Need(t)
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	o.Progress = t.Output()
	before := goleak.IgnoreCurrent()
	began := time.Now()
	l, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("laboratory up after %s", time.Since(began).Round(10*time.Millisecond))
	t.Cleanup(func() {
		if t.Failed() {
			l.dir.keep = true
			t.Logf("logs are kept in %s", l.Dir())
		}
		if err := l.Close(); err != nil {
			t.Errorf("ending the laboratory: %v", err)
		}
		goleak.VerifyNone(t, before)
	})
	return l
}

// deadline bounds a step of a test; it is generous, as machines are shared.
func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

const webYAML = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: web
        image: lab/web
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: POD_IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 2}
        securityContext:
          runAsUser: 65532
          runAsGroup: 65532
          runAsNonRoot: true
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: http, nodePort: 30080}]
`

// TestDeployment is the proof of the laboratory: a Deployment is scheduled, its Pods become ready, and they are reached
// through kube-proxy, by ClusterIP from another Pod and by NodePort from outside, in both families.
func TestDeployment(t *testing.T) {
	l := startLab(t, Options{})
	ctx := deadline(t)
	began := time.Now()
	if err := l.Apply(ctx, webYAML); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Kubectl(ctx, "wait", "--for=condition=Available", "deployment/web", "--timeout=2m"); err != nil {
		out, _ := l.Kubectl(ctx, "describe", "pods")
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("Deployment available after %s", time.Since(began).Round(10*time.Millisecond))
	for _, n := range l.Nodes {
		if _, err := n.Kubelet().Find("default", "web", ""); err != nil {
			t.Errorf("Pods are not spread: %v", err)
		}
	}
	t.Run("ClusterIP", func(t *testing.T) { askClusterIPs(ctx, t, l) })
	t.Run("NodePort", func(t *testing.T) {
		for _, from := range []*netlab.Host{l.Client, l.FarClient} {
			for _, to := range l.Nodes[0].Addresses {
				ask(ctx, t, l, from, net.JoinHostPort(to.String(), "30080"))
			}
		}
	})
	t.Run("crash", func(t *testing.T) { crash(ctx, t, l) })
	t.Run("logs", func(t *testing.T) {
		if err := l.Apply(ctx, clientYAML(l.clusterIP(ctx, t))); err != nil {
			t.Fatal(err)
		}
		if out, err := l.Kubectl(ctx, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/asker", "--timeout=2m"); err != nil {
			t.Fatal(err, out)
		}
		out, err := l.Kubectl(ctx, "logs", "asker")
		if err != nil || !strings.Contains(out, "pod=web-") {
			t.Errorf("kubectl logs says %q, %v; want the answer of a web server", out, err)
		}
	})
	t.Run("deletion", func(t *testing.T) {
		if _, err := l.Kubectl(ctx, "delete", "deployment", "web", "--cascade=foreground", "--timeout=2m"); err != nil {
			t.Fatal(err)
		}
		err := l.Wait(ctx, "the Pods' processes to end", func(context.Context) error {
			for _, n := range l.Nodes {
				if list := n.Kubelet().Processes(); len(list) > 0 {
					return fmt.Errorf("%s still runs %v", n.Name, list)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func (l *Lab) clusterIP(ctx context.Context, t *testing.T) string {
	t.Helper()
	ip, err := l.Kubectl(ctx, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	if err != nil {
		t.Fatal(err)
	}
	return ip
}

func clientYAML(ip string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: asker, namespace: default}
spec:
  restartPolicy: OnFailure
  initContainers:
  - {name: write, image: lab/web, command: [sh, -c, "echo $GREETING > /shared/file"], volumeMounts: [{name: shared, mountPath: /shared}], env: [{name: GREETING, value: hello}]}
  containers:
  - {name: ask, image: lab/web, command: [sh, -c, "cat /shared/file; labweb -get http://%s/"], volumeMounts: [{name: shared, mountPath: /shared}]}
  volumes: [{name: shared, emptyDir: {}}]
`, ip)
}

// askClusterIPs asks the Service from the network of a Pod.
func askClusterIPs(ctx context.Context, t *testing.T, l *Lab) {
	ips, err := l.Kubectl(ctx, "get", "service", "web", "-o", "jsonpath={.spec.clusterIPs[*]}")
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Nodes[0].Kubelet().Find("default", "web", "")
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Fields(ips)
	if len(list) != 2 {
		t.Fatalf("the Service has the addresses %v, want one of each family", list)
	}
	for _, ip := range list {
		nodes := map[string]bool{}
		for len(nodes) < len(l.Nodes) && ctx.Err() == nil && !t.Failed() {
			nodes[nodeOf(ask(ctx, t, l, p.Host, net.JoinHostPort(ip, "80")))] = true
		}
		if ctx.Err() != nil {
			t.Errorf("%s was answered on %v only; want Pods on all nodes", ip, nodes)
		}
	}
}

func nodeOf(line string) string {
	for word := range strings.FieldsSeq(line) {
		if name, ok := strings.CutPrefix(word, "node="); ok {
			return name
		}
	}
	return ""
}

// ask asks a web server until it answers, as kube-proxy may need a moment, and returns the answer.
func ask(ctx context.Context, t *testing.T, l *Lab, from *netlab.Host, address string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}, Timeout: 2 * time.Second}
	var answer string
	err := l.Wait(ctx, "an answer from "+address+" to "+from.Name(), func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(r)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		answer = string(body)
		if err == nil && !strings.HasPrefix(answer, "pod=web-") {
			err = fmt.Errorf("it says %q, which no Pod of the Deployment says", answer)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return answer
}

// crash kills a container's process: it runs again, as the same Pod, and the restart is counted.
func crash(ctx context.Context, t *testing.T, l *Lab) {
	k := l.Nodes[1].Kubelet()
	before, err := k.Find("default", "web", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Signal("default", "web", "", os.Kill); err != nil {
		t.Fatal(err)
	}
	err = l.Wait(ctx, "the container to run again", func(ctx context.Context) error {
		now, err := k.Find("default", "web", "")
		if err != nil {
			return err
		}
		if now.PID == before.PID || now.Restarts != 1 || now.Pod != before.Pod {
			return fmt.Errorf("it runs as %+v", now)
		}
		out, err := l.Kubectl(ctx, "get", "pod", now.Pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].lastState.terminated.exitCode} {.status.containerStatuses[0].ready}")
		if err == nil && out != "1 137 true" {
			err = fmt.Errorf("its status says restarts, last exit code, ready: %q", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
