package projectors

import (
	"errors"
	"fmt"

	"github.com/lanternist/lanternist/views"
)

// ErrorClass says what a runner does about an error. It is decided in one place: Class.
type ErrorClass uint8

// The classes of errors.
const (
	// Transient errors go away by waiting: the sink is down, slow or full. The operation is repeated for ever with
	// backoff, and nothing after it is done before it.
	Transient ErrorClass = iota
	// Permanent errors belong to one document and stay: the sink or the view can never accept it. The document is parked as
	// a dead letter after Config.MaxAttempts.
	Permanent
	// Fatal errors belong to the projector and stay until a person acts: wrong password, no right to write, an index
	// deleted under us. The runner stops with the error; the other runners go on.
	Fatal
)

// String is the name used in dead letters, metrics and logs.
func (c ErrorClass) String() string {
	switch c {
	case Transient:
		return "transient"
	case Permanent:
		return "permanent"
	case Fatal:
		return "fatal"
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// ErrOthersTaken in the chain of a failure says that the sink had no room for this document, and has for others: the sink is not
// to be spared for it.
var ErrOthersTaken = errors.New("others are taken")

// classified is an error that says of itself what class it is of, and what a person can do about it.
type classified struct {
	class ErrorClass
	hint  string
	err   error
}

func (e *classified) Error() string { return e.err.Error() }
func (e *classified) Unwrap() error { return e.err }

// Permanentf makes a permanent error. The format is that of fmt.Errorf, %w included.
func Permanentf(format string, args ...any) error {
	return &classified{class: Permanent, err: fmt.Errorf(format, args...)}
}

// Fatalf makes a fatal error with a hint: what a person can do about it, in one sentence, or "". The format is that of
// fmt.Errorf, %w included.
func Fatalf(hint, format string, args ...any) error {
	return &classified{class: Fatal, hint: hint, err: fmt.Errorf(format, args...)}
}

// Class is the class of an error: that of the outermost Permanentf or Fatalf in its chain; permanent for a
// document that views could not compose; else transient, because repeating an operation loses nothing.
//
// Errors of a context are transient as well: a sink's own deadline has passed. A caller asks first whether its own context
// is done; then the error is no failure of the sink, and has no class.
func Class(err error) ErrorClass {
	if c, ok := errors.AsType[*classified](err); ok {
		return c.class
	}
	if errors.Is(err, views.ErrEvaluate) || errors.Is(err, views.ErrTooLarge) {
		return Permanent
	}
	return Transient
}

// Hint is what a person can do about a fatal error, or "".
func Hint(err error) string {
	if c, ok := errors.AsType[*classified](err); ok {
		return c.hint
	}
	return ""
}
