package live

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/test/observe"
)

// Pace of the laboratory's Prometheus, and what takes the place of the alerts' own patience.
const (
	scrapeEvery   = "2s"
	evaluateEvery = "1s"
	shortFor      = "2s"
	shortWindow   = "60s" // in which a session flaps
	rateInterval  = "10s"
)

// podMonitor is what the chart uses of the operator's kind.
type podMonitor struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		JobLabel            string               `json:"jobLabel"`
		Selector            metav1.LabelSelector `json:"selector"`
		PodMetricsEndpoints []endpoint           `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

type endpoint struct {
	Port      string         `json:"port"`
	Path      string         `json:"path"`
	Scheme    string         `json:"scheme"`
	TLSConfig map[string]any `json:"tlsConfig"`
	// Of the Secret with the token.
	Authorization struct {
		Credentials corev1.SecretKeySelector `json:"credentials"`
	} `json:"authorization"`
	Relabelings []relabeling `json:"relabelings"`
}

type relabeling struct {
	SourceLabels []string `json:"sourceLabels"`
	TargetLabel  string   `json:"targetLabel"`
}

// relabel writes what a PodMonitor asks for as Prometheus' configuration, as the operator does.
func (m podMonitor) relabel(e endpoint) []map[string]any {
	keep := func(source, regex string) map[string]any {
		return map[string]any{"action": "keep", "source_labels": []string{source}, "regex": regex}
	}
	set := func(target string, sources ...string) map[string]any {
		return map[string]any{"source_labels": sources, "target_label": target}
	}
	var rules []map[string]any
	for _, name := range slices.Sorted(maps.Keys(m.Spec.Selector.MatchLabels)) {
		rules = append(rules, keep(label(name), regexp.QuoteMeta(m.Spec.Selector.MatchLabels[name])))
	}
	for _, x := range m.Spec.Selector.MatchExpressions { // the chart's are all of the kind In
		rules = append(rules, keep(label(x.Key), strings.Join(x.Values, "|")))
	}
	rules = append(rules, keep(meta+"pod_container_port_name", e.Port),
		set("namespace", meta+"namespace"), set("container", meta+"pod_container_name"), set("pod", meta+"pod_name"), set("job", label(m.Spec.JobLabel)))
	for _, r := range e.Relabelings {
		rules = append(rules, set(r.TargetLabel, r.SourceLabels...))
	}
	return rules
}

// configuration is Prometheus' for one PodMonitor.
func (m podMonitor) configuration(token, discovery string) ([]byte, error) {
	e := m.Spec.PodMetricsEndpoints[0]
	job := map[string]any{
		"job_name": "podMonitor/" + m.Metadata.Namespace + "/" + m.Metadata.Name + "/0", "scheme": e.Scheme, "metrics_path": e.Path,
		"tls_config":    map[string]any{"insecure_skip_verify": e.TLSConfig["insecureSkipVerify"] == true},
		"authorization": map[string]any{"credentials": token},
		// Debian builds Prometheus without kubernetes_sd_configs, so the test tells what that would find.
		"http_sd_configs": []any{map[string]any{"url": discovery, "refresh_interval": scrapeEvery}},
		"relabel_configs": m.relabel(e),
	}
	return yaml.Marshal(map[string]any{
		"global":         map[string]any{"scrape_interval": scrapeEvery, "scrape_timeout": scrapeEvery, "evaluation_interval": evaluateEvery},
		"rule_files":     []string{"/etc/prometheus/rules.yml"},
		"scrape_configs": []any{job},
	})
}

// hasten makes alerts fire and clear soon. That nobody sets the clock of the machine under the laboratory is no fault of Herald's.
func hasten(groups []observe.Group) []observe.Group {
	long := regexp.MustCompile(`\[\d+m\]`)
	for _, g := range groups {
		for i := range g.Rules {
			r := &g.Rules[i]
			r.Expr = long.ReplaceAllString(r.Expr, "["+shortWindow+"]")
			r.Expr = strings.ReplaceAll(r.Expr, "herald_speaker_problems", `herald_speaker_problems{reason!="ClockUnsynchronised"}`)
			if r.For != "" {
				r.For = shortFor
			}
		}
	}
	return groups
}

// object reads an object of the chart's from the API server.
func (s *stage) object(ctx context.Context, kind, name string, into any) error {
	text, err := s.Kubectl(ctx, "get", kind, name, "--namespace", s.Namespace, "--output", "json")
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), into)
}

// configure gives Prometheus its configuration: what the operator would make of the chart's objects, with alerts in haste.
func (s *stage) configure(ctx context.Context) error {
	var monitor podMonitor
	var rule struct {
		Spec struct {
			Groups []observe.Group `json:"groups"`
		} `json:"spec"`
	}
	if err := s.object(ctx, "podmonitor", s.Release, &monitor); err != nil {
		return err
	}
	if err := s.object(ctx, "prometheusrule", s.Release, &rule); err != nil {
		return err
	}
	s.alerts = observe.Alerts(hasten(rule.Spec.Groups))
	token, err := s.token(ctx, monitor.Spec.PodMetricsEndpoints[0].Authorization.Credentials)
	if err != nil {
		return err
	}
	discovery, err := s.discover()
	if err != nil {
		return err
	}
	config, err := monitor.configuration(token, discovery)
	if err != nil {
		return err
	}
	rules, err := yaml.Marshal(map[string]any{"groups": rule.Spec.Groups})
	if err != nil {
		return err
	}
	if err := s.Apply(ctx, "apiVersion: v1\nkind: Namespace\nmetadata: {name: monitoring}\n"); err != nil {
		return err
	}
	_, err = s.API.CoreV1().Secrets("monitoring").Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "prometheus"}, Data: map[string][]byte{"prometheus.yml": config, "rules.yml": rules},
	}, metav1.CreateOptions{})
	return err
}

// token waits until the Secret that the PodMonitor names has its token.
func (s *stage) token(ctx context.Context, from corev1.SecretKeySelector) (token string, err error) {
	err = s.Wait(ctx, "the token of Secret "+from.Name, func(ctx context.Context) error {
		secret, err := s.API.CoreV1().Secrets(s.Namespace).Get(ctx, from.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if token = string(secret.Data[from.Key]); token == "" {
			return fmt.Errorf("it has no %s yet", from.Key)
		}
		return nil
	})
	return token, err
}

// panels reads the dashboards from their ConfigMaps, as Grafana's sidecar finds them.
func (s *stage) panels(ctx context.Context) ([]observe.Dashboard, error) {
	list, err := s.API.CoreV1().ConfigMaps(s.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "grafana_dashboard=1"})
	if err != nil {
		return nil, err
	}
	var all []observe.Dashboard
	for _, m := range list.Items {
		for file, text := range m.Data {
			d := observe.Dashboard{File: file}
			if err := json.Unmarshal([]byte(text), &d); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			all = append(all, d)
		}
	}
	return all, nil
}
