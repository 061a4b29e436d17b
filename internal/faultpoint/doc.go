// Package faultpoint ends the process at a chosen place, as a crash of the machine's power would: with no deferred call, no
// flush, no answer. Tests build the binary with the tag faultpoint, and name the place in the environment:
//
//	LANTERNIST_FAULTPOINT=orders.search/rebuild/promoting/done      the first time that the place is reached
//	LANTERNIST_FAULTPOINT=orders.search/rebuild/filling/within#3    the third time
//
// A test can also hold the process up at a place, to do something meanwhile, be it to end it:
//
//	LANTERNIST_HOLDPOINTS=DIR    who reaches a/b while DIR/a_b is there renames it to DIR/a_b.held, and waits until that is gone
//
// It also makes operations of the disk fail, or take long, while a file says so (VariableFaults).
//
// Without the tag Hit and Error do nothing and cost nothing. It leaves to its callers which places there are.
package faultpoint

import "strings"

// Variable is the environment's variable that names the place.
const Variable = "LANTERNIST_FAULTPOINT"

// VariableHold is the environment's variable that names the folder of the places to be held at.
const VariableHold = "LANTERNIST_HOLDPOINTS"

// HoldFile is the name of the file that holds whoever reaches a place.
func HoldFile(place ...string) string { return strings.ReplaceAll(strings.Join(place, "_"), "/", "_") }

// VariableFaults is the environment's variable that names the folder of faults; see Error.
const VariableFaults = "LANTERNIST_FAULTPOINT_DIR"
