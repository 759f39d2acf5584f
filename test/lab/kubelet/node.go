package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A node says that it lives by renewing its Lease. It says how it is at the same time, which a real one does less often.
const (
	leaseDuration = 40 * time.Second
	leaseInterval = 10 * time.Second
	retryInterval = 500 * time.Millisecond
)

// register makes the Node object, or takes over the one that is there, and its Lease. It tries until the context ends.
func (k *Kubelet) register(ctx context.Context) error {
	for {
		err := k.registerOnce(ctx)
		if err == nil {
			return nil
		}
		k.o.Log.Warn("registering the node", "err", err)
		if !sleep(ctx, retryInterval) {
			return fmt.Errorf("node %s was not registered: %w", k.o.Node, err)
		}
	}
}

func (k *Kubelet) registerOnce(ctx context.Context) error {
	_, err := k.client.CoreV1().Nodes().Create(ctx, k.node(time.Now()), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		err = k.writeNodeStatus(ctx)
	}
	if err != nil {
		return err
	}
	return k.renewLease(ctx)
}

// heartbeat renews the Lease and the node's status until the context ends.
func (k *Kubelet) heartbeat(ctx context.Context) {
	for sleep(ctx, leaseInterval) {
		if err := k.renewLease(ctx); err != nil {
			k.o.Log.Warn("renewing the node's lease", "err", err)
		}
		if err := k.writeNodeStatus(ctx); err != nil {
			k.o.Log.Warn("writing the node's status", "err", err)
		}
	}
}

func (k *Kubelet) renewLease(ctx context.Context) error {
	leases := k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	lease, err := leases.Get(ctx, k.o.Node, metav1.GetOptions{})
	spec := coordinationv1.LeaseSpec{
		HolderIdentity:       new(k.o.Node),
		LeaseDurationSeconds: new(int32(leaseDuration.Seconds())),
		RenewTime:            new(metav1.NowMicro()),
	}
	if apierrors.IsNotFound(err) {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: k.o.Node}, Spec: spec}
		_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec = spec
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}

// writeNodeStatus says how the node is, and that this is fresh.
func (k *Kubelet) writeNodeStatus(ctx context.Context) error {
	patch, err := json.Marshal(map[string]any{"status": heartbeatOf(k.node(time.Now()).Status)})
	if err != nil {
		return err
	}
	_, err = k.client.CoreV1().Nodes().Patch(ctx, k.o.Node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// heartbeatOf returns a status as a strategic merge patch. It leaves the conditions' lastTransitionTime as it is, and
// the addresses, which never change and cannot be merged: two are of the same type.
func heartbeatOf(status corev1.NodeStatus) map[string]any {
	var conditions []map[string]any
	for _, c := range status.Conditions {
		conditions = append(conditions, map[string]any{
			"type": c.Type, "status": c.Status, "reason": c.Reason, "message": c.Message, "lastHeartbeatTime": c.LastHeartbeatTime,
		})
	}
	return map[string]any{
		"conditions": conditions, "capacity": status.Capacity, "allocatable": status.Allocatable,
		"nodeInfo": status.NodeInfo, "daemonEndpoints": status.DaemonEndpoints,
	}
}

// node returns the whole Node as it should be created.
func (k *Kubelet) node(now time.Time) *corev1.Node {
	labels := map[string]string{
		corev1.LabelHostname: k.o.Node, corev1.LabelOSStable: "linux", corev1.LabelArchStable: runtime.GOARCH,
	}
	maps.Copy(labels, k.o.Labels)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: k.o.Node, Labels: labels}}
	for _, r := range k.o.PodCIDRs {
		n.Spec.PodCIDRs = append(n.Spec.PodCIDRs, r.String())
	}
	n.Spec.PodCIDR = first(n.Spec.PodCIDRs)
	n.Spec.ProviderID = "herald-lab://" + k.o.Node
	n.Status = k.nodeStatus(metav1.NewTime(now))
	return n
}

func (k *Kubelet) nodeStatus(now metav1.Time) corev1.NodeStatus {
	resources := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("32"),
		corev1.ResourceMemory:           resource.MustParse("64Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
		corev1.ResourcePods:             resource.MustParse("250"),
	}
	status := corev1.NodeStatus{
		Capacity: resources, Allocatable: resources,
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: k.o.Node}},
		NodeInfo: corev1.NodeSystemInfo{
			KubeletVersion: k.o.Version, OperatingSystem: "linux", Architecture: runtime.GOARCH,
			OSImage: "Herald laboratory", ContainerRuntimeVersion: "process://1", KernelVersion: kernelRelease(),
			MachineID: k.o.Node, SystemUUID: k.o.Node, BootID: k.o.Node,
		},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: logPort}},
	}
	for _, ip := range k.hostIPs() {
		status.Addresses = append(status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	for _, c := range []struct {
		kind            corev1.NodeConditionType
		status          corev1.ConditionStatus
		reason, message string
	}{
		{corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "the process kubelet runs"},
		{corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", ""},
		{corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", ""},
		{corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", ""},
	} {
		status.Conditions = append(status.Conditions, corev1.NodeCondition{
			Type: c.kind, Status: c.status, Reason: c.reason, Message: c.message, LastHeartbeatTime: now, LastTransitionTime: now,
		})
	}
	return status
}
