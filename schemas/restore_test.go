package schemas_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/schemas"
)

func TestRestore(t *testing.T) {
	before := open(t, store(t))
	var all []*row.Schema
	for _, s := range []*row.Schema{orders("id"), orders("id", "status"), change(func(s *row.Schema) { s.OID, s.Name = 16500, "items" })} {
		registered, err := before.Register(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		all = append([]*row.Schema{registered}, all...) // in any order
	}
	home := store(t)
	after := open(t, home)
	for _, want := range []int{3, 0} { // the second time nothing is missing
		if n, err := after.Restore(t.Context(), all); n != want || err != nil {
			t.Fatalf("restored %d, %v; want %d", n, err, want)
		}
	}
	again := open(t, home)
	for id := uint32(1); id <= 3; id++ {
		want, _ := before.Schema(id)
		for _, r := range []*schemas.Registry{after, again} {
			if got, ok := r.Schema(id); !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("schema %d is %+v, want %+v", id, got, want)
			}
		}
	}
	if got, err := again.Register(t.Context(), orders("id", "status")); err != nil || got.ID != 2 || got.Version != 2 {
		t.Errorf("registered as %+v, %v", got, err)
	}
}

func TestRestoreRefuses(t *testing.T) {
	r := open(t, store(t))
	if _, err := r.Register(t.Context(), orders("id")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Restore(t.Context(), []*row.Schema{change(func(s *row.Schema) { s.ID, s.Version = 1, 1 })}); !errors.Is(err, schemas.ErrOtherSchema) {
		t.Errorf("another definition: %v", err)
	}
	if _, err := r.Restore(t.Context(), []*row.Schema{change(func(s *row.Schema) { s.ID, s.Version = 3, 2 })}); err == nil {
		t.Error("a definition is restored, the one before is missing")
	}
	if _, ok := r.Schema(2); ok {
		t.Error("something was restored")
	}
}
