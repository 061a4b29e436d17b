package search

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lanternist/lanternist/event"
	"github.com/lanternist/lanternist/projectors"
	"github.com/lanternist/lanternist/row"
	"github.com/lanternist/lanternist/views"
)

func TestGenerations(t *testing.T) {
	t.Parallel()
	c := client(t)
	ctx := t.Context()
	s := newStore(c, "orders", orderFields(), nil)
	other := newStore(c, "orders-g1", orderFields(), nil) // its indices match our pattern
	created(t, other, 3)

	if list, err := s.Generations(ctx); err != nil || len(list) != 0 {
		t.Fatalf("empty store: %v, %v", list, err)
	}
	if _, err := s.Open(ctx, 1); !errors.Is(err, projectors.ErrNoGeneration) {
		t.Fatalf("open what is not there: %v", err)
	}
	if err := s.Promote(ctx, 1); !errors.Is(err, projectors.ErrNoGeneration) {
		t.Fatalf("promote what is not there: %v", err)
	}
	if _, err := s.Search(ctx, Query{}); !errors.Is(err, ErrNotReady) {
		t.Fatalf("search before a promotion: %v", err)
	}
	if _, _, err := s.Get(ctx, "1"); !errors.Is(err, ErrNotReady) {
		t.Fatalf("get before a promotion: %v", err)
	}
	when := time.Date(2026, 11, 20, 23, 4, 12, 0, time.UTC)
	for _, n := range []int{2, 10, 1} {
		if _, err := s.Create(ctx, projectors.Info{Number: n, Hash: "h", Epoch: "e", Created: when, Live: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Promote(ctx, 2); err != nil {
		t.Fatal(err)
	}
	list, err := s.Generations(ctx)
	want := []projectors.Info{{Number: 1}, {Number: 2, Live: true}, {Number: 10}}
	for i := range want {
		want[i].Hash, want[i].Epoch, want[i].Created = "h", "e", when
	}
	if err != nil || !slices.Equal(list, want) {
		t.Fatalf("got %+v, %v, want %+v", list, err, want)
	}
	if err := s.Retire(ctx, 2); err == nil {
		t.Error("the live generation was retired")
	}
	if _, err := s.Create(ctx, projectors.Info{Number: 2}); err == nil {
		t.Error("the live generation was created again")
	}
	for range 2 { // gone already is no error
		if err := s.Retire(ctx, 1); err != nil {
			t.Errorf("retire: %v", err)
		}
	}
	for range 2 { // promoting the live one changes nothing
		if err := s.Promote(ctx, 10); err != nil {
			t.Errorf("promote: %v", err)
		}
	}
	if list, err = s.Generations(ctx); err != nil || len(list) != 2 || list[0].Live || !list[1].Live {
		t.Errorf("got %+v, %v", list, err)
	}
	if list, err = other.Generations(ctx); err != nil || len(list) != 1 || list[0].Number != 3 {
		t.Errorf("other view: %+v, %v", list, err)
	}
}

func TestCreateReplacesWhatACrashLeft(t *testing.T) {
	t.Parallel()
	c := client(t)
	s := newStore(c, "orders", orderFields(), nil)
	put(t, created(t, s, 1), 5, doc("1", `{}`))
	g := created(t, s, 1)
	if err := g.IDs(t.Context(), func(id string) error { return fmt.Errorf("document %s is still there", id) }); err != nil {
		t.Error(err)
	}
	if _, ok, err := g.Checkpoint(t.Context()); ok || err != nil {
		t.Errorf("checkpoint %t, %v", ok, err)
	}
}

func TestOpenMakesTheWritersAliasAgain(t *testing.T) {
	t.Parallel()
	c := client(t)
	s, _ := orders(t, c)
	index := s.names.generation(1)
	raw(t, c, http.MethodPost, "/_aliases", object{"actions": []object{{"remove": object{"index": index.index, "alias": index.writer}}}}, nil)
	g, err := s.Open(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	put(t, g, 5, doc("1", `{}`))
}

func TestForeignIndexIsRefused(t *testing.T) {
	t.Parallel()
	c := client(t)
	s := newStore(c, "orders", orderFields(), nil)
	raw(t, c, http.MethodPut, "/"+s.names.generation(4).index, object{}, nil)
	if _, err := s.Generations(t.Context()); projectors.Class(err) != projectors.Fatal || projectors.Hint(err) == "" {
		t.Errorf("%v is %s", err, projectors.Class(err))
	}
}

func TestIndexWithTheAliasNameIsFatal(t *testing.T) {
	t.Parallel()
	c := client(t)
	s := newStore(c, "orders", orderFields(), nil)
	created(t, s, 1)
	raw(t, c, http.MethodPut, "/"+s.names.alias, object{}, nil)
	if err := s.Promote(t.Context(), 1); projectors.Class(err) != projectors.Fatal {
		t.Errorf("%v is %s, want fatal", err, projectors.Class(err))
	}
}

func TestWrongSettingsAreFatalAndSayWhy(t *testing.T) {
	t.Parallel()
	c := client(t)
	s := newStore(c, "orders", orderFields(), &views.SearchOptions{Settings: map[string]any{"number_of_shardz": 1}})
	_, err := s.Create(t.Context(), projectors.Info{Number: 1})
	if projectors.Class(err) != projectors.Fatal || !strings.Contains(err.Error(), "number_of_shardz") {
		t.Errorf("%v is %s, want fatal that names the setting", err, projectors.Class(err))
	}
	s = newStore(c, "Orders", orderFields(), nil)
	if _, err := s.Create(t.Context(), projectors.Info{Number: 1}); projectors.Class(err) != projectors.Fatal {
		t.Errorf("view name: %v is %s, want fatal", err, projectors.Class(err))
	}
}

func TestCheckFindsMistakesWithoutCreatingAnything(t *testing.T) {
	t.Parallel()
	c := client(t)
	if err := newStore(c, "orders", orderFields(), nil).Check(t.Context()); err != nil {
		t.Error(err)
	}
	for want, s := range map[string]*Store{
		"keywrod":          newStore(c, "orders", append(orderFields(), scalar("x", "x", row.String, "text", "keywrod")), nil),
		"number_of_shardz": newStore(c, "orders", orderFields(), &views.SearchOptions{Settings: map[string]any{"number_of_shardz": 1}}),
		"nobody":           newStore(c, "orders", orderFields(), &views.SearchOptions{Mappings: map[string]any{"note": map[string]any{"analyzer": "nobody"}}}),
		"lower case":       newStore(c, "Orders", orderFields(), nil),
	} {
		err := s.Check(t.Context())
		if projectors.Class(err) != projectors.Fatal || projectors.Hint(err) == "" || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v is %s, hint %q; want fatal that names %s", err, projectors.Class(err), projectors.Hint(err), want)
		}
	}
	var left map[string]any
	raw(t, c, http.MethodGet, "/"+c.cfg.Prefix+"*", nil, &left)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestStoreOfACompiledView takes the mapping from a definition, as a user writes it.
func TestStoreOfACompiledView(t *testing.T) {
	t.Parallel()
	text := func(name string, class row.Class, typ string) row.Column {
		return row.Column{Name: name, Type: row.Type{Name: typ, Class: class, Mod: -1}}
	}
	schemas := []*row.Schema{
		{OID: 1, Namespace: "public", Name: "orders", Key: []int{0}, Columns: []row.Column{text("id", row.Int, "bigint"), text("status", row.String, "text"), text("customer_id", row.Int, "bigint")}},
		{OID: 2, Namespace: "public", Name: "customers", Key: []int{0}, Columns: []row.Column{text("id", row.Int, "bigint"), text("name", row.String, "text")}},
		{OID: 3, Namespace: "public", Name: "order_items", Key: []int{0, 1}, Columns: []row.Column{text("order_id", row.Int, "bigint"), text("line_no", row.Int, "integer"), text("sku", row.String, "text")}},
	}
	defs, err := views.Parse("orders.yaml", []byte(`
view: order_summary
from: public.orders
fields:
  id:
  status: {as: keyword}
  customer: {one: public.customers, on: {id: customer_id}, fields: {name: }}
  items: {many: public.order_items, on: {order_id: id}, order_by: line_no, fields: {sku: {as: keyword}}}
  item_count: {count: items}
search: {settings: {number_of_shards: 1}, mappings: {items: {type: nested}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	list, err := views.Compile(defs, schemas)
	if err != nil {
		t.Fatal(err)
	}
	s := client(t).Store(list[0])
	g := live(t, s, 1)
	put(t, g, 5, doc("1", `{"id":1,"status":"paid","customer":{"name":"Ada"},"items":[{"sku":"A"},{"sku":"B"}],"item_count":2}`))
	filters, err := ParseFilters("status:paid customer.name:Ada items.sku:B item_count>1 id:1")
	if err != nil {
		t.Fatal(err)
	}
	if r := found(t, s, Query{After: 5, Filters: filters, Text: "ada", Facets: []string{"items.sku"}, Sort: []Sort{{Field: "item_count"}}}); r.Total != 1 || len(r.Facets[0].Buckets) != 2 {
		t.Errorf("found %+v", r)
	}
}

func TestSettingsReachTheIndex(t *testing.T) {
	t.Parallel()
	c := client(t)
	s := newStore(c, "orders", orderFields(), &views.SearchOptions{
		Settings: map[string]any{"number_of_shards": 2, "index": map[string]any{"refresh_interval": "7s", "sort": map[string]any{"field": "id"}}},
		Analysis: map[string]any{"analyzer": map[string]any{"loud": map[string]any{"type": "custom", "tokenizer": "standard", "filter": []string{"lowercase"}}}},
		Mappings: map[string]any{"note": map[string]any{"analyzer": "loud"}, "items.sku": map[string]any{"ignore_above": 7}},
		Dynamic:  "strict",
	})
	type state map[string]struct {
		Settings struct {
			Index struct {
				Shards   string `json:"number_of_shards"`
				Refresh  string `json:"refresh_interval"`
				GC       string `json:"gc_deletes"`
				Expand   string `json:"auto_expand_replicas"`
				Replicas string `json:"number_of_replicas"`
			} `json:"index"`
		} `json:"settings"`
	}
	index := s.names.generation(1).index
	read := func() (st state) {
		raw(t, c, http.MethodGet, "/"+index, nil, &st)
		return st
	}
	g := created(t, s, 1)
	if got := read()[index].Settings.Index; got.Shards != "2" || got.Refresh != "-1" || got.GC != "3600s" || got.Expand != "false" || got.Replicas != "0" {
		t.Errorf("while built: %+v", got)
	}
	if err := s.Prepare(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := read()[index].Settings.Index; got.Refresh != "7s" || got.Expand != "0-1" {
		t.Errorf("prepared: %+v", got)
	}
	if err := s.Promote(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := read()[index].Settings.Index; got.Refresh != "7s" || got.Expand != "0-1" {
		t.Errorf("promoted: %+v", got)
	}
	if err := g.SaveCheckpoint(t.Context(), projectors.Checkpoint{Offset: 3}); err != nil {
		t.Errorf("checkpoint in a strict index: %v", err)
	}
	put(t, g, 5, doc("1", `{"items":[{"sku":"123456789"}],"note":"Loud"}`))
	if r := found(t, s, Query{After: 5, Text: "loud"}); r.Total != 1 {
		t.Errorf("analyzed text: %d hits", r.Total)
	}
	if r := found(t, s, Query{Filters: []Filter{{Field: "items.sku", Values: []string{"123456789"}}}}); r.Total != 0 {
		t.Errorf("ignore_above was not laid over: %d hits", r.Total)
	}
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	s, g := orders(t, client(t))
	ctx := t.Context()
	if _, ok, err := g.Checkpoint(ctx); ok || err != nil {
		t.Fatalf("new generation: %t, %v", ok, err)
	}
	cp := projectors.Checkpoint{Offset: event.NewOffset(1<<46, 65535), LSN: 1<<64 - 1, JournalID: "j", Time: time.Now().UTC()}
	older := cp
	older.Offset--
	older.JournalID = "older"
	for _, save := range []projectors.Checkpoint{older, cp, older} {
		if err := g.SaveCheckpoint(ctx, save); err != nil {
			t.Fatal(err)
		}
	}
	again, err := s.Open(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok, err := again.Checkpoint(ctx); err != nil || !ok || got != cp {
		t.Errorf("got %+v, %t, %v, want %+v", got, ok, err, cp)
	}
	cp.LSN, cp.JournalID = 7, "same offset" // an idle source moves the LSN alone
	if err := g.SaveCheckpoint(ctx, cp); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := g.Checkpoint(ctx); got != cp {
		t.Errorf("got %+v, want %+v", got, cp)
	}
	// Nobody sees it.
	put(t, g, 5, doc("1", `{"id":1}`))
	if r := found(t, s, Query{After: 5}); r.Total != 1 {
		t.Errorf("search finds %v", ids(r.Hits))
	}
	if _, ok, err := s.Get(ctx, checkpointID); ok || err != nil {
		t.Errorf("get finds the checkpoint: %t, %v", ok, err)
	}
	if err := g.IDs(ctx, func(id string) error {
		if id != "1" {
			return fmt.Errorf("visited %q", id)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestIDsVisitsEveryDocumentOnce(t *testing.T) {
	t.Parallel()
	s, g := orders(t, client(t))
	docs := many(20_000)
	put(t, g, 5, docs...)
	put(t, g, 6, gone(docs[7].ID))
	seen := map[string]int{}
	if err := g.IDs(t.Context(), func(id string) error {
		if seen[id]++; len(seen) == 100 {
			put(t, g, 7, doc("meanwhile", `{}`), gone(docs[19_999].ID)) // the visit goes on as it began
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 19_999 || seen[docs[7].ID] != 0 || seen["meanwhile"] != 0 {
		t.Errorf("%d ids, deleted %d, meanwhile %d; want 19999, 0, 0", len(seen), seen[docs[7].ID], seen["meanwhile"])
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was visited %d times", id, n)
		}
	}
	stop := errors.New("stop")
	if err := g.IDs(t.Context(), func(string) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of visit: %v", err)
	}
	if n := openContexts(t, s); n != 0 {
		t.Errorf("%d points in time are open", n)
	}
}

// openContexts counts what searches hold open in the view's indices.
func openContexts(t *testing.T, s *Store) int {
	t.Helper()
	var stats struct {
		All struct {
			Total struct {
				Search struct {
					Open int `json:"open_contexts"`
				} `json:"search"`
			} `json:"total"`
		} `json:"_all"`
	}
	raw(t, s.client, http.MethodGet, "/"+s.names.pattern+"/_stats/search", nil, &stats)
	return stats.All.Total.Search.Open
}

func TestPromoteIsOneStepForReaders(t *testing.T) {
	t.Parallel()
	s, g1 := orders(t, client(t))
	const n = 50
	docs := many(n)
	put(t, g1, 5, docs...)
	g2 := created(t, s, 2)
	put(t, g2, 5, docs...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var readers errgroup.Group
	ready := make(chan struct{}, 64)
	for range 4 {
		readers.Go(func() error {
			for after := event.Offset(5); ctx.Err() == nil; {
				r, err := s.Search(t.Context(), Query{After: after, SinglePage: true})
				if err != nil {
					return err
				}
				if r.Total != n {
					return fmt.Errorf("a reader saw %d documents, want %d", r.Total, n)
				}
				select {
				case ready <- struct{}{}:
				default:
				}
			}
			return nil
		})
	}
	<-ready
	for i := range 10 {
		if err := s.Promote(t.Context(), 1+(i+1)%2); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := readers.Wait(); err != nil {
		t.Error(err)
	}
}

// TestPromotionDoesNotUndoARefresh writes to both generations, as a rebuild does, and reads its own writes while the alias moves.
func TestPromotionDoesNotUndoARefresh(t *testing.T) {
	t.Parallel()
	c := client(t)
	// No refresh but ours: what is not refreshed on demand is not seen.
	s := newStore(c, "orders", orderFields(), &views.SearchOptions{Settings: map[string]any{"refresh_interval": "-1"}})
	generations := []projectors.Generation{live(t, s, 1), created(t, s, 2)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	rounds := make(chan struct{})
	var once sync.Once
	begun := func() { once.Do(func() { close(rounds) }) }
	var work errgroup.Group
	work.Go(func() error {
		defer begun()
		version := event.Offset(1)
		for ; ctx.Err() == nil || version < 20; version++ {
			id := fmt.Sprint(uint64(version))
			for _, g := range generations {
				if _, err := g.Write(t.Context(), version, []views.Document{doc(id, `{"id":`+id+`}`)}); err != nil {
					return err
				}
			}
			r, err := s.Search(t.Context(), Query{After: version, SinglePage: true, Filters: []Filter{{Field: "id", Values: []string{id}}}})
			if err != nil {
				return err
			}
			if len(r.Hits) != 1 {
				return fmt.Errorf("write %s is not visible", id)
			}
			if version == 3 {
				begun()
			}
		}
		return nil
	})
	<-rounds
	for i := range 12 {
		if err := s.Promote(t.Context(), 1+(i+1)%2); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := work.Wait(); err != nil {
		t.Error(err)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	if err := client(t).Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	refuse := func(status int) *Client {
		return proxy(t, func(w http.ResponseWriter, r *http.Request) bool {
			if user, password, _ := r.BasicAuth(); user == "good" && password == "s3cret" {
				return false
			}
			answer(w, status, map[string]any{"error": map[string]any{"type": "security_exception", "reason": "no"}, "status": status})
			return true
		})
	}
	pinged := func(c *Client, hint string) {
		t.Helper()
		err := c.Ping(t.Context())
		if err == nil || projectors.Hint(err) != hint {
			t.Errorf("%v: hint %q, want %q", err, projectors.Hint(err), hint)
		}
		if strings.Contains(fmt.Sprint(err), "s3cret") {
			t.Errorf("a password is in %v", err)
		}
	}
	pinged(refuse(http.StatusUnauthorized), hintCredentials)
	pinged(refuse(http.StatusForbidden), hintRights)
	good := refuse(http.StatusUnauthorized).cfg
	good.Username, good.Password = "good", "s3cret"
	if err := clientOf(t, good).Ping(t.Context()); err != nil {
		t.Errorf("with credentials: %v", err)
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	pinged(clientOf(t, Config{URLs: []string{other.URL}}), hintURL)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	defer page.Close()
	pinged(clientOf(t, Config{URLs: []string{page.URL}}), hintURL)
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	pinged(clientOf(t, Config{URLs: []string{strings.Replace(down.URL, "http://", "http://me:s3cret@", 1)}}), hintRunning)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	pinged(clientOf(t, Config{URLs: []string{secure.URL}}), hintTLS)
	pinged(clientOf(t, Config{URLs: []string{secure.URL}, Fingerprint: strings.Repeat("ab", 32)}), hintTLS)
	pinged(clientOf(t, Config{URLs: []string{strings.Replace(page.URL, "http://", "https://", 1)}}), hintTLS)
	pinged(clientOf(t, Config{URLs: []string{"http://no-such-host.invalid:9200"}}), hintRunning)
}
