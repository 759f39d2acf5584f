package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GossipKeyEntry is the entry of the gossip Secret, and so the file in its volume, that holds the key: the controller makes it, speakers read it.
const GossipKeyEntry = "gossip-key"

// EnsureSecret makes sure that the Secret in Herald's namespace has a non-empty entry: one that is there stays, else generate makes it. Of
// several callers at the same time one wins and the others see its entry.
func (c *Client) EnsureSecret(ctx context.Context, namespace, name, entry string, generate func() []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	secrets := c.core.CoreV1().Secrets(namespace)
	have, err := secrets.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
			Type:       corev1.SecretTypeOpaque,
			Data:       map[string][]byte{entry: generate()},
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
	case err == nil && len(have.Data[entry]) == 0:
		next := have.DeepCopy()
		if next.Data == nil {
			next.Data = make(map[string][]byte)
		}
		next.Data[entry] = generate()
		_, err = secrets.Update(ctx, next, metav1.UpdateOptions{}) // checked against the resourceVersion
		if apierrors.IsConflict(err) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("making sure of Secret %s/%s with entry %s: %w (make it by hand, or allow this ServiceAccount get, create and update)", namespace, name, entry, err)
	}
	return nil
}
