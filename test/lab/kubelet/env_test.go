package kubelet

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestExpand(t *testing.T) {
	values := map[string]string{"A": "a", "EMPTY": "", "NESTED": "$(A)"}
	for text, want := range map[string]string{
		"":               "",
		"plain":          "plain",
		"$(A)":           "a",
		"x$(A)y$(A)z":    "xayaz",
		"$(EMPTY)":       "",
		"$(UNKNOWN)":     "$(UNKNOWN)",
		"$$(A)":          "$(A)",
		"$$$(A)":         "$a",
		"$":              "$",
		"$$":             "$",
		"$A":             "$A",
		"$(A":            "$(A",
		"$(":             "$(",
		"$(NESTED)":      "$(A)", // what comes out is not looked at again
		"100$ and $(A) ": "100$ and a ",
	} {
		if got := expand(text, values); got != want {
			t.Errorf("expand(%q) = %q, want %q", text, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"$(A)", "$$(A)", "$(", "$", "a$(B)c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !strings.Contains(text, "$") && expand(text, nil) != text {
			t.Errorf("expand changed %q, which has no dollar sign", text)
		}
		// With every dollar doubled nothing is a reference.
		if doubled := strings.ReplaceAll(text, "$", "$$"); expand(doubled, map[string]string{"A": "x"}) != text {
			t.Errorf("expand(%q) is not %q", doubled, text)
		}
	})
}

// mapSources are Secrets and ConfigMaps in memory.
type mapSources struct {
	secrets, configMaps map[string]map[string][]byte
	err                 error
}

func (s mapSources) secret(name string) (map[string][]byte, error) { return s.secrets[name], s.err }
func (s mapSources) configMap(name string) (map[string][]byte, error) {
	return s.configMaps[name], s.err
}

func testPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "pod", Namespace: "ns", UID: "12345678-uid",
			Labels: map[string]string{"b": "2", "a": "1", "example.org/x": "y"},
		},
		Spec: corev1.PodSpec{NodeName: "node-1", ServiceAccountName: "sa"},
	}
}

func fieldRef(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
}

func TestEnvironment(t *testing.T) {
	src := mapSources{
		secrets:    map[string]map[string][]byte{"s": {"key": []byte("secret")}},
		configMaps: map[string]map[string][]byte{"c": {"ONE": []byte("1"), "TWO": []byte("2")}},
	}
	at := placement{hostIPs: []string{"192.0.2.1", "2001:db8::1"}, podIPs: []string{"10.0.0.2", "fd00::2"}}
	c := &corev1.Container{
		EnvFrom: []corev1.EnvFromSource{
			{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}}},
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "none"}, Optional: new(true)}},
		},
		Env: []corev1.EnvVar{
			{Name: "BASE", Value: "replaced"},
			{Name: "P_TWO", Value: "$(P_ONE)+$(P_TWO)"},
			{Name: "NODE", ValueFrom: fieldRef("spec.nodeName")},
			{Name: "IPS", ValueFrom: fieldRef("status.podIPs")},
			{Name: "HOST", ValueFrom: fieldRef("status.hostIP")},
			{Name: "LABEL", ValueFrom: fieldRef("metadata.labels['example.org/x']")},
			{Name: "SECRET", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "key",
			}}},
			{Name: "ABSENT", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Key: "THREE", Optional: new(true),
			}}},
			{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}},
		},
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m")}},
	}
	got, err := environment(testPod(), c, []corev1.EnvVar{{Name: "BASE", Value: "base"}}, at, src)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"BASE=replaced", "P_ONE=1", "P_TWO=1+2", "NODE=node-1", "IPS=10.0.0.2,fd00::2", "HOST=192.0.2.1", "LABEL=y", "SECRET=secret", "CPU=2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestEnvironmentErrors(t *testing.T) {
	key := func(name, key string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key,
		}}
	}
	for name, test := range map[string]struct {
		from *corev1.EnvVarSource
		err  error
		want string
	}{
		"no Secret":     {from: key("none", "k"), want: "secret none not found"},
		"no key":        {from: key("s", "k"), want: "couldn't find key k in secret s"},
		"API error":     {from: key("s", "k"), err: errors.New("forbidden"), want: "forbidden"},
		"unknown field": {from: fieldRef("spec.containers"), want: `field "spec.containers" is not available`},
		"no source":     {from: &corev1.EnvVarSource{}, want: "does not know"},
		"bad resource":  {from: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "cpu"}}, want: "want requests.NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			src := mapSources{secrets: map[string]map[string][]byte{"s": {"other": nil}}, err: test.err}
			c := &corev1.Container{Env: []corev1.EnvVar{{Name: "V", ValueFrom: test.from}}}
			_, err := environment(testPod(), c, nil, placement{}, src)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestMapText(t *testing.T) {
	want := "a=\"1\"\nb=\"2\"\nexample.org/x=\"y\""
	if got := mapText(testPod().Labels); got != want {
		t.Errorf("labels as a file: %q, want %q", got, want)
	}
}
