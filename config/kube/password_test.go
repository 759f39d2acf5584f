package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
)

// TestPasswordsForbidden: where Secrets may not be read, only the peers that need one go without a session; until that is known, everything
// waits, as absence means nothing yet.
func TestPasswordsForbidden(t *testing.T) {
	client, err := newClient(&rest.Config{Host: "https://127.0.0.1:1"}) // nobody listens
	if err != nil {
		t.Fatal(err)
	}
	s := NewSource(client, SourceOptions{Namespace: "herald-system", Role: Speaker, Log: discard()})
	for _, list := range []interface{ Replace([]any, string) error }{
		s.services, s.slices, s.nodes, s.pools, s.l2Adverts, s.bgpAdverts, s.bfdProfiles, s.communities,
	} {
		if err := list.Replace(nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	peer := func(name, address, secret string) *v1beta1.BGPPeer {
		p := &v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1beta1.BGPPeerSpec{MyASN: 1, PeerASN: 2, PeerAddress: address}}
		if secret != "" {
			p.Spec.PasswordSecret = &v1beta1.SecretReference{Name: secret}
		}
		return p
	}
	if err := s.peers.Replace([]any{peer("open", "192.0.2.1", ""), peer("signed", "192.0.2.2", "hush")}, ""); err != nil {
		t.Fatal(err)
	}
	if s.Snapshot().Synced {
		t.Fatal("synced before anything is known of the Secrets")
	}
	drained(s.Changed())
	s.health.report(passwordFeed, apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "", nil))
	if !drained(s.Changed()) {
		t.Error("nobody is told")
	}
	snap := s.Snapshot()
	if !snap.Synced || len(snap.Peers) != 1 || snap.Peers[0].Name != "open" {
		t.Errorf("synced %t, peers %+v", snap.Synced, snap.Peers)
	}
	if len(snap.Problems) != 1 || snap.Problems[0].Reason != parse.UnknownSecret || snap.Problems[0].Name != "signed" {
		t.Errorf("problems %+v", snap.Problems)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "herald-system", Name: "hush"},
		Type:       corev1.SecretTypeBasicAuth, Data: map[string][]byte{"username": []byte("u"), "password": []byte("p")},
	}
	if err := s.passwords.Replace([]any{secret}, ""); err != nil {
		t.Fatal(err)
	}
	if snap := s.Snapshot(); len(snap.Peers) != 2 || snap.Peers[1].Password != "p" || len(snap.Problems) != 0 {
		t.Errorf("peers %+v, problems %+v", snap.Peers, snap.Problems)
	}
	if kept := s.passwords.list()[0].Data; len(kept) != 1 {
		t.Errorf("more than the password is kept: %v", kept)
	}
}

func drained(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// testPasswords: Secrets of the one type are watched, in the one namespace, and a new password arrives.
func testPasswords(t *testing.T, s *apiServer) {
	c := s.client(adminToken)
	src := s.source(t, c, SourceOptions{Namespace: "herald-system", Role: Speaker, Node: "n"})
	secret := func(namespace, name, kind, password string) {
		s.apply(`
apiVersion: v1
kind: Secret
metadata: {namespace: ` + namespace + `, name: ` + name + `}
type: ` + kind + `
stringData: {password: ` + password + `}
`)
	}
	s.apply(`
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: signed}
spec: {myASN: 64500, peerASN: 64501, peerAddress: 192.0.2.253, passwordSecret: {name: tor}, bfdProfile: quick}
---
apiVersion: heraldlb.io/v1beta1
kind: BFDProfile
metadata: {name: quick}
spec: {receiveInterval: 100}
`)
	signed := func() *config.Peer {
		for _, p := range src.Snapshot().Peers {
			if p.Name == "signed" {
				return p
			}
		}
		return nil
	}
	because := func(reason string) func() bool {
		return func() bool {
			for _, p := range src.Snapshot().Problems {
				if p.Name == "signed" && p.Reason == reason {
					return true
				}
			}
			return false
		}
	}
	secret("default", "tor", "kubernetes.io/basic-auth", "elsewhere")
	secret("herald-system", "tor", "Opaque", "of-another-type")
	eventually(t, "the peer to wait", because(parse.UnknownSecret))
	s.kubectl("", "delete", "secret", "tor", "-n", "herald-system")
	secret("herald-system", "tor", "kubernetes.io/basic-auth", "one")
	eventually(t, "the password", func() bool { p := signed(); return p != nil && p.Password == "one" })
	if p := signed(); p.BFD == nil || p.BFD.DetectMultiplier != 3 || !p.Restart.Enabled {
		t.Errorf("defaults: %+v, BFD %+v", p, p.BFD)
	}
	secret("herald-system", "tor", "kubernetes.io/basic-auth", "two")
	eventually(t, "the next password", func() bool { return signed().Password == "two" })
	s.kubectl("", "delete", "secret", "tor", "-n", "herald-system")
	eventually(t, "a problem", because(parse.UnknownSecret))
	if p := signed(); p == nil || p.Password != "two" {
		t.Errorf("the session is not left as it is: %+v", p)
	}
	s.kubectl("", "delete", "bgppeer/signed", "bfdprofile/quick")
	s.kubectl("", "delete", "secret", "tor", "-n", "default")
}
