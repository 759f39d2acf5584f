package netlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// helperEnv makes a re-executed test binary play a part instead of running tests.
const helperEnv = "NETLAB_TEST_HELPER"

func TestMain(m *testing.M) {
	if part := os.Getenv(helperEnv); part != "" {
		Enter()
		os.Exit(helper(part))
	}
	Main(m)
}

// helper is what a program does that calls Enter.
func helper(part string) int {
	switch part {
	case "status":
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		fmt.Printf("got %s", line)
		fmt.Fprint(os.Stderr, "and stderr")
		return 42
	case "user":
		n, err := New(Options{})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		defer n.Close()
		_, err = n.Host("a")
		fmt.Println(os.Getuid(), SingleUser(), err)
	case "killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "signal":
		fmt.Println("ready")
		select {} // SIGTERM ends it, as it ends any program
	case "forever":
		orphan := exec.Command("sleep", "600")
		if err := orphan.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		pid, err := InitPID()
		fmt.Println(pid, err)
		select {}
	case "forward":
		if err := forwardGreeting(); err != nil {
			fmt.Println(err)
			return 1
		}
	case "listen":
		l, err := ListenOuter("tcp4", "127.0.0.1:0")
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(l.Addr())
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		fmt.Fprintln(c, "hello from inside")
		c.Close()
	}
	return 0
}

// forwardGreeting offers a server on a host of its own to the outside, until SIGTERM.
func forwardGreeting() error {
	n, err := New(Options{})
	if err != nil {
		return err
	}
	h, err := n.Host("server")
	if err != nil {
		return err
	}
	l, err := h.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f, err := Forward(h, l.Addr().String())
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			// Answers what it read once the caller has closed its half.
			heard, _ := io.ReadAll(c)
			fmt.Fprintf(c, "heard %s", heard)
			c.Close()
		}
	}()
	fmt.Println(f.Addr())
	if err := f.Run(ctx); err != nil {
		return err
	}
	return n.Close()
}

// outside prepares a run of the helper as a program of its own that makes its own (here: nested) laboratory.
func outside(t *testing.T, part string) *exec.Cmd {
	t.Helper()
	Need(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"="+part, stageEnv+"=")
	return cmd
}

func TestEnterPassesStreamsAndStatus(t *testing.T) {
	cmd := outside(t, "status")
	var stderr strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader("line\n"), &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Errorf("exit: %v, want status 42", err)
	}
	if string(out) != "got line\n" || !strings.HasPrefix(stderr.String(), "and stderr") {
		t.Errorf("stdout %q, stderr %q", out, stderr.String())
	}
}

func TestEnterAsOrdinaryUser(t *testing.T) {
	if SingleUser() {
		t.Skip("runs as an ordinary user already")
	}
	cmd := outside(t, "user")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	out, err := cmd.Output()
	if err != nil || string(out) != "0 true <nil>\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestEnterReportsDeathBySignal(t *testing.T) {
	err := outside(t, "killed").Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 128+int(syscall.SIGKILL) {
		t.Errorf("exit: %v, want status 137", err)
	}
}

func TestEnterForwardsSignals(t *testing.T) {
	cmd := outside(t, "signal")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("helper said %q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("exit: %v, want status 143", err)
	}
}

func TestInsideDiesWithOuter(t *testing.T) {
	cmd := outside(t, "forever")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	initPID, err := strconv.Atoi(strings.Fields(line)[0])
	if err != nil {
		t.Fatalf("helper said %q: %v", line, err)
	}
	if err := unix.Kill(initPID, 0); err != nil {
		t.Fatalf("process 1 of the laboratory, %d here: %v", initPID, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// The orphan and the program hold the pipe's other end: end of file says that both are gone.
	closed := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, out); closed <- err }()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("processes inside outlive the outer one")
	}
	waitFor(t, "process 1 of the laboratory to end", func() bool { return unix.Kill(initPID, 0) != nil || zombie(initPID) })
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestListenOuter(t *testing.T) {
	cmd := outside(t, "listen")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", strings.TrimSpace(line), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, _ := io.ReadAll(conn); string(got) != "hello from inside\n" {
		t.Errorf("heard %q", got)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestProcessOneReaps(t *testing.T) {
	Need(t)
	// The shell ends at once and leaves its child to process 1.
	out, err := exec.Command("sh", "-c", "sh -c 'exit 0' & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(string(out))
	waitFor(t, "the orphan to be reaped", func() bool {
		_, err := os.Stat("/proc/" + pid)
		return os.IsNotExist(err)
	})
}

// two is a network of two hosts on one segment.
type two struct {
	net  *Network
	a, b *Host
	port *Port // b's
}

func newTwo(t *testing.T) two {
	t.Helper()
	Need(t)
	n, err := New(Options{Prefix: "t" + strconv.Itoa(os.Getpid()) + "-"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	seg, err := n.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	w := two{net: n, a: mustHost(t, n, "a"), b: mustHost(t, n, "b")}
	if _, err := w.a.Join(seg, "eth0", netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("fd00::1/64")); err != nil {
		t.Fatal(err)
	}
	if w.port, err = w.b.Join(seg, "eth0", netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("fd00::2/64")); err != nil {
		t.Fatal(err)
	}
	return w
}

func mustHost(t *testing.T, n *Network, name string) *Host {
	t.Helper()
	h, err := n.Host(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// greets answers every connection to address of h with a word, until the test ends.
func greets(t *testing.T, h *Host, address, word string) string {
	t.Helper()
	l, err := h.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, word)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func hear(h *Host, address string, patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := h.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	return string(b), err
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestHostsTalkInBothFamilies(t *testing.T) {
	w := newTwo(t)
	for _, address := range []string{"192.0.2.2:0", "[fd00::2]:0", "[" + linkLocal(t, w.b, "eth0") + "%eth0]:0"} {
		t.Run(address, func(t *testing.T) {
			got, err := hear(w.a, greets(t, w.b, address, "hello"), 5*time.Second)
			if err != nil || got != "hello" {
				t.Errorf("heard %q, %v", got, err)
			}
		})
	}
	if _, err := hear(w.a, "b:80", time.Second); err == nil {
		t.Error("a name was dialled")
	}
}

func linkLocal(t *testing.T, h *Host, ifname string) string {
	t.Helper()
	addrs, err := h.Addrs(ifname)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if a.Addr().IsLinkLocalUnicast() {
			return a.Addr().String()
		}
	}
	t.Fatalf("%s of %s has no link-local address", ifname, h.Name())
	return ""
}

func running(t *testing.T, h *Host, ifname string) bool {
	t.Helper()
	ifi, err := h.Interface(ifname)
	if err != nil {
		t.Fatal(err)
	}
	return ifi.Flags&net.FlagRunning != 0
}

func TestPortFailures(t *testing.T) {
	nft := "needs nft"
	if _, err := exec.LookPath("nft"); err == nil {
		nft = ""
	}
	ctx := context.Background()
	for _, tt := range []struct {
		name        string
		fail, mend  func(p *Port) error
		carrierLost bool
		skip        string
	}{
		{"cut", (*Port).Cut, (*Port).Restore, true, ""},
		{"block", (*Port).Block, (*Port).Unblock, false, ""},
		{"lose all", func(p *Port) error { return p.Lose(ctx, 1) }, func(p *Port) error { return p.Lose(ctx, 0) }, false, nft},
		{"drop tcp", func(p *Port) error { return p.Drop(ctx, "udp dport 7", "meta l4proto tcp") }, func(p *Port) error { return p.Drop(ctx) }, false, nft},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.skip != "" {
				t.Skip(tt.skip)
			}
			w := newTwo(t)
			address := greets(t, w.b, "192.0.2.2:0", "hello")
			if _, err := hear(w.a, address, 5*time.Second); err != nil {
				t.Fatalf("before: %v", err)
			}
			if err := tt.fail(w.port); err != nil {
				t.Fatal(err)
			}
			if got, err := hear(w.a, address, 300*time.Millisecond); err == nil {
				t.Errorf("heard %q through a dead cable", got)
			}
			if lost := !running(t, w.b, "eth0"); lost != tt.carrierLost {
				t.Errorf("carrier lost: %t, want %t", lost, tt.carrierLost)
			}
			if !running(t, w.a, "eth0") {
				t.Error("the other host's carrier is lost too")
			}
			if err := tt.mend(w.port); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the hosts to talk again", func() bool { _, err := hear(w.a, address, time.Second); return err == nil })
		})
	}
}

func TestLoseRefusesNonsense(t *testing.T) {
	w := newTwo(t)
	for _, p := range []float64{-0.1, 1.1} {
		if err := w.port.Lose(context.Background(), p); err == nil {
			t.Errorf("loss of %v accepted", p)
		}
	}
}

func TestRouting(t *testing.T) {
	w := newTwo(t)
	far := mustHost(t, w.net, "far")
	if err := w.net.Veth(w.b, "far0", far, "eth0"); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		w.b.EnableForwarding(),
		w.b.AddAddr("far0", netip.MustParsePrefix("198.51.100.1/24")),
		far.AddAddr("eth0", netip.MustParsePrefix("198.51.100.2/24")),
		far.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("198.51.100.1")),
		w.a.AddRoute(netip.MustParsePrefix("198.51.100.0/24"), netip.MustParseAddr("192.0.2.2")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, err := hear(w.a, greets(t, far, "198.51.100.2:0", "far"), 5*time.Second); got != "far" {
		t.Errorf("heard %q, %v", got, err)
	}
	if err := w.a.DelRoute(netip.MustParsePrefix("198.51.100.0/24")); err != nil {
		t.Error(err)
	}
}

func TestCommandsRunInside(t *testing.T) {
	w := newTwo(t)
	ctx := context.Background()
	direct, err := w.b.Output(ctx, "ip", "-br", "address")
	if err != nil || !strings.Contains(direct, "192.0.2.2/24") {
		t.Errorf("ip address on b: %q, %v", direct, err)
	}
	named, err := exec.Command("ip", "netns", "exec", w.b.Name(), "ip", "-br", "address").Output()
	if err != nil || string(named) != direct {
		t.Errorf("by name: %q, %v; want %q", named, err, direct)
	}
	if _, err := w.b.Output(ctx, "sh", "-c", "echo because >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "because") {
		t.Errorf("a failed command gives %v", err)
	}
}

func TestDoNestsAndReturns(t *testing.T) {
	w := newTwo(t)
	read := func(h *Host) (mac string) {
		err := h.Do(func() error {
			ifi, err := net.InterfaceByName("eth0")
			if err == nil {
				mac = ifi.HardwareAddr.String()
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		return mac
	}
	var inner, outer string
	err := w.a.Do(func() error {
		inner, outer = read(w.b), read(w.a)
		_, err := net.InterfaceByName("eth0")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if inner == outer || inner != read(w.b) {
		t.Errorf("addresses %s and %s", inner, outer)
	}
	if _, err := net.InterfaceByName("eth0"); err == nil {
		t.Error("the thread did not come back")
	}
}

func TestHostsComeAndGo(t *testing.T) {
	w := newTwo(t)
	for range 3 {
		h := mustHost(t, w.net, "pod")
		if err := w.net.Veth(w.a, "pod0", h, "eth0"); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.a.Interface("pod0"); err == nil {
			t.Error("the host's cable stays plugged in")
		}
		if w.net.Lookup("pod") != nil {
			t.Error("the host is still listed")
		}
	}
}

func TestWrongNames(t *testing.T) {
	w := newTwo(t)
	for _, name := range []string{"", "a", ".x", "a/b", "../x", "ä"} {
		if _, err := w.net.Host(name); err == nil {
			t.Errorf("host %q made", name)
		}
	}
	for _, name := range []string{"", "lan", "sixteen-letters-", "a b"} {
		if _, err := w.net.Segment(name); err == nil {
			t.Errorf("segment %q made", name)
		}
	}
}

func TestForward(t *testing.T) {
	cmd := outside(t, "forward")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", strings.TrimSpace(line), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "me")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "heard me" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(r)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, rest)
	}
}

func TestForwardRefusesNames(t *testing.T) {
	w := newTwo(t)
	if _, err := Forward(w.a, "name:80"); err == nil {
		t.Error("a name was accepted as target")
	}
}
