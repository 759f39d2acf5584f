package cluster

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/heraldlb/herald/test/lab/build"
	"github.com/heraldlb/herald/test/lab/netlab"
)

// binaryEnv hands the path of the control plane from the outer process, which can build it, to the inner one.
const binaryEnv = "HERALD_LAB_CONTROLPLANE"

func TestMain(m *testing.M) {
	if !netlab.Inside() {
		programs, err := build.MakeControlPlane(context.Background(), build.Options{Progress: os.Stderr})
		if err != nil {
			panic(err)
		}
		if err := os.Setenv(binaryEnv, programs.Binary); err != nil {
			panic(err)
		}
	}
	netlab.Main(m)
}

// TestControlPlane takes a control plane through its life: up, API server away and back, and down.
func TestControlPlane(t *testing.T) {
	netlab.Need(t)
	network, err := netlab.New(netlab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer network.Close()
	host, err := network.Host("control")
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParsePrefix("10.10.0.10/24")
	if err := host.AddAddr("lo", address); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c, err := Start(t.Context(), Options{
		Binary:    os.Getenv(binaryEnv),
		Host:      host,
		Dial:      host.DialContext,
		Addresses: []netip.Addr{address.Addr()},
		Dir:       t.TempDir(),
		Log:       slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Logf("control plane up after %s", time.Since(began).Round(time.Millisecond))

	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if want := "v1.37.2"; version.GitVersion != want {
		t.Errorf("API server says it is %s, want %s", version.GitVersion, want)
	}
	services, err := client.CoreV1().Services(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(services.Items) != 1 {
		t.Errorf("Services in default: %v, %v; want the Service kubernetes", services, err)
	}

	c.StopAPIServer()
	if _, err := client.Discovery().ServerVersion(); err == nil {
		t.Error("the API server answers although it was stopped")
	}
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Discovery().ServerVersion(); err != nil {
		t.Errorf("after the API server's return: %v", err)
	}
	controllersWork(t, client)
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}

// controllersWork waits until a new namespace has the ServiceAccount that the controller manager makes.
func controllersWork(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	const name = "after-outage"
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err := wait.PollUntilContextTimeout(t.Context(), pollInterval, startLimit, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
	if err != nil {
		t.Errorf("the controller manager does nothing after the API server's return: %v", err)
	}
}
