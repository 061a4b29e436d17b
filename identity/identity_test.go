package identity_test

import (
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/identity"
)

func TestRecordIsReadAsItWasWritten(t *testing.T) {
	store, err := control.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if r, early, err := identity.Read(t.Context(), store); r != nil || early != "" || err != nil {
		t.Errorf("an empty store has %+v %q %v", r, early, err)
	}
	// What a version wrote that had no record.
	if err := store.Put(t.Context(), "identity/source", []byte("7/shop")); err != nil {
		t.Fatal(err)
	}
	if r, early, err := identity.Read(t.Context(), store); r != nil || early != "7/shop" || err != nil {
		t.Errorf("an early store has %+v %q %v", r, early, err)
	}
	want := facts().Record
	want.Generations = map[string]string{"orders.search": "g3"}
	if err := want.Write(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	got, _, err := identity.Read(t.Context(), store)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v, want %+v", got, err, want)
	}
	if err := store.Put(t.Context(), "identity/record", []byte(`{"format":99}`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := identity.Read(t.Context(), store); err == nil || !strings.Contains(err.Error(), "format 99") {
		t.Errorf("a later format: %v", err)
	}
}
