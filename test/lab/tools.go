package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// pollInterval is how often Wait looks again.
const pollInterval = 50 * time.Millisecond

// Wait calls ready until it returns nil, the context ends, or a part of the cluster dies. what completes "waiting for".
func (l *Lab) Wait(ctx context.Context, what string, ready func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // else it may only say that the time is over
			last = err
		}
		if dead := l.Err(); dead != nil {
			return dead
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; last seen: %w", what, ctx.Err(), last)
		case <-ticker.C:
		}
	}
}

// Kubectl runs kubectl as the cluster's administrator and returns what it prints. Its complaints are the error.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (string, error) {
	return l.tool(ctx, nil, "kubectl", args...)
}

// Apply applies YAML as the cluster's administrator, by server-side apply.
func (l *Lab) Apply(ctx context.Context, yaml string) error {
	_, err := l.tool(ctx, []byte(yaml), "kubectl", "apply", "--server-side", "-f", "-")
	return err
}

// Helm runs helm as the cluster's administrator and returns what it prints.
func (l *Lab) Helm(ctx context.Context, args ...string) (string, error) {
	return l.tool(ctx, nil, "helm", args...)
}

// Chart returns the directory of Herald's chart.
func (l *Lab) Chart() string { return filepath.Join(l.Source(), "charts", "herald") }

// HelmInstall installs Herald's chart into a namespace, which it makes, with values in YAML, and waits until everything
// in it is ready.
func (l *Lab) HelmInstall(ctx context.Context, release, namespace, values string) error {
	return l.helmDeploy(ctx, values, "install", release, "--namespace", namespace, "--create-namespace")
}

// HelmUpgrade upgrades a release to the chart and the values given, not those it had, and waits.
func (l *Lab) HelmUpgrade(ctx context.Context, release, namespace, values string) error {
	return l.helmDeploy(ctx, values, "upgrade", release, "--namespace", namespace, "--reset-values")
}

func (l *Lab) helmDeploy(ctx context.Context, values, verb, release string, args ...string) error {
	args = append([]string{verb, release, l.Chart(), "--wait", "--timeout", "3m", "--values", "-"}, args...)
	_, err := l.tool(ctx, []byte(values), "helm", args...)
	return err
}

// HelmUninstall removes a release and waits until its objects are gone.
func (l *Lab) HelmUninstall(ctx context.Context, release, namespace string) error {
	_, err := l.tool(ctx, nil, "helm", "uninstall", release, "--namespace", namespace, "--wait", "--timeout", "3m")
	return err
}

// tool runs a program of BinDir beside the control plane, where it reaches the API server.
func (l *Lab) tool(ctx context.Context, input []byte, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(l.BinDir(), name), args...)
	home := filepath.Join(l.Dir(), "home")
	cmd.Env = append(os.Environ(),
		"KUBECONFIG="+l.Cluster.KubeconfigPath(), "HOME="+home, "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	cmd.Stdin = bytes.NewReader(input)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := l.Control.Run(cmd); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(complaints.String()))
	}
	return out.String(), nil
}

// Logs returns everything that the containers of Pods whose names begin with a prefix have written, on all nodes,
// including Pods that are gone.
func (l *Lab) Logs(namespace, prefix string) (string, error) {
	pattern := filepath.Join(l.Dir(), "nodes", "*", "logs", namespace+"_"+prefix+"*", "*", "*.log")
	files, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		name, err := filepath.Rel(filepath.Join(l.Dir(), "nodes"), file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&all, "==> %s\n%s\n", name, text)
	}
	return all.String(), nil
}
