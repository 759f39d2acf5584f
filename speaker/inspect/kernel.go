package inspect

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// readKernel asks the kernel what no file tells.
func readKernel(n *Node) {
	n.Lacks = lacks()
	n.Drifting = drifting()
}

// lacks tries to open each kind of socket that Herald needs, and closes it at once: nothing is sent.
func lacks() []Lack {
	var out []Lack
	for _, s := range []struct {
		what, use              string
		domain, kind, protocol int
		then                   func(fd int) error
	}{
		{"packet socket", "ARP and NDP", unix.AF_PACKET, unix.SOCK_RAW, 0, nil},
		{"TCP MD5 signatures", "passwords of BGPPeers", unix.AF_INET, unix.SOCK_STREAM, 0, sign},
	} {
		fd, err := unix.Socket(s.domain, s.kind|unix.SOCK_CLOEXEC, s.protocol)
		if err == nil {
			if s.then != nil {
				err = s.then(fd)
			}
			_ = unix.Close(fd)
		}
		if err != nil {
			out = append(out, Lack{s.what, s.use, err.Error()})
		}
	}
	slices.SortFunc(out, func(a, b Lack) int { return strings.Compare(a.What, b.What) })
	return out
}

// sign asks whether the kernel knows TCP MD5 signatures (RFC 2385): with a key for a peer on loopback, which nobody connects to.
func sign(fd int) error {
	var sig unix.TCPMD5Sig
	sig.Addr.Family = unix.AF_INET
	copy(sig.Addr.Data[2:], []byte{127, 0, 0, 1}) // after the port
	sig.Keylen = 1
	sig.Key[0] = 'k'
	err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return err
	}
	return nil // the kernel knows them; what else it says is about this key
}

// drifting asks the kernel whether somebody keeps its clock (adjtimex(2)). A kernel that does not say is trusted.
func drifting() bool {
	state, err := unix.Adjtimex(&unix.Timex{})
	return err == nil && state == unix.TIME_ERROR
}
