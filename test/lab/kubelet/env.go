package kubelet

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// defaultPath is PATH in a container that does not set it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// sources is where environment variables and files can come from besides the Pod itself. A nil map with a nil error
// means that the object does not exist.
type sources interface {
	secret(name string) (map[string][]byte, error)
	configMap(name string) (map[string][]byte, error)
}

// placement is what a Pod gets from the node it runs on.
type placement struct {
	hostIPs []string
	podIPs  []string
}

// environment returns a container's variables as KEY=value, each key once: base first, then envFrom, then env. Later
// ones win, and $(NAME) in a value refers to what stands before it.
func environment(pod *corev1.Pod, c *corev1.Container, base []corev1.EnvVar, at placement, src sources) ([]string, error) {
	e := newVariables()
	for _, v := range base {
		e.set(v.Name, v.Value)
	}
	for _, from := range c.EnvFrom {
		if err := e.addFrom(from, src); err != nil {
			return nil, err
		}
	}
	for _, v := range c.Env {
		value, found, err := resolve(pod, c, v, at, src, e)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", v.Name, err)
		}
		if found {
			e.set(v.Name, value)
		}
	}
	return e.list(), nil
}

// variables is an ordered set of environment variables.
type variables struct {
	order  []string
	values map[string]string
}

func newVariables() *variables { return &variables{values: map[string]string{}} }

func (e *variables) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.order = append(e.order, name)
	}
	e.values[name] = value
}

func (e *variables) list() []string {
	out := make([]string, 0, len(e.order))
	for _, name := range e.order {
		out = append(out, name+"="+e.values[name])
	}
	return out
}

// addFrom adds all keys of a Secret or a ConfigMap.
func (e *variables) addFrom(from corev1.EnvFromSource, src sources) error {
	var data map[string][]byte
	var err error
	var what string
	var optional *bool
	switch {
	case from.SecretRef != nil:
		what, optional = "secret "+from.SecretRef.Name, from.SecretRef.Optional
		data, err = src.secret(from.SecretRef.Name)
	case from.ConfigMapRef != nil:
		what, optional = "configmap "+from.ConfigMapRef.Name, from.ConfigMapRef.Optional
		data, err = src.configMap(from.ConfigMapRef.Name)
	}
	if err != nil {
		return err
	}
	if data == nil && (optional == nil || !*optional) {
		return fmt.Errorf("%s not found", what)
	}
	for _, key := range sortedKeys(data) {
		e.set(from.Prefix+key, string(data[key]))
	}
	return nil
}

// resolve returns a variable's value; found is false for an optional reference to something that is not there.
func resolve(pod *corev1.Pod, c *corev1.Container, v corev1.EnvVar, at placement, src sources, e *variables) (value string, found bool, err error) {
	from := v.ValueFrom
	switch {
	case from == nil:
		return expand(v.Value, e.values), true, nil
	case from.FieldRef != nil:
		value, err = field(pod, from.FieldRef.FieldPath, at)
		return value, true, err
	case from.SecretKeyRef != nil:
		data, err := src.secret(from.SecretKeyRef.Name)
		return fromKey(data, err, "secret "+from.SecretKeyRef.Name, from.SecretKeyRef.Key, from.SecretKeyRef.Optional)
	case from.ConfigMapKeyRef != nil:
		data, err := src.configMap(from.ConfigMapKeyRef.Name)
		return fromKey(data, err, "configmap "+from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Key, from.ConfigMapKeyRef.Optional)
	case from.ResourceFieldRef != nil:
		value, err = resourceText(c, from.ResourceFieldRef)
		return value, true, err
	}
	return "", false, errors.New("its source is of a kind that the laboratory does not know")
}

func fromKey(data map[string][]byte, err error, what, key string, optional *bool) (string, bool, error) {
	if err != nil {
		return "", false, err
	}
	if value, ok := data[key]; ok {
		return string(value), true, nil
	}
	if optional != nil && *optional {
		return "", false, nil
	}
	if data == nil {
		return "", false, fmt.Errorf("%s not found", what)
	}
	return "", false, fmt.Errorf("couldn't find key %s in %s", key, what)
}

// field returns what a fieldRef of the downward API stands for.
func field(pod *corev1.Pod, path string, at placement) (string, error) {
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return mapText(pod.Labels), nil
	case "metadata.annotations":
		return mapText(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP":
		return first(at.podIPs), nil
	case "status.podIPs":
		return strings.Join(at.podIPs, ","), nil
	case "status.hostIP":
		return first(at.hostIPs), nil
	case "status.hostIPs":
		return strings.Join(at.hostIPs, ","), nil
	}
	for prefix, values := range map[string]map[string]string{
		"metadata.labels": pod.Labels, "metadata.annotations": pod.Annotations,
	} {
		if key, ok := subscript(path, prefix); ok {
			return values[key], nil
		}
	}
	return "", fmt.Errorf("field %q is not available to containers", path)
}

// subscript returns key of path prefix['key'].
func subscript(path, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(path, prefix+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

// mapText prints labels as the downward API does: key="value", one per line, sorted.
func mapText(m map[string]string) string {
	var lines []string
	for _, key := range sortedKeys(m) {
		lines = append(lines, fmt.Sprintf("%s=%q", key, m[key]))
	}
	return strings.Join(lines, "\n")
}

// resourceText returns a resourceFieldRef: a container's own request or limit, in units of the divisor, rounded up.
func resourceText(c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	kind, name, ok := strings.Cut(ref.Resource, ".")
	list := c.Resources.Requests
	switch {
	case !ok:
		return "", fmt.Errorf("resource %q: want requests.NAME or limits.NAME", ref.Resource)
	case kind == "limits":
		list = c.Resources.Limits
	}
	quantity := list[corev1.ResourceName(name)]
	divisor := ref.Divisor.MilliValue()
	if divisor == 0 {
		divisor = 1000
	}
	return fmt.Sprint((quantity.MilliValue() + divisor - 1) / divisor), nil
}

// expand replaces $(NAME) by the variable's value. $$ stands for one dollar sign, and a reference to something unknown
// stays as it is.
func expand(text string, values map[string]string) string {
	var out strings.Builder
	for {
		dollar := strings.IndexByte(text, '$')
		if dollar < 0 || dollar == len(text)-1 {
			out.WriteString(text)
			return out.String()
		}
		out.WriteString(text[:dollar])
		text = text[dollar+1:]
		switch text[0] {
		case '$':
			out.WriteByte('$')
			text = text[1:]
		case '(':
			end := strings.IndexByte(text, ')')
			if end < 0 {
				out.WriteString("$(")
				text = text[1:]
				continue
			}
			if value, ok := values[text[1:end]]; ok {
				out.WriteString(value)
			} else {
				out.WriteString("$" + text[:end+1])
			}
			text = text[end+1:]
		default:
			out.WriteByte('$')
		}
	}
}

// expandAll expands each of several texts with variables in the form KEY=value.
func expandAll(texts, env []string) []string {
	values := map[string]string{}
	for _, v := range env {
		key, value, _ := cutVariable(v)
		values[key] = value
	}
	out := make([]string, 0, len(texts))
	for _, text := range texts {
		out = append(out, expand(text, values))
	}
	return out
}

func cutVariable(v string) (key, value string, ok bool) { return strings.Cut(v, "=") }

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
