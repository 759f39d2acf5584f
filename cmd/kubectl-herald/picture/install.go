package picture

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/config/kube"
)

// Options are what the user says of the installation, where it should not be read from the cluster.
type Options struct {
	Namespace string  // of Herald; "" = the one where it is found
	Class     *string // load balancer class; nil = that of the daemons
}

// Install is what runs of Herald.
type Install struct {
	Found           bool // some workload of Herald's was found
	Namespace       string
	Class           string
	IgnoreExcludeLB bool
	DrainOnCordon   bool
	Controller      Workload
	Speakers        Workload
}

// Workload is a Deployment or DaemonSet with its Pods.
type Workload struct {
	Name    string // "" when it was not found
	Want    int32
	Ready   int32
	Image   string
	Version string // label app.kubernetes.io/version
	Pods    []*corev1.Pod
}

// Labels of what the chart installs.
const (
	componentLabel = "app.kubernetes.io/component"
	versionLabel   = "app.kubernetes.io/version"
	controller     = "controller"
	speaker        = "speaker"
)

// install finds the installation by its labels: nothing depends on the name of the namespace. Of several the first by namespace counts.
func install(c *kube.Cluster, o Options) Install {
	out := Install{Namespace: o.Namespace}
	deployments := slices.SortedFunc(slices.Values(c.Deployments), func(a, b *appsv1.Deployment) int { return strings.Compare(a.Namespace, b.Namespace) })
	for _, d := range deployments {
		if d.Labels[componentLabel] == controller && (out.Namespace == "" || out.Namespace == d.Namespace) {
			out.Found, out.Namespace = true, d.Namespace
			out.Controller = Workload{Name: d.Name, Want: 1, Ready: d.Status.ReadyReplicas, Version: d.Labels[versionLabel], Pods: podsOf(c, d.Namespace, controller)}
			if d.Spec.Replicas != nil {
				out.Controller.Want = *d.Spec.Replicas
			}
			out.read(&out.Controller, d.Spec.Template.Spec)
			break
		}
	}
	sets := slices.SortedFunc(slices.Values(c.DaemonSets), func(a, b *appsv1.DaemonSet) int { return strings.Compare(a.Namespace, b.Namespace) })
	for _, d := range sets {
		if d.Labels[componentLabel] == speaker && (out.Namespace == "" || out.Namespace == d.Namespace) {
			out.Found, out.Namespace = true, d.Namespace
			out.Speakers = Workload{
				Name: d.Name, Want: d.Status.DesiredNumberScheduled, Ready: d.Status.NumberReady, Version: d.Labels[versionLabel],
				Pods: podsOf(c, d.Namespace, speaker),
			}
			out.read(&out.Speakers, d.Spec.Template.Spec)
			break
		}
	}
	if o.Class != nil {
		out.Class = *o.Class
	}
	return out
}

func podsOf(c *kube.Cluster, namespace, component string) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range c.Pods {
		if p.Namespace == namespace && p.Labels[componentLabel] == component {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// read takes in how a daemon is started.
func (i *Install) read(w *Workload, pod corev1.PodSpec) {
	for _, c := range pod.Containers {
		w.Image = c.Image
		if v, ok := flag(c, "load-balancer-class"); ok {
			i.Class = v
		}
		if v, ok := flag(c, "ignore-exclude-lb"); ok {
			i.IgnoreExcludeLB = v != "false"
		}
		if v, ok := flag(c, "drain-on-cordon"); ok {
			i.DrainOnCordon = v != "false"
		}
	}
}

// flag returns the value of a daemon's flag, from its arguments or its environment.
func flag(c corev1.Container, name string) (string, bool) {
	for n, arg := range c.Args {
		switch rest, ok := strings.CutPrefix(arg, "--"+name); {
		case !ok:
		case rest == "":
			if n+1 < len(c.Args) && !strings.HasPrefix(c.Args[n+1], "-") {
				return c.Args[n+1], true
			}
			return "", true
		case rest[0] == '=':
			return rest[1:], true
		}
	}
	variable := "HERALD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	for _, e := range c.Env {
		if e.Name == variable && e.ValueFrom == nil {
			return e.Value, true
		}
	}
	return "", false
}
