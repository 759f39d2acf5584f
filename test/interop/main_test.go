package interop

import (
	"testing"

	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/router/peer"
)

func TestMain(m *testing.M) {
	peer.Dispatch()
	netlab.Main(m)
}
