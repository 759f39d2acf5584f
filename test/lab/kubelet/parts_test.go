package kubelet

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestImages(t *testing.T) {
	resolve := Images(map[string]Image{"herald": {Dir: "h"}, "lab/web": {Dir: "w"}})
	for name, want := range map[string]string{
		"herald":                              "h",
		"herald:v1.2.3":                       "h",
		"registry.example:5000/x/herald:v1":   "h",
		"registry.example:5000/herald":        "h",
		"ghcr.example/herald@sha256:00112233": "h",
		"lab/web":                             "w",
		"lab/web:latest":                      "w",
		"web":                                 "",
		"other/web":                           "",
		"herald-extra":                        "",
		"":                                    "",
	} {
		image, err := resolve(name)
		if image.Dir != want || (want == "") != errors.Is(err, errNoImage) {
			t.Errorf("image %q: %q, %v; want %q", name, image.Dir, err, want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	list := func(names ...corev1.Capability) []corev1.Capability { return names }
	for name, test := range map[string]struct {
		sc   *corev1.SecurityContext
		want []uintptr
	}{
		"default":        {nil, []uintptr{0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}},
		"drop all":       {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: list("ALL")}}, nil},
		"all but two":    {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: list("ALL"), Add: list("NET_RAW", "CAP_NET_ADMIN")}}, []uintptr{12, 13}},
		"drop one":       {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: list("NET_RAW")}}, []uintptr{0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 27, 29, 31}},
		"drop beats add": {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: list("ALL", "BPF"), Add: list("BPF", "PERFMON")}}, []uintptr{38}},
	} {
		got, err := capabilities(test.sc)
		if err != nil {
			t.Error(name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	all, err := capabilities(&corev1.SecurityContext{Privileged: new(true)})
	if err != nil || len(all) != len(capabilityNames()) {
		t.Errorf("privileged: %v, %v; want all of them", all, err)
	}
	if _, err := capabilities(&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: list("NET_ROW")}}); err == nil {
		t.Error("the unknown capability NET_ROW was accepted")
	}
}

func TestProcessOf(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{
		RunAsUser: new(int64(10)), RunAsGroup: new(int64(11)), FSGroup: new(int64(12)), SupplementalGroups: []int64{13},
		RunAsNonRoot: new(true),
	}}}
	p, err := processOf(pod, &corev1.Container{}, Image{User: 1})
	if err != nil || p.User != 10 || p.Group != 11 || !cmp.Equal(p.Groups, []int{13, 12}) || p.NoNewPrivileges {
		t.Errorf("of the Pod: %+v, %v", p, err)
	}
	own := &corev1.Container{SecurityContext: &corev1.SecurityContext{RunAsUser: new(int64(0)), AllowPrivilegeEscalation: new(false)}}
	if p, err = processOf(pod, own, Image{}); err == nil {
		t.Errorf("root in spite of runAsNonRoot: %+v", p)
	}
	own.SecurityContext.RunAsNonRoot = new(false)
	if p, err = processOf(pod, own, Image{}); err != nil || p.User != 0 || !p.NoNewPrivileges {
		t.Errorf("of the container: %+v, %v", p, err)
	}
	if p, err = processOf(&corev1.Pod{}, &corev1.Container{}, Image{User: 7}); err != nil || p.User != 7 {
		t.Errorf("of the image: %+v, %v", p, err)
	}
}

func TestWriteProjected(t *testing.T) {
	dir := t.TempDir()
	write := func(files map[string]file) bool {
		t.Helper()
		changed, err := writeProjected(dir, files, -1)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	check := func(want map[string]string) {
		t.Helper()
		got := map[string]string{}
		for name := range want {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Error(err)
			}
			got[name] = string(text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		names := 0
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), "..") {
				names++
			}
		}
		if len(entries)-names != 2 { // ..data and what it leads to
			t.Errorf("entries %v; want two that are ours", entries)
		}
	}
	first := map[string]file{"a": {[]byte("1"), 0o600}, "deep/b": {[]byte("2"), 0o644}}
	if !write(first) {
		t.Error("the first writing changed nothing")
	}
	check(map[string]string{"a": "1", "deep/b": "2"})
	if info, err := os.Stat(filepath.Join(dir, "a")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of a: %v, %v", info, err)
	}
	version, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil {
		t.Fatal(err)
	}
	if write(first) {
		t.Error("writing the same again changed something")
	}
	if again, err := os.Readlink(filepath.Join(dir, dataLink)); err != nil || again != version {
		t.Errorf("the files moved from %s to %s, %v though nothing changed", version, again, err)
	}
	if !write(map[string]file{"a": {[]byte("3"), 0o644}, "c": {nil, 0o644}}) {
		t.Error("the change was not noticed")
	}
	check(map[string]string{"a": "3", "c": ""})
	if _, err := os.Lstat(filepath.Join(dir, "deep")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deep is still there: %v", err)
	}
	if err := fstest.TestFS(os.DirFS(filepath.Join(dir, dataLink)), "a", "c"); err != nil {
		t.Error(err)
	}
}

func TestTally(t *testing.T) {
	type step struct {
		after time.Duration
		good  bool
		want  string // "", "up" or "down"
	}
	for name, test := range map[string]struct {
		probe corev1.Probe
		steps []step
	}{
		"success at once": {corev1.Probe{PeriodSeconds: 10}, []step{{0, true, "up"}, {10 * time.Second, true, ""}}},
		"two successes":   {corev1.Probe{PeriodSeconds: 1, SuccessThreshold: 2}, []step{{0, true, ""}, {time.Second, true, "up"}}},
		"three failures": {corev1.Probe{PeriodSeconds: 1, FailureThreshold: 3}, []step{
			{0, true, "up"}, {time.Second, false, ""}, {time.Second, false, ""}, {time.Second, false, "down"}, {time.Second, true, "up"},
		}},
		"success between": {corev1.Probe{PeriodSeconds: 1, FailureThreshold: 2}, []step{
			{0, true, "up"}, {time.Second, false, ""}, {time.Second, true, ""}, {time.Second, false, ""}, {time.Second, false, "down"},
		}},
		"failures in one period count once": {corev1.Probe{PeriodSeconds: 10, FailureThreshold: 2}, []step{
			{0, false, ""}, {time.Second, false, ""}, {time.Second, false, ""}, {8 * time.Second, false, "down"},
		}},
		"down again and again": {corev1.Probe{PeriodSeconds: 1, FailureThreshold: 2}, []step{
			{0, false, ""}, {time.Second, false, "down"}, {time.Second, false, ""}, {time.Second, false, "down"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			tally, now := newTally(&test.probe), time.Unix(1000, 0)
			for i, s := range test.steps {
				now = now.Add(s.after)
				ok, decided := tally.add(s.good, now)
				got := ""
				if decided && ok {
					got = "up"
				} else if decided {
					got = "down"
				}
				if got != s.want {
					t.Errorf("step %d: %q, want %q", i, got, s.want)
				}
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	c := newContainer(&corev1.Container{Name: "c"})
	var got []time.Duration
	for range 7 {
		got = append(got, c.nextBackoff(time.Second))
	}
	got = append(got, c.nextBackoff(backoffReset+1), c.nextBackoff(0))
	want := []time.Duration{0, 1, 2, 4, 8, 10, 10, 0, 1}
	for i := range want {
		want[i] *= time.Second
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
}
