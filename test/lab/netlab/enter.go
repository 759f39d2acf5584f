package netlab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// stageEnv says which part of the re-execution a process is. It stays set inside, so that a child which calls [Enter] again stays where it is.
const stageEnv = "HERALD_NETLAB_STAGE"

const (
	stageProbe   = "probe"   // as init, but ends after preparing the namespaces
	stageInit    = "init"    // process 1 of the new PID namespace
	stageProgram = "program" // the program proper, before it called Enter
	stageInside  = "inside"  // the program after Enter, and its children
)

// Descriptors handed down beside standard input, output and error.
const (
	fdControl  = 3 // control socket: init passes it on to the program
	fdLifeline = 4 // pipe whose other end only the outer process holds
)

// exitSetup is the exit status when the namespaces cannot be made.
const exitSetup = 125

var errNamespaces = errors.New("the laboratory needs its own namespaces: run it as root, or as a user allowed to create user namespaces " +
	"(user.max_user_namespaces above 0; where they exist kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0)")

// Inside reports whether the process already runs inside the namespaces made by [Enter].
func Inside() bool {
	stage := os.Getenv(stageEnv)
	return stage == stageInside || stage == stageProgram
}

// Enter re-executes the running program inside fresh namespaces and returns only there; call it first in main or TestMain.
// The outer process waits, forwards INT, TERM, HUP, QUIT, USR1 and USR2, and ends with the inner one's exit status (128+n for signal n).
// When the outer process dies, everything inside dies with it. Standard input, output and error are the outer ones; the inside is a process
// group of its own, so a Ctrl-C reaches it once, through the outer process, and does not reach its children.
//
// There is no way from inside to the outer network, except [ListenOuter] and [Forward]: download what is needed before entering.
// Helpers that are started by re-executing the program must be dispatched before Enter is called.
func Enter() {
	if err := enter(); err != nil {
		fmt.Fprintln(os.Stderr, "netlab:", err)
		os.Exit(exitSetup)
	}
}

func enter() error {
	switch os.Getenv(stageEnv) {
	case stageInside:
		return nil
	case stageProgram:
		return adoptControl()
	case stageProbe:
		runProbe()
	case stageInit:
		runInit()
	}
	status, err := runOuter()
	if err != nil {
		return err
	}
	os.Exit(status)
	return nil
}

// runOuter starts the inside and serves it until it ends.
func runOuter() (status int, err error) {
	ours, theirs, err := controlPair()
	if err != nil {
		return 0, fmt.Errorf("make control socket: %w", err)
	}
	defer ours.Close()
	defer theirs.Close()
	lifeR, lifeW, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("make lifeline: %w", err)
	}
	defer lifeR.Close()
	defer lifeW.Close()

	cmd := reexec(stageInit)
	cmd.ExtraFiles = []*os.File{theirs, lifeR}
	cmd.SysProcAttr = namespaceAttr()

	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	runtime.LockOSThread() // the parent-death signal is sent when this thread, not this process, ends
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("%w: %w", errNamespaces, err)
	}
	theirs.Close()
	lifeR.Close()
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	var serving sync.WaitGroup
	serving.Go(func() { serveControl(ours, cmd.Process.Pid) })
	err = cmd.Wait()
	serving.Wait() // the socket's other end died with the inside
	return exitStatus(err)
}

// exitStatus turns the result of Cmd.Wait into a shell's exit status.
func exitStatus(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return waitStatus(exit.Sys().(unixWaitStatus)), nil
	}
	return 0, err
}

// reexec prepares another run of the program, with the same arguments and standard streams.
func reexec(stage string) *exec.Cmd {
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, stageEnv+"=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, stageEnv+"="+stage)
	return cmd
}

// namespaceAttr asks for the namespaces; without the privilege to make them directly it asks for a user namespace as well,
// in which the caller is root and nobody else exists.
func namespaceAttr() *sysProcAttr {
	attr := &sysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC,
		Pdeathsig:  unix.SIGKILL,
		Setpgid:    true,
	}
	if !maySysAdmin() {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []idMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []idMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// maySysAdmin reports whether the process may make namespaces without a user namespace around them.
func maySysAdmin() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// SingleUser reports whether only one user exists in the current user namespace, as after [Enter] by an ordinary user:
// changing to another user is then impossible, and so is anything that drops root.
func SingleUser() bool {
	f, err := os.Open("/proc/self/uid_map")
	if err != nil {
		return false
	}
	defer f.Close()
	var inside, outside, size uint64
	if _, err := fmt.Fscan(io.LimitReader(f, 256), &inside, &outside, &size); err != nil {
		return false
	}
	return size == 1
}
