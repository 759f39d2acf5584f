package assign

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/heraldlb/herald/test/lab/cluster"
	"github.com/heraldlb/herald/test/lab/netlab"
)

const (
	release   = "herald"
	namespace = "herald-system"
	patience  = 20 * time.Minute // until the bench gives up
)

// stage is a control plane without nodes, in a network of its own.
type stage struct {
	t       *testing.T
	p       programs
	dir     string
	host    *netlab.Host
	cluster *cluster.Cluster
	load    kubernetes.Interface // the administrator
	bare    kubernetes.Interface // who the controller is, for comparison
	ctx     context.Context
	config  string // kubeconfig of the controller
	starts  int    // of controllers
}

func open(t *testing.T) *stage {
	t.Helper()
	netlab.Need(t)
	network, err := netlab.New(netlab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = network.Close() })
	host, err := network.Host("control")
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParsePrefix("10.10.0.10/24")
	if err := host.AddAddr("lo", address); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	s := &stage{t: t, p: built(t), dir: t.TempDir(), host: host, ctx: ctx}
	s.cluster, err = cluster.Start(ctx, cluster.Options{
		Binary: s.p.Binary, Host: host, Dial: host.DialContext, Addresses: []netip.Addr{address.Addr()},
		Dir: filepath.Join(s.dir, "cluster"), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cluster.Close)
	s.load = s.client(s.cluster.RESTConfig())
	s.install()
	return s
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// client makes a client without a limit of its own that speaks protobuf, as the controller does.
func (s *stage) client(cfg *rest.Config) kubernetes.Interface {
	s.t.Helper()
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = cfg.ContentType + ",application/json"
	c, err := kubernetes.NewForConfig(cfg)
	s.must(err)
	return c
}

// install applies the CRDs and what the chart lets the controller do, and makes it a way in.
func (s *stage) install() {
	s.t.Helper()
	s.kubectl(nil, "apply", "--server-side", "-f", filepath.Join(s.p.Source, "config", "crd"))
	s.kubectl(nil, "wait", "--for=condition=Established", "--timeout=120s", "crd", "--all")
	_, err := s.load.CoreV1().Namespaces().Create(s.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	s.must(err)
	chart := filepath.Join(s.p.Source, "charts", "herald")
	rights, err := exec.CommandContext(s.ctx, s.p.Helm, "template", release, chart, "-n", namespace, "--show-only", "templates/rbac-controller.yaml").Output()
	s.must(err)
	s.kubectl(rights, "apply", "-f", "-")
	user := "system:serviceaccount:" + namespace + ":" + s.serviceAccount()
	cfg, err := s.cluster.UserConfig(s.host.DialContext, user, "system:serviceaccounts", "system:serviceaccounts:"+namespace)
	s.must(err)
	s.bare = s.client(cfg)
	s.config = filepath.Join(s.dir, "controller.kubeconfig")
	s.must(clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: s.cluster.URL(), CertificateAuthorityData: cfg.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {ClientCertificateData: cfg.CertData, ClientKeyData: cfg.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, s.config))
}

// serviceAccount returns the name that the chart gives the controller.
func (s *stage) serviceAccount() string {
	s.t.Helper()
	list, err := s.load.CoreV1().ServiceAccounts(namespace).List(s.ctx, metav1.ListOptions{})
	s.must(err)
	for _, a := range list.Items {
		if strings.HasSuffix(a.Name, "-controller") {
			return a.Name
		}
	}
	s.t.Fatalf("the chart made no ServiceAccount for the controller: %v", list.Items)
	return ""
}

func (s *stage) kubectl(stdin []byte, args ...string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.ctx, s.p.Binary, append([]string{"kubectl", "--kubeconfig", s.cluster.KubeconfigPath(), "--cache-dir", s.dir}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.host.Run(cmd); err != nil {
		s.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out.String())
	}
}

// pool makes an IPAddressPool.
func (s *stage) pool(name string, addresses ...string) {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{
		"apiVersion": "heraldlb.io/v1beta1", "kind": "IPAddressPool",
		"metadata": map[string]string{"name": name}, "spec": map[string]any{"addresses": addresses},
	})
	s.must(err)
	s.kubectl(body, "apply", "-f", "-")
}

// progress tells how far the bench is, also when tests are quiet about it.
func (s *stage) progress(format string, args ...any) {
	s.t.Helper()
	s.t.Logf("%s  %s", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}
