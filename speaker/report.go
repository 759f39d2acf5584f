package speaker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/pace"
	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/inspect"
	"github.com/heraldlb/herald/speaker/member"
	"github.com/heraldlb/herald/speaker/reconcile"
)

// Report is what a speaker tells of itself, as values.
type Report struct {
	Interfaces []config.Interface
	Gateways   []netip.Addr // of the node's default routes, without link-local ones; sorted
	Known      int          // speakers known to gossip, this one included; 0 while gossip does not run
	Alive      int
	Missing    []string // nodes whose speakers gossip misses, sorted
	L2         []config.L2Holding
	Conflicts  []config.L2Conflict
	Sessions   []config.Session
	Troubles   []Trouble         // sorted by Reason; empty when all is well
	Node       []inspect.Trouble // of the node, which announces all the same; sorted by Reason
}

// Trouble is something that keeps this speaker from doing its work.
type Trouble struct {
	Reason  string // CamelCase
	Message string // for the operator: what to do
}

// gossipDown is the reason when this speaker does not hear the others.
const gossipDown = "GossipDown"

func (s *Speaker) report(facts decide.Facts, view *member.View) Report {
	defer s.opt.Metrics.stage(stageReport)()
	r := Report{
		Interfaces: s.opt.Links.Interfaces(),
		L2:         s.holdings(),
		Conflicts:  s.conflicts(facts.Members),
		Sessions:   s.opt.BGP.Sessions(),
	}
	switch {
	case view == nil:
		r.Troubles = append(r.Troubles, Trouble{
			Reason:  gossipDown,
			Message: "gossip does not run, as there is no key yet: no address is announced by ARP or NDP from this node",
		})
	case view.Trouble != "":
		r.Troubles = append(r.Troubles, Trouble{Reason: gossipDown, Message: view.Trouble})
		fallthrough
	default:
		r.Known, r.Alive, r.Missing = s.census.told.known, s.census.told.alive, s.census.told.missing
	}
	if !facts.Config.Synced {
		r.Troubles = append(r.Troubles, Trouble{Reason: "NotSynced", Message: "the API server has not yet told what to announce"})
	}
	if s.opt.L2.Denied() {
		r.Troubles = append(r.Troubles, Trouble{
			Reason:  "PacketSocketsDenied",
			Message: "packet sockets are not permitted, so nothing is answered by ARP or NDP: add the capability NET_RAW to the speaker's securityContext",
		})
	}
	if since := s.opt.Source.Stale(); !since.IsZero() {
		r.Troubles = append(r.Troubles, Trouble{
			Reason:  "ViewStale",
			Message: "the API server has not answered since this speaker started; what it announces is as of " + since.UTC().Format(time.RFC3339),
		})
	}
	r.Node, r.Gateways = s.inspected(r.Interfaces, facts.Config.Pools)
	slices.SortStableFunc(r.Troubles, func(a, b Trouble) int { return strings.Compare(a.Reason, b.Reason) })
	return r
}

// inspected returns what is wrong with the node, and its default gateways.
func (s *Speaker) inspected(interfaces []config.Interface, pools []*config.Pool) ([]inspect.Trouble, []netip.Addr) {
	if s.opt.Inspect == nil {
		return nil, nil
	}
	node := s.opt.Inspect.Node()
	return inspect.Judge(node, interfaces, pools), node.Beyond()
}

// holdings returns what is answered for, without what this node answers in another's name: that is the other's to report.
func (s *Speaker) holdings() []config.L2Holding {
	others := map[netip.Addr]bool{}
	for _, a := range s.announced {
		if a.For != "" {
			others[a.Addr] = true
		}
	}
	for _, a := range s.linger {
		if a.For != "" {
			others[a.Addr] = true
		}
	}
	actual := s.opt.L2.Actual()
	if len(others) == 0 {
		return actual
	}
	return slices.DeleteFunc(slices.Clone(actual), func(h config.L2Holding) bool { return others[h.Address] })
}

// conflicts returns whom else was heard to use addresses of Services. Other speakers are not among them: two that answer for one address
// settle that among themselves. But a live one that does not claim an address which was found in use does not answer for it either: then
// something else on its node does.
func (s *Speaker) conflicts(members []decide.Member) []config.L2Conflict {
	var out []config.L2Conflict
	for _, c := range s.opt.L2.Conflicts() {
		if !s.wire.speaks(c.MAC) || c.Unanswered && unclaimed(members, s.wire.macs[c.MAC].node, c.Addr) {
			out = append(out, config.L2Conflict{Address: c.Addr, Interface: c.Interface, MAC: c.MAC, Since: c.First})
		}
	}
	return out
}

// unclaimed reports whether a node is that of a live member that does not claim an address.
func unclaimed(members []decide.Member, node string, a netip.Addr) bool {
	return slices.ContainsFunc(members, func(m decide.Member) bool {
		_, claims := m.Claims[a]
		return m.Node == node && !claims
	})
}

// reportEvery bounds how often a SpeakerStatus is written: the first change after a pause is written at once.
const reportEvery = 250 * time.Millisecond

// reportRetry is how long to wait after a write that failed. All speakers fail when the API server does: half of it is left to chance, so that they
// are not back all at once.
func reportRetry() reconcile.Backoff {
	return reconcile.Backoff{Min: time.Second, Max: 20 * time.Second}
}

// StatusWriter writes the SpeakerStatus of this node, unless it already stands there.
type StatusWriter func(context.Context, v1beta1.SpeakerStatusStatus) error

// Recorder writes reports at a bounded rate. Make it with NewRecorder.
type Recorder struct {
	version string
	started time.Time
	write   StatusWriter
	latest  atomic.Pointer[Report]
	pacer   *pace.Pacer
	log     *slog.Logger

	turn   chan struct{}      // capacity 1: full while somebody writes, who owns what follows
	ready  metav1.Condition   // as written last
	node   []metav1.Condition // likewise
	failed int                // so many of the last writes in a row; the first of them was logged
}

// NewRecorder returns a Recorder that writes through write; it does nothing until Run.
func NewRecorder(version string, started time.Time, write StatusWriter, log *slog.Logger) *Recorder {
	r := &Recorder{version: version, started: started, write: write, log: log, turn: make(chan struct{}, 1)}
	r.pacer = pace.New(reportEvery, 0, 0, r.flush)
	return r
}

// Report takes what is to be written. It never blocks.
func (r *Recorder) Report(rep Report) {
	r.latest.Store(&rep)
	r.pacer.Trigger()
}

// Run writes until ctx ends.
func (r *Recorder) Run(ctx context.Context) error { return r.pacer.Run(ctx) }

// Flush writes the last report now; it is for the end, after Run may have written for the last time. A write under way is waited for until ctx ends.
func (r *Recorder) Flush(ctx context.Context) {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-r.turn }()
	_ = r.put(ctx) // logged there
}

// flush writes the last report, and rests after a failure, so that what changes meanwhile is no reason to try again sooner.
func (r *Recorder) flush(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := r.put(ctx)
	failed := r.failed
	<-r.turn
	if err == nil {
		return nil
	}
	wait := reportRetry().After(failed)
	select {
	case <-ctx.Done():
	case <-time.After(wait/2 + rand.N(wait/2)):
	}
	return err
}

func (r *Recorder) put(ctx context.Context) error {
	rep := r.latest.Load()
	if rep == nil {
		return nil
	}
	now := time.Now()
	r.ready, r.node = rep.ready(r.ready, now), rep.conditions(r.node, now)
	err := r.write(ctx, rep.status(r.version, r.started, append([]metav1.Condition{r.ready}, r.node...)))
	if err == nil {
		r.failed = 0
		return nil
	}
	if r.failed++; r.failed == 1 && ctx.Err() == nil {
		r.log.Warn("own SpeakerStatus cannot be written; announcing goes on, trying again", "error", err)
	}
	return err
}

// ready sums the troubles up in a condition; its transition time is that of last as long as the status stays.
func (r Report) ready(last metav1.Condition, now time.Time) metav1.Condition {
	c := metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Announcing", Message: "able to announce"}
	if len(r.Troubles) > 0 {
		c.Status, c.Reason = metav1.ConditionFalse, r.Troubles[0].Reason
		var messages []string
		for _, t := range r.Troubles {
			messages = append(messages, t.Message)
		}
		c.Message = strings.Join(messages, "; ")
	}
	c.LastTransitionTime = last.LastTransitionTime
	if c.Status != last.Status {
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	}
	return c
}

// conditions tells the node's troubles: each is a condition that is True while it lasts, and absent else. Transition times are those of
// last for what has not changed.
func (r Report) conditions(last []metav1.Condition, now time.Time) []metav1.Condition {
	var out []metav1.Condition
	for _, t := range r.Node {
		c := metav1.Condition{Type: t.Reason, Status: metav1.ConditionTrue, Reason: t.Reason, Message: t.Message, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second))}
		if had := meta.FindStatusCondition(last, c.Type); had != nil {
			c.LastTransitionTime = had.LastTransitionTime
		}
		out = append(out, c)
	}
	return out
}

// status is the report in the words of the API.
func (r Report) status(version string, started time.Time, conditions []metav1.Condition) v1beta1.SpeakerStatusStatus {
	at := metav1.NewTime(started.Truncate(time.Second))
	out := v1beta1.SpeakerStatusStatus{
		Version:    version,
		StartedAt:  &at,
		Conditions: conditions,
	}
	if r.Known > 0 {
		out.Gossip = &v1beta1.SpeakerGossip{Members: int32(r.Known), Alive: int32(r.Alive), Missing: r.Missing}
	}
	for _, i := range r.Interfaces {
		item := v1beta1.SpeakerInterface{Name: i.Name, MAC: i.MAC, Up: i.Up}
		for _, p := range i.Subnets {
			item.Subnets = append(item.Subnets, p.String())
		}
		out.Interfaces = append(out.Interfaces, item)
	}
	for _, a := range r.Gateways {
		out.Gateways = append(out.Gateways, a.String())
	}
	if len(r.L2)+len(r.Conflicts) > 0 {
		out.L2 = &v1beta1.SpeakerL2{}
	}
	for _, c := range r.Conflicts {
		out.L2.Conflicts = append(out.L2.Conflicts, v1beta1.SpeakerL2Conflict{
			Address: c.Address.String(), Interface: c.Interface, MAC: c.MAC, Since: metav1.NewMicroTime(c.Since),
		})
	}
	for _, h := range r.L2 {
		out.L2.Addresses = append(out.L2.Addresses, v1beta1.SpeakerL2Address{
			Address: h.Address.String(), Interface: h.Interface, Since: metav1.NewMicroTime(h.Since),
		})
	}
	if len(r.Sessions) > 0 {
		out.BGP = &v1beta1.SpeakerBGP{}
	}
	for _, s := range r.Sessions {
		out.BGP.Sessions = append(out.BGP.Sessions, session(s))
	}
	return out
}

func session(s config.Session) v1beta1.SpeakerBGPSession {
	out := v1beta1.SpeakerBGPSession{
		Peer:         s.Peer,
		Address:      s.Address,
		LocalAddress: s.LocalAddress,
		State:        s.State,
		Since:        metav1.NewMicroTime(s.Since),
		LocalASN:     int64(s.LocalASN),
		PeerASN:      int64(s.PeerASN),
		Advertised:   v1beta1.SpeakerAdvertised{IPv4: int32(s.Advertised[config.IPv4]), IPv6: int32(s.Advertised[config.IPv6])},
		BFD:          s.BFD,
		LastError:    s.LastError,
	}
	if s.Restart > 0 {
		out.GracefulRestart = &metav1.Duration{Duration: s.Restart}
	}
	for _, f := range s.Families {
		out.Families = append(out.Families, v1beta1.IPFamily(strings.ToLower(f.String())))
	}
	if s.HoldTime > 0 {
		out.HoldTime = &metav1.Duration{Duration: s.HoldTime}
	}
	return out
}
