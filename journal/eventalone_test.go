package journal

import (
	"errors"
	"reflect"
	"testing"

	"github.com/lanternist/lanternist/event"
)

func TestEventAlone(t *testing.T) {
	p := transaction(3, 4)
	message := event.Event{Op: event.Message, Ordinal: 9, Prefix: "p", Content: []byte("c")}
	for i, e := range append(p.Events, message) {
		e.Offset, e.Transaction = event.NewOffset(7, i), &p.Transaction
		b := AppendEvent([]byte("before"), &e)[len("before"):]
		got, err := ReadEvent(b, known)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("got %+v, %v; want %+v", got, err, e)
		}
		for at := range b {
			damaged := append([]byte{}, b...)
			damaged[at] ^= 0x20
			if _, err := ReadEvent(damaged, known); !errors.Is(err, ErrMalformed) {
				t.Errorf("byte %d of %d flipped: %v", at, len(b), err)
			}
			if _, err := ReadEvent(b[:at], known); !errors.Is(err, ErrMalformed) {
				t.Errorf("cut after %d bytes: %v", at, err)
			}
		}
	}
	if _, err := ReadEvent(AppendEvent(nil, &event.Event{Op: event.Insert, Schema: orders, After: text("1"), Transaction: &p.Transaction}), tables{}); !errors.Is(err, ErrUnknownSchema) {
		t.Errorf("of an unknown definition: %v", err)
	}
}
