package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// ControlPlane holds the paths of the programs of a Kubernetes cluster that are not ours.
type ControlPlane struct {
	// Binary is herald-controlplane: etcd, the Kubernetes daemons and kubectl, chosen by the first argument.
	Binary string
	// Helm is the helm command.
	Helm string
	// Version is the version of Kubernetes, such as v1.37.2.
	Version string
}

// MakeControlPlane returns the control plane's programs, building them when the cache does not hold them yet.
func MakeControlPlane(ctx context.Context, o Options) (ControlPlane, error) {
	o, err := o.withDefaults(ctx)
	if err != nil {
		return ControlPlane{}, err
	}
	module := filepath.Join(o.Source, "test", "lab", "controlplane")
	v, err := readVersions(filepath.Join(module, "go.mod"))
	if err != nil {
		return ControlPlane{}, err
	}
	targets := controlPlaneTargets(module, v)
	key, err := key(ctx, module, targets)
	if err != nil {
		return ControlPlane{}, err
	}
	dir := filepath.Join(o.Cache, "controlplane-"+v.kubernetes+"-"+key)
	if err := o.once(ctx, dir, targets); err != nil {
		return ControlPlane{}, err
	}
	prune(o.Cache, dir, time.Now())
	return ControlPlane{
		Binary:  filepath.Join(dir, "herald-controlplane"),
		Helm:    filepath.Join(dir, "helm"),
		Version: v.kubernetes,
	}, nil
}

// controlPlaneTargets returns what to build in the control plane's module; outputs are relative to the cache entry.
func controlPlaneTargets(module string, v versions) []target {
	return []target{{
		what:      "the Kubernetes control plane " + v.kubernetes + " (first time only, some minutes)",
		dir:       module,
		output:    "herald-controlplane",
		packages:  []string{"."},
		variables: kubernetesVariables(v.kubernetes),
	}, {
		what:      "Helm " + v.helm + " (first time only)",
		dir:       module,
		output:    "helm",
		packages:  []string{"helm.sh/helm/v3/cmd/helm"},
		variables: helmVariables(v),
	}}
}

// kubernetesVariables returns the linker settings by which Kubernetes' programs know their own version.
func kubernetesVariables(version string) []string {
	major, minor := majorMinor(version)
	var list []string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		list = append(list, pkg+".gitVersion="+version, pkg+".gitMajor="+major, pkg+".gitMinor="+minor, pkg+".gitTreeState=clean")
	}
	return list
}

// helmVariables returns the linker settings by which Helm knows its own version and which Kubernetes it assumes when
// it renders a chart without a cluster.
func helmVariables(v versions) []string {
	major, minor := majorMinor(v.kubernetes)
	list := []string{"helm.sh/helm/v3/internal/version.version=" + v.helm}
	for _, pkg := range []string{"helm.sh/helm/v3/pkg/chartutil", "helm.sh/helm/v3/pkg/lint/rules"} {
		list = append(list, pkg+".k8sVersionMajor="+major, pkg+".k8sVersionMinor="+minor)
	}
	return list
}

// majorMinor splits v1.37.2 into 1 and 37.
func majorMinor(version string) (major, minor string) {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return parts[0], "0"
	}
	return parts[0], parts[1]
}

// versions are those of the two things people ask about.
type versions struct{ kubernetes, helm string }

// readVersions takes the versions from the go.mod that pins them, so that they stand in one place.
func readVersions(gomod string) (versions, error) {
	text, err := os.ReadFile(gomod)
	if err != nil {
		return versions{}, fmt.Errorf("the control plane's module: %w", err)
	}
	find := func(module string) string {
		m := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(text)
		if m == nil {
			return ""
		}
		return string(m[1])
	}
	v := versions{kubernetes: find("k8s.io/kubernetes"), helm: find("helm.sh/helm/v3")}
	if v.kubernetes == "" || v.helm == "" {
		return v, fmt.Errorf("%s requires no version of k8s.io/kubernetes or of helm.sh/helm/v3", gomod)
	}
	return v, nil
}
