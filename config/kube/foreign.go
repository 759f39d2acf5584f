package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Foreign returns all objects of an API group that is not Herald's, as the lists in JSON that the API server answers with: of each resource
// in the version that the API server prefers. A group that the API server does not have has none.
func (c *Client) Foreign(ctx context.Context, group string) ([][]byte, error) {
	groups, err := c.core.Discovery().ServerGroups()
	if err != nil {
		return nil, fmt.Errorf("reading the API groups: %w", err)
	}
	i := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == group })
	if i < 0 {
		return nil, nil
	}
	var out [][]byte
	seen := map[string]bool{}
	for _, v := range groups.Groups[i].Versions { // the preferred one first
		resources, err := c.core.Discovery().ServerResourcesForGroupVersion(v.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("reading the resources of %s: %w", v.GroupVersion, err)
		}
		for _, r := range resources.APIResources {
			if seen[r.Name] || strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "list") {
				continue
			}
			seen[r.Name] = true
			list, err := c.raw(ctx, "/apis/"+v.GroupVersion+"/"+r.Name)
			if err != nil {
				return nil, err
			}
			out = append(out, list)
		}
	}
	return out, nil
}

// ConfigMap returns a ConfigMap in JSON; nil when there is none.
func (c *Client) ConfigMap(ctx context.Context, namespace, name string) ([]byte, error) {
	text, err := c.raw(ctx, "/api/v1/namespaces/"+namespace+"/configmaps/"+name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return text, err
}

// raw asks for JSON by path.
func (c *Client) raw(ctx context.Context, path string) ([]byte, error) {
	text, err := c.core.CoreV1().RESTClient().Get().AbsPath(path).SetHeader("Accept", runtime.ContentTypeJSON).Do(ctx).Raw()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return text, nil
}
