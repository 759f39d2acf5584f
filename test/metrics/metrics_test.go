package metrics

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heraldlb/herald/cmd/daemon"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/controller"
	"github.com/heraldlb/herald/speaker"
)

const docs = "../../docs/metrics.md"

// row is a line of a table.
type row struct{ name, kind, meaning, series, query string }

// columns are split where a bar is not escaped.
func columns(line string) []string {
	const bar = "\x00"
	line = strings.ReplaceAll(line, `\|`, bar)
	out := strings.Split(strings.Trim(line, "| "), "|")
	for i, c := range out {
		out[i] = strings.TrimSpace(strings.ReplaceAll(c, bar, "|"))
	}
	return out
}

// tables reads the tables, by heading.
func tables(t *testing.T) map[string][]row {
	t.Helper()
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	out, heading := map[string][]row{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			heading = title
		}
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		c := columns(line)
		if len(c) != 5 {
			t.Fatalf("%d columns, want 5: %s", len(c), line)
		}
		out[heading] = append(out[heading], row{strings.Trim(c[0], "`"), c[1], c[2], c[3], c[4]})
	}
	return out
}

var described = regexp.MustCompile(`fqName: "([^"]*)".*constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}`)

// names lists what collectors describe as the tables have it: name{label,label}.
func names(t *testing.T, collectors ...prometheus.Collector) []string {
	t.Helper()
	ch := make(chan *prometheus.Desc, 256)
	for _, c := range collectors {
		c.Describe(ch)
	}
	close(ch)
	var out []string
	for d := range ch {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		labels := m[3]
		if name, _, ok := strings.Cut(m[2], "="); ok { // one constant label at most
			labels = name
		}
		out = append(out, m[1]+"{"+labels+"}")
	}
	slices.Sort(out)
	return out
}

// infos are the metrics of a registry of both daemons that are Herald's own.
type infos struct{ *prometheus.Registry }

func (i infos) Describe(ch chan<- *prometheus.Desc) {
	all := make(chan *prometheus.Desc, 256)
	i.Registry.Describe(all)
	close(all)
	for d := range all {
		if strings.Contains(d.String(), `"herald_`) {
			ch <- d
		}
	}
}

func documented(rows []row) []string {
	var out []string
	for _, r := range rows {
		out = append(out, r.name)
	}
	slices.Sort(out)
	return out
}

// TestTables checks that the tables have exactly the metrics that there are, with their labels. What both daemons have is in the first only.
func TestTables(t *testing.T) {
	have := tables(t)
	both := []prometheus.Collector{kube.NewMetrics(nil, nil), infos{daemon.NewRegistry("v0")}}
	const loop = "herald_reconcile_duration_seconds{stage}"
	for heading, served := range map[string][]string{
		"Both daemons": append(names(t, both...), loop),
		"Controller":   names(t, controller.NewMetrics()),
		"Speaker":      names(t, speaker.NewMetrics(speaker.MetricsOptions{})),
	} {
		if heading != "Both daemons" {
			if !slices.Contains(served, loop) {
				t.Errorf("%s: no %s", heading, loop)
			}
			served = slices.DeleteFunc(served, func(n string) bool { return n == loop })
		}
		slices.Sort(served)
		if diff := cmp.Diff(served, documented(have[heading])); diff != "" {
			t.Errorf("%s: -served +documented:\n%s", heading, diff)
		}
	}
}

// TestRows checks that each row says all there is to say: the type that the name promises, a meaning, a bound and a query about this metric.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	for heading, rows := range tables(t) {
		for _, r := range rows {
			name, _, _ := strings.Cut(r.name, "{")
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
			want := "gauge"
			switch {
			case strings.HasSuffix(name, "_total"):
				want = "counter"
			case strings.HasSuffix(name, "_seconds"):
				want = "histogram"
			}
			if r.kind != want {
				t.Errorf("%s: %s is a %s, going by its name a %s", heading, name, r.kind, want)
			}
			if r.meaning == "" || r.series == "" {
				t.Errorf("%s: %s lacks a meaning or the number of its series", heading, name)
			}
			if !strings.Contains(r.query, "`") || !strings.Contains(r.query, name) {
				t.Errorf("%s: the query for %s does not ask for it: %s", heading, name, r.query)
			}
		}
	}
}

// TestProcess checks that each daemon tells of its process and of Go, in few series, and that Prometheus has nothing to find fault with.
func TestProcess(t *testing.T) {
	registry := daemon.NewRegistry("v1.2.3")
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	for _, name := range []string{
		"herald_build_info", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds", "go_goroutines", "go_memstats_heap_alloc_bytes",
	} {
		if n, err := testutil.GatherAndCount(registry, name); n != 1 || err != nil {
			t.Errorf("%d series of %s, want 1 (%v)", n, name, err)
		}
	}
	if n, err := testutil.GatherAndCount(registry); n > 50 || err != nil {
		t.Errorf("%d series (%v); docs/metrics.md says about 40", n, err)
	}
}

// TestTogether checks that what one daemon serves goes together.
func TestTogether(t *testing.T) {
	for name, own := range map[string]prometheus.Collector{
		"controller": controller.NewMetrics(), "speaker": speaker.NewMetrics(speaker.MetricsOptions{}),
	} {
		registry := daemon.NewRegistry("v1.2.3")
		for _, c := range []prometheus.Collector{own, kube.NewMetrics(nil, nil)} {
			if err := registry.Register(c); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
