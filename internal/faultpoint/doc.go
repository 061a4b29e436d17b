// Package faultpoint ends the process at a chosen place, as a crash of the machine's power would: with no deferred call, no
// flush, no answer. Tests build the binary with the tag faultpoint, and name the place in the environment:
//
//	LANTERNIST_FAULTPOINT=orders.search/rebuild/promoting/done      the first time that the place is reached
//	LANTERNIST_FAULTPOINT=orders.search/rebuild/filling/within#3    the third time
//
// Without the tag Hit does nothing and costs nothing. It leaves to its callers which places there are.
package faultpoint

// Variable is the environment's variable that names the place.
const Variable = "LANTERNIST_FAULTPOINT"
