package kubelet

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// capabilityNames lists Linux' capabilities in the order of their numbers (capabilities(7)).
func capabilityNames() []string {
	return []string{
		"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
		"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
		"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
		"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
		"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
		"CHECKPOINT_RESTORE",
	}
}

// defaultCapabilities are those that container engines give when nothing is said.
func defaultCapabilities() []string {
	return []string{
		"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
		"NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
	}
}

// capabilities returns the numbers of the capabilities that a container may have, in ascending order. What is dropped
// by name goes after what is added by ALL and the other way round, as in container engines.
func capabilities(sc *corev1.SecurityContext) ([]uintptr, error) {
	names := capabilityNames()
	have := map[string]bool{}
	if sc != nil && sc.Privileged != nil && *sc.Privileged {
		return numbers(names, func(string) bool { return true }), nil
	}
	for _, name := range defaultCapabilities() {
		have[name] = true
	}
	if sc == nil || sc.Capabilities == nil {
		return numbers(names, func(name string) bool { return have[name] }), nil
	}
	add, err := normalise(sc.Capabilities.Add)
	if err != nil {
		return nil, err
	}
	drop, err := normalise(sc.Capabilities.Drop)
	if err != nil {
		return nil, err
	}
	set := func(list []string, value bool) {
		for _, name := range list {
			have[name] = value
		}
	}
	if slices.Contains(add, "ALL") {
		set(names, true)
	}
	if slices.Contains(drop, "ALL") {
		set(names, false)
	}
	set(add, true)
	set(drop, false)
	return numbers(names, func(name string) bool { return have[name] }), nil
}

// normalise checks names and takes the prefix CAP_ off, which some write.
func normalise(list []corev1.Capability) ([]string, error) {
	var out []string
	for _, c := range list {
		name := strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_")
		if name != "ALL" && !slices.Contains(capabilityNames(), name) {
			return nil, fmt.Errorf("unknown capability %q", c)
		}
		out = append(out, name)
	}
	return out, nil
}

func numbers(names []string, want func(string) bool) []uintptr {
	var out []uintptr
	for i, name := range names {
		if want(name) {
			out = append(out, uintptr(i))
		}
	}
	return out
}
