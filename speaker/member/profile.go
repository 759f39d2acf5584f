package member

import "time"

// profile is how eagerly failures are looked for.
type profile struct {
	probeInterval  time.Duration
	probeTimeout   time.Duration
	gossipInterval time.Duration
	pushPull       time.Duration
}

// Sizes of a cluster up to which a profile holds. The cost of probing is the same for each node in a cluster of any size, but not that of
// a wrong suspicion, which every node gossips about; and on large clusters some node is always slow.
const (
	smallCluster  = 40
	mediumCluster = 150
)

// profileFor returns the profile for a number of speakers. It is chosen once, when gossip starts; speakers with different profiles
// understand each other.
func profileFor(speakers int) profile {
	switch {
	case speakers <= smallCluster:
		return profile{90 * time.Millisecond, 45 * time.Millisecond, 50 * time.Millisecond, 10 * time.Second}
	case speakers <= mediumCluster:
		return profile{150 * time.Millisecond, 75 * time.Millisecond, 75 * time.Millisecond, 15 * time.Second}
	}
	return profile{250 * time.Millisecond, 100 * time.Millisecond, 100 * time.Millisecond, 30 * time.Second}
}

// Fixed parts of the profile; see memberlist's Config for what they mean.
const (
	suspicionMult  = 2
	indirectChecks = 3
	streamTimeout  = 2 * time.Second
)
