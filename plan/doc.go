// Package plan compares what is deployed with what a configuration wants, and says what has to be done: which tables are captured or
// no longer captured, which indexes of the mirror are built, which views are built, built anew and why, and which are retired.
//
// It is arithmetic: a Deployment describes either side, New compares two of them, and the same two always give the same Plan, in the
// same order. What a table holds and which generations there are is told to it. Nothing here reads a configuration, asks a sink or
// carries anything out.
package plan
