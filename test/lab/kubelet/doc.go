// Package kubelet is the laboratory's process kubelet: it runs the containers of the Pods that the scheduler binds to
// its node as plain processes, without a container engine.
//
// What a Pod can tell apart is as on a real node: a network namespace of its own with an address of each family (unless
// hostNetwork), its own mounts, processes and host name, its user, groups and Linux capabilities, Secrets, ConfigMaps and
// ServiceAccount tokens as files that follow changes, probes, restarts with a back-off, a termination grace, and a
// status that says what really happened. It uses the API as its node, so node authorisation and NodeRestriction apply.
//
// What is not there: images (a [Resolver] maps names to directories of programs, the rest of a container's root is the
// machine's own /usr, read-only), cgroups and resource limits, seccomp and AppArmor, ephemeral and sidecar containers,
// CSI volumes, gRPC probes, name service, kubectl exec and attach (kubectl logs works).
package kubelet
