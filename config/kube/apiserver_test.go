package kube

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"k8s.io/client-go/rest"
)

// controlPlaneVariable names the environment variable with the path of the laboratory's herald-controlplane.
const controlPlaneVariable = "HERALD_CONTROLPLANE"

// apiServer is a real etcd and kube-apiserver on loopback.
type apiServer struct {
	t      *testing.T
	binary string
	dir    string
	url    string
	api    *exec.Cmd
	port   int
	etcd   string
}

const (
	adminToken  = "admin-token"
	nobodyToken = "nobody-token" // known, but allowed nothing
)

func startAPIServer(t *testing.T) *apiServer {
	t.Helper()
	binary := os.Getenv(controlPlaneVariable)
	if binary == "" {
		t.Skipf("needs an API server: set %s to the laboratory's herald-controlplane", controlPlaneVariable)
	}
	ports := freePorts(t, 3)
	s := &apiServer{t: t, binary: binary, dir: t.TempDir(), port: ports[0]}
	s.url = fmt.Sprintf("https://127.0.0.1:%d", s.port)
	s.etcd = fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	peer := fmt.Sprintf("http://127.0.0.1:%d", ports[2])
	s.run("etcd", "--data-dir="+s.path("etcd"), "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls="+s.etcd, "--advertise-client-urls="+s.etcd,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
	s.write("tokens.csv", adminToken+",admin,1,system:masters\n"+nobodyToken+",nobody,2\n")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s.write("sa.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	s.startAPI()
	s.kubectl("", "apply", "-f", "../crd")
	// That the API server is ready does not mean that it has made its own namespaces; nor that definitions are taken, that their kinds are served.
	eventually(t, "namespaces and Herald's kinds", func() bool {
		return s.answers("get", "namespace", "default", "kube-system") &&
			s.answers("get", "ipaddresspools,ipreservations,l2advertisements,bgppeers,bgpadvertisements,bfdprofiles,communities,speakerstatuses")
	})
	return s
}

func (s *apiServer) startAPI() {
	s.t.Helper()
	s.api = s.run("kube-apiserver", "--etcd-servers="+s.etcd, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", s.port),
		"--cert-dir="+s.path("certs"), "--token-auth-file="+s.path("tokens.csv"), "--authorization-mode=RBAC",
		"--service-account-issuer=https://test", "--service-account-key-file="+s.path("sa.key"), "--service-account-signing-key-file="+s.path("sa.key"),
		"--disable-admission-plugins=ServiceAccount", "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112")
	eventually(s.t, "an API server that is ready", func() bool {
		return s.answers("get", "--raw", "/readyz")
	})
}

func (s *apiServer) stopAPI() {
	_ = s.api.Process.Kill()
	_ = s.api.Wait()
}

func (s *apiServer) path(name string) string { return filepath.Join(s.dir, name) }

func (s *apiServer) write(name, text string) {
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// run starts a program that is killed with the test.
func (s *apiServer) run(name string, args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(s.binary, append([]string{name}, args...)...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if s.t.Failed() {
			text := log.String()
			s.t.Logf("%s ended with:\n%s", name, text[max(0, len(text)-2000):])
		}
	})
	return cmd
}

func (s *apiServer) kubectlArgs(args ...string) []string {
	return append([]string{"kubectl", "--server=" + s.url, "--insecure-skip-tls-verify", "--token=" + adminToken, "--cache-dir=" + s.path("cache")}, args...)
}

// answers reports whether a command of kubectl succeeds.
func (s *apiServer) answers(args ...string) bool {
	return exec.Command(s.binary, s.kubectlArgs(args...)...).Run() == nil
}

func (s *apiServer) kubectl(stdin string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(s.binary, s.kubectlArgs(args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (s *apiServer) apply(yaml string) {
	s.t.Helper()
	s.kubectl(yaml, "apply", "-f", "-")
}

func (s *apiServer) client(token string) *Client {
	s.t.Helper()
	c, err := newClient(&rest.Config{Host: s.url, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// freePorts returns different ports that nobody has.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // no sooner than all are found
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// source starts a Source and waits until it is synced and, where there is an API server, has listed also what Snapshots do without.
func (s *apiServer) source(t *testing.T, c *Client, opts SourceOptions) *Source {
	t.Helper()
	opts.Namespace = "herald-system"
	if opts.Log == nil {
		opts.Log = discard()
	}
	src := NewSource(c, opts)
	start(t, src.Run)
	eventually(t, "a synced Source", func() bool { return src.Snapshot().Synced && (src.Err() != nil || src.listedRest()) })
	return src
}

// listedRest reports whether the resources that no Snapshot waits for have been listed. A list that comes late is a change.
func (s *Source) listedRest() bool {
	if s.opts.Role == Controller {
		return s.serviceCIDRs.listed()
	}
	return s.speakers.listed() && (s.opts.GossipSecret == "" || s.secrets.listed())
}
