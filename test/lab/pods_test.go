package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/heraldlb/herald/test/lab/kubelet"
	"github.com/heraldlb/herald/test/lab/netlab"
)

// podCase runs a Pod on a laboratory's only node.
type podCase struct {
	*Lab
	t   *testing.T
	ctx context.Context
}

// TestPods checks what a Pod can tell apart, one promise of package kubelet at a time.
func TestPods(t *testing.T) {
	l := startLab(t, Options{Nodes: 1, NoRouter: true})
	for name, test := range map[string]func(podCase){
		"privileges of root":     rootPrivileges,
		"privileges of a user":   userPrivileges,
		"environment":            environmentOfPod,
		"secret follows changes": secretRefresh,
		"token names the node":   tokenOfPod,
		"liveness":               livenessRestart,
		"frozen":                 frozenIsUnready,
		"unknown image":          unknownImage,
		"end of a Pod":           graceful,
		"host network":           hostNetwork,
	} {
		t.Run(name, func(t *testing.T) { test(podCase{l, t, deadline(t)}) })
	}
	t.Run("API server away", func(t *testing.T) { apiServerAway(podCase{l, t, deadline(t)}) })
	t.Run("node dies", func(t *testing.T) { nodeDies(podCase{l, t, deadline(t)}) })
}

// run creates a Pod of one container with this script, further Pod and container fields in YAML, and waits until the
// script has made the file /ready.
func (c podCase) run(name, script, podFields, containerFields string) kubelet.Process {
	c.t.Helper()
	indent := func(text, by string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+by) }
	yaml := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: default, labels: {case: %s}}\nspec:\n"+
		"  terminationGracePeriodSeconds: 10\n  %s\n  containers:\n  - name: main\n    image: lab/web\n"+
		"    command: [sh, -c, %q]\n    %s\n", name, name, indent(podFields, "  "), script, indent(containerFields, "    "))
	if err := c.Apply(c.ctx, yaml); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if _, err := c.Kubectl(context.WithoutCancel(c.ctx), "delete", "pod", name, "--grace-period=1", "--ignore-not-found"); err != nil {
			c.t.Error(err)
		}
	})
	var p kubelet.Process
	c.wait("Pod "+name+" to run", func() (err error) {
		p, err = c.Nodes[0].Kubelet().Find("default", name, "main")
		return err
	})
	return p
}

func (c podCase) wait(what string, ready func() error) {
	c.t.Helper()
	if err := c.Wait(c.ctx, what, func(context.Context) error { return ready() }); err != nil {
		out, _ := c.Kubectl(context.WithoutCancel(c.ctx), "get", "pods", "-o", "yaml")
		c.t.Fatalf("%v\n%s", err, out)
	}
}

// read waits until a file in a container is there and complete: our scripts end their files with a full stop.
func (c podCase) read(p kubelet.Process, path string) string {
	c.t.Helper()
	var text []byte
	c.wait(path+" in the container", func() (err error) {
		text, err = os.ReadFile(fmt.Sprintf("/proc/%d/root%s", p.PID, path))
		if err == nil && !strings.HasSuffix(strings.TrimSpace(string(text)), ".") {
			err = fmt.Errorf("it has only %q", text)
		}
		return err
	})
	return strings.TrimSuffix(strings.TrimSpace(string(text)), ".")
}

// get returns a field of an object.
func (c podCase) get(kind, name, path string) string {
	c.t.Helper()
	out, err := c.Kubectl(c.ctx, "get", kind, name, "-o", "jsonpath="+path)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// told returns a field of an object once the API server has it: a Pod's process is known here before its status is written.
func (c podCase) told(kind, name, path string) (out string) {
	c.t.Helper()
	c.wait(fmt.Sprintf("%s of %s %s", path, kind, name), func() (err error) {
		if out, err = c.Kubectl(c.ctx, "get", kind, name, "-o", "jsonpath="+path); err == nil && strings.Trim(out, ",") == "" {
			err = errors.New("there is none")
		}
		return err
	})
	return out
}

const outVolume = "volumes: [{name: out, emptyDir: {}}]"

// privileges runs a Pod that writes down what it may do.
func (c podCase) privileges(name, security string) (status map[string]string, rest string) {
	p := c.run(name,
		"(cat /proc/self/status; echo .) > /out/status; (touch /denied 2>/dev/null && echo writable || echo read-only; id -u; id -g; id -G; echo .) > /out/rest; sleep 1000",
		outVolume, "volumeMounts: [{name: out, mountPath: /out}]\nsecurityContext: "+security)
	status = map[string]string{}
	for line := range strings.Lines(c.read(p, "/out/status")) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			status[key] = strings.TrimSpace(value)
		}
	}
	return status, strings.Join(strings.Fields(c.read(p, "/out/rest")), " ")
}

func (c podCase) want(what, got, want string) {
	c.t.Helper()
	if got != want {
		c.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// NET_BIND_SERVICE is capability 10, NET_RAW is 13.
const twoCapabilities = "0000000000002400"

func rootPrivileges(c podCase) {
	status, rest := c.privileges("root", "{capabilities: {drop: [ALL], add: [NET_RAW, NET_BIND_SERVICE]}, readOnlyRootFilesystem: true}")
	c.want("bounding set", status["CapBnd"], twoCapabilities)
	c.want("effective set", status["CapEff"], twoCapabilities)
	c.want("no_new_privs", status["NoNewPrivs"], "0")
	if !netlab.SingleUser() {
		c.want("root file system, user, group, groups", rest, "read-only 0 0 0")
	}
}

func userPrivileges(c podCase) {
	if netlab.SingleUser() {
		c.t.Skip("only one user exists here")
	}
	status, rest := c.privileges("user", "{runAsUser: 4711, runAsGroup: 4712, allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_RAW, NET_BIND_SERVICE]}}")
	c.want("bounding set", status["CapBnd"], twoCapabilities)
	c.want("effective set", status["CapEff"], "0000000000000000")
	c.want("no_new_privs", status["NoNewPrivs"], "1")
	c.want("root file system, user, group, groups", rest, "read-only 4711 4712 4712") // not read-only, but root's
}

func environmentOfPod(c podCase) {
	if err := c.Apply(c.ctx, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: default}\ndata: {COLOUR: blue, file: content.}\n"); err != nil {
		c.t.Fatal(err)
	}
	p := c.run("environment", `echo "$NODE $POD $IPS $COLOUR $SENTENCE $(hostname) $1 $KUBERNETES_SERVICE_HOST ." > /out/env; sleep 1000`,
		"volumes: [{name: out, emptyDir: {}}, {name: settings, configMap: {name: settings, items: [{key: file, path: deep/file}]}}]", `
args: [zero, "$(SENTENCE)"]
volumeMounts: [{name: out, mountPath: /out}, {name: settings, mountPath: /settings}]
envFrom: [{configMapRef: {name: settings}}]
env:
- {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
- {name: SENTENCE, value: "it_is_$(COLOUR)_$$(x)"}`)
	ips := c.told("pod", "environment", "{.status.podIPs[0].ip},{.status.podIPs[1].ip}")
	c.want("environment", strings.TrimSpace(c.read(p, "/out/env")),
		"node-1 environment "+ips+" blue it_is_blue_$(x) environment it_is_blue_$(x) 10.96.0.1")
	c.want("ConfigMap file", c.read(p, "/settings/deep/file"), "content")
}

func secretRefresh(c podCase) {
	secret := func(value string) {
		if err := c.Apply(c.ctx, "apiVersion: v1\nkind: Secret\nmetadata: {name: key, namespace: default}\nstringData: {key: "+value+".}\n"); err != nil {
			c.t.Fatal(err)
		}
	}
	secret("first")
	p := c.run("secret", "sleep 1000", "volumes: [{name: key, secret: {secretName: key}}]", "volumeMounts: [{name: key, mountPath: /key}]")
	c.want("Secret", c.read(p, "/key/key"), "first")
	secret("second")
	c.wait("the Secret to change in the container", func() error {
		if text := c.read(p, "/key/key"); text != "second" {
			return fmt.Errorf("it is %q", text)
		}
		return nil
	})
	// A Secret that does not exist holds the Pod up, and says so, until it does.
	if err := c.Apply(c.ctx, `
apiVersion: v1
kind: Pod
metadata: {name: waits, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: lab/web, command: [sleep, "1000"], volumeMounts: [{name: late, mountPath: /late}]}]
  volumes: [{name: late, secret: {secretName: late}}]
`); err != nil {
		c.t.Fatal(err)
	}
	c.wait("the Pod to say what it waits for", func() error {
		if why := c.get("pod", "waits", "{.status.containerStatuses[0].state.waiting.message}"); !strings.Contains(why, "secret late not found") {
			return fmt.Errorf("it says %q", why)
		}
		return nil
	})
	if _, err := c.Kubectl(c.ctx, "create", "secret", "generic", "late"); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.Kubectl(c.ctx, "wait", "--for=condition=Ready", "pod/waits", "--timeout=2m"); err != nil {
		c.t.Error(err)
	}
	if _, err := c.Kubectl(c.ctx, "delete", "pod", "waits"); err != nil {
		c.t.Error(err)
	}
}

func tokenOfPod(c podCase) {
	p := c.run("token", "sleep 1000", "", "")
	// Not /var/run: that is an absolute link, which from here would lead to our own /run.
	token, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/run/secrets/kubernetes.io/serviceaccount/token", p.PID))
	if err != nil {
		c.t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(c.Cluster.RESTConfig())
	if err != nil {
		c.t.Fatal(err)
	}
	review, err := client.AuthenticationV1().TokenReviews().Create(c.ctx,
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: string(token)}}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	c.want("user", review.Status.User.Username, "system:serviceaccount:default:default")
	extra, err := json.Marshal(review.Status.User.Extra)
	if err != nil {
		c.t.Fatal(err)
	}
	if !strings.Contains(string(extra), `"authentication.kubernetes.io/node-name":["node-1"]`) {
		c.t.Errorf("the token says %s; want the node's name in it", extra)
	}
}

func livenessRestart(c podCase) {
	p := c.run("liveness", "touch /tmp/alive; sleep 1000", "", `
startupProbe: {exec: {command: [test, -e, /tmp/alive]}, periodSeconds: 1, failureThreshold: 60}
livenessProbe: {exec: {command: [test, -e, /tmp/alive]}, periodSeconds: 1, failureThreshold: 2, terminationGracePeriodSeconds: 1}`)
	if _, err := c.Kubectl(c.ctx, "wait", "--for=condition=Ready", "pod/liveness", "--timeout=2m"); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Remove(fmt.Sprintf("/proc/%d/root/tmp/alive", p.PID)); err != nil {
		c.t.Fatal(err)
	}
	c.wait("the restart", func() error {
		if n := c.get("pod", "liveness", "{.status.containerStatuses[0].restartCount}"); n != "1" {
			return fmt.Errorf("it has been restarted %s times", n)
		}
		return nil
	})
}

func frozenIsUnready(c podCase) {
	c.run("frozen", "exec labweb", "", "readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1, failureThreshold: 1}")
	ready := func(want string) {
		c.wait("readiness "+want, func() error {
			if is := c.get("pod", "frozen", `{.status.conditions[?(@.type=="Ready")].status}`); is != want {
				return fmt.Errorf("it is %s", is)
			}
			return nil
		})
	}
	ready("True")
	for _, step := range []struct {
		signal unix.Signal
		ready  string
	}{{unix.SIGSTOP, "False"}, {unix.SIGCONT, "True"}} {
		if err := c.Nodes[0].Kubelet().Signal("default", "frozen", "main", step.signal); err != nil {
			c.t.Fatal(err)
		}
		ready(step.ready)
	}
}

func unknownImage(c podCase) {
	if _, err := c.Kubectl(c.ctx, "run", "unknown", "--image=registry.example/none:v1"); err != nil {
		c.t.Fatal(err)
	}
	c.wait("ErrImagePull", func() error {
		if why := c.get("pod", "unknown", "{.status.containerStatuses[0].state.waiting.reason}"); why != "ErrImagePull" {
			return fmt.Errorf("it waits for %q", why)
		}
		return nil
	})
	if _, err := c.Kubectl(c.ctx, "delete", "pod", "unknown", "--timeout=2m"); err != nil {
		c.t.Error(err)
	}
}

// graceful checks the order of a Pod's end by what it writes to the node's disk.
func graceful(c podCase) {
	c.run("graceful", "trap 'echo term >> /record/log; sleep 1; echo end. >> /record/log; exit 0' TERM; touch /record/up; while :; do sleep 0.1; done",
		"volumes: [{name: record, hostPath: {path: /record, type: DirectoryOrCreate}}]", `
volumeMounts: [{name: record, mountPath: /record}]
lifecycle: {preStop: {exec: {command: [sh, -c, "echo preStop >> /record/log"]}}}`)
	record := filepath.Join(c.Dir(), "nodes", "node-1", "root", "record")
	c.wait("the script", func() error { _, err := os.Stat(filepath.Join(record, "up")); return err })
	if _, err := c.Kubectl(c.ctx, "delete", "pod", "graceful", "--timeout=2m"); err != nil {
		c.t.Error(err)
	}
	log, err := os.ReadFile(filepath.Join(record, "log"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.want("order", strings.Join(strings.Fields(string(log)), " "), "preStop term end.")
}

func hostNetwork(c podCase) {
	c.run("host", "exec labweb -address [::]:8090 -udp-port 8090", "hostNetwork: true", "")
	c.want("Pod address", c.told("pod", "host", "{.status.podIP}"), c.Nodes[0].Addresses[0].String())
	c.wait("the web server on the node's address", func() error {
		conn, err := c.Client.DialContext(c.ctx, "tcp", netip.AddrPortFrom(c.Nodes[0].Addresses[1], 8090).String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// apiServerAway: what runs goes on without the API server, and is known again when it is back.
func apiServerAway(c podCase) {
	p := c.run("away", "sleep 1000", "", "")
	c.Cluster.StopAPIServer()
	if now, err := c.Nodes[0].Kubelet().Find("default", "away", ""); err != nil || now.PID != p.PID {
		c.t.Errorf("the process is %+v, %v without the API server; it was %+v", now, err, p)
	}
	if err := c.Nodes[0].Kubelet().Signal("default", "away", "", unix.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	var second kubelet.Process
	c.wait("the restart without an API server", func() (err error) {
		second, err = c.Nodes[0].Kubelet().Find("default", "away", "")
		if err == nil && second.PID == p.PID {
			err = fmt.Errorf("it is process %d still", p.PID)
		}
		return err
	})
	if err := c.Cluster.StartAPIServer(c.ctx); err != nil {
		c.t.Fatal(err)
	}
	c.wait("the status to say so", func() error {
		out, err := c.Kubectl(c.ctx, "get", "pod", "away", "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
		if err == nil && out != "1" {
			err = fmt.Errorf("it says %s restarts", out)
		}
		return err
	})
	if now, err := c.Nodes[0].Kubelet().Find("default", "away", ""); err != nil || now.PID != second.PID {
		c.t.Errorf("the process is %+v, %v after the API server's return; it was %+v", now, err, second)
	}
}

// nodeDies: a node without power takes its processes with it, and runs its Pods again when it comes back.
func nodeDies(c podCase) {
	p := c.run("dies", "sleep 1000", "", "")
	n := c.Nodes[0]
	if err := n.PowerOff(); err != nil {
		c.t.Fatal(err)
	}
	if err := unix.Kill(p.PID, 0); err != unix.ESRCH {
		c.t.Errorf("process %d of a dead node: %v, want it gone", p.PID, err)
	}
	if err := n.PowerOn(); err != nil {
		c.t.Fatal(err)
	}
	c.wait("the Pod to run again", func() error {
		_, err := n.Kubelet().Find("default", "dies", "")
		return err
	})
}
