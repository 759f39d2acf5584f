package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/config/crd"
)

const crdPath = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

// crdObject is what is written of a CustomResourceDefinition; what the API server keeps beside it (status, managed fields, UID) goes back
// as it came.
type crdObject map[string]any

// ApplyCRD makes the API server's definition equal to want, and reports whether that took a write. It replaces the spec whole, so that a
// field that went from the schema goes there too; labels and annotations of others stay. Two that apply at once conflict.
func (c *Client) ApplyCRD(ctx context.Context, want crd.Definition) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	have, err := c.crd(c.crds().Get().AbsPath(crdPath, want.Name)).DoRaw(ctx)
	if apierrors.IsNotFound(err) {
		_, err = c.crd(c.crds().Post().AbsPath(crdPath)).Body(want.JSON).DoRaw(ctx)
		return err == nil, wrapCRD("making", want.Name, err)
	}
	if err != nil {
		return false, wrapCRD("reading", want.Name, err)
	}
	next, err := mergeCRD(have, want.JSON)
	if err != nil {
		return false, wrapCRD("merging", want.Name, err)
	}
	after, err := c.crd(c.crds().Put().AbsPath(crdPath, want.Name)).Body(next).DoRaw(ctx)
	if err != nil {
		return false, wrapCRD("updating", want.Name, err)
	}
	return !sameVersion(have, after), nil
}

// DeleteCRD deletes a definition and thereby every object of its kind. One that is not there is no error.
func (c *Client) DeleteCRD(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := c.crd(c.crds().Delete().AbsPath(crdPath, name)).DoRaw(ctx)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return wrapCRD("deleting", name, err)
}

func (c *Client) crds() rest.Interface { return c.core.CoreV1().RESTClient() }

// crd sets what differs from the requests that this client otherwise makes: JSON.
func (c *Client) crd(r *rest.Request) *rest.Request {
	return r.SetHeader("Content-Type", "application/json").SetHeader("Accept", "application/json").Param("fieldManager", "herald")
}

func wrapCRD(doing, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s CustomResourceDefinition %s: %w", doing, name, err)
}

// mergeCRD puts the spec of want, and its labels and annotations, into have.
func mergeCRD(have, want []byte) ([]byte, error) {
	var h, w crdObject
	if err := decodeJSON(have, &h); err != nil {
		return nil, err
	}
	if err := decodeJSON(want, &w); err != nil {
		return nil, err
	}
	h["spec"] = w["spec"]
	hm, _ := h["metadata"].(map[string]any)
	wm, _ := w["metadata"].(map[string]any)
	for _, field := range []string{"labels", "annotations"} {
		ours, _ := wm[field].(map[string]any)
		if len(ours) == 0 {
			continue
		}
		theirs, _ := hm[field].(map[string]any)
		all := maps.Clone(theirs)
		if all == nil {
			all = make(map[string]any, len(ours))
		}
		maps.Copy(all, ours)
		hm[field] = all
	}
	return json.Marshal(h)
}

// sameVersion reports whether two answers show the same resourceVersion: the API server writes nothing when nothing changes.
func sameVersion(a, b []byte) bool {
	version := func(body []byte) string {
		var o struct {
			Metadata struct {
				ResourceVersion string `json:"resourceVersion"`
			} `json:"metadata"`
		}
		_ = json.Unmarshal(body, &o) // an answer that cannot be read shows no version
		return o.Metadata.ResourceVersion
	}
	return version(a) != "" && version(a) == version(b)
}

// decodeJSON keeps numbers as they are written: a bound such as 4294967295 must not come back as 4.294967295e+09.
func decodeJSON(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return d.Decode(into)
}
