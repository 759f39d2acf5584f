package gobgp

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/speaker/bgp"
)

// fault is what we find wrong with a peer; the peer is told the codes (RFC 4271 section 6), the operator the words.
type fault struct {
	code, subcode uint8
	data          []byte
	words         string
}

func newFault(code, subcode uint8, data []byte, words string) *fault {
	return &fault{code, subcode, data, words}
}

func (f *fault) Error() string { return f.words }

func (f *fault) message() []byte {
	return mustSerialize(packet.NewBGPNotificationMessage(f.code, f.subcode, f.data))
}

// cease returns the NOTIFICATION that ends a session from our side for the given cause (RFC 4486 section 4).
func cease(cause error) *fault {
	var farewell *bgp.Farewell
	switch {
	case errors.Is(cause, bgp.ErrRemoved):
		return newFault(packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_PEER_DECONFIGURED, nil, "no longer wanted")
	case errors.Is(cause, bgp.ErrChanged), errors.Is(cause, bgp.ErrReopened):
		return newFault(packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_OTHER_CONFIGURATION_CHANGE, nil, "no longer wanted")
	case errors.Is(cause, bgp.ErrRestarting):
		return newFault(packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_ADMINISTRATIVE_RESET, spoken(cause.Error()), "no longer wanted")
	case errors.As(cause, &farewell):
		return newFault(packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN, spoken(farewell.Words), "no longer wanted")
	}
	return newFault(packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN, nil, "no longer wanted")
}

// bfdDown is the subcode of Cease that says so (RFC 9384 section 3).
const bfdDown = 10

// mostSpoken is how long a shutdown communication may be for routers that know only RFC 8203.
const mostSpoken = 128

// spoken returns a shutdown communication (RFC 9003 section 2): a length, then UTF-8.
func spoken(words string) []byte {
	for len(words) > mostSpoken {
		_, size := utf8.DecodeLastRuneInString(words)
		words = words[:len(words)-size]
	}
	return append([]byte{byte(len(words))}, words...)
}

// refusal is a NOTIFICATION from the peer.
type refusal struct{ words string }

func (r *refusal) Error() string { return r.words }

// notified reads a NOTIFICATION into an operator's words.
func notified(n bgp.Neighbor, body []byte) *refusal {
	code, subcode, data := body[0], body[1], body[2:]
	who := "peer ended the session: "
	if code == packet.BGP_ERROR_OPEN_MESSAGE_ERROR {
		who = "peer refused: "
	}
	return &refusal{who + explain(n, code, subcode, data)}
}

// explain puts the codes of a received NOTIFICATION into words and says what to compare.
func explain(n bgp.Neighbor, code, subcode uint8, data []byte) string {
	type pair struct{ code, subcode uint8 }
	switch (pair{code, subcode}) {
	case pair{packet.BGP_ERROR_OPEN_MESSAGE_ERROR, packet.BGP_ERROR_SUB_BAD_PEER_AS}:
		return fmt.Sprintf("bad peer AS %d: the router expects another AS number from this node; compare spec.myASN with its configuration", n.LocalASN)
	case pair{packet.BGP_ERROR_OPEN_MESSAGE_ERROR, packet.BGP_ERROR_SUB_BAD_BGP_IDENTIFIER}:
		return fmt.Sprintf("bad BGP identifier %s: another speaker uses it, or it is the router's own; set spec.routerID", n.RouterID)
	case pair{packet.BGP_ERROR_OPEN_MESSAGE_ERROR, packet.BGP_ERROR_SUB_UNACCEPTABLE_HOLD_TIME}:
		return fmt.Sprintf("unacceptable hold time %s; compare spec.holdTime with the router's minimum", n.Hold)
	case pair{packet.BGP_ERROR_OPEN_MESSAGE_ERROR, packet.BGP_ERROR_SUB_UNSUPPORTED_CAPABILITY}:
		return "unsupported capability: the router and spec.families have no address family in common, or it insists on a capability we do not have"
	case pair{packet.BGP_ERROR_OPEN_MESSAGE_ERROR, packet.BGP_ERROR_SUB_DEPRECATED_AUTHENTICATION_FAILURE}:
		return "authentication failure"
	case pair{packet.BGP_ERROR_HOLD_TIMER_EXPIRED, 0}:
		return "hold timer expired: the router heard nothing from this node for its hold time"
	case pair{packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN},
		pair{packet.BGP_ERROR_CEASE, packet.BGP_ERROR_SUB_ADMINISTRATIVE_RESET}:
		return ceaseWords(subcode) + communication(data)
	}
	if code == packet.BGP_ERROR_CEASE {
		return ceaseWords(subcode)
	}
	return fmt.Sprintf("%s (code %d, subcode %d)", codeWords(code), code, subcode)
}

func codeWords(code uint8) string {
	switch code {
	case packet.BGP_ERROR_MESSAGE_HEADER_ERROR:
		return "message header error"
	case packet.BGP_ERROR_OPEN_MESSAGE_ERROR:
		return "OPEN message error"
	case packet.BGP_ERROR_UPDATE_MESSAGE_ERROR:
		return "UPDATE message error"
	case packet.BGP_ERROR_HOLD_TIMER_EXPIRED:
		return "hold timer expired"
	case packet.BGP_ERROR_FSM_ERROR:
		return "finite state machine error"
	default:
		return "unknown error"
	}
}

// ceaseWords names the subcodes of Cease (RFC 4486, RFC 8538, RFC 9384).
func ceaseWords(subcode uint8) string {
	switch subcode {
	case packet.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED:
		return "maximum number of prefixes reached: this node advertises more routes than the router allows"
	case packet.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN:
		return "administrative shutdown"
	case packet.BGP_ERROR_SUB_PEER_DECONFIGURED:
		return "the router's configuration of this peer was removed"
	case packet.BGP_ERROR_SUB_ADMINISTRATIVE_RESET:
		return "administrative reset"
	case packet.BGP_ERROR_SUB_CONNECTION_REJECTED:
		return "connection rejected: this node is not a neighbour of the router, or it is shut down there"
	case packet.BGP_ERROR_SUB_OTHER_CONFIGURATION_CHANGE:
		return "the router's configuration changed"
	case packet.BGP_ERROR_SUB_CONNECTION_COLLISION_RESOLUTION:
		return "connection collision: the router has another session with this address; is there another BGP speaker on the node?"
	case packet.BGP_ERROR_SUB_OUT_OF_RESOURCES:
		return "the router is out of resources"
	case packet.BGP_ERROR_SUB_HARD_RESET:
		return "hard reset"
	case bfdDown:
		return "BFD declared the path down"
	default:
		return fmt.Sprintf("ceased (subcode %d)", subcode)
	}
}

// communication returns the text that may come with a shutdown (RFC 9003 section 2): a length, then UTF-8 of up to 255 bytes.
func communication(data []byte) string {
	if len(data) < 2 || int(data[0]) > len(data)-1 {
		return ""
	}
	text := string(data[1 : 1+int(data[0])])
	if !utf8.ValidString(text) {
		return ""
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	return fmt.Sprintf(", the router says %q", text)
}
