package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// execSpec asks for a command in the namespaces of a running container.
type execSpec struct {
	PID     int // of the container's first process, as seen by the kubelet
	Process processSpec
}

// execInContainer runs a command in a container and ends with its exit status. The calling thread is locked: it alone
// moves into the container, and the command is its child.
func execInContainer(orders []byte) error {
	var spec execSpec
	if err := json.Unmarshal(orders, &spec); err != nil {
		return err
	}
	if err := joinContainer(spec.PID); err != nil {
		return fmt.Errorf("entering the container: %w", err)
	}
	path, err := spec.Process.prepare()
	if err != nil {
		return err
	}
	if err := limitPrivileges(spec.Process); err != nil {
		return err
	}
	cmd := &exec.Cmd{
		Path: path, Args: spec.Process.Args, Env: spec.Process.Env, Dir: spec.Process.Dir,
		Stdout: os.Stdout, Stderr: os.Stderr,
	}
	if !spec.Process.KeepUser {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential(spec.Process)}
	}
	// From here on there is nothing to say to the kubelet: what goes wrong is the command's own output.
	if err := unix.Close(fdError); err != nil {
		return err
	}
	err = runUntilTerm(cmd)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(max(exit.ExitCode(), 1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitShim)
	}
	os.Exit(0)
	return nil
}

// runUntilTerm runs a command and kills it when this process is asked to end. (A parent-death signal would not do: the
// command is in another PID namespace, where it cannot see its parent.)
func runUntilTerm(cmd *exec.Cmd) error {
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		<-term
		_ = cmd.Process.Kill() // an error means that it has ended
	}()
	return cmd.Wait()
}

func credential(p processSpec) *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(p.User), Gid: uint32(p.Group)}
	for _, g := range p.Groups {
		c.Groups = append(c.Groups, uint32(g))
	}
	return c
}

// joinContainer moves the calling thread into the container's namespaces; its children land in the PID namespace too.
func joinContainer(pid int) error {
	kinds := []struct {
		name string
		flag int
	}{
		{"ipc", unix.CLONE_NEWIPC},
		{"uts", unix.CLONE_NEWUTS},
		{"net", unix.CLONE_NEWNET},
		{"pid", unix.CLONE_NEWPID},
		{"mnt", unix.CLONE_NEWNS},
	}
	// Opened first: once the mount namespace is another one, so is /proc.
	files := make([]*os.File, len(kinds))
	for i, k := range kinds {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, k.name))
		if err != nil {
			return err
		}
		defer f.Close()
		files[i] = f
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // Go's threads share root and working directory
		return err
	}
	for i, k := range kinds {
		if err := unix.Setns(int(files[i].Fd()), k.flag); err != nil {
			return fmt.Errorf("%s namespace: %w", k.name, err)
		}
	}
	return nil
}
