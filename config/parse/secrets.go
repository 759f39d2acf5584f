package parse

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/config"
)

// PasswordType is the type of the Secrets that hold passwords of BGP sessions; PasswordEntry is the entry that does.
const (
	PasswordType  = corev1.SecretTypeBasicAuth
	PasswordEntry = corev1.BasicAuthPasswordKey
)

// maxPassword is how many octets the kernel takes as a key of TCP MD5 (TCP_MD5SIG_MAXKEYLEN).
const maxPassword = 80

// password finds the password of a peer. While the Secret is missing or no good, a version that was in force before goes by what it was
// then, and any other has to wait.
func (w *world) password(spec *peerSpec) (config.Password, *config.Problem) {
	if spec.secret == "" || w.secretsUnseen {
		return "", nil
	}
	found, reason, message := w.lookup(spec.secret)
	switch {
	case reason == "":
		return found, nil
	case spec.kept != "":
		return spec.kept, nil
	}
	return "", &config.Problem{Field: "spec.passwordSecret.name", Reason: reason, Message: message}
}

func (w *world) lookup(name string) (found config.Password, reason, message string) {
	s := w.secrets[name]
	entry := ""
	if s != nil {
		entry = string(s.Data[PasswordEntry])
	}
	switch {
	case s == nil && w.secretsUnread:
		return "", UnknownSecret, "the Secrets of Herald's namespace cannot be read (yet), so there is no session without the password; the log says why"
	case s == nil:
		return "", UnknownSecret, fmt.Sprintf("there is no Secret %s of type %s in Herald's namespace; the peer is taken in when it appears", name, PasswordType)
	case s.Type != PasswordType:
		return "", InvalidSecret, fmt.Sprintf("Secret %s is of type %s; make it anew with type %s", name, s.Type, PasswordType)
	case entry == "":
		return "", InvalidSecret, fmt.Sprintf("Secret %s has no entry %s", name, PasswordEntry)
	case len(entry) > maxPassword:
		return "", InvalidSecret, fmt.Sprintf("the password in Secret %s has %d octets, and TCP MD5 takes no more than %d", name, len(entry), maxPassword)
	case entry[len(entry)-1] == '\n':
		return "", InvalidSecret, fmt.Sprintf("the password in Secret %s ends with a line break, which no router is configured with; write it without (echo -n)", name)
	}
	return config.Password(entry), "", ""
}
