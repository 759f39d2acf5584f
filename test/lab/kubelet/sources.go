package kubelet

import (
	"context"
	"maps"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// apiSources reads Secrets and ConfigMaps of one namespace from the API server.
type apiSources struct {
	ctx       context.Context
	client    kubernetes.Interface
	namespace string
}

func (s apiSources) secret(name string) (map[string][]byte, error) {
	o, err := s.client.CoreV1().Secrets(s.namespace).Get(s.ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if o.Data == nil {
		return map[string][]byte{}, nil
	}
	return o.Data, nil
}

func (s apiSources) configMap(name string) (map[string][]byte, error) {
	o, err := s.client.CoreV1().ConfigMaps(s.namespace).Get(s.ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data := make(map[string][]byte, len(o.Data)+len(o.BinaryData))
	for key, value := range o.Data {
		data[key] = []byte(value)
	}
	maps.Copy(data, o.BinaryData)
	return data, nil
}

// newVolumes returns the Pod's volumes, not yet prepared. The context is the worker's: volumes do not outlive it.
func (w *worker) newVolumes(ctx context.Context) *volumes {
	v := &volumes{
		dir: filepath.Join(w.dir, "volumes"), hostFS: filepath.Join(w.k.o.Dir, "root"),
		pod: w.pod, at: w.at(), token: w.requestToken, group: -1,
		src: apiSources{ctx: ctx, client: w.k.client, namespace: w.pod.Namespace},
	}
	if s := w.pod.Spec.SecurityContext; s != nil && s.FSGroup != nil && !netlab.SingleUser() {
		v.group = int(*s.FSGroup)
	}
	return v
}

// requestToken asks the API server for a token of the Pod's ServiceAccount that is good as long as the Pod lives.
func (w *worker) requestToken(ctx context.Context, p *corev1.ServiceAccountTokenProjection) (string, time.Time, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: p.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: w.pod.Name, UID: w.pod.UID},
	}}
	if p.Audience != "" {
		request.Spec.Audiences = []string{p.Audience}
	}
	accounts := w.k.client.CoreV1().ServiceAccounts(w.pod.Namespace)
	answer, err := accounts.CreateToken(ctx, w.pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return "", time.Time{}, err
	}
	return answer.Status.Token, answer.Status.ExpirationTimestamp.Time, nil
}

// watchSources watches the Secrets and ConfigMaps that the Pod's volumes show; a change brings the volumes up to date.
// Node authorisation lets a node watch single objects only, so there is a watch for each.
func (w *worker) watchSources(ctx context.Context) {
	secrets, configMaps := referenced(w.pod)
	for name := range secrets {
		w.watch(ctx, "secrets", name, &corev1.Secret{})
	}
	for name := range configMaps {
		w.watch(ctx, "configmaps", name, &corev1.ConfigMap{})
	}
}

func (w *worker) watch(ctx context.Context, resource, name string, kind runtime.Object) {
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name)
	stale := func() { w.post(func() { w.stale = true }) }
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(w.k.client.CoreV1().RESTClient(), resource, w.pod.Namespace, selector),
		ObjectType:    kind,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { stale() },
			UpdateFunc: func(_, _ any) { stale() },
			DeleteFunc: func(any) { stale() },
		},
	})
	w.wg.Go(func() { informer.RunWithContext(ctx) })
}

// referenced returns the names of the Secrets and ConfigMaps in the Pod's volumes.
func referenced(pod *corev1.Pod) (secrets, configMaps map[string]bool) {
	secrets, configMaps = map[string]bool{}, map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil {
			secrets[v.Secret.SecretName] = true
		}
		if v.ConfigMap != nil {
			configMaps[v.ConfigMap.Name] = true
		}
		if v.Projected == nil {
			continue
		}
		for _, p := range v.Projected.Sources {
			if p.Secret != nil {
				secrets[p.Secret.Name] = true
			}
			if p.ConfigMap != nil {
				configMaps[p.ConfigMap.Name] = true
			}
		}
	}
	return secrets, configMaps
}
