package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

type (
	sysProcAttr    = syscall.SysProcAttr
	idMap          = syscall.SysProcIDMap
	unixWaitStatus = syscall.WaitStatus
)

// netnsDir is where iproute2 looks for named network namespaces.
const netnsDir = "/run/netns"

// runInit is process 1 inside: it prepares the namespaces, starts the program, reaps orphans, and ends with the program's status.
// The kernel then kills whatever is left in the PID namespace.
func runInit() {
	lifeline := os.NewFile(fdLifeline, "lifeline")
	syscall.CloseOnExec(fdLifeline)
	go func() { // the outer process never writes: a return means that it is gone
		_, _ = lifeline.Read(make([]byte, 1))
		os.Exit(exitSetup)
	}()
	if err := prepare(); err != nil {
		fmt.Fprintf(os.Stderr, "netlab: %v: %v\n", errNamespaces, err)
		os.Exit(exitSetup)
	}
	status, err := supervise()
	if err != nil {
		fmt.Fprintln(os.Stderr, "netlab: start the program inside:", err)
		os.Exit(exitSetup)
	}
	os.Exit(status)
}

// runProbe ends with status 0 if the namespaces can be prepared.
func runProbe() {
	if err := prepare(); err != nil {
		fmt.Fprint(os.Stderr, err)
		os.Exit(exitSetup)
	}
	os.Exit(0)
}

// prepare makes the fresh namespaces usable: private mounts, own /proc and /run, loopback up.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for _, dir := range []string{netnsDir, "/run/lock"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// Shared, as iproute2 makes it: mount namespaces made later see network namespaces made after them.
	if err := unix.Mount(netnsDir, netnsDir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", netnsDir, err)
	}
	if err := unix.Mount("", netnsDir, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share %s: %w", netnsDir, err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// supervise runs the program and reaps everything that is orphaned meanwhile.
func supervise() (status int, err error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	control := os.NewFile(fdControl, "control")
	cmd := reexec(stageProgram)
	cmd.ExtraFiles = []*os.File{control}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	control.Close()
	pid := cmd.Process.Pid
	go func() {
		for s := range signals {
			_ = unix.Kill(pid, s.(syscall.Signal))
		}
	}()
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case got == pid:
			return waitStatus(syscall.WaitStatus(ws)), nil
		}
	}
}

// waitStatus is the exit status a shell would report.
func waitStatus(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// JoinCommand prepares a command that runs from outside in the namespaces of a running laboratory, in the namespace of one of its hosts
// ("" for the laboratory's own), with the caller's standard streams. initPID is what [InitPID] said inside. It needs nsenter and ip.
func JoinCommand(initPID int, host string, argv ...string) (*exec.Cmd, error) {
	if len(argv) == 0 {
		return nil, errors.New("join a laboratory: no command given")
	}
	if _, err := os.Stat(filepath.Join("/proc", fmt.Sprint(initPID), "ns", "pid")); err != nil {
		return nil, fmt.Errorf("no laboratory runs as process %d: %w", initPID, err)
	}
	args := []string{"--target", fmt.Sprint(initPID), "--mount", "--net", "--pid", "--ipc", "--wd=/"}
	if !maySysAdmin() {
		args = append(args, "--user", "--preserve-credentials")
	}
	args = append(args, "--")
	if host != "" {
		args = append(args, "ip", "netns", "exec", host)
	}
	cmd := exec.Command("nsenter", append(args, argv...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd, nil
}
