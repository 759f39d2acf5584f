package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Where things stand in the headers of IPv4 (RFC 791), TCP (RFC 9293) and BGP (RFC 4271 section 4.1).
const (
	protocolTCP = 6
	portBGP     = 179
	hostPrefix  = 32
)

// updates listens for BGP messages that announce an IPv4 address, as they come in at the router's interface.
type updates struct {
	conn *packet.Conn
	want []byte // the address as NLRI: RFC 4271 section 4.3
}

func newUpdates(h *netlab.Host, ifname string, ip netip.Addr) (*updates, error) {
	ifi, err := h.Interface(ifname)
	if err != nil {
		return nil, err
	}
	u := &updates{want: append([]byte{hostPrefix}, ip.AsSlice()...)}
	err = h.Do(func() (err error) {
		u.conn, err = packet.Listen(ifi, packet.Datagram, unix.ETH_P_IP, nil)
		return err
	})
	return u, err
}

// first returns when the first one came; the zero time when the context ended before.
func (u *updates) first(ctx context.Context) time.Time {
	defer u.conn.Close()
	defer context.AfterFunc(ctx, func() { _ = u.conn.SetReadDeadline(time.Now()) })()
	buf := make([]byte, 1<<16)
	for {
		n, _, err := u.conn.ReadFrom(buf)
		now := time.Now()
		if err != nil {
			return time.Time{}
		}
		if bytes.Contains(toRouter(buf[:n]), u.want) {
			return now
		}
	}
}

// toRouter returns what an IPv4 packet says to a BGP router; nil when it is none of that kind.
func toRouter(b []byte) []byte {
	if len(b) < 20 || b[9] != protocolTCP {
		return nil
	}
	length, header := int(binary.BigEndian.Uint16(b[2:])), int(b[0]&0x0f)*4
	if length > len(b) || header+20 > length {
		return nil
	}
	tcp := b[header:length]
	if offset := int(tcp[12]>>4) * 4; binary.BigEndian.Uint16(tcp[2:]) == portBGP && offset <= len(tcp) {
		return tcp[offset:]
	}
	return nil
}
