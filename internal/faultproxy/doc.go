// Package faultproxy is a TCP proxy that does to connections what networks do: it delays bytes, throttles them, holds them back,
// loses them while the connection stays (half-open), resets a connection in the middle of a message, and refuses new ones. Each
// direction has its own faults, and they may be changed at any time.
//
// Invariants:
//   - What arrives is a prefix of what was sent, in its order: a connection that has lost one byte delivers nothing more in that
//     direction, ever, and does not say that it has ended.
//   - A connection buffers a bounded amount; what is held back or throttled is felt by the sender.
//   - After Close nothing of it is left: no goroutine, no connection, no listener.
//
// It knows nothing of what is sent. It leaves to the tests which fault comes when.
package faultproxy
