package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// A container starts as this very program under another name: it reads its orders from a pipe, arranges its own
// namespaces from within, and then becomes the container's program.
const (
	shimRun  = "herald-lab-container" // becomes a new container
	shimExec = "herald-lab-exec"      // runs a command in an existing one

	fdOrders = 3 // JSON: containerSpec or execSpec
	fdError  = 4 // what went wrong, as text; closed without a word when all went well

	// exitShim is the status when a container's set-up fails.
	exitShim = 128
)

// containerSpec is everything that the shim has to know about a container.
type containerSpec struct {
	Root     string            // an empty directory to build the container's root on
	Hostname string            //
	Image    string            // directory of programs
	Files    map[string]string // generated files: absolute path in the container to content
	Mounts   []bindMount
	Process  processSpec
	ReadOnly bool // the root is read-only, volumes apart
}

// bindMount shows a file or directory of the machine at a path in the container.
type bindMount struct {
	Source, Target string
	ReadOnly       bool
}

// processSpec says what to run in a container, and as whom.
type processSpec struct {
	Args []string
	Env  []string
	Dir  string // working directory; empty means /
	// User, Group and Groups are those of the process. They are left alone when KeepUser is set, as where no other
	// users exist.
	User, Group int
	Groups      []int
	KeepUser    bool
	// Capabilities are all that the process can ever get.
	Capabilities []uintptr
	// NoNewPrivileges keeps programs with set-uid or file capabilities from gaining anything (no_new_privs in prctl(2)).
	NoNewPrivileges bool
}

// shimEnvironment is what a shim itself needs. A program with the race detector otherwise sleeps a second before it exits.
func shimEnvironment() []string { return []string{"GORACE=atexit_sleep_ms=0"} }

// Shim must be the first call in main or TestMain of a program that runs kubelets. In a process that was started to
// become a container it does not return.
func Shim() {
	switch os.Args[0] {
	case shimRun:
		runShim(becomeContainer)
	case shimExec:
		runShim(execInContainer)
	}
}

// runShim reports on fdError what work returns, which on success it does not.
func runShim(work func(orders []byte) error) {
	runtime.LockOSThread() // namespaces, capabilities and no_new_privs belong to a thread
	syscall.CloseOnExec(fdOrders)
	syscall.CloseOnExec(fdError)
	orders, err := io.ReadAll(os.NewFile(fdOrders, "orders"))
	if err == nil {
		err = work(orders)
	}
	fmt.Fprint(os.NewFile(fdError, "error"), err)
	os.Exit(exitShim)
}

// becomeContainer turns the calling process, alone in fresh mount, PID, UTS and IPC namespaces, into the container.
func becomeContainer(orders []byte) error {
	var spec containerSpec
	if err := json.Unmarshal(orders, &spec); err != nil {
		return err
	}
	if err := makeRoot(spec); err != nil {
		return fmt.Errorf("container root: %w", err)
	}
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	path, err := spec.Process.prepare()
	if err != nil {
		return err
	}
	if err := limitPrivileges(spec.Process); err != nil {
		return err
	}
	if err := becomeUser(spec.Process); err != nil {
		return err
	}
	if err := unix.Exec(path, spec.Process.Args, spec.Process.Env); err != nil {
		return fmt.Errorf("exec %s: %w", path, err)
	}
	return nil
}

// prepare goes to the working directory and finds the program as a shell would with the process's PATH.
func (p processSpec) prepare() (path string, err error) {
	dir := p.Dir
	if dir == "" {
		dir = "/"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil && !errors.Is(err, unix.EROFS) {
		return "", fmt.Errorf("working directory: %w", err)
	}
	if err := os.Chdir(dir); err != nil {
		return "", fmt.Errorf("working directory: %w", err)
	}
	os.Clearenv()
	for _, v := range p.Env {
		key, value, _ := cutVariable(v)
		if err := os.Setenv(key, value); err != nil {
			return "", fmt.Errorf("environment variable %q: %w", key, err)
		}
	}
	if len(p.Args) == 0 {
		return "", errors.New("neither the container nor its image says what to run")
	}
	path, err = exec.LookPath(p.Args[0])
	if err != nil {
		return "", fmt.Errorf("exec: %w", err)
	}
	return path, nil
}

// limitPrivileges takes every other capability out of the calling thread's reach for good.
func limitPrivileges(p processSpec) error {
	keep := map[uintptr]bool{}
	for _, c := range p.Capabilities {
		keep[c] = true
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if keep[c] {
			continue
		}
		// EINVAL: a capability that this kernel does not know.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("dropping capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clearing ambient capabilities: %w", err)
	}
	if !p.NoNewPrivileges {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return nil
}

// becomeUser changes the process's user and groups. What is left of the capabilities the kernel works out at exec:
// for user 0 all that limitPrivileges left, for others none, as in a container engine.
func becomeUser(p processSpec) error {
	if p.KeepUser {
		return nil
	}
	if err := unix.Setgroups(p.Groups); err != nil {
		return fmt.Errorf("supplementary groups: %w", err)
	}
	if err := unix.Setresgid(p.Group, p.Group, p.Group); err != nil {
		return fmt.Errorf("group %d: %w", p.Group, err)
	}
	if err := unix.Setresuid(p.User, p.User, p.User); err != nil {
		return fmt.Errorf("user %d: %w", p.User, err)
	}
	return nil
}
