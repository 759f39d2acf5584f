package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab/netlab"
)

// daemon is one of Herald's programs, run as a process on a host of its own, beside the installation.
type daemon struct {
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{}
	err  error // how it ended; once done is closed
}

// logBuffer takes what a process writes.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// lines are the lines that a process has written.
func (b *logBuffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Split(strings.TrimSpace(b.text.String()), "\n")
}

// with are the lines that contain a text.
func (b *logBuffer) with(text string) []string {
	var list []string
	for _, line := range b.lines() {
		if strings.Contains(line, text) {
			list = append(list, line)
		}
	}
	return list
}

// outsider makes a host on the management segment, where the API server is, for the time of the test.
func (s *stage) outsider(number int) *netlab.Host {
	s.t.Helper()
	h, err := s.Network.Host(fmt.Sprintf("outsider-%d", number))
	s.must(err)
	s.t.Cleanup(func() { s.must(h.Close()) })
	_, err = h.Join(s.Mgmt, "eth0", netip.MustParsePrefix(fmt.Sprintf("10.10.0.%d/24", number)), netip.MustParsePrefix(fmt.Sprintf("fd00:10::%d/64", number)))
	s.must(err)
	return h
}

// run starts a program on a host; it ends with the test at the latest.
func (s *stage) run(h *netlab.Host, program string, args ...string) *daemon {
	s.t.Helper()
	d := &daemon{log: &logBuffer{}, done: make(chan struct{})}
	d.cmd = exec.Command(filepath.Join(s.Dir(), "images", "herald", program), args...)
	d.cmd.Env = append(os.Environ(), "GORACE=exitcode=66")
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	s.must(h.Start(d.cmd))
	go func() {
		defer close(d.done)
		d.err = d.cmd.Wait()
	}()
	s.t.Cleanup(func() {
		_ = d.cmd.Process.Signal(os.Interrupt) // an error means that it has ended
		select {
		case <-d.done:
		case <-time.After(30 * time.Second):
			s.t.Error("the program does not end when it is told to")
			_ = d.cmd.Process.Kill()
			<-d.done
		}
		if s.t.Failed() {
			s.t.Logf("%s %s wrote:\n%s", program, strings.Join(args, " "), strings.Join(d.log.lines(), "\n"))
		}
	})
	return d
}

// runs returns an error when a daemon has ended.
func (d *daemon) runs() error {
	select {
	case <-d.done:
		return fmt.Errorf("it has ended: %w", d.err)
	default:
		return nil
	}
}

// few is how many complaints a daemon may have that several things are wrong for: a host that is no node has no way to the routers, either.
const few = 6

// complains waits until a daemon has written a line with these words, and checks that it goes on, and says it once.
func (s *stage) complains(d *daemon, text string, words ...string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("a line that says %q", text), func(context.Context) error {
		if len(d.log.with(text)) == 0 {
			return fmt.Errorf("it says:\n%s", strings.Join(d.log.lines(), "\n"))
		}
		return nil
	})
	time.Sleep(3 * time.Second)
	list := d.log.with(text)
	if len(list) != 1 {
		s.t.Errorf("it is said %d times:\n%s", len(list), strings.Join(list, "\n"))
	}
	for _, w := range words {
		if !strings.Contains(list[0], w) {
			s.t.Errorf("%q does not say %q", list[0], w)
		}
	}
	if bad := troubles(d.log.lines()); len(bad) > few {
		s.t.Errorf("a flood of complaints:\n%s", strings.Join(bad, "\n"))
	}
	s.must(d.runs())
	s.t.Logf("%s", list[0])
}

// troubles are the lines that an operator would be alarmed by, and whatever else is no line of ours.
func troubles(lines []string) []string {
	var bad []string
	for _, line := range lines {
		if line != "" && !strings.Contains(line, "level=INFO") && !strings.Contains(line, "level=DEBUG") {
			bad = append(bad, line)
		}
	}
	return bad
}

// kubeconfig writes a kubeconfig for a ServiceAccount of the namespace default that has no permissions, at a server.
func (s *stage) kubeconfig(server string) string {
	s.t.Helper()
	name := "nobody"
	_, err := s.API.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Create(s.t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	s.must(err)
	s.t.Cleanup(func() {
		s.must(s.API.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Delete(context.Background(), name, metav1.DeleteOptions{}))
	})
	token, err := s.Kubectl(s.t.Context(), "create", "token", name)
	s.must(err)
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: s.Cluster.CA()}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: strings.TrimSpace(token)}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: name}
	config.CurrentContext = "lab"
	path := filepath.Join(s.t.TempDir(), "kubeconfig")
	s.must(clientcmd.WriteToFile(*config, path))
	return path
}

// everything is what a daemon needs to be told where nothing else tells it.
func everything(program, kubeconfig string, more ...string) []string {
	args := []string{"--kubeconfig=" + kubeconfig, "--namespace=nowhere", "--http-address=127.0.0.1:9473", "--metrics-address=127.0.0.1:9472"}
	if program == "herald-speaker" {
		args = append(args, "--node-name=outsider")
	}
	return append(args, more...)
}

func programs() []string { return []string{"herald-controller", "herald-speaker"} }

// TestDaemonWithoutRBAC runs the daemons with a token that is good for nothing.
func TestDaemonWithoutRBAC(t *testing.T) {
	for i, program := range programs() {
		t.Run(program, func(t *testing.T) {
			s := on(t)
			d := s.run(s.outsider(100+i), program, everything(program, s.kubeconfig(s.Cluster.URL()))...)
			s.complains(d, `part=source what="not allowed to use these resources`, "grant", "services")
		})
	}
}

// TestDaemonWithoutAPIServer runs them where nobody answers.
func TestDaemonWithoutAPIServer(t *testing.T) {
	for i, program := range programs() {
		t.Run(program, func(t *testing.T) {
			s := on(t)
			d := s.run(s.outsider(110+i), program, everything(program, s.kubeconfig("https://10.10.0.10:1"))...)
			s.complains(d, "API server unreachable", "10.10.0.10:1")
		})
	}
}

// TestDaemonWithoutKubeconfig runs them with nothing to go on: they end at once, with one line and a status that says so.
func TestDaemonWithoutKubeconfig(t *testing.T) {
	for i, program := range programs() {
		for _, tt := range []struct {
			name string
			args []string
			says string
		}{
			{"outside a cluster", nil, "--kubeconfig"},
			{"file that is not there", []string{"--kubeconfig=/nosuch/file"}, "/nosuch/file"},
			{"misspelt flag", []string{"--loglevel=debug"}, "loglevel"},
			{"word that is none", []string{"--log-level=loud"}, "--log-level"},
		} {
			t.Run(program+" "+tt.name, func(t *testing.T) {
				s := on(t)
				d := s.run(s.outsider(120+i), program, tt.args...)
				s.eventually("the program to end", func(context.Context) error {
					if err := d.runs(); err == nil {
						return errors.New("it runs")
					}
					return nil
				})
				var status *exec.ExitError
				if !errors.As(d.err, &status) || status.ExitCode() != 1 {
					t.Errorf("it ended with %v, not with status 1", d.err)
				}
				if lines := d.log.lines(); len(lines) != 1 || !strings.Contains(lines[0], tt.says) {
					t.Errorf("not one line that says %q:\n%s", tt.says, strings.Join(lines, "\n"))
				}
			})
		}
	}
}

// TestSpeakerWithoutKey runs a speaker in a namespace where nobody makes a key.
func TestSpeakerWithoutKey(t *testing.T) {
	s := on(t)
	d := s.run(s.outsider(130), "herald-speaker", everything("herald-speaker", s.Cluster.KubeconfigPath(), "--gossip-bind-address=10.10.0.130")...)
	s.complains(d, "waiting for the gossip key")
}

// TestPortsTaken runs a speaker on a host where others have its ports.
func TestPortsTaken(t *testing.T) {
	s := on(t)
	h := s.outsider(140)
	for _, address := range []string{"10.10.0.140:7947", "127.0.0.1:9472"} {
		l, err := h.Listen("tcp", address)
		s.must(err)
		t.Cleanup(func() { _ = l.Close() })
	}
	keys := t.TempDir()
	s.must(os.WriteFile(filepath.Join(keys, "gossip-key"), bytes.Repeat([]byte{7}, 32), 0o600))
	d := s.run(h, "herald-speaker", everything("herald-speaker", s.Cluster.KubeconfigPath(), "--gossip-bind-address=10.10.0.140", "--gossip-key-dir="+keys)...)
	s.complains(d, "--gossip-port", "7947")
	s.complains(d, "--metrics-address", "9472")
	text, err := readiness(t.Context(), h)
	s.must(err)
	if !strings.Contains(text, "gossip") {
		t.Errorf("readiness does not mention gossip: %q", text)
	}
}

// readiness is what a daemon's /readyz says.
func readiness(ctx context.Context, h *netlab.Host) (string, error) {
	conn, err := h.DialContext(ctx, "tcp", "127.0.0.1:9473")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /readyz HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	text, err := io.ReadAll(conn)
	return string(text), err
}

// TestGossipKeyDeleted deletes the key: the controller makes another, nobody loses an address, and a speaker that starts later still finds the others.
func TestGossipKeyDeleted(t *testing.T) {
	s := on(t)
	s.create("keyed", scene.SingleStack(corev1.IPv4Protocol))
	_, ips := s.announced("keyed")
	owner := s.owner(ips[0])
	name := s.Name("gossip")
	secrets := s.API.CoreV1().Secrets(s.Namespace)
	old, err := secrets.Get(t.Context(), name, metav1.GetOptions{})
	s.must(err)
	t.Cleanup(func() { // whatever happens here, the tests after this want speakers that talk to each other
		if t.Failed() {
			_, err := s.Kubectl(context.Background(), "--namespace", s.Namespace, "rollout", "restart", "daemonset", s.Name("speaker"))
			s.must(errors.Join(err, s.WaitSpeakers(context.Background())))
		}
	})
	s.must(secrets.Delete(t.Context(), name, metav1.DeleteOptions{}))
	took := s.eventually("the controller to make a key", func(ctx context.Context) error {
		now, err := secrets.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if now.UID == old.UID || len(now.Data["gossip-key"]) != 32 {
			return fmt.Errorf("the Secret is %s, with %d bytes", now.UID, len(now.Data["gossip-key"]))
		}
		return nil
	})
	t.Logf("the key was there again after %s", took.Round(time.Millisecond))
	s.stays("the owner", quiet, func(ctx context.Context) error { return s.ownedBy(ctx, ips[0], owner) })
	for _, n := range s.Nodes {
		if n.Name != owner {
			s.kill(s.speakerOn(n.Name))
			break
		}
	}
	time.Sleep(quiet)
	s.must(s.WaitSpeakers(t.Context()))
	s.stays("the owner", quiet, func(ctx context.Context) error { return s.ownedBy(ctx, ips[0], owner) })
}

// speakerOn is the name of the speaker's Pod on a node.
func (s *stage) speakerOn(node string) string {
	s.t.Helper()
	p, err := s.Node(node).Kubelet().Find(s.Namespace, s.Name("speaker"), "")
	s.must(err)
	return p.Pod
}

// TestSpeakersWithoutNetRaw takes the one capability away that speakers have: each says so, once.
func TestSpeakersWithoutNetRaw(t *testing.T) {
	s := on(t)
	s.create("unraw", scene.SingleStack(corev1.IPv4Protocol))
	_, ips := s.announced("unraw")
	daemonSet := "daemonset/" + s.Name("speaker")
	rollout := func(ctx context.Context, args ...string) error {
		_, err := s.Kubectl(ctx, append([]string{"--namespace", s.Namespace}, args...)...)
		if err == nil {
			_, err = s.Kubectl(ctx, "--namespace", s.Namespace, "rollout", "status", daemonSet, "--timeout=2m")
		}
		return err
	}
	began := time.Now()
	t.Cleanup(func() {
		ctx := context.Background()
		s.must(errors.Join(rollout(ctx, "rollout", "undo", daemonSet), s.WaitSpeakers(ctx)))
	})
	s.must(rollout(t.Context(), "patch", daemonSet, "--type=json", "-p", `[{"op": "remove", "path": "/spec/template/spec/containers/0/securityContext/capabilities/add"}]`))
	s.nobody(ips[0])
	const complaint = "add the capability NET_RAW"
	var said []string
	s.eventually("a speaker to say why", func(context.Context) error {
		logs, err := s.Logs(s.Namespace, s.Name("speaker"))
		if err != nil {
			return err
		}
		said = nil
		for line := range strings.SplitSeq(logs, "\n") {
			if logged(line).After(began) && strings.Contains(line, complaint) {
				said = append(said, line)
			}
		}
		if len(said) == 0 {
			return errors.New("nobody does")
		}
		return nil
	})
	// A line for each speaker that was elected in its turn, at most.
	if len(said) > len(s.Nodes) {
		t.Errorf("it is said %d times:\n%s", len(said), strings.Join(said, "\n"))
	}
	t.Log(said[0])
	o := s.service("unraw", "said not to be announced", func(o *corev1.Service) error {
		if c := scene.Condition(o, scene.Announced); c.Status != metav1.ConditionFalse {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	t.Log(scene.Condition(o, scene.Announced).Message)
}
