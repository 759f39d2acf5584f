package assign

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/heraldlb/herald/test/bench/figures"
)

// writes counts what the API server was asked to write: of Services and of Herald's own objects, by verb, resource and subresource.
type writes map[string]int

// requests matches a line of the API server's count of requests; label one of its labels.
var (
	requests = regexp.MustCompile(`^apiserver_request_total\{(.*)\} ([0-9.e+]+)$`)
	label    = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// writes returns how often each write has been asked for since the API server started.
func (s *stage) writes() writes {
	s.t.Helper()
	text, err := s.load.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(s.ctx)
	s.must(err)
	sum := make(writes)
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m := requests.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		of := make(map[string]string)
		for _, l := range label.FindAllStringSubmatch(m[1], -1) {
			of[l[1]] = l[2]
		}
		if of["group"] != "heraldlb.io" && of["resource"] != "services" || !slices.Contains([]string{"PATCH", "PUT", "POST", "DELETE", "APPLY"}, of["verb"]) {
			continue
		}
		n, err := strconv.ParseFloat(m[2], 64)
		s.must(err)
		what := of["verb"] + " " + of["resource"]
		if of["subresource"] != "" {
			what += "/" + of["subresource"]
		}
		if code := of["code"]; !strings.HasPrefix(code, "2") {
			what += " (" + code + ")"
		}
		sum[what] += int(n)
	}
	s.must(lines.Err())
	return sum
}

// since returns what was written after an earlier count.
func (w writes) since(before writes) writes {
	out := make(writes)
	for what, n := range w {
		if n -= before[what]; n > 0 {
			out[what] = n
		}
	}
	return out
}

func (w writes) String() string {
	var texts []string
	for _, what := range slices.Sorted(maps.Keys(w)) {
		texts = append(texts, fmt.Sprintf("%d %s", w[what], what))
	}
	return strings.Join(texts, ", ")
}

// ofOneService is what a Service that comes meanwhile needs: its creation, its assignment, what is said of its announcement, and the counts
// of the pool.
var ofOneService = writes{"POST services": 1, "PATCH services/status": 2, "PATCH ipaddresspools/status": 1}

// idle counts what is written while do makes one Service of that name and waits for its address, and until all is calm. Each write that is
// not owed to this Service is a failure, and so is a new version of any other Service.
func (s *stage) idle(r *figures.Report, w *watcher, name, when string, do func()) {
	s.t.Helper()
	before, was := s.writes(), w.versions(name)
	do()
	w.waitFor(name)
	w.quiet(calm)
	now := s.writes()
	if now["POST services"] < before["POST services"] || before["POST services"] == 0 {
		before = nil // the API server has been restarted, and counts anew
	}
	seen := now.since(before)
	s.progress("%s: %s", when, seen)
	strays := seen.since(ofOneService)
	n := 0
	for _, k := range strays {
		n += k
	}
	versions := w.versions(name) - was
	if n > 0 || versions > 0 {
		s.t.Errorf("%s: %d writes too many: %s; %d new versions of other Services", when, n, strays, versions)
	}
	r.Add("0", fmt.Sprint(n), "%s: writes but those for the one new Service", when)
	r.Add("0", fmt.Sprint(versions), "%s: new versions of the other Services", when)
}
