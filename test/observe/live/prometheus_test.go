package live

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/probe"
)

// prometheus asks the laboratory's Prometheus.
type prometheus struct{ client *http.Client }

// askLimit is how long Prometheus may take for an answer; the machine may be busy.
const askLimit = 20 * time.Second

func newPrometheus(h *netlab.Host) *prometheus { return &prometheus{probe.Client(h, askLimit)} }

// series is one line of an answer.
type series struct {
	Metric map[string]string    `json:"metric"`
	Value  [2]json.RawMessage   `json:"value"`
	Values [][2]json.RawMessage `json:"values"`
}

// numbers returns the samples that are numbers.
func (s series) numbers() (n int) {
	for _, v := range append(s.Values, s.Value) {
		var text string
		if json.Unmarshal(v[1], &text) != nil {
			continue
		}
		if f, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(f) {
			n++
		}
	}
	return n
}

// get asks one of the paths under /api/v1/.
func (p *prometheus) get(ctx context.Context, path string, query url.Values, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:9090/api/v1/"+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("Prometheus answers %s: %w", resp.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("Prometheus refuses %s: %s", query.Encode(), answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// instant asks what an expression is now.
func (p *prometheus) instant(ctx context.Context, expr string) ([]series, error) {
	var data struct{ Result []series }
	err := p.get(ctx, "query", url.Values{"query": {expr}}, &data)
	return data.Result, err
}

// lately asks how an expression was in the last minute.
func (p *prometheus) lately(ctx context.Context, expr string) ([]series, error) {
	now := time.Now()
	var data struct{ Result []series }
	err := p.get(ctx, "query_range", url.Values{
		"query": {expr}, "start": {fmt.Sprint(now.Add(-time.Minute).Unix())}, "end": {fmt.Sprint(now.Unix())}, "step": {"2"},
	}, &data)
	return data.Result, err
}

// values returns the values of a label among the series of a selector.
func (p *prometheus) values(ctx context.Context, label, selector string) (values []string, err error) {
	err = p.get(ctx, "label/"+label+"/values", url.Values{"match[]": {selector}}, &values)
	return values, err
}

// firing returns how many alerts fire, by name.
func (p *prometheus) firing(ctx context.Context) (map[string]int, error) {
	var data struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	if err := p.get(ctx, "alerts", nil, &data); err != nil {
		return nil, err
	}
	names := map[string]int{}
	for _, a := range data.Alerts {
		if a.State == "firing" {
			names[a.Labels["alertname"]]++
		}
	}
	return names, nil
}
