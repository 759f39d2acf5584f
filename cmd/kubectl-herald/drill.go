package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/cmd/kubectl-herald/drill"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// drilled is what drill prints.
type drilled struct {
	Service  string          `json:"service"`
	Protocol decide.Protocol `json:"protocol"`
	Target   string          `json:"target"` // address and port that were connected to
	Legs     []leg           `json:"legs"`
	MedianMS int64           `json:"medianMilliseconds"`  // of the outages of all legs
	WorstMS  int64           `json:"longestMilliseconds"` // outage of all
	NoARP    string          `json:"noARP,omitempty"`     // why ARP was not watched
	Done     bool            `json:"done"`                // all that was to be provoked came about, and was undone
}

// leg is one thing that was provoked.
type leg struct {
	What string `json:"what"`
	drill.Summary
	OutageMS  int64    `json:"outageMilliseconds"`      // from the first connect that failed to the next that succeeded
	SilenceMS int64    `json:"arpSilenceMilliseconds"`  // longest time without an answer by ARP
	Answered  []string `json:"arpAnsweredBy,omitempty"` // MAC addresses, in the order of their first answers
	Seconds   float64  `json:"reportedAfterSeconds"`    // when it was reported to be done
	Trouble   string   `json:"trouble,omitempty"`       // why it was not
}

// Times of a drill.
const (
	baseline  = time.Second     // of connecting before anything is provoked
	afterwit  = 2 * time.Second // of connecting after something was reported to be done
	drillWait = time.Minute
)

// drillOptions are the flags of drill.
type drillOptions struct {
	namespace, node, by string
	address             string
	port, times         int
	yes                 bool
	wait                time.Duration
}

// drill makes the verb drill.
func (a *app) drill() *cobra.Command {
	parent := &cobra.Command{
		Use: "drill", Short: "Provoke a failover, and measure how long a Service cannot be reached", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return fmt.Errorf("%s: say by what: l2 or bgp", c.Name()) },
	}
	parent.AddCommand(
		a.drillBy(decide.L2, "move", "move: the address is handed to another node, and back; restart: the speaker of the node that answers is restarted",
			"the node that the address is handed to; the next in line when not given"),
		a.drillBy(decide.BGP, "drain", "drain: a node is drained, and announces again; restart: its speaker is restarted",
			"the node to drain or to restart the speaker of; the first that announces when not given"),
	)
	return parent
}

func (a *app) drillBy(protocol decide.Protocol, by, ways, node string) *cobra.Command {
	o := drillOptions{}
	c := &cobra.Command{
		Use: strings.ToLower(string(protocol)) + " SERVICE", Aliases: []string{string(protocol)}, Args: cobra.ExactArgs(1),
		Short: "Measure a failover of a Service that is announced by " + string(protocol),
		Long: "Measure a failover of a Service that is announced by " + string(protocol) + ".\n\nFrom where this program runs it connects to the Service every 10 ms (and asks for its address by ARP, if it is on the segment and may),\n" +
			"provokes a failover, and undoes it, also when it is interrupted. It asks before it begins.",
		ValidArgsFunction: a.complete(serviceNames),
		RunE: func(c *cobra.Command, args []string) error {
			if !o.yes && !a.terminal {
				return errors.New("give -y to go ahead: there is no terminal to ask at")
			}
			if o.by != by && o.by != "restart" {
				return fmt.Errorf("--by %q: must be %s or restart", o.by, by)
			}
			if o.times < 1 {
				return fmt.Errorf("--times %d: must be 1 or more", o.times)
			}
			return verb(func(ctx context.Context, args []string) error { return a.runDrill(ctx, protocol, args[0], o) })(c, args)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "`namespace` of a Service that is given by its name alone")
	f.StringVar(&o.by, "by", by, ways)
	f.StringVar(&o.node, "node", "", node)
	f.StringVar(&o.address, "address", "", "which of the Service's `addresses`; the first that is announced so when not given")
	f.IntVar(&o.port, "port", 0, "TCP `port` to connect to; the Service's first when not given")
	f.IntVar(&o.times, "times", 1, "how often")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	f.DurationVar(&o.wait, "wait", drillWait, "longest `time` to wait for what is provoked")
	_ = c.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]string{by, "restart"}, cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that is not there only
	_ = c.RegisterFlagCompletionFunc("node", a.complete(nodeNames))                                                             // likewise
	return c
}

func (a *app) runDrill(ctx context.Context, protocol decide.Protocol, name string, o drillOptions) error {
	p, api, err := a.look(ctx)
	if err != nil {
		return err
	}
	x := &exercise{app: a, api: api, clock: p.Cluster.Now, began: a.now(), wait: o.wait}
	if err := x.plan(p, protocol, keyOf(name, cmp.Or(o.namespace, api.Namespace())), o); err != nil {
		return err
	}
	if !o.yes && !a.agreed(x) {
		return errors.New("nothing was done")
	}
	if err := x.run(ctx, o.times); err != nil {
		return err
	}
	return a.print(x.result, x.result.Done, x.result.draw)
}

// agreed asks at the terminal.
func (a *app) agreed(x *exercise) bool {
	fmt.Fprintf(a.err, "Connections to %s (Service %s) may break, and those of whatever else the node announces. This will be done:\n", x.result.Target, x.result.Service)
	for _, s := range x.steps {
		fmt.Fprintln(a.err, "  "+s.what)
	}
	fmt.Fprint(a.err, "Go ahead? Type yes: ")
	line, err := bufio.NewReader(a.in).ReadString('\n')
	return (err == nil || line != "") && strings.TrimSpace(line) == "yes"
}

// plan works out what to connect to and what to provoke.
func (x *exercise) plan(p *picture.Picture, protocol decide.Protocol, key config.Key, o drillOptions) error {
	svc, err := served(p, key)
	if err != nil {
		return err
	}
	of := slices.DeleteFunc(slices.Clone(p.Explain.Service(key)), func(e decide.Explanation) bool {
		return e.Protocol != protocol || o.address != "" && e.Addr.String() != o.address
	})
	if len(of) == 0 {
		return fmt.Errorf("the Service %s has no such address that is announced by %s: kubectl herald explain service %s", key, protocol, key)
	}
	port, err := portOf(svc, o.port)
	if err != nil {
		return err
	}
	x.address = of[0].Addr
	x.result = drilled{Service: key.String(), Protocol: protocol, Target: net.JoinHostPort(x.address.String(), strconv.Itoa(port))}
	if protocol == decide.BGP {
		return x.planBGP(p, of[0], o)
	}
	return x.planL2(p, key, of[0], o)
}

// portOf returns the TCP port to connect to.
func portOf(svc *config.Service, asked int) (int, error) {
	if asked != 0 {
		return asked, nil
	}
	for _, p := range svc.Ports {
		if p.Protocol == "TCP" {
			return int(p.Port), nil
		}
	}
	return 0, fmt.Errorf("the Service %s has no TCP port to connect to", svc.Key)
}

// exercise is a drill that goes on.
type exercise struct {
	*app
	api     API
	clock   time.Time // of the API server, at began
	began   time.Time
	wait    time.Duration
	address netip.Addr
	steps   []step
	result  drilled
}

// step is something to provoke.
type step struct {
	what string
	do   func(ctx context.Context) error // and wait until it is reported to be done
	undo func(ctx context.Context) error // when the drill ends before the step that undoes it; nil: there is nothing to undo
}

// run connects all the while, and takes the steps.
func (x *exercise) run(ctx context.Context, times int) (err error) {
	probe := &drill.Probe{Dial: x.connect(x.result.Target)}
	watching, stop := context.WithCancel(ctx)
	done := make(chan struct{}, 2)
	go func() { probe.Run(watching); done <- struct{}{} }()
	runs := 1
	watch, why := x.listen(x.address)
	if why != nil {
		x.result.NoARP = why.Error()
	} else {
		runs++
		go func() { watch.Run(watching); done <- struct{}{} }()
	}
	defer func() {
		stop()
		for range runs {
			<-done
		}
	}()
	from := time.Now()
	if err := pause(ctx, baseline+drill.Timeout); err != nil {
		return err
	}
	if s := drill.Summarise(probe.Between(from, from.Add(baseline)), from.Add(baseline)); s.Tries == 0 || s.Failed > 0 {
		return fmt.Errorf("of %d connects to %s %d failed before anything was done (%s): it must be reachable from here", s.Tries, x.result.Target, s.Failed, s.Why)
	}
	x.result.Done = true
	for range times {
		if err := x.round(ctx, probe, watch); err != nil {
			return err
		}
	}
	x.result.sumUp()
	return nil
}

// round takes all steps once. What a step did is undone when those after it are not taken.
func (x *exercise) round(ctx context.Context, probe *drill.Probe, watch *drill.ARP) (err error) {
	var undo func(context.Context) error
	defer func() {
		if undo == nil {
			return
		}
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWait)
		defer cancel()
		if e := undo(late); e != nil {
			err = errors.Join(err, fmt.Errorf("what was done could not be undone: %w", e))
		}
	}()
	for _, s := range x.steps {
		l := leg{What: s.what}
		from := time.Now()
		undo = s.undo
		failed := s.do(ctx)
		l.Seconds = time.Since(from).Seconds()
		if ctx.Err() != nil {
			return errInterrupted
		}
		if failed != nil {
			l.Trouble, x.result.Done = failed.Error(), false
		}
		if err := pause(ctx, afterwit); err != nil {
			return err
		}
		to := time.Now()
		if err := pause(ctx, drill.Timeout); err != nil { // attempts that are under way
			return err
		}
		l.Summary = drill.Summarise(probe.Between(from, to), to)
		l.OutageMS = l.Longest.Milliseconds()
		if watch != nil {
			silence, macs := drill.Silence(watch.Between(from, to), from, to)
			l.SilenceMS, l.Answered = silence.Milliseconds(), macs
		}
		x.result.Legs = append(x.result.Legs, l)
		if failed != nil {
			return nil
		}
	}
	undo = nil
	return nil
}

// errInterrupted says that the caller has gone.
var errInterrupted = errors.New("interrupted; what was done is undone")

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return errInterrupted
	case <-time.After(d):
		return nil
	}
}

func (r *drilled) sumUp() {
	var all []time.Duration
	for _, l := range r.Legs {
		all = append(all, l.Longest)
	}
	if len(all) > 0 {
		r.MedianMS, r.WorstMS = drill.Median(all).Milliseconds(), slices.Max(all).Milliseconds()
	}
}

func (r drilled) draw(c *print.Screen) {
	c.Line(print.Cell{Text: "Service " + r.Service + ", " + r.Target + " by " + string(r.Protocol), Style: print.Bold})
	var rows [][]print.Cell
	for _, l := range r.Legs {
		silence := ""
		if r.NoARP == "" {
			silence = fmt.Sprintf("%d ms", l.SilenceMS)
		}
		rows = append(rows, []print.Cell{
			print.C(l.What), print.Yes(l.Failed == 0, fmt.Sprintf("%d of %d", l.Failed, l.Tries)), print.C(fmt.Sprintf("%d ms", l.OutageMS)), print.C(silence),
			print.C(fmt.Sprintf("%.1f s", l.Seconds)), print.C(strings.Join(l.Answered, ", ")),
		})
	}
	c.Table([]string{"PROVOKED", "FAILED", "OUTAGE", "ARP SILENT", "REPORTED", "ARP BY"}, rows)
	for _, l := range r.Legs {
		if l.Trouble != "" {
			c.Line(print.Yes(false, l.What+": "+l.Trouble))
		}
		if l.Why != "" {
			c.Line(print.C(l.What + ": connects failed with: " + l.Why))
		}
	}
	if r.NoARP != "" {
		c.Line(print.Cell{Text: "ARP was not watched: " + r.NoARP, Style: print.Faint})
	}
	c.Line(print.C("outage: "), print.Yes(r.WorstMS == 0, fmt.Sprintf("median %d ms, longest %d ms", r.MedianMS, r.WorstMS)))
}
