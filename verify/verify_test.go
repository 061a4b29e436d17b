package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"go.uber.org/goleak"

	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	textType = row.Type{OID: 25, Mod: -1, Name: "text", Class: row.String}
	orders   = &row.Schema{
		ID: 1, Version: 1, OID: 102, Namespace: "public", Name: "orders", Key: []int{0}, Identity: 'd',
		Columns: []row.Column{{Name: "id", Type: textType}, {Name: "status", Type: textType}},
	}
)

type oneSchema struct{}

func (oneSchema) Schema(id uint32) (*row.Schema, bool) { return orders, id == orders.ID }

const size = 200

// shelf is a sink that holds what the test puts there, and a projector that is always up to date.
type shelf struct {
	mu     sync.Mutex
	bodies map[string]string
	state  projectors.State
	err    error
	mend   func(s *shelf, id string)
	read   func(s *shelf, id string) // before each Get, with mu held
}

func (s *shelf) Get(_ context.Context, id string) (Held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read != nil {
		s.read(s, id)
	}
	switch body, ok := s.bodies[id]; {
	case s.err != nil:
		return Held{}, s.err
	case !ok:
		return Held{}, nil
	case body == "expired":
		return Held{Expired: true}, nil
	case body == "foreign":
		return Held{Foreign: "a list"}, nil
	default:
		return Held{Body: []byte(body)}, nil
	}
}

func (s *shelf) IDs(_ context.Context, visit func(string) error) error {
	s.mu.Lock()
	var ids []string
	for id := range s.bodies {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	for _, id := range ids {
		if err := visit(id); err != nil {
			return err
		}
	}
	return nil
}

func (s *shelf) Status() projectors.Status {
	return projectors.Status{Projector: "orders.shelf", State: s.state}
}

func (s *shelf) Wait(ctx context.Context, lsn pglogrepl.LSN) (mirror.Progress, error) {
	if s.state == projectors.StateStopped {
		<-ctx.Done()
		return mirror.Progress{}, context.Cause(ctx)
	}
	return mirror.Progress{LSN: lsn}, nil
}

func (s *shelf) Refresh(_ context.Context, ids []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		s.mend(s, id)
	}
	return nil
}

// right puts what should be there.
func right(s *shelf, id string) {
	n := 0
	if _, err := fmt.Sscanf(id, "order %d", &n); err == nil && n < size {
		s.bodies[id] = document(n)
		return
	}
	delete(s.bodies, id)
}

func document(n int) string { return fmt.Sprintf(`{"id":"order %d","status":"new"}`, n) }

// world is a mirror of orders and a shelf with their documents.
func world(t *testing.T) (Comparison, *shelf) {
	t.Helper()
	m, err := mirror.Open(mirror.Config{Dir: filepath.Join(t.TempDir(), "mirror"), CacheSize: 1 << 20, MemTableSize: 1 << 20}, oneSchema{}, slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	must(t, m.StartLoad(orders, []mirror.LoadRange{{}}))
	s := &shelf{bodies: map[string]string{}, mend: right}
	var rows []row.Row
	for n := range size {
		id := fmt.Sprintf("order %d", n)
		rows = append(rows, row.New(row.Value{Kind: row.Text, Text: []byte(id)}, row.Value{Kind: row.Text, Text: []byte("new")}))
		s.bodies[id] = document(n)
	}
	must(t, m.Load(orders.OID, orders, 1000, rows))
	must(t, m.FinishRange(orders.OID, 0, 1000, size))
	m.Advance(1000)
	must(t, m.FinishLoad(t.Context(), orders.OID))
	defs, err := views.Parse("test.yaml", []byte("view: orders\nfrom: public.orders\nfields: {id: , status: }\nsearch: {}\n"))
	must(t, err)
	compiled, err := views.Compile(defs, []*row.Schema{orders})
	must(t, err)
	return Comparison{
		View: compiled[0], Truth: Mirror{m}, Ask: func(pglogrepl.LSN) {},
		Sinks: []Sink{{Name: "shelf", Documents: s, Projector: s}},
	}, s
}

// fast is a rate that does not hold a test up.
const fast = 1_000_000

func TestVerifyFindsAndMends(t *testing.T) {
	c, s := world(t)
	s.bodies["order 3"] = `{"id":"order 3","status":"old"}`
	s.bodies["order 4"] = "foreign"
	s.bodies["order 5"] = "expired"
	delete(s.bodies, "order 6")
	s.bodies["order 900"] = document(900)
	s.bodies["\x00"] = document(901) // no id of the view's
	for _, repair := range []bool{false, true} {
		var seen []Progress
		result, err := Run(t.Context(), c, Options{Repair: repair, Rate: fast}, func(p Progress) { seen = append(seen, p) })
		must(t, err)
		got := result.Sinks[0]
		want := SinkResult{Sink: "shelf", Compared: size + 1, Missing: 1, Extra: 2, Different: 2, Expired: 1}
		left := int64(5)
		if repair {
			want.Repaired, left = 5, 0
		}
		differences := got.Differences
		got.Differences = nil
		if fmt.Sprint(got) != fmt.Sprint(want) || got.Left() != left || result.Equal() != repair {
			t.Errorf("repair %t: got %+v, want %+v", repair, got, want)
		}
		var kinds []string
		for _, d := range differences {
			kinds = append(kinds, fmt.Sprintf("%q %s %s%d %t", d.ID, d.Kind, d.Note, len(d.Fields), d.Repaired))
		}
		wantKinds := fmt.Sprintf(`"\x00" extra 0 %[1]t, "order 3" different 1 %[1]t, "order 4" different a list0 %[1]t, "order 6" missing 0 %[1]t, "order 900" extra 0 %[1]t`, repair)
		if text := strings.Join(kinds, ", "); text != wantKinds {
			t.Errorf("got  %s\nwant %s", text, wantKinds)
		}
		if len(seen) < 5 || seen[0].Phase != Copying || seen[len(seen)-1].Phase != Settling || seen[len(seen)-1].Total != 5 {
			t.Errorf("progress: %v", seen)
		}
	}
	result, err := Run(t.Context(), c, Options{Rate: fast}, nil)
	if err != nil || !result.Equal() {
		t.Errorf("after the repair: %+v, %v", result, err)
	}
}

// TestWhatMovesIsNoDifference: a document that is right when it is looked at again causes no alarm.
func TestWhatMovesIsNoDifference(t *testing.T) {
	c, s := world(t)
	looks := map[string]int{}
	s.read = func(s *shelf, id string) {
		if looks[id]++; looks[id] == 2 {
			right(s, id)
		}
	}
	s.bodies["order 7"] = `{"id":"order 7","status":"ahead"}`
	s.bodies["order 901"] = document(901)
	result, err := Run(t.Context(), c, Options{Rate: fast}, nil)
	must(t, err)
	if got := result.Sinks[0]; got.Left() != 0 || got.Unsettled != 0 || looks["order 7"] != 2 {
		t.Errorf("%+v, looked at %d times", got, looks["order 7"])
	}
}

func TestRepairThatMendsNothingIsToldSo(t *testing.T) {
	c, s := world(t)
	s.mend = func(*shelf, string) {}
	delete(s.bodies, "order 1")
	result, err := Run(t.Context(), c, Options{Repair: true, Rate: fast}, nil)
	must(t, err)
	if got := result.Sinks[0]; got.Missing != 1 || got.Repaired != 0 || result.Equal() || got.Differences[0].Repaired {
		t.Errorf("%+v", got)
	}
}

func TestSample(t *testing.T) {
	c, s := world(t)
	looked := map[string]bool{}
	s.read = func(_ *shelf, id string) { looked[id] = true }
	result, err := Run(t.Context(), c, Options{Sample: 10, Rate: fast}, nil)
	must(t, err)
	if result.Sinks[0].Compared != 10 || len(looked) != 10 || result.Seed == 0 {
		t.Errorf("looked at %d, seed %d", len(looked), result.Seed)
	}
	first := fmt.Sprint(looked)
	clear(looked)
	if _, err = Run(t.Context(), c, Options{Sample: 10, Seed: result.Seed, Rate: fast}, nil); err != nil || fmt.Sprint(looked) != first {
		t.Errorf("the same seed: %v, %v; before: %s", err, looked, first)
	}
	if result, err = Run(t.Context(), c, Options{Sample: 10 * size, Rate: fast}, nil); err != nil || result.Sinks[0].Compared != size {
		t.Errorf("a sample of more than there are: %v %v", result, err)
	}
}

func TestErrors(t *testing.T) {
	c, s := world(t)
	for _, o := range []Options{{Sample: -1}, {Rate: -1}, {Against: "hearsay"}} {
		if _, err := Run(t.Context(), c, o, nil); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	s.err = errors.New("the shelf is locked")
	if _, err := Run(t.Context(), c, Options{Rate: fast}, nil); !errors.Is(err, s.err) {
		t.Errorf("got %v", err)
	}
	s.state = projectors.StateStopped
	if _, err := Run(t.Context(), c, Options{Rate: fast}, nil); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, c, Options{Rate: fast}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestPaceEndsWithItsContext(t *testing.T) {
	p := newPace(1)
	p.next = time.Now().Add(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
