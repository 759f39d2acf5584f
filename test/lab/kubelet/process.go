package kubelet

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// processOf works out as whom a container runs (core/v1 PodSecurityContext and SecurityContext; the latter wins).
func processOf(pod *corev1.Pod, c *corev1.Container, image Image) (processSpec, error) {
	p := processSpec{Dir: c.WorkingDir, User: image.User, Group: image.User}
	nonRoot := false
	if s := pod.Spec.SecurityContext; s != nil {
		override(&p.User, s.RunAsUser)
		override(&p.Group, s.RunAsGroup)
		nonRoot = s.RunAsNonRoot != nil && *s.RunAsNonRoot
		for _, g := range s.SupplementalGroups {
			p.Groups = append(p.Groups, int(g))
		}
		if s.FSGroup != nil {
			p.Groups = append(p.Groups, int(*s.FSGroup))
		}
	}
	sc := c.SecurityContext
	if sc != nil {
		override(&p.User, sc.RunAsUser)
		override(&p.Group, sc.RunAsGroup)
		if sc.RunAsNonRoot != nil {
			nonRoot = *sc.RunAsNonRoot
		}
		p.NoNewPrivileges = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
	}
	if nonRoot && p.User == 0 {
		return p, errors.New("container has runAsNonRoot and image will run as root")
	}
	var err error
	p.Capabilities, err = capabilities(sc)
	return p, err
}

func override(value *int, by *int64) {
	if by != nil {
		*value = int(*by)
	}
}

// arguments returns the command line: the Pod's command, else the image's entry point, followed by the Pod's args.
func arguments(c *corev1.Container, image Image, env []string) []string {
	command := image.Entrypoint
	if len(c.Command) > 0 {
		command = expandAll(c.Command, env)
	}
	return append(append([]string{}, command...), expandAll(c.Args, env)...)
}

// hostname returns what the Pod's processes see as their host's name.
func (w *worker) hostname() string {
	switch {
	case w.pod.Spec.HostNetwork:
		return w.k.o.Node
	case w.pod.Spec.Hostname != "":
		return w.pod.Spec.Hostname
	}
	return w.pod.Name[:min(len(w.pod.Name), 63)]
}

// baseEnvironment returns the variables that every container has.
func (w *worker) baseEnvironment() []corev1.EnvVar {
	env := []corev1.EnvVar{
		{Name: "PATH", Value: defaultPath}, {Name: "HOME", Value: "/root"}, {Name: "HOSTNAME", Value: w.hostname()},
	}
	if w.k.o.Service.IsValid() {
		env = append(env,
			corev1.EnvVar{Name: "KUBERNETES_SERVICE_HOST", Value: w.k.o.Service.String()},
			corev1.EnvVar{Name: "KUBERNETES_SERVICE_PORT", Value: "443"},
			corev1.EnvVar{Name: "KUBERNETES_SERVICE_PORT_HTTPS", Value: "443"})
	}
	return env
}

// generatedFiles returns what a container engine puts into /etc.
func (w *worker) generatedFiles() map[string]string {
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost\n")
	for _, ip := range w.at().podIPs {
		fmt.Fprintf(&hosts, "%s\t%s\n", ip, w.hostname())
	}
	for _, alias := range w.pod.Spec.HostAliases {
		fmt.Fprintf(&hosts, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, " "))
	}
	return map[string]string{
		"/etc/hosts":         hosts.String(),
		"/etc/hostname":      w.hostname() + "\n",
		"/etc/resolv.conf":   "",
		"/etc/nsswitch.conf": "hosts: files\n",
		"/etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
		"/etc/group":         "root:x:0:\nnogroup:x:65534:\n",
	}
}

// Process is a container's process that runs now.
type Process struct {
	Namespace, Pod, Container string
	PID                       int
	Started                   time.Time // just before it was
	Restarts                  int32
	Host                      *netlab.Host // the Pod's place in the network: its own namespace, or the node's
}

// publish lets others see which processes run.
func (w *worker) publish() {
	var list []Process
	for _, c := range w.all() {
		if c.process != nil {
			list = append(list, Process{
				Namespace: w.pod.Namespace, Pod: w.pod.Name, Container: c.spec.Name,
				PID: c.process.pid, Started: c.process.started, Restarts: c.view.restarts, Host: c.process.host,
			})
		}
	}
	w.published.Store(&list)
}

// Processes returns the containers' processes that run on this node now.
func (k *Kubelet) Processes() []Process {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []Process
	for _, w := range k.workers {
		if list := w.published.Load(); list != nil {
			all = append(all, *list...)
		}
	}
	return all
}

// Find returns the process of a container. The Pod may be given by a prefix of its name, as a Deployment's or
// DaemonSet's Pods have; several that fit are an error. An empty container means the Pod's only one.
func (k *Kubelet) Find(namespace, pod, container string) (Process, error) {
	var found []Process
	for _, p := range k.Processes() {
		named := p.Pod == pod || strings.HasPrefix(p.Pod, pod+"-")
		if p.Namespace == namespace && named && (container == "" || p.Container == container) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return Process{}, fmt.Errorf("node %s runs %d processes for Pod %s/%s, container %q; want one", k.o.Node, len(found), namespace, pod, container)
	}
	return found[0], nil
}

// Signal sends a signal to a container's process, found as by Find: SIGKILL is a crash, SIGSTOP freezes it, SIGCONT thaws it.
func (k *Kubelet) Signal(namespace, pod, container string, signal os.Signal) error {
	p, err := k.Find(namespace, pod, container)
	if err != nil {
		return err
	}
	number, ok := signal.(unix.Signal)
	if !ok {
		return fmt.Errorf("signal %v is not one that Linux knows", signal)
	}
	if err := unix.Kill(p.PID, number); err != nil {
		return fmt.Errorf("signal %v to process %d of %s/%s: %w", signal, p.PID, p.Namespace, p.Pod, err)
	}
	return nil
}
