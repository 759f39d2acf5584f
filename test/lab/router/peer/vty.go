package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"time"
)

// VTY asks FRR's bgpd without starting a program for each question, so that it may be asked often.
type VTY struct{ conn net.Conn }

// OpenVTY connects to the daemon, which must be FRR.
func OpenVTY(d Daemon) (*VTY, error) {
	f, ok := d.(*frr)
	if !ok {
		return nil, errors.New("peer: only FRR has a vty")
	}
	conn, err := net.Dial("unix", filepath.Join(f.dir, "bgpd.vty"))
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	return &VTY{conn}, nil
}

// Close ends the connection.
func (v *VTY) Close() error { return v.conn.Close() }

// ask sends a command, ended by a zero octet, and reads the answer, which ends with three of them and a status.
func (v *VTY) ask(ctx context.Context, command string) ([]byte, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Minute)
	}
	if err := v.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := v.conn.Write(append([]byte(command), 0)); err != nil {
		return nil, fmt.Errorf("vty %q: %w", command, err)
	}
	var answer []byte
	buf := make([]byte, 1<<16)
	for {
		n, err := v.conn.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("vty %q: %w", command, err)
		}
		answer = append(answer, buf[:n]...)
		end := len(answer) - 4
		if end < 0 || !bytes.Equal(answer[end:end+3], []byte{0, 0, 0}) {
			continue
		}
		if status := answer[end+3]; status != 0 {
			return nil, fmt.Errorf("vty %q: status %d: %s", command, status, answer[:end])
		}
		return bytes.Trim(answer[:end], "\x00"), nil
	}
}

// Counts says how far bgpd is with the IPv4 routes it hears of.
type Counts struct {
	Received int // announced by the neighbour
	Version  int // of the table: grows with every prefix whose best path changed
}

// Counts returns the counts.
func (v *VTY) Counts(ctx context.Context) (Counts, error) {
	out, err := v.ask(ctx, "show bgp ipv4 unicast summary json")
	if err != nil {
		return Counts{}, err
	}
	var doc struct {
		TableVersion int
		Peers        map[string]struct{ PfxRcd int }
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return Counts{}, fmt.Errorf("read bgpd's summary: %w", err)
	}
	c := Counts{Version: doc.TableVersion}
	for _, p := range doc.Peers {
		c.Received += p.PfxRcd
	}
	return c, nil
}

// Has reports whether there is a route.
func (v *VTY) Has(ctx context.Context, prefix netip.Prefix) (bool, error) {
	out, err := v.ask(ctx, "show bgp ipv4 unicast "+prefix.String()+" json")
	if err != nil {
		return false, err
	}
	var doc struct{ Paths []json.RawMessage }
	if err := json.Unmarshal(out, &doc); err != nil {
		return false, fmt.Errorf("read bgpd's route: %w", err)
	}
	return len(doc.Paths) > 0, nil
}
