package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Waiting for a component to come up: how often to look, and when to give up. The limit is for machines that are far
// busier than ours.
const (
	pollInterval = 100 * time.Millisecond
	startLimit   = 3 * time.Minute
)

// waitReady waits until the API server says that it is ready, or has ended.
func (c *Cluster) waitReady(ctx context.Context) error {
	client, err := rest.HTTPClientFor(c.RESTConfig())
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return c.poll(ctx, "the API server to become ready", func(ctx context.Context) error {
		return get(ctx, client, c.URL()+"/readyz")
	})
}

// waitController waits for what the controller manager makes in every namespace: without the ServiceAccount "default"
// no Pod is admitted.
func (c *Cluster) waitController(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	return c.poll(ctx, "the controller manager to make the ServiceAccount default", func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("asking the API server: %w", err)
		}
		return err
	})
}

// poll calls ready until it returns nil. It ends early when a component has died, as waiting would not help then.
func (c *Cluster) poll(ctx context.Context, what string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if dead := c.Err(); dead != nil {
			return dead
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s (logs are in %s): %w; last answer: %w", what, c.logDir(), ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

// get asks for a URL and returns an error unless the answer is 200.
func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status + ": " + string(body))
	}
	return nil
}
