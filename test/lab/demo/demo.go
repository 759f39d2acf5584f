// Package demo shows Herald at work in the laboratory, from outside: a cluster, `helm install`, two Services, and who answers for
// their addresses on the wire. Every claim is checked; the demonstration fails unless each was seen.
package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/router"
)

// Options of a demonstration. The zero value is the usual one.
type Options struct {
	Router    router.Kind
	Namespace string       // Herald's; empty: herald-system
	Dir       string       // for logs, kept afterwards; empty: a temporary one
	Log       *slog.Logger // the laboratory's own log; nil: silence
}

const release = "herald"

// stepLimit bounds a step; it is generous, as machines are slow and shared.
const stepLimit = 4 * time.Minute

//go:embed values.yaml
var values string

//go:embed web.yaml
var webYAML string

// demo is one run.
type demo struct {
	o      Options
	out    *printer
	lab    *lab.Lab
	client kubernetes.Interface

	l2, bgp service
}

// Run brings a laboratory up, shows what Herald does, and tears everything down. It prints to out; the error is nil only if each thing
// was seen. [lab.Enter] must have been called, with Herald's programs built.
func Run(ctx context.Context, out io.Writer, o Options) (err error) {
	if o.Namespace == "" {
		o.Namespace = "herald-system"
	}
	d := &demo{o: o, out: newPrinter(out)}
	defer func() {
		if d.lab == nil {
			return
		}
		if err != nil && ctx.Err() == nil { // who interrupts wants to be done, not to read
			d.diagnose(ctx)
		}
		_ = d.step(context.WithoutCancel(ctx), "tear down", d.tearDown) // the summary knows how it went
		err = d.out.summary()
	}()
	for _, s := range []struct {
		title string
		do    func(context.Context) (string, error)
	}{
		{"bring the laboratory up: control plane, 3 nodes, a router, a client on the LAN and one behind the router", d.up},
		{"helm install, and a web Deployment", d.install},
		{"create two Services of type LoadBalancer", d.createServices},
	} {
		if err := d.step(ctx, s.title, s.do); err != nil {
			return err // what follows stands on it
		}
	}
	return d.showAll(ctx)
}

// showAll goes through the evidence; one thing not seen does not keep the others from being shown.
func (d *demo) showAll(ctx context.Context) error {
	var errs []error
	for _, s := range []struct {
		title string
		do    func(context.Context) (string, error)
	}{
		{"what the API server says", d.showServices},
		{"who answers ARP and ND for the Layer 2 addresses, asked from the LAN", d.showOwners},
		{"what the router learned by BGP", d.showRoutes},
		{"HTTP from both clients, over IPv4 and IPv6", d.showHTTP},
		{"the older ways in: ClusterIP from another Pod, NodePort from outside", d.showOldWays},
		{"cut the LAN cable of the node that answers", d.showFailover},
	} {
		errs = append(errs, d.step(ctx, s.title, s.do))
	}
	return errors.Join(errs...)
}

// step runs one part and prints how it went and how long it took.
func (d *demo) step(ctx context.Context, title string, do func(context.Context) (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	d.out.begin(title)
	finding, err := do(ctx)
	d.out.end(title, finding, err)
	if err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}
	return nil
}

func (d *demo) up(ctx context.Context) (string, error) {
	log := d.o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l, err := lab.Start(ctx, lab.Options{Router: d.o.Router, Dir: d.o.Dir, Progress: d.out.lines(), Log: log})
	if err != nil {
		return "", err
	}
	d.lab = l
	if d.client, err = kubernetes.NewForConfig(l.Cluster.RESTConfig()); err != nil {
		return "", err
	}
	version, err := d.client.Discovery().ServerVersion()
	if err != nil {
		return "", fmt.Errorf("ask the API server for its version: %w", err)
	}
	return fmt.Sprintf("Kubernetes %s on %d nodes, and a %s router", version.GitVersion, len(l.Nodes), l.Router.Kind()), nil
}

// install installs the chart while the Deployment's Pods already start.
func (d *demo) install(ctx context.Context) (string, error) {
	if err := d.lab.Apply(ctx, webYAML); err != nil {
		return "", err
	}
	if err := d.lab.HelmInstall(ctx, release, d.o.Namespace, values); err != nil {
		return "", err
	}
	if _, err := d.lab.Kubectl(ctx, "wait", "--for=condition=Available", "deployment/web", "--timeout=2m"); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"get", "pods", "--all-namespaces", "-o", "wide"},
		{"get", "ipaddresspools,l2advertisements,bgppeers,bgpadvertisements"},
	} {
		if err := d.quote(ctx, args...); err != nil {
			return "", err
		}
	}
	return "the chart is installed with two pools and its Pods are ready", nil
}

// quote prints a kubectl command and what it says.
func (d *demo) quote(ctx context.Context, args ...string) error {
	text, err := d.lab.Kubectl(ctx, args...)
	if err != nil {
		return err
	}
	d.out.command("kubectl", args, text)
	return nil
}

func (d *demo) tearDown(context.Context) (string, error) {
	return "nothing is left running", d.lab.Close()
}

// diagnose prints what helps to find out why something was not seen.
func (d *demo) diagnose(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d.out.begin("to find out why")
	for _, args := range [][]string{
		{"get", "pods", "--all-namespaces", "-o", "wide"},
		{"get", "herald", "-o", "wide"},
		{"describe", "services", "web-l2", "web-bgp"},
		{"get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"},
	} {
		if err := d.quote(ctx, args...); err != nil {
			d.out.say("%v", err)
		}
	}
	logs, err := d.lab.Logs(d.o.Namespace, release)
	if err != nil {
		d.out.say("Herald's logs: %v", err)
	}
	d.out.say("%s", lastLines(logs, 80))
}
