package kube

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Review is what the API server says of somebody who asks this process for something.
type Review struct {
	User    string // whose the token is; empty: the API server takes it for nobody's
	Allowed bool
	Reason  string // for a refusal, as far as the API server gives one
}

// MayGet asks the API server whose a bearer token is (TokenReview), and whether they may get a path that is not a resource
// (SubjectAccessReview). An error means that there is no answer: the caller must refuse.
func (c *Client) MayGet(ctx context.Context, token, path string) (Review, error) {
	who, err := c.core.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token},
	}, metav1.CreateOptions{})
	if err != nil {
		return Review{}, fmt.Errorf("asking the API server whose a token is (needs: create tokenreviews): %w", err)
	}
	user := who.Status.User
	if !who.Status.Authenticated || user.Username == "" {
		return Review{Reason: who.Status.Error}, nil
	}
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for key, values := range user.Extra {
		extra[key] = authorizationv1.ExtraValue(values)
	}
	may, err := c.core.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return Review{}, fmt.Errorf("asking the API server what %s may do (needs: create subjectaccessreviews): %w", user.Username, err)
	}
	return Review{User: user.Username, Allowed: may.Status.Allowed && !may.Status.Denied, Reason: may.Status.Reason}, nil
}
