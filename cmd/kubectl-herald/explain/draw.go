package explain

import (
	"fmt"
	"strings"

	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
	"github.com/heraldlb/herald/speaker/decide"
)

// most bounds how many causes, nodes or pools a screen shows of each.
const most = 8

// Draw draws the report in one screen: the verdict and the causes, then the chain from the request to the announcement.
func (r Report) Draw(c *print.Screen) {
	verdict := "has its addresses, and all are announced"
	if !r.Healthy {
		verdict = "is not served as it should be"
	}
	c.Line(print.Cell{Text: "Service " + r.Service + " ", Style: print.Bold}, print.Yes(r.Healthy, verdict))
	if len(r.Causes) > 0 {
		c.Heading("WHY")
		c.Findings(r.Causes, most)
	}
	c.Heading("REQUEST")
	c.Line(print.C(r.Request.String()))
	r.drawPools(c)
	r.drawEndpoints(c)
	for _, a := range r.Addresses {
		c.Heading("ADDRESS " + a.Address.String())
		c.Line(print.C("from " + poolText(a.Pool)))
		for _, w := range a.Ways {
			w.draw(c)
		}
	}
}

// String says what is asked for in one line.
func (r Request) String() string {
	parts := []string{strings.Join(r.Families, "+"), "externalTrafficPolicy " + r.TrafficPolicy}
	if r.Class != "" {
		parts = append(parts, "class "+r.Class)
	}
	if len(r.Pools) > 0 {
		parts = append(parts, "pool "+strings.Join(r.Pools, ", "))
	}
	if len(r.Addresses) > 0 {
		parts = append(parts, "address "+strings.Join(r.Addresses, ", "))
	}
	if r.SharingKey != "" {
		parts = append(parts, "shares as "+r.SharingKey)
	}
	if parts[0] == "" {
		parts = parts[1:]
	}
	return strings.Join(parts, "; ")
}

func poolText(name string) string {
	if name == "" {
		return "no pool in force"
	}
	return "pool " + name
}

func (r Report) drawPools(c *print.Screen) {
	if len(r.Pools) == 0 {
		return
	}
	c.Heading("POOLS")
	var rows [][]print.Cell
	for i, p := range r.Pools {
		if i == most {
			rows = append(rows, []print.Cell{{Text: fmt.Sprintf("and %d more", len(r.Pools)-most), Style: print.Faint}})
			break
		}
		word := print.Yes(p.Candidate, "yes")
		if !p.Candidate {
			word = print.Cell{Text: "no", Style: print.Faint}
		}
		rows = append(rows, []print.Cell{print.C(p.Name), word, print.C(fmt.Sprintf("%d/%d", p.FreeIPv4, p.FreeIPv6)), print.C(p.Why)})
	}
	c.Table([]string{"NAME", "CANDIDATE", "FREE V4/V6", "WHY"}, rows)
}

func (r Report) drawEndpoints(c *print.Screen) {
	if len(r.Endpoints) == 0 {
		return
	}
	var parts []string
	for _, e := range r.Endpoints {
		node := e.Node
		if node == "" {
			node = "(no node)"
		}
		text := fmt.Sprintf("%s %d ready", node, e.Ready)
		if e.Serving > 0 {
			text += fmt.Sprintf(", %d terminating", e.Serving)
		}
		parts = append(parts, text)
		if len(parts) == most && len(r.Endpoints) > most {
			parts = append(parts, fmt.Sprintf("and %d more nodes", len(r.Endpoints)-most))
			break
		}
	}
	c.Heading("ENDPOINTS")
	c.Line(print.C(strings.Join(parts, "; ")))
}

func (w Way) draw(c *print.Screen) {
	if w.Protocol == "" {
		c.Line(print.Yes(false, "not announced: "), print.C(w.Message))
		return
	}
	c.Line(print.C(string(w.Protocol)+" by "+strings.Join(w.Advertisements, ", ")+": "), print.Yes(w.Reason == decide.Announced, string(w.Reason)))
	if w.Protocol == decide.L2 {
		w.drawL2(c)
	} else {
		w.drawBGP(c)
	}
	for i, l := range w.LeftOut {
		if i == most {
			c.Line(print.Cell{Text: fmt.Sprintf("  and %d more nodes left out", len(w.LeftOut)-most), Style: print.Faint})
			break
		}
		c.Line(print.C("  left out: " + l.Node + ": " + l.Why))
	}
}

func (w Way) drawL2(c *print.Screen) {
	var able []string
	for _, a := range w.Able {
		able = append(able, a.Node)
	}
	if len(able) > 0 {
		c.Line(print.C("  eligible: " + strings.Join(able, ", ")))
	}
	for _, a := range w.Answering {
		c.Line(print.C("  answers: " + a.Node + " on " + a.Interface + " since " + a.Since))
	}
	if len(w.Answering) == 0 && w.Owner != "" {
		c.Line(print.C("  should answer: " + w.Owner))
	}
	for _, who := range []struct{ what, node string }{
		{"asked to move to", w.Asked}, {"goes back in time to", w.GoesBack}, {"next in line", w.Successor},
	} {
		if who.node != "" {
			c.Line(print.C("  " + who.what + ": " + who.node))
		}
	}
}

func (w Way) drawBGP(c *print.Screen) {
	for i, a := range w.Able {
		if i == most {
			c.Line(print.Cell{Text: fmt.Sprintf("  and %d more nodes", len(w.Able)-most), Style: print.Faint})
			break
		}
		cells := []print.Cell{print.C("  eligible: " + a.Node + " to")}
		for _, p := range a.Peers {
			text := " " + p.Name
			if !p.Up {
				text += " (" + p.Why + ")"
			}
			cells = append(cells, print.Yes(p.Up, text))
		}
		c.Line(cells...)
	}
}
