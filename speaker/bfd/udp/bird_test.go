package udp

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heraldlb/herald/speaker/bfd"
)

// bird is the BIRD daemon.
type bird struct {
	*daemon
	conf string
}

// startBIRD runs BIRD with the given BFD protocol.
func startBIRD(t testing.TB, c *cable, conf string) bird {
	t.Helper()
	path, err := exec.LookPath("bird")
	if err != nil {
		t.Skip("needs BIRD 2 (Debian and Ubuntu: apt-get install bird2)")
	}
	dir := t.TempDir()
	b := bird{conf: filepath.Join(dir, "bird.conf")}
	b.write(t, conf)
	b.daemon = startDaemon(t, c, dir, path, "-f", "-c", b.conf, "-s", filepath.Join(dir, "ctl"), "-P", filepath.Join(dir, "pid"))
	eventually(t, "BIRD to answer", func() bool { return strings.Contains(b.birdc("show", "status"), "up and running") })
	return b
}

func (b bird) write(t testing.TB, conf string) {
	t.Helper()
	must(t, os.WriteFile(b.conf, []byte("log stderr all;\nrouter id 10.9.0.1;\nprotocol device { scan time 1; }\nprotocol bfd {\n"+conf+"}\n"), 0o600))
}

func (b bird) birdc(words ...string) string {
	out, err := exec.Command("birdc", append([]string{"-s", filepath.Join(b.dir, "ctl")}, words...)...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// states returns the states of all sessions, one in a line.
func (b bird) states() string {
	var s strings.Builder
	for line := range strings.Lines(b.birdc("show", "bfd", "sessions")) {
		if f := strings.Fields(line); len(f) >= 6 && strings.ContainsAny(f[0], ".:") && f[0] != "bfd1:" {
			s.WriteString(f[0] + " " + f[2] + "\n")
		}
	}
	return s.String()
}

func (b bird) until(want string) {
	b.t.Helper()
	eventually(b.t, "BIRD to say "+want, func() bool { return b.states() == want })
}

func birdTimers(interval string) string {
	t := "min rx interval " + interval + "; min tx interval " + interval + "; idle tx interval 1 s; multiplier 3;"
	return " interface \"*\" { " + t + " };\n multihop { " + t + " };\n"
}

func TestBIRD(t *testing.T) {
	tests := []struct {
		name     string
		neighbor string
		state    string
		want     bfd.Want
	}{
		{"IPv4", "neighbor 10.9.0.5 dev \"wb\";", "10.9.0.5", bfd.Want{Peer: addr(far4)}},
		{"IPv6", "neighbor fd09::5 dev \"wb\";", "fd09::5", bfd.Want{Peer: addr(far6)}},
		{"link-local", "neighbor fe80::5 dev \"wb\";", "fe80::5", bfd.Want{Peer: addr(farLL), Interface: nearIF}},
		{"multihop", "neighbor 10.9.0.5 local 10.9.0.1 multihop on;", "10.9.0.5", bfd.Want{Peer: addr(far4), Local: addr(near4), Multihop: true}},
	}
	c := newCable(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := startBIRD(t, c, birdTimers("500 ms")+tt.neighbor+"\n")
			r := start(t, Network{})
			tt.want.Key, tt.want.Profile = "bird", calm()
			tt.want.Profile.MinimumTTL = 60 // over several hops BIRD sends with the system's default TTL, 64
			r.Set([]bfd.Want{tt.want})
			r.settled("bird", 500*ms, 1500*ms)
			b.until(tt.state + " Up\n")
			r.stop()
			b.until(tt.state + " Down\n")
		})
	}
}

func TestBIRDFailures(t *testing.T) {
	c := newCable(t)
	b := startBIRD(t, c, birdTimers("500 ms")+"neighbor 10.9.0.5 dev \"wb\";\n")
	r := start(t, Network{})
	r.Set([]bfd.Want{{Key: "bird", Peer: addr(far4), Profile: calm()}})
	r.settled("bird", 500*ms, 1500*ms)

	undo := c.sever()
	r.until("bird", "loss", func(s bfd.Status) bool { return s.Losses >= 1 })
	b.until("10.9.0.5 Down\n")
	undo()
	r.settled("bird", 500*ms, 1500*ms)

	must(t, b.proc.Signal(syscall.SIGSTOP))
	r.until("bird", "loss", func(s bfd.Status) bool { return s.Losses >= 2 })
	must(t, b.proc.Signal(syscall.SIGCONT))
	r.settled("bird", 500*ms, 1500*ms)

	b.kill()
	r.until("bird", "loss", func(s bfd.Status) bool { return s.Losses >= 3 })
}

// TestBIRDTimers changes the timers on both ends while the session is up.
func TestBIRDTimers(t *testing.T) {
	c := newCable(t)
	neighbor := "neighbor 10.9.0.5 dev \"wb\";\n"
	b := startBIRD(t, c, birdTimers("500 ms")+neighbor)
	r := start(t, Network{})
	set := func(interval time.Duration) {
		r.Set([]bfd.Want{{Key: "bird", Peer: addr(far4), Profile: profile(interval)}})
	}
	set(500 * ms)
	r.settled("bird", 500*ms, 1500*ms)
	set(1200 * ms)
	r.settled("bird", 1200*ms, 3600*ms)
	set(400 * ms)
	r.settled("bird", 500*ms, 1500*ms)
	b.write(t, birdTimers("1500 ms")+neighbor)
	b.birdc("configure")
	r.settled("bird", 1500*ms, 4500*ms)
	b.write(t, birdTimers("400 ms")+neighbor)
	b.birdc("configure")
	st := r.settled("bird", 400*ms, 1200*ms)
	if st.Ups != 1 || st.Losses != 0 {
		t.Errorf("not without a break: %+v", st)
	}
	b.until("10.9.0.5 Up\n")
}
