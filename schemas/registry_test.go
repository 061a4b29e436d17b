package schemas_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store opens a control store that is closed when the test ends.
func store(t testing.TB) control.Store {
	t.Helper()
	s, err := control.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// open opens the registry in a store.
func open(t testing.TB, s control.Store) *schemas.Registry {
	t.Helper()
	r, err := schemas.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// orders is a definition with the given columns, all of type text.
func orders(columns ...string) *row.Schema {
	s := &row.Schema{OID: 16400, Namespace: "public", Name: "orders", Key: []int{0}, Identity: 'd'}
	for _, name := range columns {
		s.Columns = append(s.Columns, row.Column{Name: name, Type: row.Type{
			OID: 1009, Mod: -1, Name: "text[]", Class: row.Array, Elem: &row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}}})
	}
	return s
}

// change returns a changed copy of orders(id, status).
func change(f func(*row.Schema)) *row.Schema {
	s := orders("id", "status")
	f(s)
	return s
}

func TestRegister(t *testing.T) {
	home := store(t)
	steps := []struct {
		name        string
		s           *row.Schema
		id, version int
	}{
		{"first", orders("id", "status"), 1, 1},
		{"the same", orders("id", "status"), 1, 1},
		{"the same with another ID", change(func(s *row.Schema) { s.ID, s.Version = 9, 9 }), 1, 1},
		{"a column more", orders("id", "status", "note"), 2, 2},
		{"another table", change(func(s *row.Schema) { s.OID, s.Name = 16500, "items" }), 3, 1},
		{"another key", change(func(s *row.Schema) { s.Key = []int{0, 1} }), 4, 1},
		{"another identity", change(func(s *row.Schema) { s.Identity = 'f' }), 5, 1},
		{"renamed", change(func(s *row.Schema) { s.Name = "purchases" }), 6, 1},
		{"moved", change(func(s *row.Schema) { s.Namespace = "sales" }), 7, 1},
		{"not null", change(func(s *row.Schema) { s.Columns[0].NotNull = true }), 8, 3},
		{"another type", change(func(s *row.Schema) { s.Columns[0].Type.OID = 20 }), 9, 4},
		{"another modifier", change(func(s *row.Schema) { s.Columns[0].Type.Mod = 4 }), 10, 5},
		{"another element", change(func(s *row.Schema) { s.Columns[0].Type.Elem.OID = 20 }), 11, 6},
		{"renamed column", orders("id", "state"), 12, 7},
		{"other order", orders("status", "id"), 13, 8},
		{"the first again", orders("id", "status"), 1, 1},
		{"one more", orders("id"), 14, 9},
	}
	for _, reopened := range []bool{false, true} {
		r := open(t, home)
		for _, step := range steps {
			if reopened {
				r = open(t, home)
			}
			got, err := r.Register(t.Context(), step.s)
			if err != nil {
				t.Fatal(err)
			}
			if int(got.ID) != step.id || got.Version != step.version {
				t.Fatalf("reopened %t, %s: ID %d, version %d; want %d and %d", reopened, step.name, got.ID, got.Version, step.id, step.version)
			}
			if byID, ok := r.Schema(got.ID); !ok || byID != got {
				t.Errorf("%s: schema %d is %+v", step.name, got.ID, byID)
			}
			if latest, ok := r.Latest(step.s.OID); !ok || latest != got {
				t.Errorf("%s: the latest is %+v", step.name, latest)
			}
			if latest, ok := open(t, home).Latest(step.s.OID); !ok || latest.ID != got.ID {
				t.Errorf("%s: the latest after reopening is %+v", step.name, latest)
			}
		}
	}
	r := open(t, home)
	if got := len(r.Versions(16400)); got != 13 {
		t.Errorf("%d versions", got)
	}
	var names []string
	for _, s := range r.Tables() {
		names = append(names, fmt.Sprint(s.QualifiedName(), s.ID))
	}
	if got := strings.Join(names, " "); got != "public.items3 public.orders14" {
		t.Errorf("tables %s", got)
	}
	for _, id := range []uint32{0, 15, 1 << 31} {
		if s, ok := r.Schema(id); ok {
			t.Errorf("schema %d is %+v", id, s)
		}
	}
}

func TestRegisteredIsNotShared(t *testing.T) {
	r := open(t, store(t))
	s := orders("id", "status")
	got, err := r.Register(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Columns[0].Name, s.Key[0], s.Columns[1].Type.Elem.Name = "changed", 1, "changed"
	if got.Columns[0].Name != "id" || got.Key[0] != 0 || got.Columns[1].Type.Elem.Name != "text" {
		t.Errorf("the registered definition changed: %+v", got)
	}
}

func TestConcurrentUse(t *testing.T) {
	r := open(t, store(t))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20 {
				got, err := r.Register(t.Context(), orders("id", fmt.Sprint("column", i)))
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				if byID, ok := r.Schema(got.ID); !ok || byID != got {
					t.Errorf("schema %d is %p, want %p", got.ID, byID, got)
				}
			}
		})
	}
	wg.Wait()
	if got := len(r.Versions(16400)); got != 20 {
		t.Errorf("%d definitions, want 20", got)
	}
}

func TestDamagedStoreIsRefused(t *testing.T) {
	for name, damage := range map[string]func(s control.Store) error{
		"a definition is gone":   func(s control.Store) error { return s.Delete(t.Context(), "schemas/0000000001") },
		"a definition is no one": func(s control.Store) error { return s.Put(t.Context(), "schemas/0000000002", []byte("{")) },
		"the latest is gone":     func(s control.Store) error { return s.Put(t.Context(), "schema-latest/0000016400", []byte("7")) },
	} {
		t.Run(name, func(t *testing.T) {
			home := store(t)
			r := open(t, home)
			for _, s := range []*row.Schema{orders("a"), orders("b")} {
				if _, err := r.Register(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			if err := damage(home); err != nil {
				t.Fatal(err)
			}
			if _, err := schemas.Open(t.Context(), home); err == nil || !strings.Contains(err.Error(), "schema") {
				t.Errorf("open: %v", err)
			}
		})
	}
}

// failing is a store whose writes fail when they are told to.
type failing struct {
	control.Store
	err error
}

// Put implements control.Store.
func (f *failing) Put(ctx context.Context, key string, value []byte) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.Put(ctx, key, value)
}

func TestWhatIsNotStoredIsNotKnown(t *testing.T) {
	home := &failing{Store: store(t), err: errors.New("no room")}
	r := open(t, home)
	if _, err := r.Register(t.Context(), orders("id")); !errors.Is(err, home.err) {
		t.Fatalf("register: %v", err)
	}
	if _, ok := r.Schema(1); ok {
		t.Error("a definition that was not stored is known")
	}
	home.err = nil
	if s, err := r.Register(t.Context(), orders("id")); err != nil || s.ID != 1 {
		t.Errorf("register again: %+v, %v", s, err)
	}
}

func TestEventType(t *testing.T) {
	s := orders("id")
	for op, want := range map[event.Op]string{event.Insert: "orders.created", event.Update: "orders.updated",
		event.Delete: "orders.deleted", event.Truncate: "orders.truncated"} {
		if got := schemas.EventType(op, s); got != want {
			t.Errorf("%s: %s, want %s", op, got, want)
		}
	}
	s.Namespace = "sales"
	if got := schemas.EventType(event.Insert, s); got != "sales.orders.created" {
		t.Errorf("outside of public: %s", got)
	}
}

func BenchmarkSchema(b *testing.B) {
	r := open(b, store(b))
	if _, err := r.Register(b.Context(), orders("id")); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := r.Schema(1); !ok {
			b.Fatal("not there")
		}
	}
}
