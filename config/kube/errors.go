package kube

import apierrors "k8s.io/apimachinery/pkg/api/errors"

// IsConflict reports whether a write was refused because somebody else wrote the object first. The Source brings the newer version; decide
// again from that.
func IsConflict(err error) bool { return apierrors.IsConflict(err) }

// IsNotFound reports whether the object of a write does not exist (any more).
func IsNotFound(err error) bool { return apierrors.IsNotFound(err) }
