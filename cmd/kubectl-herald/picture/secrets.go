package picture

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
)

// passwordField is what a problem with a Secret is about.
const passwordField = "spec.passwordSecret.name"

// passwords returns Secrets to judge peers by. Passwords are no business of who looks: what is wrong with one has been found by the controller,
// which says so in the peer's condition. For all others something stands in.
func passwords(peers []*v1beta1.BGPPeer) []*corev1.Secret {
	bad := map[string]bool{}
	for _, p := range peers {
		if c := withoutPassword(p); c != nil {
			bad[p.Spec.PasswordSecret.Name] = true
		}
	}
	var out []*corev1.Secret
	for _, p := range peers {
		if ref := p.Spec.PasswordSecret; ref != nil && !bad[ref.Name] {
			out = append(out, &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Name: ref.Name}, Type: parse.PasswordType, Data: map[string][]byte{parse.PasswordEntry: []byte("unseen")},
			})
		}
	}
	return out
}

// withoutPassword returns the condition of a peer that is left out for its password; nil when it is not.
func withoutPassword(p *v1beta1.BGPPeer) *metav1.Condition {
	c := meta.FindStatusCondition(p.Status.Conditions, readyType)
	if p.Spec.PasswordSecret == nil || c == nil || c.Status != metav1.ConditionFalse || c.ObservedGeneration != p.Generation {
		return nil
	}
	if c.Reason != parse.UnknownSecret && c.Reason != parse.InvalidSecret || strings.Contains(c.Message, "stays in force") {
		return nil
	}
	return c
}

// retell puts the controller's words for problems with passwords in the place of those that were found without the Secrets.
func retell(problems []config.Problem, peers []*v1beta1.BGPPeer) {
	said := map[string]*metav1.Condition{}
	for _, p := range peers {
		if c := withoutPassword(p); c != nil {
			said[p.Name] = c
		}
	}
	for i, p := range problems {
		if c := said[p.Name]; c != nil && p.Kind == parse.KindPeer && p.Field == passwordField {
			problems[i].Reason, problems[i].Message = c.Reason, strings.TrimPrefix(c.Message, passwordField+": ")
		}
	}
}
