package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Host is a network namespace with a name, known to `ip netns` as well. Its methods may be called from any goroutine.
type Host struct {
	name string
	nl   *netlink.Handle // route socket inside the namespace

	forget func() // takes the host off the network's list
}

// hostSysctls are set on every host before its first interface appears: addresses are usable at once, nothing configures itself from the
// network, and packets may come in where they would not go out.
func hostSysctls() [][2]string {
	return [][2]string{
		{"net.ipv6.conf.all.accept_dad", "0"},
		{"net.ipv6.conf.default.accept_dad", "0"},
		{"net.ipv6.conf.all.accept_ra", "0"},
		{"net.ipv6.conf.default.accept_ra", "0"},
		{"net.ipv6.conf.all.disable_ipv6", "0"},
		{"net.ipv6.conf.default.disable_ipv6", "0"},
		{"net.ipv6.conf.default.addr_gen_mode", "0"},
		{"net.ipv4.conf.all.rp_filter", "0"},
		{"net.ipv4.conf.default.rp_filter", "0"},
	}
}

func newHost(name string) (*Host, error) {
	path := filepath.Join(netnsDir, name)
	if err := makeNamespace(path); err != nil {
		return nil, fmt.Errorf("make host %s: %w", name, err)
	}
	h := &Host{name: name}
	if err := h.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("make host %s: %w", name, err), h.close())
	}
	return h, nil
}

func validName(name string) bool {
	return name != "" && name[0] != '.' && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == ""
}

// makeNamespace makes a network namespace and keeps it alive by a bind mount on path.
func makeNamespace(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("new network namespace: %w", err)
			return
		}
		done <- unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	}()
	if err := <-done; err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func (h *Host) prepare() error {
	ns, err := os.Open(h.NSPath())
	if err != nil {
		return err
	}
	defer ns.Close()
	nl, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open route socket: %w", err)
	}
	h.nl = nl
	for _, s := range hostSysctls() {
		if err := h.Sysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	return h.SetLink("lo", true)
}

// Close removes the host and its cables before the network ends; processes still running in it keep its namespace, cut off.
func (h *Host) Close() error {
	h.forget()
	return errors.Join(h.unplug(), h.close())
}

// unplug removes the host's cables: a namespace that something still uses would keep them.
func (h *Host) unplug() error {
	links, err := h.nl.LinkList()
	if err != nil {
		return fmt.Errorf("%s: list interfaces: %w", h.name, err)
	}
	var errs []error
	for _, l := range links {
		if l.Type() == "veth" {
			errs = append(errs, h.nl.LinkDel(l))
		}
	}
	return errors.Join(errs...)
}

func (h *Host) close() error {
	if h.nl != nil {
		h.nl.Close()
	}
	return errors.Join(unix.Unmount(h.NSPath(), unix.MNT_DETACH), os.Remove(h.NSPath()))
}

// Name is the host's name, as `ip netns` shows it.
func (h *Host) Name() string { return h.name }

// NSPath is the file that stands for the host's network namespace.
func (h *Host) NSPath() string { return filepath.Join(netnsDir, h.name) }

// Netlink is a route socket in the host's namespace; it stays the host's, do not close it.
func (h *Host) Netlink() *netlink.Handle { return h.nl }

// Do runs fn on a thread inside the host's namespace. Sockets made by fn stay in the namespace wherever they are used later; goroutines
// that fn starts do not run inside. Calls may be nested.
func (h *Host) Do(fn func() error) error {
	ns, err := os.Open(h.NSPath())
	if err != nil {
		return fmt.Errorf("enter host %s: %w", h.name, err)
	}
	defer ns.Close()
	runtime.LockOSThread()
	back, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter host %s: %w", h.name, err)
	}
	defer back.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter host %s: %w", h.name, err)
	}
	defer func() {
		// A thread that cannot return is not given back: it ends with its goroutine.
		if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return fn()
}

// Start starts cmd inside the host's namespace; wait for it as usual. Leave Pdeathsig alone: it follows the death of a thread, and
// everything inside ends with the laboratory anyway.
func (h *Host) Start(cmd *exec.Cmd) error { return h.Do(cmd.Start) }

// Run runs cmd inside the host's namespace and waits for it.
func (h *Host) Run(cmd *exec.Cmd) error {
	if err := h.Start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// Output runs a command inside the host's namespace and returns what it printed; on failure the error carries its standard error.
func (h *Host) Output(ctx context.Context, name string, args ...string) (string, error) {
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := h.Run(cmd); err != nil {
		return out.String(), fmt.Errorf("%s: %s %s: %w: %s", h.name, name, strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// DialContext connects from the host. The address must be literal: there is no name service in a laboratory.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := literal(address); err != nil {
		return nil, err
	}
	var conn net.Conn
	err := h.Do(func() (err error) {
		var d net.Dialer
		d.SetMultipathTCP(false)
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on a TCP address of the host.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	var l net.Listener
	err := h.Do(func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a datagram socket on an address of the host.
func (h *Host) ListenPacket(network, address string) (net.PacketConn, error) {
	var c net.PacketConn
	err := h.Do(func() (err error) {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// literal refuses names: resolving them would leave the thread that is inside the namespace.
func literal(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("dial %s: give an address, there is no name service in the laboratory: %w", address, err)
	}
	return nil
}
