package udp

import (
	"encoding/json"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bfd"
)

const bfddPath = "/usr/lib/frr/bfdd"

// daemon is another implementation of BFD that runs at the neighbour's.
type daemon struct {
	t    testing.TB
	dir  string
	proc *os.Process
	kill func()
}

// startDaemon runs a program at the neighbour's until the end of the test, and shows what it said if the test fails.
func startDaemon(t testing.TB, c *cable, dir, path string, args ...string) *daemon {
	t.Helper()
	output, err := os.Create(filepath.Join(dir, "output"))
	must(t, err)
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = output, output
	c.do(func() { err = cmd.Start() })
	must(t, err)
	killed := false
	d := &daemon{t: t, dir: dir, proc: cmd.Process}
	d.kill = func() {
		if killed {
			return
		}
		killed = true
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("kill %s: %v", path, err)
		}
		_ = cmd.Wait() // it was killed: nothing to learn
	}
	t.Cleanup(func() {
		d.kill()
		output.Close()
		if t.Failed() {
			b, _ := os.ReadFile(output.Name())
			t.Logf("%s said:\n%s", filepath.Base(path), b)
		}
	})
	return d
}

// patience is how long something may take that normally takes a second or two: the machine may be very busy.
const patience = 2 * time.Minute

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// frr is FRR's bfdd.
type frr struct{ *daemon }

// startFRR runs bfdd with the given lines of configuration, without zebra.
func startFRR(t testing.TB, c *cable, conf string) frr {
	t.Helper()
	if _, err := os.Stat(bfddPath); err != nil {
		t.Skip("needs FRR (Debian and Ubuntu: apt-get install frr)")
	}
	account, err := user.Lookup("frr")
	must(t, err)
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	dir, err := os.MkdirTemp("", "herald-bfd") //nolint:usetesting // t.TempDir is closed to FRR's user
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "bfdd.conf")
	must(t, os.WriteFile(file, []byte("frr defaults traditional\nbfd\n"+conf+"exit\n"), 0o640))
	for _, p := range []string{dir, file} {
		if err := os.Chown(p, uid, gid); err != nil {
			t.Skipf("FRR runs as a user of its own, which needs root: %v", err)
		}
	}
	f := frr{startDaemon(t, c, dir, bfddPath, "--vty_port", "0", "--config_file", file, "--pid_file", filepath.Join(dir, "pid"),
		"--vty_socket", dir, "--socket", filepath.Join(dir, "zserv"), "--bfdctl", filepath.Join(dir, "ctl"), "--log", "stdout")}
	eventually(t, "bfdd to answer", func() bool { return f.vtysh("show version") != "" })
	return f
}

func (f frr) vtysh(commands ...string) string {
	args := []string{"--vty_socket", f.dir, "-d", "bfdd"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out, err := exec.Command("vtysh", args...).Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// configure changes the configuration of a peer.
func (f frr) configure(peer string, lines ...string) {
	f.vtysh(append([]string{"configure terminal", "bfd", "peer " + peer}, lines...)...)
}

// frrPeer is what FRR knows of a session.
type frrPeer struct {
	Peer             string
	Status           string
	Diagnostic       string
	RemoteDiagnostic string `json:"remote-diagnostic"`
	RemoteReceive    int    `json:"remote-receive-interval"`
	RemoteTransmit   int    `json:"remote-transmit-interval"`
	RemoteMultiplier int    `json:"remote-detect-multiplier"`
	Downs            int    `json:"session-down"`
}

// peer returns the session with the peer, which must be the only one.
func (f frr) peer() (p frrPeer) {
	f.t.Helper()
	for _, command := range []string{"show bfd peers json", "show bfd peers counters json"} {
		var list []frrPeer
		if err := json.Unmarshal([]byte(f.vtysh(command)), &list); err != nil || len(list) != 1 {
			f.t.Fatalf("%s: %v, %+v", command, err, list)
		}
		downs := list[0].Downs
		if p.Peer == "" {
			p = list[0]
		}
		p.Downs = downs
	}
	return p
}

func (f frr) until(what string, holds func(frrPeer) bool) {
	f.t.Helper()
	eventually(f.t, "FRR: "+what, func() bool { return holds(f.peer()) })
}

func isUp(p frrPeer) bool { return p.Status == "up" }

const calmFRR = "  transmit-interval 500\n  receive-interval 500\n exit\n"

func TestFRR(t *testing.T) {
	tests := []struct {
		name string
		conf string
		want bfd.Want
	}{
		{"IPv4", " peer 10.9.0.5\n", bfd.Want{Peer: addr(far4)}},
		{"IPv6", " peer fd09::5 local-address fd09::1\n", bfd.Want{Peer: addr(far6)}},
		{"multihop IPv4", " peer 10.9.0.5 multihop local-address 10.9.0.1\n", bfd.Want{Peer: addr(far4), Local: addr(near4), Multihop: true}},
		{"multihop IPv6", " peer fd09::5 multihop local-address fd09::1\n", bfd.Want{Peer: addr(far6), Local: addr(near6), Multihop: true}},
		{"FRR passive", " peer 10.9.0.5\n  passive-mode\n", bfd.Want{Peer: addr(far4)}},
		{"we passive", " peer 10.9.0.5\n", bfd.Want{Peer: addr(far4), Profile: config.BFDProfile{Passive: true}}},
	}
	c := newCable(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFRR(t, c, tt.conf+"  transmit-interval 150\n  receive-interval 400\n  detect-multiplier 5\n exit\n")
			r := start(t, Network{})
			tt.want.Key = "frr"
			tt.want.Profile.TransmitInterval, tt.want.Profile.ReceiveInterval, tt.want.Profile.DetectMultiplier = 250*ms, 200*ms, 4
			r.Set([]bfd.Want{tt.want})
			r.settled("frr", 400*ms, 5*200*ms)
			f.until("up with our timers", func(p frrPeer) bool {
				return isUp(p) && p.RemoteTransmit == 250 && p.RemoteReceive == 200 && p.RemoteMultiplier == 4
			})
			r.stop()
			f.until("word of our end", func(p frrPeer) bool {
				return p.Status == "down" && p.RemoteDiagnostic == "administratively down" && p.Diagnostic == "neighbor signaled session down"
			})
		})
	}
}

// withFRR has a session with FRR up.
func withFRR(t *testing.T) (*cable, frr, *runner) {
	t.Helper()
	c := newCable(t)
	f := startFRR(t, c, " peer 10.9.0.5\n"+calmFRR)
	r := start(t, Network{})
	r.Set([]bfd.Want{{Key: "frr", Peer: addr(far4), Profile: calm()}})
	r.settled("frr", 500*ms, 1500*ms)
	f.until("up", isUp)
	return c, f, r
}

func TestFRRDies(t *testing.T) {
	_, f, r := withFRR(t)
	began := time.Now()
	f.kill()
	st := r.until("frr", "loss", func(s bfd.Status) bool { return s.State != bfd.Up })
	t.Logf("noticed %s after the kill", time.Since(began).Round(ms))
	if st.Losses == 0 || st.Diagnostic != bfd.DetectionTimeExpired {
		t.Errorf("%+v", st)
	}
	st = r.until("frr", "a hint", func(s bfd.Status) bool { return s.LastError != "" })
	if !strings.Contains(st.LastError, "does not run BFD") {
		t.Errorf("%+v", st)
	}
}

func TestFRRFreezes(t *testing.T) {
	_, f, r := withFRR(t)
	must(t, f.proc.Signal(syscall.SIGSTOP))
	st := r.until("frr", "loss", func(s bfd.Status) bool { return s.State != bfd.Up })
	if st.Losses == 0 || st.Diagnostic != bfd.DetectionTimeExpired {
		t.Errorf("%+v", st)
	}
	must(t, f.proc.Signal(syscall.SIGCONT))
	r.up("frr")
	f.until("up", isUp)
}

func TestFRRSevered(t *testing.T) {
	c, f, r := withFRR(t)
	undo := c.sever()
	r.until("frr", "loss", func(s bfd.Status) bool { return s.Losses > 0 })
	f.until("loss", func(p frrPeer) bool { return p.Status == "down" && p.Diagnostic == "control detection time expired" })
	undo()
	r.up("frr")
	f.until("up", isUp)
}

func TestFRRShutdown(t *testing.T) {
	_, f, r := withFRR(t)
	f.configure("10.9.0.5", "shutdown")
	st := r.until("frr", "down", func(s bfd.Status) bool { return s.State != bfd.Up })
	if st.Losses != 0 || st.RemoteState != bfd.AdminDown {
		t.Errorf("FRR was shut down on purpose: %+v", st)
	}
	f.configure("10.9.0.5", "no shutdown")
	r.up("frr")
}

// TestFRRTimers changes the timers on both ends while the session is up, faster and slower.
func TestFRRTimers(t *testing.T) {
	_, f, r := withFRR(t)
	set := func(interval time.Duration) {
		r.Set([]bfd.Want{{Key: "frr", Peer: addr(far4), Profile: profile(interval)}})
	}
	set(1000 * ms)
	r.settled("frr", 1000*ms, 3000*ms)
	f.until("1 s", func(p frrPeer) bool { return p.RemoteTransmit == 1000 && p.RemoteReceive == 1000 })
	set(400 * ms)
	r.settled("frr", 500*ms, 1500*ms)
	f.configure("10.9.0.5", "transmit-interval 1600", "receive-interval 1800")
	r.settled("frr", 1800*ms, 4800*ms)
	f.configure("10.9.0.5", "transmit-interval 400", "receive-interval 450")
	r.settled("frr", 450*ms, 1200*ms)
	set(2000 * ms)
	r.settled("frr", 2000*ms, 6000*ms)
	set(500 * ms)
	st := r.settled("frr", 500*ms, 1500*ms)
	if st.Ups != 1 || st.Losses != 0 {
		t.Errorf("not without a break: %+v", st)
	}
	if p := f.peer(); p.Downs != 0 || p.Status != "up" {
		t.Errorf("FRR saw a break: %+v", p)
	}
}

// TestFRROnThisNode: FRR's bfdd has the ports of our own node.
func TestFRROnThisNode(t *testing.T) {
	c := newCable(t)
	f := startFRR(t, c, " peer 10.9.0.5\n"+calmFRR)
	r := start(t, elsewhere{c.do})
	r.Set([]bfd.Want{{Key: "4", Peer: addr(near4)}, {Key: "6", Peer: addr(near6)}})
	for _, key := range []string{"4", "6"} {
		st := r.until(key, "an error", func(s bfd.Status) bool { return s.LastError != "" })
		if !strings.Contains(st.LastError, "another BFD daemon of this node has it") {
			t.Errorf("%+v", st)
		}
	}
	f.kill()
	for _, key := range []string{"4", "6"} {
		r.until(key, "the ports to be free", func(s bfd.Status) bool { return !strings.Contains(s.LastError, "another BFD daemon") })
	}
}
