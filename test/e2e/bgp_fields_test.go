package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab/router"
)

// object is one of Herald's objects; spec is the inside of its braces.
func object(kind, name, spec string) string {
	return advertisement(kind, name, spec)
}

// prefixes waits until the router has routes of this length to exactly these prefixes, by all nodes, within the pool "routed".
func (s *stage) prefixes(bits int, want ...string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("the prefixes %v", want), func(context.Context) error {
		routes, err := router.Routes(s.RouterHost)
		if err != nil {
			return err
		}
		var have []string
		for _, r := range routes {
			if r.Prefix.Bits() != bits || !netip.MustParsePrefix("203.0.113.0/26").Overlaps(r.Prefix) {
				continue
			}
			if len(r.NextHops) != len(s.Nodes) {
				return fmt.Errorf("%s goes to %v only", r.Prefix, r.NextHops)
			}
			have = append(have, r.Prefix.String())
		}
		if !slices.Equal(have, want) {
			return fmt.Errorf("there are %v", have)
		}
		return nil
	})
}

// TestNamesForCommunities checks that an advertisement waits for a name that nobody gives yet, alone, and is taken in when somebody does; and
// that an aggregate stands for as long as one Service has an address in it.
func TestNamesForCommunities(t *testing.T) {
	s := on(t)
	s.create("coloured", scene.FromPool("routed"), scene.SingleStack(corev1.IPv4Protocol))
	ip := s.withAddress("coloured")[0]
	s.routed(ip, s.allNodes()...)
	before := s.sessions()

	wide := netip.PrefixFrom(ip, 27).Masked()
	s.apply(object("BGPAdvertisement", "wide", `ipAddressPools: [routed], aggregationLength: 27, communities: [no-export, site-edge]`), "bgpadvertisement/wide")
	s.judged(scene.BGPAdvertisements, "wide", metav1.ConditionFalse, "UnknownCommunity", `"site-edge"`)
	s.judged(scene.BGPAdvertisements, "routed", metav1.ConditionTrue, "")
	s.prefixes(27)
	s.apply(object("Community", "site", `communities: [{name: site-edge, value: "64513:7"}]`), "community/site")
	s.judged("communities", "site", metav1.ConditionTrue, "")
	s.judged(scene.BGPAdvertisements, "wide", metav1.ConditionTrue, "")
	s.prefixes(27, wide.String())
	s.must(s.routedNow(ip, s.allNodes()...))

	_, err := s.Kubectl(t.Context(), "delete", "community", "site")
	s.must(err)
	s.judged(scene.BGPAdvertisements, "wide", metav1.ConditionFalse, "UnknownCommunity", "stays in force")
	s.prefixes(27, wide.String())
	s.undisturbed(before, "router-v4")
	s.undisturbed(before, "router-v6")
}

// TestContradictions checks that of two advertisements that say different numbers of one route the younger is left out, alone, and names both.
func TestContradictions(t *testing.T) {
	s := on(t)
	s.create("contradicted", scene.FromPool("routed"), scene.SingleStack(corev1.IPv4Protocol))
	ip := s.withAddress("contradicted")[0]
	before := s.sessions()
	s.apply(object("BGPAdvertisement", "a-elder", `ipAddressPools: [routed], med: 10`), "bgpadvertisement/a-elder")
	s.judged(scene.BGPAdvertisements, "a-elder", metav1.ConditionTrue, "")
	s.apply(object("BGPAdvertisement", "b-younger", `ipAddressPools: [routed], med: 20`), "bgpadvertisement/b-younger")
	s.judged(scene.BGPAdvertisements, "b-younger", metav1.ConditionFalse, "ConflictingAttributes", "b-younger says 20", "BGPAdvertisement a-elder says 10")
	s.judged(scene.BGPAdvertisements, "a-elder", metav1.ConditionTrue, "")
	s.routed(ip, s.allNodes()...)
	s.must(s.Apply(t.Context(), object("BGPAdvertisement", "b-younger", `ipAddressPools: [routed], med: 20, aggregationLength: 28, aggregationLengthV6: 124`)))
	s.judged(scene.BGPAdvertisements, "b-younger", metav1.ConditionTrue, "")

	s.prefixes(28, netip.PrefixFrom(ip, 28).Masked().String())

	s.must(s.Apply(t.Context(), object("BGPAdvertisement", "a-elder", `ipAddressPools: [routed], localPref: 10`)))
	s.judged(scene.BGPAdvertisements, "a-elder", metav1.ConditionFalse, "NoEffect", "spec.localPref", "in force all the same")
	s.undisturbed(before, "router-v4")
	s.undisturbed(before, "router-v6")
}

// TestPasswordSecret checks that a peer whose password is not there waits, alone, and opens its session when it appears.
func TestPasswordSecret(t *testing.T) {
	s := on(t)
	before := s.sessions()
	secret := func(kind string) string {
		return `
apiVersion: v1
kind: Secret
metadata: {name: signed-session, namespace: ` + s.Namespace + `}
type: ` + kind + `
stringData: {password: hush}
`
	}
	t.Cleanup(func() {
		_, err := s.Kubectl(context.Background(), "--namespace", s.Namespace, "delete", "secret", "signed-session", "--ignore-not-found")
		s.must(err)
	})
	// nobody has this address: what counts is whether the speakers try
	s.apply(object("BGPPeer", "signed", `myASN: 64513, peerASN: 64514, peerAddress: 192.168.100.199, passwordSecret: {name: signed-session}`), "bgppeer/signed")
	s.judged(scene.Peers, "signed", metav1.ConditionFalse, "UnknownSecret", "signed-session", "kubernetes.io/basic-auth")
	s.reported("signed", func(session *v1beta1.SpeakerBGPSession) error {
		if session != nil {
			return fmt.Errorf("there is a session without the password: %s", session.State)
		}
		return nil
	})
	s.must(s.Apply(t.Context(), secret("Opaque")))
	s.judged(scene.Peers, "signed", metav1.ConditionFalse, "UnknownSecret", "kubernetes.io/basic-auth")
	_, err := s.Kubectl(t.Context(), "--namespace", s.Namespace, "delete", "secret", "signed-session")
	s.must(err)
	s.must(s.Apply(t.Context(), secret("kubernetes.io/basic-auth")))
	s.judged(scene.Peers, "signed", metav1.ConditionTrue, "")
	s.reported("signed", func(session *v1beta1.SpeakerBGPSession) error {
		if session == nil || session.LastError == "" {
			return fmt.Errorf("no attempt at the session is reported: %+v", session)
		}
		return nil
	})
	_, err = s.Kubectl(t.Context(), "--namespace", s.Namespace, "delete", "secret", "signed-session")
	s.must(err)
	s.judged(scene.Peers, "signed", metav1.ConditionFalse, "UnknownSecret", "stays in force")
	s.undisturbed(before, "router-v4")
	s.undisturbed(before, "router-v6")
}

// reported waits until what every node reports of its session to a peer, nil for none, is right.
func (s *stage) reported(peer string, right func(*v1beta1.SpeakerBGPSession) error) {
	s.t.Helper()
	s.eventually("the reports of sessions to "+peer, func(ctx context.Context) error {
		for _, n := range s.Nodes {
			of, err := s.Sessions(ctx, n.Name)
			if err != nil {
				return err
			}
			var session *v1beta1.SpeakerBGPSession
			if found, ok := of[peer]; ok {
				session = &found
			}
			if err := right(session); err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
		}
		return nil
	})
}

// TestMissingBFDProfile checks that a peer whose BFDProfile does not exist keeps its sessions, and says that nothing watches them.
func TestMissingBFDProfile(t *testing.T) {
	s := on(t)
	before := s.sessions()
	s.reconfigure(peerV6(`bfdProfile: fast`))
	s.judged(scene.Peers, "router-v6", metav1.ConditionFalse, "UnknownBFDProfile", "BFDProfile fast", "in force all the same")
	s.undisturbed(before, "router-v4")
	s.undisturbed(before, "router-v6")
}
