// Package sabotage turns safeguards of the data path off, one by one, so that tests can show that the suite would notice
// their absence: a check that cannot fail proves nothing. The binary is built with the tag sabotage, and the safeguards
// are named in the environment, separated by commas:
//
//	LANTERNIST_SABOTAGE=versions
//	LANTERNIST_SABOTAGE=append-before-acknowledge,slot-ahead
//
// Without the tag Off is the constant false and costs nothing. It leaves to its callers what a safeguard is.
package sabotage

// Variable is the environment's variable that names the safeguards that are off.
const Variable = "LANTERNIST_SABOTAGE"

// Safeguard is something without which data would be lost, repeated or wrong.
type Safeguard string

// The safeguards.
const (
	AppendFirst  Safeguard = "append-before-acknowledge" // the journal has a transaction before the slot may forget it
	SlotAhead    Safeguard = "slot-ahead"                // a slot that is ahead of what is durable is refused
	Resume       Safeguard = "resume"                    // what the journal has is not read again
	CommitOrder  Safeguard = "commit-order"              // the journal refuses what comes twice, or out of order
	IdleDurable  Safeguard = "idle-durable"              // an idle source's position is durable before it is acknowledged
	Keepalives   Safeguard = "keepalives"                // an idle source advances the watermarks
	Fill         Safeguard = "fill"                      // unchanged TOASTed values are taken from the mirror
	UnknownValue Safeguard = "unknown-value"             // a row with a value that is not known is refused
	BeforeImage  Safeguard = "before-image"              // documents that a row has left are composed again
	LoadOrder    Safeguard = "load-order"                // a loaded row replaces only older ones
	WriteFirst   Safeguard = "write-before-checkpoint"   // a checkpoint covers only what was written
	Versions     Safeguard = "versions"                  // a sink refuses what is older than what it has
	Park         Safeguard = "park"                      // what a sink refuses for good is kept as a dead letter
)

// All are the safeguards there are.
var All = []Safeguard{AppendFirst, SlotAhead, Resume, CommitOrder, IdleDurable, Keepalives, Fill, UnknownValue, BeforeImage,
	LoadOrder, WriteFirst, Versions, Park}
