package show

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
)

// mostFindings bounds how many findings a screen shows.
const mostFindings = 15

// Draw draws the status, what is wrong first.
func (s Status) Draw(now time.Time) func(*print.Screen) {
	return func(c *print.Screen) {
		if len(s.Findings) > 0 {
			c.Heading("FINDINGS")
			c.Findings(s.Findings, mostFindings)
		}
		c.Heading("HERALD")
		class := ""
		if s.Class != "" {
			class = ", class " + s.Class
		}
		c.Line(print.C("namespace " + orDash(s.Namespace) + class))
		s.daemon(c, "controller", s.Controller)
		s.daemon(c, "speakers", s.Speakers)
		c.Line(print.C(fmt.Sprintf("services: %d, %d with all addresses, ", s.Services.Total, s.Services.Allocated)),
			print.Yes(s.Services.Announced == s.Services.Total, fmt.Sprintf("%d announced", s.Services.Announced)))
		s.drawPools(c)
		s.drawNodes(c, now)
	}
}

func (s Status) daemon(c *print.Screen, what string, w Workload) {
	c.Line(print.C(what+": "), print.Yes(w.Ready >= w.Want && w.Want > 0, fmt.Sprintf("%d of %d ready", w.Ready, w.Want)), print.C(prefixed(", version ", w.Version)))
}

func (s Status) drawPools(c *print.Screen) {
	if len(s.Pools) == 0 {
		return
	}
	var rows [][]print.Cell
	for _, p := range s.Pools {
		for _, f := range []struct {
			name string
			Counts
		}{{"IPv4", p.IPv4}, {"IPv6", p.IPv6}} {
			if f.Total == 0 && (f.name == "IPv6" || p.InForce && p.IPv6.Total > 0) {
				continue
			}
			ready := print.Yes(p.InForce, "in force")
			if !p.InForce {
				ready.Text = "left out"
			}
			rows = append(rows, []print.Cell{
				print.C(p.Name), print.C(f.name), number(f.Total), number(f.Assigned), number(f.Reserved),
				print.Yes(f.Available > 0, strconv.FormatInt(f.Available, 10)), ready,
			})
		}
	}
	c.Heading("POOLS")
	c.Table([]string{"NAME", "FAMILY", "TOTAL", "ASSIGNED", "RESERVED", "AVAILABLE", "STATE"}, rows)
}

func number(n int64) print.Cell { return print.C(strconv.FormatInt(n, 10)) }

func (s Status) drawNodes(c *print.Screen, now time.Time) {
	var rows [][]print.Cell
	for _, n := range s.Nodes {
		state := print.Yes(n.Speaker, "up")
		switch {
		case !n.Speaker:
			state.Text = "none"
		case n.Draining != "":
			state = print.Cell{Text: "draining", Style: print.Odd}
		}
		rows = append(rows, []print.Cell{
			print.C(n.Name), state, print.C(orDash(n.Version)), print.C(age(n.Started, now)), print.C(fmt.Sprintf("%d/%d", n.Alive, n.Members)),
			print.C(strconv.Itoa(n.L2)), print.Yes(n.Up == n.Sessions, fmt.Sprintf("%d/%d", n.Up, n.Sessions)), print.C(n.Draining),
		})
	}
	c.Heading("NODES")
	c.Table([]string{"NAME", "SPEAKER", "VERSION", "AGE", "SEES", "L2", "BGP", ""}, rows)
}

// DrawVIPs draws the addresses.
func DrawVIPs(vips []VIP, now time.Time) func(*print.Screen) {
	return func(c *print.Screen) {
		if len(vips) == 0 {
			c.Line(print.C("No Service of Herald's has an address."))
			return
		}
		var rows [][]print.Cell
		for _, v := range vips {
			by := print.Cell{Text: strings.Join(v.Nodes, ",")}
			switch {
			case !v.Up:
				by = print.Cell{Text: "nobody: " + brief(v.Why), Style: print.Bad}
				if len(v.Nodes) > 0 {
					by.Text = strings.Join(v.Nodes, ",") + ": " + brief(v.Why)
				}
			case len(v.Peers) > 0:
				by.Text += " to " + strings.Join(v.Peers, ",")
			case len(v.Via) > 0:
				by.Text += " on " + strings.Join(v.Via, ",")
			}
			rows = append(rows, []print.Cell{
				print.C(v.Address.String()), print.C(v.Service), print.C(orDash(v.Pool)), print.C(orDash(v.Protocol)), print.C(age(v.Since, now)), by,
			})
		}
		c.Table([]string{"ADDRESS", "SERVICE", "POOL", "BY", "SINCE", "ANNOUNCED"}, rows)
	}
}

// DrawSessions draws the BGP sessions.
func DrawSessions(sessions []Session, now time.Time) func(*print.Screen) {
	return func(c *print.Screen) {
		if len(sessions) == 0 {
			c.Line(print.C("No speaker holds a BGP session: there is no BGPPeer that selects a node."))
			return
		}
		var rows [][]print.Cell
		for _, s := range sessions {
			state := print.Yes(s.State == "Established", s.State)
			if s.NoReporter {
				state = print.Cell{Text: s.State + "?", Style: print.Odd}
			}
			rows = append(rows, []print.Cell{
				print.C(s.Node), print.C(s.Peer), print.C(orDash(s.Address)), print.C(fmt.Sprintf("%d>%d", s.LocalASN, s.PeerASN)), state, print.C(age(s.Since, now)),
				print.C(orDash(strings.Join(s.Families, ","))), print.C(fmt.Sprintf("%d/%d", s.IPv4, s.IPv6)), print.C(orDash(s.BFD)), print.C(s.LastError),
			})
		}
		c.Table([]string{"NODE", "PEER", "ROUTER", "AS", "STATE", "SINCE", "FAMILIES", "V4/V6", "BFD", "LAST ERROR"}, rows)
	}
}

// briefMost bounds what a table's cell says of an error.
const briefMost = 90

func brief(text string) string {
	runes := []rune(text)
	if len(runes) <= briefMost {
		return text
	}
	return string(runes[:briefMost-1]) + "…"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// age says how long ago a time was, roughly, as kubectl does; "-" when it is not known.
func age(text string, now time.Time) string {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.IsZero() || at.Unix() == 0 {
		return "-"
	}
	switch d := now.Sub(at); {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
