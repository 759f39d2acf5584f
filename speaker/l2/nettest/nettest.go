// Package nettest gives tests a network of their own: the test binary runs again inside a fresh network namespace (in a user namespace
// too when it is not root), so that all its goroutines may open packet sockets there and nothing reaches the machine's network.
package nettest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
)

// marker tells the inner run from the outer one; its value is why there is no inner one, if so.
const marker = "HERALD_TEST_NETWORK"

const inside = "inside"

// Main is for TestMain: it runs the tests in a fresh network namespace and returns the exit status, which tells of goroutines left
// behind too. Where the machine does not allow a namespace, the tests run here, and those that call Need are skipped.
func Main(m *testing.M) int {
	if os.Getenv(marker) != "" {
		return run(m)
	}
	code, err := rerun()
	if err != nil {
		os.Setenv(marker, err.Error())
		return run(m)
	}
	return code
}

func run(m *testing.M) int {
	code := m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// rerun runs this very command inside new namespaces and returns its exit status.
func rerun() (int, error) {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // the child dies with the thread that made it
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), marker+"="+inside)
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("no network namespace of our own: %w", err)
	}
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if exit.ExitCode() < 0 {
			return 2, nil // ended by a signal
		}
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("run the tests in a namespace: %w", err)
	}
	return 0, nil
}

// Need skips the test when it does not run in a network of its own.
func Need(t testing.TB) {
	t.Helper()
	if why := os.Getenv(marker); why != inside {
		t.Skipf("needs a network namespace (root, or user namespaces allowed): %s", why)
	}
}

// Veth makes a pair of connected Ethernet interfaces, both up, removed at the end of the test.
func Veth(t testing.TB, a, b string) (config.Interface, config.Interface) {
	t.Helper()
	Need(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: b}); err != nil {
		t.Fatalf("make veth %s-%s: %v", a, b, err)
	}
	t.Cleanup(func() { Remove(t, a) })
	Up(t, a)
	Up(t, b)
	return Interface(t, a), Interface(t, b)
}

// Remove removes the interface if it is there. It may go by itself meanwhile, when the other end's namespace has ended.
func Remove(t testing.TB, name string) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		t.Errorf("remove %s: %v", name, err)
	}
}

// Up sets the interface up.
func Up(t testing.TB, name string) {
	t.Helper()
	if err := netlink.LinkSetUp(Link(t, name)); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
}

// Link returns the interface as the kernel describes it.
func Link(t testing.TB, name string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("find %s: %v", name, err)
	}
	return link
}

// Interface returns the interface as responders want it.
func Interface(t testing.TB, name string) config.Interface {
	t.Helper()
	attrs := Link(t, name).Attrs()
	return config.Interface{Name: attrs.Name, Index: attrs.Index, MAC: attrs.HardwareAddr.String(), Up: true}
}

// Elsewhere makes another network namespace and moves the interface there. Do runs a function on a thread inside it.
func Elsewhere(t testing.TB, name string) (do func(func())) {
	t.Helper()
	jobs := make(chan func())
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the namespace with it
		err := unix.Unshare(unix.CLONE_NEWNET)
		made <- err
		if err != nil {
			return
		}
		for job := range jobs {
			job()
		}
	}()
	if err := <-made; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	do = func(f func()) {
		done := make(chan struct{})
		jobs <- func() { defer close(done); f() }
		<-done
	}
	var ns netns.NsHandle
	var err error
	do(func() { ns, err = netns.Get() })
	if err != nil {
		t.Fatalf("open the network namespace: %v", err)
	}
	if err := netlink.LinkSetNsFd(Link(t, name), int(ns)); err != nil {
		t.Fatalf("move %s: %v", name, err)
	}
	t.Cleanup(func() { close(jobs); ns.Close() })
	return do
}
