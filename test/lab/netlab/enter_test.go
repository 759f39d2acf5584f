package netlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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
	out, in, err := os.Pipe() // our own: Wait would close one of cmd's
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = in
	err = cmd.Start()
	in.Close()
	if err != nil {
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
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Minute):
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
	conn, err := net.DialTimeout("tcp", strings.TrimSpace(line), time.Minute)
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
	conn, err := net.DialTimeout("tcp", strings.TrimSpace(line), time.Minute)
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
