package inspect

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Sizes and offsets of struct inet_diag_req_v2 (linux/inet_diag.h).
const (
	diagSize   = 56
	diagStates = 4 // offset of the states to tell of, a bit each
	diagPort   = 8 // offset of the local port, in network byte order
)

// tcpListen is TCP_LISTEN (net/tcp_states.h).
const tcpListen = 10

// diagnosis asks for the TCP sockets of a family that listen on a port.
type diagnosis struct {
	family uint8
	port   uint16
}

// Len implements nl.NetlinkRequestData.
func (diagnosis) Len() int { return diagSize }

// Serialize implements nl.NetlinkRequestData.
func (d diagnosis) Serialize() []byte {
	b := make([]byte, diagSize)
	b[0], b[1] = d.family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[diagStates:], 1<<tcpListen)
	binary.BigEndian.PutUint16(b[diagPort:], d.port)
	return b
}

// askListening asks the kernel whether somebody listens on a TCP port (sock_diag(7)). It looks at listening sockets only: a node may have very many
// others, each of which net/tcp tells of.
func askListening(port uint16) (bool, error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		req.AddData(diagnosis{family, port})
		found, err := req.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
		if err != nil {
			return false, fmt.Errorf("asking for listening sockets: %w", err)
		}
		if len(found) > 0 {
			return true, nil
		}
	}
	return false, nil
}
