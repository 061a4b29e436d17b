package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lanternist/lanternist/internal/devstack"
)

const (
	roundsDefault = 600
	// clients write and read at once, each its own rows.
	clients = 4
)

// TestReadYourWrites writes and reads over HTTP: from the cache and from search, the row that was written and a row
// that is joined to it, with positions and with transaction ids, on a quiet database and beside traffic. No answer may
// be older than the write.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	rounds := roundsDefault
	if text := os.Getenv("LANTERNIST_E2E_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatalf("LANTERNIST_E2E_ROUNDS: %v", err)
		}
	}
	// The server is the test's own: on a quiet database nothing else moves the positions.
	server := devstack.PostgresServer(t, devstack.PostgresOptions{})
	in := installShop(t, options{database: server.Database()}, small)
	// Traffic picks ids from 1 on; the clients' rows have ids below 0.
	in.database.Exec(fmt.Sprintf(`
		INSERT INTO customers (id, email, name, country) SELECT -i, i || '@own.example', 'Client', 'NO' FROM generate_series(1, %[1]d) i;
		INSERT INTO orders (id, customer_id, status, note) SELECT -i, -i, 'placed', 'nothing yet' FROM generate_series(1, %[1]d) i`, clients))
	random := randomSource(t)
	d := in.start()
	d.ready()

	var all waits
	all.quiet = true
	d.readYourWrites(&all, rounds/2)
	tr := in.startTraffic(random.Uint64(), busyRate)
	all.quiet = false
	d.readYourWrites(&all, rounds-rounds/2)
	tr.stop()
	all.report(t)
	d.stop()
}

// waits are how long the answers took, by what was asked.
type waits struct {
	quiet bool
	mu    sync.Mutex
	took  map[string][]time.Duration
}

func (w *waits) add(kind string, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.took == nil {
		w.took = map[string][]time.Duration{}
	}
	place := "beside traffic"
	if w.quiet {
		place = "on a quiet database"
	}
	w.took[kind+" "+place] = append(w.took[kind+" "+place], took)
}

func (w *waits) report(t *testing.T) {
	t.Helper()
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(w.took)) {
		took := w.took[kind]
		total += len(took)
		t.Logf("%-45s %5d rounds, none stale, p50 %v, p99 %v", kind, len(took), percentile(took, 0.5), percentile(took, 0.99))
	}
	t.Logf("%d rounds", total)
}

// readYourWrites shares the rounds among the clients.
func (d *daemon) readYourWrites(w *waits, rounds int) {
	d.in.t.Helper()
	var running sync.WaitGroup
	failed := make(chan error, clients)
	for number := range clients {
		conn := d.in.database.Conn(d.in.t.Context())
		running.Go(func() {
			for round := number; round < rounds; round += clients {
				if err := d.writeThenRead(conn, w, number+1, round/clients); err != nil {
					failed <- fmt.Errorf("client %d, round %d: %w", number, round, err)
					return
				}
			}
		})
	}
	running.Wait()
	close(failed)
	for err := range failed {
		d.in.t.Error(err)
	}
	d.alive()
}

// writeThenRead is one round. The numbers of the rounds go through all combinations of what is written, what is read
// and which token is used.
func (d *daemon) writeThenRead(conn *pgx.Conn, w *waits, number, round int) error {
	joined, fromSearch, byXID := round&1 != 0, round&2 != 0, round&4 != 0
	word := fmt.Sprintf("w%dx%dx%d", number, round, time.Now().UnixNano())
	token, err := write(d.in.t.Context(), conn, -number, word, joined, byXID)
	if err != nil {
		return err
	}
	began := time.Now()
	document, err := d.read(-number, word, token, fromSearch)
	took := time.Since(began)
	if err != nil {
		return fmt.Errorf("%w; token %s", err, token)
	}
	var order struct {
		Note     string
		Customer struct{ Name string }
	}
	if err := json.Unmarshal(document, &order); err != nil {
		return err
	}
	got, kind := order.Note, "own row"
	if joined {
		got, kind = order.Customer.Name, "joined row"
	}
	if got != word {
		return fmt.Errorf("stale answer: the %s says %q, written was %q; token %s; document %s", kind, got, word, token, document)
	}
	if fromSearch {
		kind += " by search"
	} else {
		kind += " from the cache"
	}
	w.add(kind, took)
	return nil
}

// write writes a word to an order, or to its customer, and returns a token for it.
func write(ctx context.Context, conn *pgx.Conn, id int, word string, joined, byXID bool) (token string, err error) {
	sql := "UPDATE orders SET note = $2 WHERE id = $1"
	if joined {
		sql = "UPDATE customers SET name = $2 WHERE id = $1"
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, id, word)
		if err != nil || tag.RowsAffected() != 1 {
			return fmt.Errorf("write %d: %d rows: %w", id, tag.RowsAffected(), err)
		}
		if byXID {
			return tx.QueryRow(ctx, "SELECT 'xid:' || pg_current_xact_id()").Scan(&token)
		}
		return nil
	})
	if err == nil && !byXID {
		err = conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&token)
	}
	return token, err
}

// read reads an order: by id from the cache, or by the word from search.
func (d *daemon) read(id int, word, token string, fromSearch bool) ([]byte, error) {
	path, query := fmt.Sprintf("/v1/views/order_summary/%d", id), url.Values{}
	if fromSearch {
		path = "/v1/views/order_summary/search"
		query.Set("q", word)
	}
	a, err := d.in.readAfter(path, token, query)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("status %d: %s", a.status, a.body)
	}
	if !fromSearch {
		return a.body, nil
	}
	var found struct {
		Documents []struct {
			ID       string          `json:"id"`
			Document json.RawMessage `json:"document"`
		} `json:"documents"`
	}
	if err := json.Unmarshal(a.body, &found); err != nil {
		return nil, err
	}
	if len(found.Documents) != 1 || found.Documents[0].ID != strconv.Itoa(id) {
		return nil, fmt.Errorf("stale answer: the search for %q finds %s", word, a.body)
	}
	return found.Documents[0].Document, nil
}
